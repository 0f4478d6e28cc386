"""The leave to have an output on: asked for, granted for half a second, gone when not renewed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coldframe.clock import NS
from coldframe.messages import Ask, Grant

ASK_EVERY = 0.1  # s between two asks
VALID_FOR = 0.5  # s a grant holds, counted from when its ask was sent


class Permits:
    """The permits of one device, on this machine's monotonic clock.

    A grant counts from the moment its *ask* left, so a queue, a slow guard or a stopped process can
    only shorten it. A grant older than the newest one, or of another boot, says nothing.
    """

    def __init__(self, device: str, boot: str, outputs: Iterable[str], mono: Callable[[], int]):
        self.device, self.boot, self.outputs = device, boot, tuple(outputs)
        self._mono = mono
        self._n = 0
        self._sent: dict[int, int] = {}  # n → monotonic ns, the asks that can still be answered
        self._answered = 0
        self._granted: frozenset[str] = frozenset()
        self._until = self._next_ask = self._heard = mono()

    def ask(self) -> Ask | None:
        """The next ask, if it is time for one; the caller sends it at once."""
        now = self._mono()
        if now < self._next_ask:
            return None
        self._next_ask = now + round(ASK_EVERY * NS)
        self._n += 1
        horizon = now - round(VALID_FOR * NS)
        self._sent = {n: sent for n, sent in self._sent.items() if sent > horizon}
        self._sent[self._n] = now
        return Ask(device=self.device, boot=self.boot, n=self._n, outputs=list(self.outputs))

    def hurry(self) -> None:
        """Somebody waits for a permit: ask now."""
        self._next_ask = self._mono()

    def grant(self, message: Grant) -> None:
        """Take the guard's answer, if it answers something asked lately by this boot."""
        if message.boot != self.boot or message.n <= self._answered or message.n not in self._sent:
            return
        self._answered = message.n
        self._heard = self._mono()
        self._granted = frozenset(message.granted) & frozenset(self.outputs)
        self._until = self._sent[message.n] + round(VALID_FOR * NS)

    def withdraw(self) -> None:
        """Forget what was granted: the guard has said `safe`. Only a later grant counts."""
        self._granted = frozenset()

    def granted(self) -> frozenset[str]:
        """The outputs that may be on now."""
        return self._granted if self._mono() < self._until else frozenset()

    def silent_for(self) -> float:
        """Seconds since the guard last answered an ask."""
        return (self._mono() - self._heard) / NS

    def wake_ns(self) -> int:
        """When something happens next: an ask is due, or a grant ends."""
        if self._granted and self._until > self._mono():
            return min(self._next_ask, self._until)
        return self._next_ask
