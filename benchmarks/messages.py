"""Readings to bytes and back, strictly checked, against the standard library's unchecked JSON."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.measuring import Result, compare, rate
from coldframe.messages import Reading, header_of, topic

TIMES = 5000


def measure() -> list[Result]:
    """Encoding and decoding of one reading."""
    name = "stage.temperature"
    reading = Reading(
        name=name,
        seq=123456,
        session="20260101T000000Z-benchmark",
        t_ns="1767225600000000000",
        mono_ns="123456789012",
        unit="K",
        value=88.1512,
    )
    data, about = reading.encode(), topic("reading", name)
    plain = json.loads(data)
    return [
        _compare(
            "a reading encoded",
            reading.encode,
            lambda: json.dumps(plain).encode(),
            "json.dumps",
        ),
        _compare(
            "a reading decoded and checked",
            lambda: header_of(about, data),
            lambda: json.loads(data),
            "json.loads, which checks nothing",
        ),
    ]


def _compare(
    what: str, ours: Callable[[], object], theirs: Callable[[], object], against: str
) -> Result:
    found = compare(lambda: rate(ours, TIMES), lambda: rate(theirs, TIMES))
    return Result(
        what, f"{found.ours:,.0f}/s", f"{found.reference:,.0f}/s of {against}", found.ratio
    )
