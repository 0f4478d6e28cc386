"""The Lake Shore driver on its simulator's real ports: right values, verified safety, no lies."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coldframe.drivers.lakeshore import DIALECT, Lakeshore, LakeshoreOptions
from coldframe.errors import (
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    NotSafe,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.lakeshore import LakeshoreSimulator
from coldframe.status import Severity
from tests.conftest import Bench

COLD = 88.15
QUICK = DIALECT._replace(timeout=0.06, pace=0.0)  # loopback: no need to wait as for a real one


@contextmanager
def opened(
    bench: Bench, model: str = "lakeshore336", transport: str = "tcp", **options: Any
) -> Iterator[tuple[Lakeshore, LakeshoreSimulator]]:
    instrument, address = bench.serve(LakeshoreSimulator, model, transport)
    driver = Lakeshore("stage", address, model, LakeshoreOptions(**options))
    driver.open()
    hurry(driver)
    try:
        yield driver, instrument
    finally:
        driver.close()


def hurry(driver: Lakeshore) -> None:
    assert driver._link is not None
    driver._link.dialect = QUICK
    driver._link._patience = 0.12


@pytest.mark.parametrize(
    ("model", "transport"),
    [("lakeshore336", "tcp"), ("lakeshore350", "tcp"), ("lakeshore335", "serial")],
)
def test_it_adopts_an_instrument_and_changes_nothing(
    bench: Bench, model: str, transport: str
) -> None:
    with opened(bench, model, transport) as (driver, instrument):
        driver.adopt()

        assert driver.identify().startswith(f"LSCI,MODEL{model[-3:]},")
        assert driver.temperature.get() == pytest.approx(293.15, abs=0.1)
        assert driver.temperature_b.get() == pytest.approx(293.45, abs=0.1)
        assert driver.sensor_status.get() == "good"
        assert driver.outputs_on() == []
        assert instrument.writes == []


def test_another_model_is_the_wrong_instrument_and_nothing_is_written(bench: Bench) -> None:
    instrument, address = bench.serve(LakeshoreSimulator, "lakeshore335")
    driver = Lakeshore("stage", address, "lakeshore336")
    driver.open()

    with pytest.raises(WrongInstrument, match="lakeshore336 is configured, LSCI,MODEL335"):
        driver.adopt()

    driver.close()
    assert instrument.writes == []


def test_a_setpoint_is_set_read_back_and_reached(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        driver.setpoint.set(300.0)
        driver.heater_range.set(3)
        bench.step(300)

        assert driver.setpoint.get() == 300
        assert driver.temperature.get() == pytest.approx(300, abs=0.2)
        assert driver.heater.get() > 0
        assert driver.outputs_on() == ["heater"]
        assert driver.status().words.startswith("controls at 26.85 °C (300.00 K)")
        assert instrument.writes == ["SETP 1,300.000", "RANGE 1,3"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("setpoint", 1.0), ("setpoint", 476.0), ("heater_range", 4), ("heater_range", -1),
     ("ramp_rate", 0.01), ("ramp_rate", 101.0), ("setpoint", math.nan)],
)  # fmt: skip
def test_a_value_outside_its_limits_never_reaches_the_wire(
    bench: Bench, name: str, value: float
) -> None:
    with opened(bench) as (driver, instrument):
        with pytest.raises(ColdframeError) as refused:
            driver.set(name, value)

        assert isinstance(refused.value, OutOfRange) or math.isnan(value)
        assert f"stage.{name}" in str(refused.value)
        assert instrument.writes == []


def test_a_350_has_five_ranges(bench: Bench) -> None:
    with opened(bench, "lakeshore350") as (driver, _):
        driver.heater_range.set(5)
        assert driver.heater_range.get() == 5


def test_a_ramp_is_on_its_way(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        driver.ramp_rate.set(6.0)
        driver.setpoint.set(293.0)  # 0.15 K below where it is: 1.5 s
        driver.heater_range.set(1)
        assert driver.ramp_rate.get() == 6
        bench.step(0.5)

        assert driver.ramping.get()
        assert 293 < driver.setpoint.get() < 293.15
        assert driver.status().severity == Severity.BUSY
        bench.step(2)
        assert not driver.ramping.get()
        assert driver.setpoint.get() == 293


def test_no_ramp_is_zero(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        driver.ramp_rate.set(6.0)
        driver.ramp_rate.set(0.0)
        assert driver.ramp_rate.get() == 0


def test_the_coolant_relay_opens_the_valve_and_is_read_back(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        driver.coolant.set(True)
        assert driver.coolant.get()
        assert bench.do(lambda: instrument.world.stage.cooling)


def test_celsius_and_kelvin_are_told_apart(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("INTYPE A,1,0,0,0,2"))

        driver.setpoint.set(COLD)

        assert bench.do(lambda: instrument.answer("SETP? 1")) == "-185.0000"
        assert driver.setpoint.get() == pytest.approx(COLD)


def test_sensor_units_and_foreign_sensors_are_refused(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("INTYPE A,1,0,0,0,3"))
        with pytest.raises(InstrumentError, match="sensor units"):
            driver.setpoint.set(COLD)
        bench.do(lambda: instrument.answer("INTYPE A,1,0,0,0,1;OUTMODE 1,1,2,0"))
        with pytest.raises(InstrumentError, match="does not control on input A"):
            driver.setpoint.set(COLD)
        assert "SETP" not in "".join(instrument.writes)


def test_messages_leave_the_instrument_fifty_milliseconds_of_rest(bench: Bench) -> None:
    instrument, address = bench.serve(LakeshoreSimulator)
    driver = Lakeshore("stage", address)
    driver.open()
    heard: list[float] = []
    answer = instrument.answer

    def listen(line: str) -> str | None:
        heard.append(time.monotonic())
        return answer(line)

    instrument.answer = listen  # type: ignore[method-assign]
    driver.close()
    driver.open()
    for _ in range(4):
        driver.temperature.get()
    driver.close()
    assert min(b - a for a, b in itertools.pairwise(heard)) > 0.045


# ---- make_safe --------------------------------------------------------------------------


def warm(bench: Bench, instrument: LakeshoreSimulator, setpoint: float = 300.0) -> None:
    bench.do(lambda: instrument.answer(f"SETP 1,{setpoint};RANGE 1,3"))
    bench.step(1)
    instrument.writes.clear()


@pytest.mark.parametrize("sensor_good", [None, True])
def test_safe_with_a_good_sensor_goes_on_to_the_cold_setpoint(
    bench: Bench, sensor_good: bool | None
) -> None:
    with opened(bench) as (driver, instrument):
        warm(bench, instrument)

        driver.make_safe(sensor_good)

        assert driver.setpoint.get() == COLD
        assert driver.heater_range.get() == 3  # the loop goes on, and holds the stage cold
        assert driver.outputs_on() == []
        bench.step(1)
        assert bench.do(lambda: instrument.world.stage.heater_watts) == 0


def test_safe_when_already_cold_changes_nothing(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        warm(bench, instrument, 85.0)

        driver.make_safe()

        assert instrument.writes == []
        assert driver.setpoint.get() == 85


def test_safe_ends_a_ramp_that_would_hold_the_stage_warm_on_its_way(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("SETP 1,250;RAMP 1,1,1;RANGE 1,3;SETP 1,88.15"))
        assert driver.outputs_on() == ["heater"]

        driver.make_safe()

        assert driver.setpoint.get() == COLD
        assert not driver.ramping.get()


@pytest.mark.parametrize(
    "why", ["told", "invalid", "frozen", "open loop", "other sensor", "manual"]
)
def test_safe_without_a_sensor_to_be_believed_switches_the_heater_off(
    bench: Bench, why: str
) -> None:
    with opened(bench, flat_s=1e-4) as (driver, instrument):
        warm(bench, instrument)
        setup = {"open loop": "OUTMODE 1,3,1,0;MOUT 1,50", "other sensor": "OUTMODE 1,1,2,0",
                 "manual": "MOUT 1,20"}.get(why, "")  # fmt: skip
        bench.do(lambda: instrument.answer(setup))
        if why == "invalid":
            bench.do(lambda: instrument.faults.switch_on("nan"))
        if why == "frozen":
            bench.do(lambda: instrument.faults.switch_on("frozen"))
            for _ in range(20):
                bench.step(1)
                driver.temperature.get()
        bench.step(1)

        driver.make_safe(False if why == "told" else None)

        assert bench.do(lambda: instrument.answer("RANGE? 1")) == "0"
        bench.step(1)
        assert bench.do(lambda: instrument.world.stage.heater_watts) == 0
        assert driver.outputs_on() == []


def test_a_cold_setpoint_of_ones_own(bench: Bench) -> None:
    with opened(bench, cold_setpoint=100.0) as (driver, instrument):
        warm(bench, instrument)
        driver.hold_cold()
        assert driver.setpoint.get() == 100


@pytest.mark.parametrize("fault", ["lie", "silence", "garbage", "half"])
def test_a_safe_state_that_cannot_be_verified_is_said_to_be_none(bench: Bench, fault: str) -> None:
    with opened(bench) as (driver, instrument):
        warm(bench, instrument)
        bench.do(lambda: instrument.faults.switch_on(fault))

        with pytest.raises(NotSafe, match="stage: heater off not verified"):
            driver.make_safe()

        assert driver.outputs_on() == ["heater"]


@pytest.mark.parametrize("fault", ["silence", "garbage", "half", "late"])
def test_an_instrument_that_only_listens_is_switched_off_all_the_same(
    bench: Bench, fault: str
) -> None:
    with opened(bench) as (driver, instrument):
        warm(bench, instrument)
        bench.do(lambda: instrument.faults.switch_on(fault))

        with pytest.raises(NotSafe):
            driver.make_safe(False)

        assert bench.do(lambda: instrument.answer("RANGE? 1")) == "0"


def test_one_lost_answer_does_not_keep_it_from_safety(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        warm(bench, instrument)
        bench.do(lambda: instrument.faults.switch_on("silence"))
        with pytest.raises(Silence):
            driver.temperature.get()
        bench.do(lambda: instrument.faults.switch_off())

        driver.make_safe()

        assert driver.setpoint.get() == COLD


def test_a_second_process_takes_over_the_port_and_makes_it_safe(bench: Bench) -> None:
    with opened(bench) as (first, instrument):
        warm(bench, instrument)
        first.close()
        second = Lakeshore("stage", first.address)
        second.open()

        second.make_safe()

        assert second.setpoint.get() == COLD
        second.close()


# ---- the fault script ---------------------------------------------------------------------


def fault(bench: Bench, instrument: LakeshoreSimulator, name: str, value: float = 1.0) -> None:
    bench.do(lambda: instrument.faults.switch_on(name, value))


def healed(bench: Bench, driver: Lakeshore, instrument: LakeshoreSimulator) -> None:
    bench.do(lambda: instrument.faults.switch_off())
    assert driver.temperature.get() == pytest.approx(293.15, abs=0.1)


@pytest.mark.parametrize(
    ("name", "error"), [("silence", Silence), ("garbage", Garbled), ("echo", LinkError)]
)
def test_a_bad_answer_is_a_typed_error_and_the_next_one_is_right(
    bench: Bench, name: str, error: type[LinkError]
) -> None:
    with opened(bench) as (driver, instrument):
        fault(bench, instrument, name)
        with pytest.raises(error):
            driver.temperature.get()
        for parameter in ("setpoint", "heater", "coolant"):
            with pytest.raises(LinkError):
                driver.get(parameter)
        healed(bench, driver, instrument)


def test_a_late_answer_is_never_taken_for_the_next_question(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        fault(bench, instrument, "late", 0.1)
        with pytest.raises(Silence):
            driver.temperature.get()
        bench.do(lambda: instrument.faults.switch_off())

        assert driver.heater.get() == 0  # not the 293 that comes while we wait


@pytest.mark.parametrize("offset", range(19))
def test_an_answer_cut_at_any_byte_is_an_error_never_a_value(bench: Bench, offset: int) -> None:
    whole = len("+293.150;000;000\r\n")
    with opened(bench) as (driver, instrument):
        if offset >= whole:
            assert driver.temperature.get() == pytest.approx(293.15, abs=0.1)
            return
        fault(bench, instrument, "half", (offset + 0.5) / whole)
        with pytest.raises(LinkError):
            driver.temperature.get()
        healed(bench, driver, instrument)


def test_a_sensor_that_is_none_reads_nan_not_zero_kelvin(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        fault(bench, instrument, "nan")
        bench.step(1)

        assert math.isnan(driver.temperature.get())
        assert math.isnan(driver.temperature_b.get())
        assert driver.sensor_status.get() == "invalid, sensor units over range"
        assert driver.status().severity == Severity.ERROR


def test_a_frozen_sensor_is_told_by_the_status(bench: Bench) -> None:
    with opened(bench, flat_s=1e-4) as (driver, instrument):
        fault(bench, instrument, "frozen")
        for _ in range(15):
            bench.step(1)
            driver.temperature.get()

        assert "stands still" in driver.status().words


@pytest.mark.parametrize(
    ("name", "value"),
    [("setpoint", 100.0), ("heater_range", 2), ("ramp_rate", 5.0), ("coolant", True)],
)
def test_a_lie_is_found_out(bench: Bench, name: str, value: Any) -> None:
    with opened(bench) as (driver, instrument):
        fault(bench, instrument, "lie")
        with pytest.raises(InstrumentError, match=f"stage.{name}"):
            driver.set(name, value)


def test_an_order_the_instrument_refuses_is_an_error(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        driver.temperature.get()
        with pytest.raises(InstrumentError, match="RANGE 9,1 was refused, event register 32"):
            driver.tell("RANGE 9,1")


def test_old_events_of_others_are_not_blamed_on_us(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("NONSENSE"))
        driver.temperature.get()
        driver.heater_range.set(1)


@pytest.mark.parametrize("transport", ["tcp", "serial"])
def test_a_power_cycle_is_noticed(bench: Bench, transport: str) -> None:
    with opened(bench, transport=transport) as (driver, instrument):
        driver.heater_range.set(3)
        bench.do(instrument.power_on)

        with pytest.raises(Disconnected, match="switched off and on"):
            driver.temperature.get()

        assert driver.heater_range.get() == 0


@pytest.mark.parametrize("name", ["drop", "reboot"])
def test_a_cut_connection_is_disconnected_and_comes_back(bench: Bench, name: str) -> None:
    with opened(bench) as (driver, instrument):
        identity = driver.identify()
        fault(bench, instrument, name)
        with pytest.raises(Disconnected):
            driver.temperature.get()
        bench.do(lambda: instrument.faults.switch_off())

        driver.open()
        assert driver.identify() == identity
        driver.adopt()


def test_a_pty_is_opened_again_with_seven_bits_and_odd_parity(bench: Bench) -> None:
    with opened(bench, "lakeshore335", "serial") as (driver, _):
        for _ in range(3):
            driver.close()
            driver.open()
            assert driver.identify().startswith("LSCI,MODEL335")


def test_a_closed_driver_says_so_and_closes_again() -> None:
    driver = Lakeshore("stage", "tcp://127.0.0.1:1")
    driver.close()
    calls: list[Callable[[], object]] = [driver.temperature.get, driver.identify, driver.status]
    for call in calls:
        with pytest.raises(Disconnected, match="not open"):
            call()
    with pytest.raises(Disconnected):
        driver.open()
    assert driver.outputs_on() == ["heater"]
