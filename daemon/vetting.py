"""From a reading on the wire to a sample the engine may believe, and what is known of every signal.

Bad at once: another quality than good, another unit, no number, a gap in the numbers, a stamp that
runs back or comes from the future.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from coldframe.clock import NS
from coldframe.daemon.conditions import Sample
from coldframe.messages import Reading, Scalar

FUTURE_NS = NS // 1000  # a stamp may be this far ahead of the guard's clock


@dataclass(frozen=True, slots=True)
class Fact:
    """The last thing said about a signal."""

    value: Scalar
    good: bool
    received_ns: int
    mono_ns: int  # when the host read it
    steady_ns: int
    seq: int
    words: str = ""
    since_ns: int = 0  # when it was first received with this value


class Facts:
    """The last reading of every signal, vetted, and what commands have set since."""

    def __init__(self, units: Mapping[str, str], simulated: bool):
        self._rules, self._simulated = units, simulated
        self._units = dict(units)
        self._known: dict[str, Fact] = {}
        self._sent: dict[str, float] = {}  # set through the guard, not read back yet

    def declare(self, units: Mapping[str, str]) -> None:
        """What a device says of its own; where a rule watches, the rule's unit is the one."""
        self._units |= {**units, **self._rules}

    def forget(self, device: str) -> None:
        """The device has a new host: numbers and stamps begin again."""
        for store in (self._known, self._sent):
            for name in [name for name in store if name.partition(".")[0] == device]:
                del store[name]

    def take(self, reading: Reading, now_ns: int) -> Fact:
        """Vet and remember a reading."""
        mono_ns = int(reading.mono_ns)
        # lab time that nobody can set: UTC steps when a clock is set, a simulated lab's never does
        steady_ns = int(reading.t_ns) if self._simulated else mono_ns
        words = self._fault(reading, mono_ns, now_ns)
        before = self._known.get(reading.name)
        same = before is not None and before.value == reading.value
        since = before.since_ns if before is not None and same else now_ns
        fact = Fact(reading.value, not words, now_ns, mono_ns, steady_ns, reading.seq, words, since)
        self._known[reading.name] = fact
        self._sent.pop(reading.name, None)
        return fact

    def spoil(self, name: str, words: str, now_ns: int) -> Fact:
        """Something arrived under this name that is no reading."""
        before = self._known.get(name)
        seq = before.seq if before else -1
        fact = Fact(None, False, now_ns, now_ns, now_ns, seq, words)
        self._known[name] = fact
        return fact

    def sent(self, name: str, value: float) -> None:
        """A command that sets this is on its way."""
        self._sent[name] = value

    def last(self, name: str) -> Fact | None:
        return self._known.get(name)

    def fresh(self, name: str, max_age_s: float, now_ns: int) -> Scalar:
        """The value, if it is good and not older than this; else None."""
        fact = self._known.get(name)
        if fact is None or not fact.good or now_ns - fact.received_ns > max_age_s * NS:
            return None
        return fact.value

    def largest(self, name: str) -> float | None:
        """The largest magnitude a setting may have now: as read last, or as commanded since."""
        fact = self._known.get(name)
        values = [self._sent[name]] if name in self._sent else []
        if fact is not None and fact.good and (number := as_number(fact.value)) is not None:
            values.append(number)
        return max(map(abs, values), default=None)

    def _fault(self, reading: Reading, mono_ns: int, now_ns: int) -> str:
        """What is wrong with a reading, or nothing."""
        before = self._known.get(reading.name)
        if reading.value is None or reading.quality not in ("good", "simulated"):
            return f"quality {reading.quality}"
        if reading.quality == "simulated" and not self._simulated:
            return "simulated, in a laboratory that is not"
        if isinstance(reading.value, float) and not math.isfinite(reading.value):
            return "not finite"
        if reading.unit != self._units.get(reading.name, reading.unit):
            return f"in {reading.unit or 'no unit'}, not {self._units[reading.name] or 'none'}"
        if mono_ns > now_ns + FUTURE_NS:
            return f"stamped {(mono_ns - now_ns) / NS:.3f} s in the future"
        if before is not None and before.seq >= 0:
            if mono_ns < before.mono_ns:
                return f"stamped {(before.mono_ns - mono_ns) / NS:.3f} s before the last"
            if reading.seq != before.seq + 1:
                return f"number {reading.seq} after {before.seq}"
        return ""


def as_number(value: Scalar) -> float | None:
    """A reading's value where a rule needs a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:  # an integer of hundreds of digits
        return None


def as_sample(fact: Fact) -> Sample:
    """What the engine is given."""
    number = as_number(fact.value)
    good = fact.good and number is not None
    words = fact.words or ("" if good else f"{fact.value!r:.80} is not a number")
    return Sample(number, fact.received_ns, fact.steady_ns, good, words)
