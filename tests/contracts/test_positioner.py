"""What every positioner owes: steps by axis, a stop that is verified, nothing moved by adopting."""

from __future__ import annotations

from typing import Any

import pytest

from coldframe.errors import OutOfRange
from coldframe.roles import Positioner

ROLE, NAME = Positioner, "needle"


@pytest.fixture(autouse=True)
def particle(bench: Any) -> None:
    """Something to touch."""
    bench.do(lambda: bench.world.load("particle_5nm"))


def accepted(driver: Any) -> Positioner:
    """mypy checks that the driver fits the role."""
    fits: Positioner = driver
    return fits


def test_it_declares_the_role_and_a_hazardous_motion(pair: Any) -> None:
    driver, _ = pair

    assert driver.role == "Positioner"
    assert [output.name for output in driver.outputs] == ["motion"]
    assert driver.commands["step"].hazard == "hazardous"
    assert driver.commands["step"].output == "motion"
    assert driver.commands["stop"].hazard == "safe"


def test_adopting_moves_nothing(pair: Any, bench: Any) -> None:
    driver, simulator = pair
    gap = bench.world.needle.gap

    driver.adopt()
    bench.step(1)

    assert simulator.writes == []
    assert bench.world.needle.gap == gap


def test_a_positive_step_of_the_third_axis_approaches(pair: Any, bench: Any) -> None:
    driver, _ = pair
    gap = bench.world.needle.gap

    accepted(driver).step(3, 5)
    bench.step(1)

    assert bench.world.needle.gap < gap


def test_a_stopped_axis_stays_where_it_is(pair: Any, bench: Any) -> None:
    driver, _ = pair
    accepted(driver).step(3, 1000)
    bench.step(0.5)

    accepted(driver).stop()
    gap = bench.world.needle.gap
    bench.step(60)

    assert bench.world.needle.gap == gap
    assert driver.outputs_on() == []


def test_an_axis_it_does_not_have_is_refused(pair: Any) -> None:
    driver, simulator = pair

    with pytest.raises(OutOfRange, match="axis 9"):
        accepted(driver).step(9, 1)

    assert simulator.writes == []
