"""The picoammeter's driver on its simulator's real ports: beam current or nothing, no guess."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coldframe.drivers.keithley6485 import Keithley6485, Keithley6485Options
from coldframe.errors import (
    BadRequest,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.keithley6485 import Keithley6485Simulator
from coldframe.status import Severity
from tests.conftest import Bench


@contextmanager
def opened(
    bench: Bench, transport: str = "tcp", **options: Any
) -> Iterator[tuple[Keithley6485, Keithley6485Simulator]]:
    instrument, address = bench.serve(Keithley6485Simulator, "keithley6485", transport)
    bench.do(lambda: beam_into_the_cup(instrument))
    settings = Keithley6485Options(**{"reading_s": 0.08, **options})
    driver = Keithley6485("cup", address, "", settings)
    driver.open()
    assert driver._link is not None
    driver._link.dialect = driver._link.dialect._replace(timeout=0.08)
    driver._link._patience = 0.15
    try:
        yield driver, instrument
    finally:
        driver.close()


def beam_into_the_cup(instrument: Keithley6485Simulator) -> None:
    beam = instrument.world.beam
    beam.blanked, beam.screen_down = False, True
    instrument.world.step(1)


def caught(bench: Bench, instrument: Keithley6485Simulator) -> float:
    """Electrons that fall into the cup are a negative current."""
    return bench.do(lambda: instrument.world.beam.current) * -0.998


def fault(bench: Bench, instrument: Keithley6485Simulator, name: str, value: float = 1) -> None:
    bench.do(lambda: instrument.faults.switch_on(name, value))


@pytest.mark.parametrize(
    ("transport", "terminator"), [("serial", "CR"), ("tcp", "CR"), ("tcp", "LF"), ("tcp", "CRLF")]
)
def test_it_adopts_a_meter_and_changes_nothing(
    bench: Bench, transport: str, terminator: str
) -> None:
    with opened(bench, transport, terminator=terminator) as (driver, instrument):
        driver.adopt()

        assert ",MODEL 6485,4126216," in driver.identify()
        assert driver.zero_check.get() and driver.range_auto.get()
        assert driver.outputs_on() == []
        assert instrument.writes == []


@pytest.mark.parametrize("transport", ["serial", "tcp"])
def test_after_zeroing_it_measures_the_beam(bench: Bench, transport: str) -> None:
    with opened(bench, transport) as (driver, instrument):
        driver.zero()

        assert driver.current.get() == pytest.approx(caught(bench, instrument), rel=2e-3)
        assert not driver.overflow.get()
        assert driver.zero_correct.get()
        assert driver.status() == (Severity.IDLE, "measures")


def test_with_zero_check_on_a_reading_says_nothing(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        assert math.isnan(driver.current.get())
        assert driver.status().words == "zero check on: the input is disconnected"


def test_zeroing_keeps_the_range_it_found(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        driver.range.set(2e-6)
        driver.zero()
        assert driver.range.get() == 2e-6
        assert not driver.range_auto.get()


def test_over_range_is_no_current(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: setattr(instrument.world.beam, "spot", 1))
        driver.zero()
        driver.range.set(2e-9)

        assert math.isnan(driver.current.get())
        assert driver.overflow.get()
        assert driver.status().words == "over range"
        driver.range_auto.set(True)
        assert driver.current.get() == pytest.approx(caught(bench, instrument), rel=2e-3)
        assert not driver.overflow.get()


@pytest.mark.parametrize(
    "elements", ["READ", "READ,UNIT", "READ,STAT", "STAT,READ,TIME", "READING,UNITS,TIME,STATUS"]
)
def test_whatever_fields_the_meter_was_left_with(bench: Bench, elements: str) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer(f"FORM:ELEM {elements}"))
        assert math.isnan(driver.current.get())  # zero check is on
        driver.zero()
        assert driver.current.get() == pytest.approx(caught(bench, instrument), rel=2e-3)


def test_fields_without_the_reading_are_garbled(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("FORM:ELEM TIME,STAT"))
        with pytest.raises(Garbled, match=r"cup\.current"):
            driver.current.get()


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("range", 1e-10, OutOfRange), ("range", 1.0, OutOfRange), ("integration", 0.0, OutOfRange),
     ("zero_check", 1, BadRequest), ("range", math.inf, BadRequest)],
)  # fmt: skip
def test_a_value_outside_its_limits_never_reaches_the_wire(
    bench: Bench, name: str, value: Any, error: type[Exception]
) -> None:
    with opened(bench) as (driver, instrument):
        with pytest.raises(error, match=f"cup.{name}"):
            driver.set(name, value)
        assert instrument.writes == []


def test_settings_read_back(bench: Bench) -> None:
    with opened(bench) as (driver, _):
        for name, value in {"integration": 1.0, "zero_check": False, "range": 2e-5}.items():
            driver.set(name, value)
            assert driver.get(name) == value


def test_a_refused_order_tells_the_instruments_own_words(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        bench.do(lambda: instrument.answer("OLD ERROR"))
        with pytest.raises(InstrumentError, match=r'CURR:RANG 5 was refused: -222,"Parameter data'):
            driver.tell("CURR:RANG 5")


def test_another_meter_is_the_wrong_instrument(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        instrument.identity = "KEITHLEY INSTRUMENTS INC.,MODEL 6517B,1234,A1"
        with pytest.raises(WrongInstrument, match="keithley6485 is configured"):
            driver.adopt()


# ---- the fault script ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"), [("silence", Silence), ("garbage", Garbled), ("echo", LinkError)]
)
def test_a_bad_answer_is_a_typed_error_and_the_next_one_is_right(
    bench: Bench, name: str, error: type[LinkError]
) -> None:
    with opened(bench) as (driver, instrument):
        driver.zero()
        fault(bench, instrument, name)
        with pytest.raises(error):
            driver.current.get()
        for parameter in ("zero_check", "range"):
            with pytest.raises(LinkError):
                driver.get(parameter)
        bench.do(instrument.faults.switch_off)

        assert driver.current.get() == pytest.approx(caught(bench, instrument), rel=2e-3)


def test_a_late_answer_is_never_taken_for_the_next_question(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        fault(bench, instrument, "late", 0.12)
        with pytest.raises(Silence):
            driver.current.get()
        bench.do(instrument.faults.switch_off)

        assert driver.range.get() == 2e-9


@pytest.mark.parametrize("offset", range(0, 62, 3))
def test_an_answer_cut_at_any_byte_is_an_error_never_a_value(bench: Bench, offset: int) -> None:
    whole = len("READ,UNIT,TIME,STAT;+1.258000E-10A,+1.000000E+00,+1.024000E+03\r")
    with opened(bench) as (driver, instrument):
        driver.zero()
        fault(bench, instrument, "half", (offset + 0.5) / whole)
        with pytest.raises(LinkError):
            driver.current.get()
        bench.do(instrument.faults.switch_off)
        assert driver.current.get() == pytest.approx(caught(bench, instrument), rel=2e-3)


def test_not_a_number_is_nan(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        driver.zero()
        fault(bench, instrument, "nan")
        assert math.isnan(driver.current.get())
        assert not driver.overflow.get()


def test_a_lie_is_found_out(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        driver.zero()
        fault(bench, instrument, "lie")
        with pytest.raises(InstrumentError, match="SYST:ZCH was set ON and reads otherwise"):
            driver.zero()
        with pytest.raises(InstrumentError, match=r"cup\.range"):
            driver.range.set(2e-2)
        with pytest.raises(InstrumentError, match=r"cup\.integration"):
            driver.integration.set(1.0)


def test_a_frozen_reading_repeats_and_is_left_to_the_guard(bench: Bench) -> None:
    with opened(bench) as (driver, instrument):
        driver.zero()
        before = driver.current.get()
        fault(bench, instrument, "frozen")
        assert driver.current.get() == before


@pytest.mark.parametrize("name", ["drop", "reboot"])
def test_a_cut_connection_is_disconnected_and_comes_back(bench: Bench, name: str) -> None:
    with opened(bench) as (driver, instrument):
        identity = driver.identify()
        driver.zero()
        fault(bench, instrument, name)
        with pytest.raises(Disconnected):
            driver.current.get()
        bench.do(instrument.faults.switch_off)

        driver.open()
        assert driver.identify() == identity
        driver.adopt()
        assert driver.zero_check.get() == (name == "reboot")


def test_a_meter_that_lost_its_power_says_nothing_until_zeroed(bench: Bench) -> None:
    with opened(bench, "serial") as (driver, instrument):
        driver.zero()
        bench.do(instrument.power_on)
        assert math.isnan(driver.current.get())


def test_a_pty_is_opened_again(bench: Bench) -> None:
    with opened(bench, "serial") as (driver, _):
        for _ in range(3):
            driver.open()
            assert "6485" in driver.identify()
