"""What every thermostat owes: it measures in kelvin, holds, and is safe by staying cold."""

from __future__ import annotations

import math
from typing import Any

import pytest

from coldframe.drivers.base import Driver
from coldframe.errors import LinkError, NotSafe, OutOfRange
from coldframe.roles import Thermostat
from coldframe.simulators.ports import Instrument
from tests.conftest import Bench

ROLE, NAME = Thermostat, "stage"


def accepted(driver: Any) -> Thermostat:
    """mypy checks that what a driver is used as here fits the role."""
    fits: Thermostat = driver
    return fits


def heat(bench: Bench, driver: Any, kelvin: float) -> None:
    """Somebody holds the stage warm."""
    driver.setpoint.set(kelvin)
    driver.heater_range.set(1)
    bench.step(1)


def watts(bench: Bench, instrument: Instrument) -> float:
    return bench.do(lambda: instrument.world.stage.heater_watts)


def test_it_declares_the_role(pair: tuple[Driver, Any]) -> None:
    driver, _ = pair

    assert driver.role == "Thermostat"
    assert driver.parameters["temperature"].unit == driver.parameters["setpoint"].unit == "K"
    assert driver.parameters["temperature"].poll is not None
    assert driver.parameters["heater"].unit == "%"
    assert driver.parameters["setpoint"].limits is not None
    assert [output.name for output in driver.outputs] == ["heater"]


def test_adopting_changes_nothing(pair: tuple[Any, Any]) -> None:
    driver, instrument = pair

    driver.adopt()

    assert instrument.writes == []


def test_it_measures_the_stage_in_kelvin(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair

    true = bench.do(lambda: instrument.world.stage.temperature)

    assert accepted(driver).temperature.get() == pytest.approx(true, abs=0.1)


def test_a_setpoint_reads_back_and_warms(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair

    heat(bench, driver, 300.0)

    assert driver.setpoint.get() == pytest.approx(300, abs=0.01)
    assert watts(bench, instrument) > 0
    assert driver.heater.get() > 0
    assert driver.outputs_on() == ["heater"]


@pytest.mark.parametrize("beyond", [-math.inf, math.inf])
def test_a_setpoint_outside_its_limits_never_reaches_the_wire(
    pair: tuple[Any, Any], beyond: float
) -> None:
    driver, instrument = pair
    low, high = driver.parameters["setpoint"].limits

    with pytest.raises(OutOfRange, match=r"stage\.setpoint: .* is outside"):
        driver.setpoint.set(low - 1 if beyond < 0 else high + 1)

    assert instrument.writes == []


@pytest.mark.parametrize("sensor_good", [True, None])
def test_safe_with_a_good_sensor_is_cold(
    pair: tuple[Any, Any], bench: Bench, sensor_good: bool | None
) -> None:
    driver, instrument = pair
    heat(bench, driver, 300.0)

    driver.make_safe(sensor_good)
    bench.step(1)

    assert driver.setpoint.get() <= driver.options.cold_setpoint + 0.01
    assert watts(bench, instrument) == 0
    assert driver.outputs_on() == []


def test_safe_with_a_bad_sensor_is_heater_off(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    heat(bench, driver, 300.0)

    driver.make_safe(False)
    bench.step(600)

    assert driver.heater.get() == 0
    assert watts(bench, instrument) == 0
    assert driver.outputs_on() == []


def test_safe_never_warms(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    driver.setpoint.set(80.0)
    instrument.writes.clear()

    driver.make_safe()

    assert driver.setpoint.get() == 80
    assert watts(bench, instrument) == 0


def test_a_liar_is_not_safe(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    heat(bench, driver, 300.0)
    bench.do(lambda: instrument.faults.switch_on("lie"))

    with pytest.raises(NotSafe, match="stage"):
        driver.make_safe()

    assert driver.outputs_on() == ["heater"]


def test_a_reading_that_is_none_is_nan(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    bench.do(lambda: instrument.faults.switch_on("nan"))
    bench.step(1)

    assert math.isnan(driver.temperature.get())


def test_silence_is_an_error_and_ends(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    bench.do(lambda: instrument.faults.switch_on("silence"))

    with pytest.raises(LinkError):
        driver.temperature.get()


def test_it_comes_back_after_a_cut(pair: tuple[Any, Any]) -> None:
    driver, _ = pair
    before = driver.identify()

    driver.close()
    driver.open()

    assert driver.identify() == before
    driver.adopt()
