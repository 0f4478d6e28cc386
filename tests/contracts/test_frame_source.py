"""What every frame source owes: whole frames, in order, counted, and only while it acquires."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from coldframe.drivers.base import Sample
from coldframe.errors import Disconnected, OutOfRange
from coldframe.roles import FrameSource
from coldframe.status import Status

ROLE, NAME = FrameSource, "camera"


def accepted(driver: Any) -> FrameSource:
    """mypy checks that the driver fits the role."""
    fits: FrameSource = driver
    return fits


def collect(driver: Any, bench: Any, count: int) -> list[Sample]:
    """`count` frames, the world moving a little at a time."""
    samples: list[Sample] = []
    deadline = time.monotonic() + 5
    while len(samples) < count and time.monotonic() < deadline:
        bench.step(0.02)
        samples += driver.take()
    return samples


def test_it_declares_the_role_no_output_and_what_its_frames_are(pair: Any) -> None:
    driver, _ = pair

    assert driver.role == "FrameSource"
    assert driver.outputs == ()
    assert driver.stream().kind == "frame"
    assert np.dtype(driver.stream().dtype).str == driver.stream().dtype
    assert driver.commands["stop"].hazard == "safe"
    assert driver.commands["start"].hazard == "neutral"


def test_adopting_changes_nothing(pair: Any) -> None:
    driver, simulator = pair

    driver.adopt()
    driver.make_safe()

    assert simulator.writes == []
    assert driver.outputs_on() == []
    assert isinstance(driver.status(), Status)


def test_no_frame_comes_before_a_start_or_after_a_stop(pair: Any, bench: Any) -> None:
    driver, _ = pair
    bench.step(1)
    assert driver.take() == []

    driver.frames.set(0)
    accepted(driver).start()
    assert driver.acquiring.get() is True
    assert collect(driver, bench, 3)
    accepted(driver).stop()
    assert driver.acquiring.get() is False

    while driver.take():
        pass
    bench.step(1)
    assert driver.take() == []


def test_frames_are_as_declared_numbered_and_stamped_in_order(pair: Any, bench: Any) -> None:
    driver, _ = pair
    accepted(driver).exposure.set(0.02)
    driver.frames.set(5)
    begun = time.monotonic_ns()

    accepted(driver).start()
    samples = collect(driver, bench, 5)

    assert {(s.data.dtype.str, s.data.shape) for s in samples} == {driver.stream()[1:3]}
    assert [s.details["number"] for s in samples] == [1, 2, 3, 4, 5]
    assert {s.details["exposure_s"] for s in samples} == {0.02}
    stamps = [s.mono_ns for s in samples]
    assert begun < stamps[0] and stamps == sorted(stamps) and stamps[-1] < time.monotonic_ns()


def test_an_exposure_outside_its_limits_is_refused_before_the_wire(pair: Any) -> None:
    driver, simulator = pair
    for value in (0.0, -1.0, 1e9):
        with pytest.raises(OutOfRange):
            accepted(driver).exposure.set(value)
    assert simulator.writes == []


def test_a_closed_driver_says_so_and_opens_again(pair: Any, bench: Any) -> None:
    driver, _ = pair
    name = driver.identify()

    driver.close()
    driver.close()
    with pytest.raises(Disconnected):
        driver.take()

    driver.open()
    assert driver.identify() == name
    driver.frames.set(2)
    accepted(driver).start()
    assert len(collect(driver, bench, 2)) == 2
