"""Periods are kept, the most overdue goes first, and a loop that fell behind does not rush."""

from __future__ import annotations

from coldframe.clock import ManualClock
from coldframe.daemon.polling import Schedule


def test_each_name_comes_once_a_period() -> None:
    clock = ManualClock()
    schedule = Schedule({"fast": 0.1, "slow": 1.0, "never": None}, clock.mono_ns)
    taken: list[str] = []
    for _ in range(100):
        while (name := schedule.take()) is not None:
            taken.append(name)
        clock.advance(0.01)
    assert taken.count("fast") == 10
    assert taken.count("slow") == 1
    assert "never" not in taken


def test_the_most_overdue_goes_first_and_turns_missed_are_not_made_up_for() -> None:
    clock = ManualClock()
    schedule = Schedule({"a": 0.1, "b": 0.5}, clock.mono_ns)
    assert {schedule.take(), schedule.take()} == {"a", "b"}
    clock.advance(10)
    assert [schedule.take(), schedule.take(), schedule.take()] == ["a", "b", None]


def test_what_has_no_period_is_read_once_when_asked_for() -> None:
    clock = ManualClock()
    schedule = Schedule({"a": None}, clock.mono_ns)
    assert schedule.take() is None
    schedule.soon(["a"])
    assert [schedule.take(), schedule.take()] == ["a", None]
