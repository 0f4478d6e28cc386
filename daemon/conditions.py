"""Is one rule's signal healthy? Limits with hysteresis and debounce, rates, staleness, bad samples.

A condition is asked, never told what time it is by itself. Monotonic receipt decides age and
debounce; only the slope is in lab time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import Enum

from coldframe.clock import NS
from coldframe.daemon.rules import Rule
from coldframe.units import show


@dataclass(frozen=True, slots=True)
class Sample:
    """One vetted value of one signal; a bad one says why in `words`."""

    value: float | None
    received_ns: int  # monotonic, at the guard's own receipt
    steady_ns: int  # lab time that nobody can set
    good: bool = True
    words: str = ""  # why it is bad, or what a derived value is made of


class Verdict(Enum):
    """What a rule's signal says now."""

    HEALTHY = "healthy"
    WAITING = "waiting"  # not known yet, and still within its grace
    OVER = "over"  # beyond the limit, debouncing
    UNSAFE = "unsafe"  # beyond the limit for long enough, or unknown


class Condition:
    """The limit, the slope and the freshness of one rule's signal."""

    def __init__(self, rule: Rule, now_ns: int, grace_s: float):
        self.rule = rule
        self.last: Sample | None = None
        self._grace_until = now_ns + round(grace_s * NS)
        self._beyond_limit = False
        self._breach = ""
        self._beyond_rate = False
        self._since_ns = 0
        self._history: deque[tuple[float, float]] = deque()  # lab seconds, value
        self._origin_ns = 0
        self._slope: float | None = None
        self._blind_until_ns: int | None = None  # lab time: no slope before a whole new window

    def take(self, sample: Sample) -> None:
        """The next sample. What is not a finite number is bad, whatever its quality says."""
        value = sample.value
        if not sample.good or value is None or not math.isfinite(value):
            words = sample.words or f"value {value}"
            self.last = Sample(None, sample.received_ns, sample.steady_ns, False, words)
            self._forget(sample)
            return
        if self.last is not None and self._age(sample.received_ns) > self.rule.max_age_s:
            self._forget(sample)
        self.last = sample
        was_over = self._beyond_limit or self._beyond_rate
        self._judge_limit(abs(value) if self.rule.magnitude else value)
        self._judge_rate(sample)
        if not was_over:
            self._since_ns = sample.received_ns

    def expect(self, now_ns: int, grace_s: float) -> None:
        """The rule applies from now on: a signal never seen may still take `grace_s` to come."""
        self._grace_until = now_ns + round(grace_s * NS)

    def verdict(self, now_ns: int) -> Verdict:
        """What holds at `now_ns`, with or without a new sample."""
        if self.last is None:
            return Verdict.UNSAFE if now_ns > self._grace_until else Verdict.WAITING
        if not self.last.good or self._age(now_ns) > self.rule.max_age_s:
            return Verdict.UNSAFE
        if self._beyond_limit or self._beyond_rate:
            waited = (now_ns - self._since_ns) / NS
            return Verdict.UNSAFE if waited >= self.rule.debounce_s else Verdict.OVER
        if self.rule.rate is not None and self._slope is None:
            return Verdict.WAITING
        return Verdict.HEALTHY

    def warned(self) -> bool:
        """Is the last good value beyond the warning limit?"""
        rule, last = self.rule, self.last
        if rule.warn is None or last is None or last.value is None:
            return False
        value = abs(last.value) if rule.magnitude else last.value
        return value >= rule.warn if rule.above is not None else value <= rule.warn

    def words(self, now_ns: int) -> str:
        """What is wrong, with signal, value and limit; or the value when nothing is."""
        rule, last = self.rule, self.last
        if last is None:
            return f"{rule.signal} has not been received"
        if not last.good:
            return f"{rule.signal} is not known: {last.words}"
        now = show(last.value, rule.unit)
        if self._age(now_ns) > rule.max_age_s:
            age = self._age(now_ns)
            return f"{rule.signal} is silent for {age:.2f} s (at most {rule.max_age_s:g} s)"
        parts = []
        if self._beyond_limit:
            parts.append(f"{rule.signal} {now} is {self._breach}")
        if self._beyond_rate:
            parts.append(
                f"{rule.signal} changes by {self._slope:.3g} {rule.unit}/s{self._allows()}"
            )
        if not parts and rule.rate is not None and self._slope is None:
            parts.append(f"{rule.signal} {now}: too few samples for its rate")
        if not parts:
            return f"{rule.signal} {now}"
        return ", ".join(parts) + (f" ({last.words})" if last.words else "")

    def allows(self) -> str:
        """What would make it healthy, in words."""
        rule = self.rule
        limit = rule.above if rule.above is not None else rule.below
        parts = [f"fresh good values of {rule.signal}"]
        if rule.above is not None and rule.below is not None:
            low, high = show(rule.below, rule.unit), show(rule.above, rule.unit)
            parts.append(f"between {low} and {high}")
        elif limit is not None:
            side = "below" if rule.above is not None else "above"
            healthy = rule.reset if rule.reset is not None else limit
            parts.append(f"{side} {show(healthy, rule.unit)}")
        return " ".join(parts) + self._allows()

    # -------------------------------------------------------------------------------------

    def _age(self, now_ns: int) -> float:
        assert self.last is not None
        return (now_ns - self.last.received_ns) / NS

    def _allows(self) -> str:
        rate = self.rule.rate
        if rate is None:
            return ""
        sides = [
            f"{word} {limit:.3g} {self.rule.unit}/s"
            for word, limit in (("at most", rate.above), ("at least", rate.below))
            if limit is not None
        ]
        return f" (rate {' and '.join(sides)})"

    def _forget(self, sample: Sample) -> None:
        """What was not seen may have been beyond the limit: health must be shown again, by a value
        on the healthy side of the reset and by a whole window of slopes."""
        rule = self.rule
        if not (self._beyond_limit or self._beyond_rate):
            self._since_ns = sample.received_ns
        self._beyond_limit = rule.above is not None or rule.below is not None
        self._breach = "not yet shown to be within its limits"
        self._history.clear()
        self._slope, self._beyond_rate = None, False
        if rule.rate is not None:
            self._blind_until_ns = sample.steady_ns + round(rule.rate.window_s * NS)

    def _judge_limit(self, value: float) -> None:
        rule = self.rule
        if rule.above is not None and value >= rule.above:
            self._beyond_limit = True
            self._breach = f"at or above {show(rule.above, rule.unit)}"
        elif rule.below is not None and value <= rule.below:
            self._beyond_limit = True
            self._breach = f"at or below {show(rule.below, rule.unit)}"
        elif rule.reset is None or (
            value <= rule.reset if rule.above is not None else value >= rule.reset
        ):
            self._beyond_limit = False
        elif self._beyond_limit:  # in the band between reset and limit
            side = "below" if rule.above is not None else "above"
            self._breach = f"not yet {side} {show(rule.reset, rule.unit)}"

    def _judge_rate(self, sample: Sample) -> None:
        rate = self.rule.rate
        if rate is None:
            return
        assert sample.value is not None
        if not self._history:
            self._origin_ns = sample.steady_ns
        now = (sample.steady_ns - self._origin_ns) / NS
        self._history.append((now, sample.value))
        # in a lab that runs fast, min_n samples may span more than the window: they still count
        while len(self._history) > rate.min_n and self._history[0][0] < now - rate.window_s:
            self._history.popleft()
        seen = self._blind_until_ns is None or sample.steady_ns >= self._blind_until_ns
        enough = seen and len(self._history) >= rate.min_n
        self._slope = slope(list(self._history)) if enough else None
        self._beyond_rate = self._slope is not None and (
            (rate.above is not None and self._slope > rate.above)
            or (rate.below is not None and self._slope < rate.below)
        )


def slope(points: list[tuple[float, float]]) -> float | None:
    """Least-squares slope of (x, y); None where all x are the same."""
    n = len(points)
    mean_x = sum(x for x, _ in points) / n
    mean_y = sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread <= 0:
        return None
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
