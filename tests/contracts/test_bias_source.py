"""What every bias source owes: the role's members, and an off that touches nothing."""

from __future__ import annotations

from typing import Any

import pytest

from coldframe.drivers.base import Driver
from coldframe.errors import OutOfRange
from coldframe.roles import BiasSource

ROLE, NAME = BiasSource, "bias"


def accepted(driver: Any) -> BiasSource:
    """mypy checks that the driver fits the role."""
    fits: BiasSource = driver
    return fits


def test_it_declares_the_role_and_a_hazardous_output(pair: Any) -> None:
    driver, _ = pair

    assert driver.role == "BiasSource"
    assert [output.name for output in driver.outputs] == ["bias"]
    assert driver.commands["output_on"].hazard == "hazardous"
    assert driver.commands["output_on"].output == "bias"
    assert driver.commands["output_off"].hazard == "safe"
    for name in ("level", "current_limit"):
        assert driver.parameters[name].writable
        assert driver.parameters[name].hazard == "hazardous"
        assert driver.parameters[name].output == "bias"


def test_units_are_volts_and_amperes(pair: Any) -> None:
    driver, _ = pair

    units = {name: driver.parameters[name].unit for name in ("voltage", "level", "current")}

    assert units == {"voltage": "V", "level": "V", "current": "A"}
    assert driver.parameters["current_limit"].unit == "A"


def test_adopting_writes_nothing(pair: Any) -> None:
    driver, simulator = pair

    driver.adopt()

    assert simulator.writes == []


def test_before_anything_is_known_the_output_may_be_on(pair: Any) -> None:
    driver, _ = pair

    assert driver.outputs_on() == ["bias"]


def test_off_is_an_open_circuit_never_zero_volts(pair: Any, bench: Any) -> None:
    driver, _ = pair
    source = accepted(driver)
    source.level.set(-2.0)
    source.current_limit.set(1e-7)
    source.output_on()
    bench.step(0.2)
    assert source.voltage.get() == pytest.approx(-2.0, abs=0.01)

    source.output_off()

    assert bench.world.circuit.mode == "open"
    assert driver.outputs_on() == []


def test_making_safe_twice_is_as_safe_as_once(pair: Any, bench: Any) -> None:
    driver, _ = pair

    driver.make_safe()
    driver.make_safe()

    assert bench.world.circuit.mode == "open"


def test_limits_are_refused_with_both_numbers(pair: Any) -> None:
    driver, simulator = pair

    with pytest.raises(OutOfRange, match=r"bias\.level.*outside"):
        driver.set("level", 1e6)

    assert simulator.writes == []


def test_it_is_a_driver(pair: Any) -> None:
    assert isinstance(pair[0], Driver)
