"""When each parameter is read next: periods kept, the most overdue first, never a burst."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from coldframe.clock import NS


class Schedule:
    """What is due, by name. `periods` in seconds; a name without one is read only when asked."""

    def __init__(self, periods: Mapping[str, float | None], mono: Callable[[], int]):
        self._mono = mono
        self.periods = {name: period for name, period in periods.items() if period}
        self._due: dict[str, int] = dict.fromkeys(self.periods, mono())

    def soon(self, names: Iterable[str]) -> None:
        """Read these once as soon as there is time."""
        now = self._mono()
        for name in names:
            self._due[name] = min(now, self._due.get(name, now))

    def take(self) -> str | None:
        """The name that has waited longest, if any is due; its next turn is a period from now.

        A loop that fell behind reads once and goes on: old turns are not made up for.
        """
        if not self._due:
            return None
        name = min(self._due, key=lambda each: self._due[each])
        due, now = self._due[name], self._mono()
        if due > now:
            return None
        period = self.periods.get(name)
        if period is None:
            del self._due[name]
        else:
            step = round(period * NS)
            self._due[name] = due + step if due + step > now else now + step
        return name

    def wake_ns(self) -> int | None:
        """When the next name is due."""
        return min(self._due.values(), default=None)
