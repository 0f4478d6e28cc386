"""The world's own record: its time, and what happened when."""

from typing import NamedTuple


class Event(NamedTuple):
    """One thing that happened: lab seconds since the world began, a name, and words."""

    t: float
    name: str
    detail: str


class Journal:
    """Time and events that all parts of one world share."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[Event] = []

    def note(self, name: str, detail: str = "", *, at: float | None = None) -> None:
        """Record an event now, or at the exact time `at` at which a substep found it."""
        self.events.append(Event(self.now if at is None else at, name, detail))
