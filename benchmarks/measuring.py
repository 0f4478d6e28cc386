"""How a benchmark measures: ours and its reference in turns, several times over.

In turns, because a machine is not the same from one second to the next; the ratio is the median of
the ratios of neighbours.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 9


class Result(NamedTuple):
    """One line: `ratio` is ours over the reference, both in words with their units beside it."""

    what: str
    ours: str
    reference: str
    ratio: float


class Comparison(NamedTuple):
    """Medians of both sides, and of their ratio."""

    ours: float
    reference: float
    ratio: float


def compare(
    ours: Callable[[], float], reference: Callable[[], float], rounds: int = ROUNDS
) -> Comparison:
    """Measure both sides in turns; each returns its rate, more being better."""
    pairs = [(ours(), reference()) for _ in range(rounds)]
    return Comparison(
        statistics.median(mine for mine, _ in pairs),
        statistics.median(theirs for _, theirs in pairs),
        statistics.median(mine / theirs for mine, theirs in pairs),
    )


def rate(work: Callable[[], object], times: int) -> float:
    """How often per second `work` was done, over `times` of it."""
    began = time.perf_counter()
    for _ in range(times):
        work()
    return times / (time.perf_counter() - began)
