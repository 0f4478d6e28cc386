"""Two clocks: lab time may run fast and never jumps, monotonic time never runs fast."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from coldframe.clock import NS, ManualClock, SharedClock, SystemClock, iso, open_clock


def test_a_manual_clock_moves_when_told_to() -> None:
    clock = ManualClock(lab_ns=0, mono_ns=0, speed=60)
    clock.advance(0.5)
    assert (clock.mono_ns(), clock.lab_ns()) == (NS // 2, 30 * NS)


def test_a_change_of_speed_reaches_every_process_and_lab_time_does_not_jump(tmp_path: Path) -> None:
    ours = SharedClock.create(tmp_path / "clock", lab_ns=1_700_000_000 * NS)
    theirs = SharedClock(tmp_path / "clock")
    before = theirs.lab_ns()
    new = ours.set_speed(1000)
    assert theirs.speed == 1000
    assert theirs.triple() == new
    assert 0 <= new.lab0_ns - before < NS
    first, second = theirs.lab_ns(), theirs.lab_ns()
    assert new.lab0_ns <= first <= second
    ours.close()
    theirs.close()


@pytest.mark.parametrize("speed", [0.0, -1.0, 10_001.0, float("nan"), float("inf")])
def test_a_speed_that_makes_no_sense_is_refused(tmp_path: Path, speed: float) -> None:
    clock = SharedClock.create(tmp_path / "clock")
    with pytest.raises(ValueError, match="clock speed"):
        clock.set_speed(speed)
    assert clock.speed == 1.0
    clock.close()


def test_a_reader_never_sees_half_a_change(tmp_path: Path) -> None:
    clock = SharedClock.create(tmp_path / "clock", lab_ns=1_700_000_000 * NS)
    reader = SharedClock(tmp_path / "clock")
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            clock.set_speed(1.0)
            clock.set_speed(2.0)

    writer = threading.Thread(target=change)
    writer.start()
    try:
        last = reader.lab_ns()
        for _ in range(5000):
            now = reader.lab_ns()
            # two times of one reader: each from a whole triple, so never backwards by more than
            # the instant between reading the triple and reading the monotonic clock
            assert now > last - NS // 10
            assert reader.speed in (1.0, 2.0)
            last = now
    finally:
        stop.set()
        writer.join()
        clock.close()
        reader.close()


def test_open_clock_is_the_systems_without_a_file(tmp_path: Path) -> None:
    with open_clock(None) as clock:
        assert isinstance(clock, SystemClock)
        assert clock.speed == 1.0
    SharedClock.create(tmp_path / "clock", speed=5).close()
    with open_clock(tmp_path / "clock") as clock:
        assert clock.speed == 5.0


def test_iso_keeps_the_microseconds_and_the_offset() -> None:
    assert iso(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456+00:00"
