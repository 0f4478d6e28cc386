"""The RemCon32 driver against the simulated SmartSEM: facts, faults, and the way back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.drivers.remcon32 import RemCon32
from coldframe.errors import (
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    NotSafe,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.remcon32 import RemCon32Simulator
from coldframe.status import Severity


@pytest.fixture
def sem(bench: Any) -> tuple[RemCon32Simulator, str]:
    made: tuple[RemCon32Simulator, str] = bench.serve(RemCon32Simulator, transport="serial")
    return made


@pytest.fixture
def simulator(sem: tuple[RemCon32Simulator, str]) -> RemCon32Simulator:
    return sem[0]


@pytest.fixture
def driver(sem: tuple[RemCon32Simulator, str]) -> Iterator[RemCon32]:
    made = RemCon32("sem", sem[1])
    made.open()
    yield made
    made.close()


def test_it_knows_the_microscope_and_reads_everything(driver: RemCon32) -> None:
    assert "SmartSEM" in driver.identify()
    driver.adopt()
    assert driver.blanked.get() is True
    assert driver.external_scan.get() is False


def test_adopting_changes_nothing(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    driver.adopt()
    assert simulator.writes == []


def test_what_is_set_is_read_back(driver: RemCon32, bench: Any) -> None:
    driver.probe_current.set(5e-11)
    driver.high_voltage.set(5.0)
    driver.magnification.set(20_000.0)
    assert driver.probe_current.get() == 5e-11
    assert driver.high_voltage.get() == 5.0
    assert driver.magnification.get() == 20_000.0
    assert bench.world.beam.current == pytest.approx(5e-11, rel=0.02)


def test_a_current_outside_its_limits_never_reaches_the_wire(
    driver: RemCon32, simulator: RemCon32Simulator
) -> None:
    with pytest.raises(OutOfRange, match=r"sem\.probe_current"):
        driver.set("probe_current", 1e-3)
    assert simulator.writes == []


def test_unblank_and_blank_reach_the_specimen(driver: RemCon32, bench: Any) -> None:
    driver.unblank()
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    assert driver.outputs_on() == ["beam"]
    assert driver.status().severity == Severity.BUSY
    driver.blank()
    bench.step(0.1)
    assert bench.world.beam.blanked_now
    assert driver.outputs_on() == []
    assert driver.status().severity == Severity.IDLE


def test_a_refusal_says_why(driver: RemCon32) -> None:
    with pytest.raises(InstrumentError, match="600: unknown command"):
        driver.ask("NOPE")
    with pytest.raises(InstrumentError, match="rejected"):
        driver.ask("STG 1")
    assert driver.blanked.get() is True


def test_a_lie_is_not_safe(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    driver.unblank()
    simulator.faults.switch_on("lie")
    with pytest.raises(NotSafe, match="beam blanked not verified"):
        driver.make_safe()
    assert driver.outputs_on() == ["beam"]


def test_a_set_that_is_not_obeyed_is_an_error(
    driver: RemCon32, simulator: RemCon32Simulator
) -> None:
    simulator.faults.switch_on("lie")
    with pytest.raises(InstrumentError, match="PROB 5E-11 was accepted, but it is"):
        driver.probe_current.set(5e-11)
    with pytest.raises(InstrumentError, match="BBLK 0 was accepted"):
        driver.unblank()


def test_a_frozen_read_back_is_not_safe(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    driver.unblank()
    simulator.faults.switch_on("frozen")
    assert driver.blanked.get() is False
    with pytest.raises(NotSafe):
        driver.make_safe()


def test_silence_ends_in_time_and_the_state_is_unknown(
    driver: RemCon32, simulator: RemCon32Simulator
) -> None:
    driver.blank()
    simulator.faults.switch_on("silence")
    began = time.monotonic()
    with pytest.raises(Silence):
        driver.blanked.get()
    assert time.monotonic() - began < 0.5
    assert driver.outputs_on() == ["beam"]
    assert driver.status().severity == Severity.WARN
    simulator.faults.switch_off()
    assert driver.blanked.get() is True


def test_make_safe_gives_up_in_time(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    simulator.faults.switch_on("silence")
    began = time.monotonic()
    with pytest.raises(NotSafe):
        driver.make_safe()
    assert time.monotonic() - began < 2.5


def test_a_late_answer_is_never_taken_for_the_next_one(
    driver: RemCon32, simulator: RemCon32Simulator
) -> None:
    driver.magnification.set(3000.0)
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(Silence):
        driver.magnification.get()
    simulator.faults.switch_off()
    assert driver.high_voltage.get() == 200.0
    assert driver.magnification.get() == 3000.0


def test_garbage_is_garbled(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    simulator.faults.switch_on("garbage")
    with pytest.raises(Garbled):
        driver.probe_current.get()
    simulator.faults.switch_off()
    assert driver.blanked.get() is True


def test_an_echo_is_not_an_answer(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    simulator.faults.switch_on("echo")
    with pytest.raises(Garbled):
        driver.high_voltage.get()
    simulator.faults.switch_off()
    assert driver.high_voltage.get() == 200.0


def test_half_an_answer_is_never_a_value(driver: RemCon32, simulator: RemCon32Simulator) -> None:
    driver.magnification.set(50_000.0)
    whole = len(b"@\r\n>50000\r\n")
    for cut in range(whole):
        driver.magnification.get()
        simulator.faults.switch_on("half", (cut + 0.5) / whole)
        with pytest.raises(Silence):
            driver.magnification.get()
        simulator.faults.switch_off()
    assert driver.magnification.get() == 50_000.0


def test_what_is_no_number_is_no_blanker_state(
    driver: RemCon32, simulator: RemCon32Simulator
) -> None:
    simulator.faults.switch_on("nan")
    with pytest.raises(Garbled):
        driver.blanked.get()
    assert driver.outputs_on() == ["beam"]


def test_after_a_reboot_the_new_state_is_read(
    driver: RemCon32, simulator: RemCon32Simulator, bench: Any
) -> None:
    driver.unblank()
    bench.do(simulator.power_on)
    assert driver.blanked.get() is True
    assert driver.outputs_on() == []


def test_a_cut_connection_is_found_and_mended(bench: Any) -> None:
    simulator, address = bench.serve(RemCon32Simulator)
    driver = RemCon32("sem", address)
    driver.open()
    first = driver.identify()
    simulator.faults.switch_on("drop")
    with pytest.raises((Disconnected, Silence)):
        driver.identify()
    simulator.faults.switch_off()
    driver.close()
    driver.close()
    with pytest.raises(Disconnected):
        driver.blanked.get()
    driver.open()
    assert driver.identify() == first
    driver.close()


def test_a_serial_port_can_be_opened_again(driver: RemCon32) -> None:
    driver.close()
    driver.open()
    driver.adopt()


def test_another_instrument_is_not_believed(driver: RemCon32, bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("coldframe.simulators.remcon32.VERSION", "XL30 4.0")
    with pytest.raises(WrongInstrument):
        driver.identify()


def test_nothing_there_is_disconnected() -> None:
    driver = RemCon32("sem", "serial:///dev/no-such-port")
    with pytest.raises(Disconnected):
        driver.open()
    assert driver.status().severity == Severity.ERROR
    with pytest.raises(ColdframeError):
        driver.make_safe()
