"""How a benchmark measures: the same work several times over, the median counts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

ROUNDS = 7


class Result(NamedTuple):
    """One line: `ratio` is ours over the reference, both in words with their units beside it."""

    what: str
    ours: str
    reference: str
    ratio: float


def rate(work: Callable[[], object], times: int) -> float:
    """How often per second `work` can be done."""

    def once() -> float:
        began = time.perf_counter()
        for _ in range(times):
            work()
        return times / (time.perf_counter() - began)

    once()  # caches, branch predictors and clocks warm up
    return statistics.median(once() for _ in range(ROUNDS))
