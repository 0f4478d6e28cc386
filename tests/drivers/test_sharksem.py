"""The SharkSEM driver against the simulated FIB: facts, faults, and the way back."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.drivers.sharksem import OFF_SECONDS, SharkSem, SharkSemOptions
from coldframe.errors import (
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    NotSafe,
    OutOfRange,
    ReadOnly,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.sharksem import RAMP, SharkSemSimulator
from coldframe.status import Severity


@pytest.fixture
def fib(bench: Any) -> tuple[SharkSemSimulator, str]:
    made: tuple[SharkSemSimulator, str] = bench.serve(SharkSemSimulator)
    return made


@pytest.fixture
def simulator(fib: tuple[SharkSemSimulator, str]) -> SharkSemSimulator:
    return fib[0]


@pytest.fixture
def driver(fib: tuple[SharkSemSimulator, str]) -> Iterator[SharkSem]:
    made = SharkSem("ion", fib[1])
    made.open()
    yield made
    made.close()


@contextlib.contextmanager
def passing_time(bench: Any) -> Iterator[None]:
    """The world moves by itself, 25 lab seconds a second."""
    over = threading.Event()

    def move() -> None:
        while not over.wait(0.02):
            bench.step(0.5)

    mover = threading.Thread(target=move, name="time")
    mover.start()
    try:
        yield
    finally:
        over.set()
        mover.join()


def turn_on(driver: SharkSem, bench: Any) -> None:
    driver.turn_on()
    bench.step(RAMP)
    assert bench.world.ion.on


def test_it_knows_the_microscope_and_reads_everything(driver: SharkSem) -> None:
    driver.adopt()
    assert driver.identify() == "TESCAN VF-117-0042, software 4.2.30.0, SharkSEM 3.2.20"
    assert driver.presets == ("30 kV; 10 pA", "30 kV; 0.1 nA", "30 kV; 3 nA")
    assert driver.high_voltage.get() == 30_000.0
    assert driver.beam_on.get() is False
    assert driver.beam_state.get() == "off"
    assert driver.current.get() == 0.0
    assert driver.preset.get() == ""
    assert driver.species.get() == "Ga"
    assert driver.electron_blanker.get() == "on"
    assert driver.electron_current.get() > 0


def test_the_species_is_the_configurations(fib: tuple[SharkSemSimulator, str]) -> None:
    driver = SharkSem("ion", fib[1], options=SharkSemOptions(species="Xe"))
    assert driver.species.get() == "Xe"
    with pytest.raises(ReadOnly):
        driver.set("species", "Ga")


def test_adopting_changes_nothing(driver: SharkSem, simulator: SharkSemSimulator) -> None:
    driver.adopt()
    assert simulator.writes == []


def test_the_ion_current_is_never_polled(driver: SharkSem) -> None:
    assert driver.parameters["current"].poll is None


def test_a_preset_sets_the_current(driver: SharkSem, bench: Any) -> None:
    driver.identify()
    driver.preset.set("30 kV; 0.1 nA")
    turn_on(driver, bench)
    assert driver.current.get() == pytest.approx(0.1e-9, rel=0.03)
    assert driver.preset.get() == "30 kV; 0.1 nA"


def test_an_unknown_preset_never_reaches_the_wire(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    driver.identify()
    with pytest.raises(OutOfRange, match="'1 MV; 1 A' is none of 30 kV; 10 pA"):
        driver.preset.set("1 MV; 1 A")
    assert simulator.writes == []


def test_the_beam_in_transition_counts_as_on(driver: SharkSem, bench: Any) -> None:
    driver.turn_on()
    assert driver.beam_state.get() == "transition"
    assert driver.beam_on.get() is True
    assert driver.outputs_on() == ["ion_beam"]
    assert driver.status().words == "ion beam in transition"
    bench.step(RAMP)
    assert driver.beam_state.get() == "on"
    assert driver.status().severity == Severity.BUSY


def test_turning_off_waits_until_the_beam_is_off(driver: SharkSem, bench: Any) -> None:
    turn_on(driver, bench)
    bench.do(lambda: setattr(bench.world.ion, "scanning", True))
    with passing_time(bench):
        driver.turn_off()
    assert not bench.world.ion.on
    assert not bench.world.ion.scanning
    assert driver.outputs_on() == []
    assert driver.status().severity == Severity.IDLE


def test_turning_off_in_the_middle_of_turning_on(driver: SharkSem, bench: Any) -> None:
    driver.turn_on()
    with passing_time(bench):
        driver.make_safe()
    bench.step(RAMP)
    assert not bench.world.ion.on


def test_a_beam_that_stays_in_transition_is_not_safe(
    driver: SharkSem, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldframe.drivers.sharksem.OFF_SECONDS", 0.2)
    turn_on(driver, bench)
    began = time.monotonic()
    with pytest.raises(NotSafe, match="ion beam off not verified"):  # the world stands still
        driver.make_safe()
    assert time.monotonic() - began < 1
    assert driver.outputs_on() == ["ion_beam"]


def test_the_slow_safe_state_is_declared(driver: SharkSem) -> None:
    (output,) = driver.outputs
    assert output.fast_blank is False
    assert output.seconds == OFF_SECONDS >= RAMP


def test_a_lie_is_not_safe(
    driver: SharkSem, simulator: SharkSemSimulator, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldframe.drivers.sharksem.OBEY_SECONDS", 0.1)
    turn_on(driver, bench)
    simulator.faults.switch_on("lie")
    with pytest.raises(NotSafe, match="ion beam off not verified"):
        driver.make_safe()
    assert driver.outputs_on() == ["ion_beam"]
    with pytest.raises(InstrumentError, match="the electron blanker is auto"):
        bench.do(lambda: setattr(simulator, "_blanker", 2))
        driver.blank_electrons()


def test_an_order_to_turn_on_that_is_not_obeyed_is_an_error(
    driver: SharkSem, simulator: SharkSemSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldframe.drivers.sharksem.OBEY_SECONDS", 0.1)
    simulator.faults.switch_on("lie")
    with pytest.raises(InstrumentError, match="the beam is off"):
        driver.turn_on()


def test_electrons_are_blanked_and_it_is_seen(driver: SharkSem, bench: Any) -> None:
    bench.do(lambda: setattr(bench.world.beam, "blanked", False))
    driver.blank_electrons()
    bench.step(0.1)
    assert bench.world.beam.blanked_now


def test_silence_ends_in_time_and_the_state_is_unknown(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    assert driver.beam_on.get() is False
    simulator.faults.switch_on("silence")
    began = time.monotonic()
    with pytest.raises(Silence):
        driver.beam_on.get()
    assert time.monotonic() - began < 0.5
    assert driver.outputs_on() == ["ion_beam"]
    assert driver.status().severity == Severity.WARN
    with pytest.raises(NotSafe):
        driver.make_safe()
    simulator.faults.switch_off()
    assert driver.beam_on.get() is False


def test_a_late_answer_is_never_taken_for_the_next_one(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(Silence):
        driver.high_voltage.get()
    simulator.faults.switch_off()
    for _ in range(20):
        assert driver.electron_current.get() < 1e-6
        assert driver.beam_on.get() is False


def test_garbage_breaks_the_link_and_make_safe_opens_it_anew(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    simulator.faults.switch_on("garbage")
    with pytest.raises(Garbled):
        driver.beam_on.get()
    simulator.faults.switch_off()
    with pytest.raises(Disconnected, match="opened anew"):
        driver.beam_on.get()
    assert driver.status().severity == Severity.ERROR
    driver.make_safe()
    assert driver.beam_on.get() is False


def test_an_echo_is_not_an_answer(driver: SharkSem, simulator: SharkSemSimulator) -> None:
    simulator.faults.switch_on("echo")
    assert driver.electron_blanker.get() == "on"
    assert driver.beam_on.get() is False


def test_half_an_answer_is_never_a_value(
    driver: SharkSem, simulator: SharkSemSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = 32 + 4
    for cut in range(whole):
        driver.open()
        assert driver._link is not None
        monkeypatch.setattr(driver._link, "_timeout", 0.02)
        simulator.faults.switch_on("half", (cut + 0.5) / whole)
        with pytest.raises(LinkError):
            driver.beam_on.get()
        simulator.faults.switch_off()
        assert driver.outputs_on() == ["ion_beam"]
    driver.make_safe()
    assert driver.outputs_on() == []


def test_not_a_number_is_not_a_current_and_not_a_state(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    simulator.faults.switch_on("nan")
    assert math.isnan(driver.current.get())
    with pytest.raises(InstrumentError, match="cannot say"):
        driver.beam_on.get()
    assert driver.beam_state.get() == "unknown"
    assert driver.outputs_on() == ["ion_beam"]
    with pytest.raises(NotSafe):
        driver.make_safe()


def test_a_frozen_read_back_is_not_safe(
    driver: SharkSem, simulator: SharkSemSimulator, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldframe.drivers.sharksem.OBEY_SECONDS", 0.1)
    turn_on(driver, bench)
    simulator.faults.switch_on("frozen")
    assert driver.beam_on.get() is True
    with pytest.raises(NotSafe):
        driver.make_safe()


def test_after_a_reboot_the_new_state_is_read(
    driver: SharkSem, simulator: SharkSemSimulator, bench: Any
) -> None:
    turn_on(driver, bench)
    bench.do(simulator.power_on)
    assert driver.beam_on.get() is False


def test_a_cut_connection_is_found_and_mended(
    driver: SharkSem, simulator: SharkSemSimulator
) -> None:
    first = driver.identify()
    driver.preset.set("30 kV; 3 nA")
    simulator.faults.switch_on("drop")
    with pytest.raises((Disconnected, Silence)):
        driver.identify()
    simulator.faults.switch_off()
    driver.close()
    driver.close()
    with pytest.raises(Disconnected):
        driver.beam_on.get()
    driver.open()
    assert driver.identify() == first
    assert driver.preset.get() == ""  # what somebody may have chosen meanwhile is not known


def test_a_microscope_without_ions_is_the_wrong_one(driver: SharkSem, bench: Any) -> None:
    bench.do(bench.world.ion.presets.clear)
    with pytest.raises(WrongInstrument, match="no presets of an ion column"):
        driver.identify()
