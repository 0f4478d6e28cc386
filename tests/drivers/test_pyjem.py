"""The PyJEM driver behind the stand-in for the vendor's module: facts, faults, and the way back."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from coldframe.drivers.pyjem import PyJem, vendor_module
from coldframe.errors import (
    ConfigurationError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    NotSafe,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.pyjem import PyJemSimulator
from coldframe.simulators.pyjem_calls import tem3
from coldframe.status import Severity


@pytest.fixture
def column(bench: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[PyJemSimulator, str]:
    monkeypatch.setattr(PyJem, "calls", staticmethod(tem3))
    made: tuple[PyJemSimulator, str] = bench.serve(PyJemSimulator)
    return made


@pytest.fixture
def simulator(column: tuple[PyJemSimulator, str]) -> PyJemSimulator:
    return column[0]


@pytest.fixture
def driver(column: tuple[PyJemSimulator, str]) -> Iterator[PyJem]:
    made = PyJem("beam", column[1])
    made.open()
    yield made
    made.close()


def test_it_reads_everything_in_our_units(driver: PyJem) -> None:
    driver.adopt()
    assert driver.identify() == "JEOL PyJEM, 200 kV column"
    assert driver.high_voltage.get() == 200.0
    assert driver.magnification.get() == 50_000.0
    assert driver.spot.get() == 4
    assert driver.blanked.get() is True
    assert driver.screen_down.get() is False
    assert driver.emission.get() == pytest.approx(12e-6)
    assert driver.valve_open.get() is True


def test_adopting_changes_nothing(driver: PyJem, simulator: PyJemSimulator) -> None:
    driver.adopt()
    assert simulator.writes == []


def test_numbers_with_a_result_code_are_read_the_same(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    simulator.pairs = True
    test_it_reads_everything_in_our_units(driver)
    driver.make_safe()


def test_a_bad_result_code_is_an_error(
    driver: PyJem, simulator: PyJemSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulator, "_observe", lambda name, value: [value, 3])
    with pytest.raises(InstrumentError, match="result code 3"):
        driver.blanked.get()
    assert driver.outputs_on() == ["beam"]


def test_spot_and_magnification_reach_the_world(driver: PyJem, bench: Any) -> None:
    driver.spot.set(6)
    driver.magnification.set(100_000.0)
    assert bench.world.beam.spot == 6
    assert bench.world.beam.magnification == 100_000
    assert driver.spot.get() == 6


def test_a_spot_outside_its_limits_is_never_called(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    with pytest.raises(OutOfRange, match=r"beam\.spot"):
        driver.set("spot", 9)
    assert simulator.writes == []


def test_a_magnification_between_steps_is_refused_with_the_nearest(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    with pytest.raises(OutOfRange, match="nearest is 50000"):
        driver.magnification.set(51_000.0)
    assert simulator.writes == []


def test_a_camera_length_is_no_magnification(
    driver: PyJem, simulator: PyJemSimulator, bench: Any
) -> None:
    bench.do(lambda: simulator._EOS3_SelectFunctionMode(4))
    with pytest.raises(InstrumentError, match="camera length"):
        driver.magnification.get()


def test_unblank_and_blank_reach_the_specimen(driver: PyJem, bench: Any) -> None:
    driver.unblank()
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    assert driver.outputs_on() == ["beam"]
    assert driver.status().severity == Severity.BUSY
    driver.blank()
    bench.step(0.1)
    assert bench.world.beam.blanked_now
    assert driver.outputs_on() == []


def test_the_screen_takes_the_beam(driver: PyJem, bench: Any) -> None:
    driver.lower_screen()
    assert driver.screen_down.get() is True
    assert bench.world.beam.screen_down
    driver.raise_screen()
    assert driver.screen_down.get() is False


def test_a_lie_is_not_safe(driver: PyJem, simulator: PyJemSimulator) -> None:
    driver.unblank()
    simulator.faults.switch_on("lie")
    with pytest.raises(NotSafe, match="beam blanked not verified"):
        driver.make_safe()
    assert driver.outputs_on() == ["beam"]


def test_what_is_accepted_and_not_done_is_an_error(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    simulator.faults.switch_on("lie")
    with pytest.raises(InstrumentError, match=r"beam\.spot: 2 was accepted, but it is 4"):
        driver.spot.set(2)
    with pytest.raises(InstrumentError, match="still blanked"):
        driver.unblank()


def test_a_frozen_read_back_is_not_safe(driver: PyJem, simulator: PyJemSimulator) -> None:
    driver.unblank()
    simulator.faults.switch_on("frozen")
    driver.blanked.get()
    with pytest.raises(NotSafe):
        driver.make_safe()


def test_silence_ends_in_time_and_the_state_is_unknown(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    driver.blank()
    simulator.faults.switch_on("silence")
    began = time.monotonic()
    with pytest.raises(Silence):
        driver.blanked.get()
    assert time.monotonic() - began < 0.5
    assert driver.outputs_on() == ["beam"]
    simulator.faults.switch_off()
    assert driver.blanked.get() is True


def test_make_safe_gives_up_in_time(driver: PyJem, simulator: PyJemSimulator) -> None:
    simulator.faults.switch_on("silence")
    began = time.monotonic()
    with pytest.raises(NotSafe):
        driver.make_safe()
    assert time.monotonic() - began < 2


def test_a_late_answer_is_never_taken_for_the_next_one(
    driver: PyJem, simulator: PyJemSimulator
) -> None:
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(Silence):
        driver.spot.get()
    simulator.faults.switch_off()
    for _ in range(20):
        assert driver.high_voltage.get() == 200.0


def test_garbage_is_garbled(driver: PyJem, simulator: PyJemSimulator) -> None:
    simulator.faults.switch_on("garbage")
    with pytest.raises(Garbled):
        driver.spot.get()
    simulator.faults.switch_off()
    assert driver.spot.get() == 4


def test_an_echo_is_not_an_answer(driver: PyJem, simulator: PyJemSimulator) -> None:
    simulator.faults.switch_on("echo")
    assert driver.spot.get() == 4


def test_half_an_answer_is_never_a_value(
    driver: PyJem, simulator: PyJemSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coldframe.simulators.pyjem_calls.TIMEOUT", 0.05)
    whole = len(b'{"id": 10, "value": 3}\n')
    for cut in range(whole):
        simulator.faults.switch_on("half", (cut + 0.5) / whole)
        with pytest.raises(LinkError):
            driver.spot.get()
        simulator.faults.switch_off()
        assert driver.spot.get() == 4


def test_not_a_number_is_not_a_state(driver: PyJem, simulator: PyJemSimulator) -> None:
    simulator.faults.switch_on("nan")
    assert math.isnan(driver.high_voltage.get())
    with pytest.raises(Garbled):
        driver.blanked.get()
    with pytest.raises(NotSafe):
        driver.make_safe()


def test_after_a_reboot_the_new_state_is_read(
    driver: PyJem, simulator: PyJemSimulator, bench: Any
) -> None:
    driver.unblank()
    bench.do(simulator.power_on)
    assert driver.blanked.get() is True


def test_a_cut_connection_is_found_and_mended(driver: PyJem, simulator: PyJemSimulator) -> None:
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


def test_nothing_there_is_disconnected(
    column: tuple[PyJemSimulator, str], unused_port: int
) -> None:
    driver = PyJem("beam", f"tcp://127.0.0.1:{unused_port}")
    with pytest.raises(Disconnected):
        driver.open()
    assert driver.status().severity == Severity.ERROR


@pytest.fixture
def unused_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def test_without_the_vendors_module_the_error_says_where_to_run() -> None:
    assert "PyJEM" not in sys.modules
    driver = PyJem("beam", "pyjem://local")
    with pytest.raises(ConfigurationError, match="run this device's host on the TEM's PC"):
        driver.open()
    with pytest.raises(ConfigurationError):
        vendor_module("pyjem://local")


def test_a_method_this_version_lacks_is_an_instrument_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = SimpleNamespace(HT3=lambda: SimpleNamespace(GetHtRange=lambda: "?"))
    monkeypatch.setattr(PyJem, "calls", staticmethod(lambda address: bare))
    driver = PyJem("beam", "pyjem://local")
    driver.open()
    with pytest.raises(InstrumentError, match=r"this PyJEM has no Def3\.GetBeamBlank"):
        driver.blanked.get()
    with pytest.raises(WrongInstrument):
        driver.identify()
    driver.close()
