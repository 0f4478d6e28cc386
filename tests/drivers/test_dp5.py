"""The DP5 driver against the simulated processor: every spectrum once, whole, and its own."""

import math
import time
from collections.abc import Iterator

import pytest

from coldframe.drivers.base import Sample
from coldframe.drivers.dp5 import Dp5
from coldframe.errors import (
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.dp5 import DATAGRAM, Dp5Simulator
from coldframe.status import Severity

FAST = {"timeout": 0.1, "look": 0.0}


@pytest.fixture
def eds(bench) -> Iterator[tuple[Dp5Simulator, Dp5]]:
    simulator, address = bench.serve(Dp5Simulator, transport="udp")
    bench.do(lambda: bench.world.load("particle_5nm"))
    bench.world.beam.blanked = False
    bench.step(0.1)
    driver = Dp5("eds", address, options=Dp5.Options(**FAST))
    driver.open()
    yield simulator, driver
    driver.close()


def fault(bench, simulator, name, value=None):
    bench.do(lambda: simulator.faults.switch_on(name, value))


def mend(bench, simulator):
    bench.do(lambda: simulator.faults.switch_off())


def collect(driver: Dp5, count: int = 1, seconds: float = 2.0) -> list[Sample]:
    samples: list[Sample] = []
    deadline = time.monotonic() + seconds
    while len(samples) < count and time.monotonic() < deadline:
        samples += driver.take()
    return samples


def run(bench, driver, seconds=1.0):
    driver.acquisition_time.set(seconds)
    driver.start()
    bench.step(seconds + 0.01)


def test_a_spectrum_is_the_counts_of_its_own_time(bench, eds):
    simulator, driver = eds
    before = time.monotonic_ns()
    driver.acquisition_time.set(2.0)
    driver.start()
    bench.step(2.01)
    counted = bench.do(lambda: simulator.spectrum.tolist())
    (sample,) = collect(driver)
    assert sample.data.dtype.str == "<u4"
    assert sample.data.shape == (2048,)
    assert sample.data.tolist() == counted
    assert before < sample.mono_ns < time.monotonic_ns()
    assert sample.details["number"] == 1
    assert sample.details["real_time_s"] == sample.details["live_time_s"] == 2.0
    assert sample.details["slow_count"] == sum(counted) < sample.details["fast_count"]
    assert sample.details["detector_temperature_K"] == pytest.approx(230)


def test_each_spectrum_is_taken_once_and_the_next_begins_at_zero(bench, eds):
    _, driver = eds
    run(bench, driver)
    spectra = []
    for _ in range(4):
        spectra += collect(driver)
        assert driver.take() == []
        bench.step(1.01)
    assert [s.details["number"] for s in spectra] == [1, 2, 3, 4]
    assert {s.details["real_time_s"] for s in spectra} == {1.0}
    assert len({s.data.tobytes() for s in spectra}) == 4


def test_nothing_is_taken_before_the_time_is_over_or_after_a_stop(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(10.0)
    driver.start()
    assert driver.acquiring.get() is True
    assert driver.status().severity == Severity.BUSY
    bench.step(5)
    assert driver.take() == []
    driver.stop()
    bench.step(50)
    assert driver.take() == []
    assert not simulator.enabled
    assert driver.status().severity == Severity.IDLE


def test_looks_are_no_more_frequent_than_asked(bench, eds):
    driver = Dp5("eds", eds[1].address, options=Dp5.Options(timeout=0.1, look=1000.0))
    driver.open()
    try:
        run(bench, driver)
        assert len(driver.take()) == 1
        bench.step(2)
        assert driver.take() == []
    finally:
        driver.close()


def test_parameters_show_the_status_block(bench, eds, monkeypatch):
    simulator, driver = eds
    monkeypatch.setattr("coldframe.drivers.dp5.FRESH", 0.0)
    assert math.isnan(driver.acquisition_time.get())
    run(bench, driver)
    values = {name: driver.get(name) for name in driver.parameters}
    assert values["acquisition_time"] == values["real_time"] == values["live_time"] == 1.0
    assert values["fast_count"] == simulator.fast_count
    assert values["detector_temperature"] == pytest.approx(230)
    assert values["board_temperature"] == pytest.approx(304.15)
    assert values["high_voltage"] == -130


def test_a_time_outside_its_limits_never_reaches_the_wire(eds):
    simulator, driver = eds
    for value in (0.0, -1.0, 1e9):
        with pytest.raises(OutOfRange, match=r"eds\.acquisition_time"):
            driver.acquisition_time.set(value)
    assert simulator.writes == []


def test_starting_without_a_time_says_what_to_do(eds):
    simulator, driver = eds
    with pytest.raises(InstrumentError, match=r"set eds\.acquisition_time"):
        driver.start()
    assert simulator.writes == []


def test_adopting_changes_nothing_and_a_running_acquisition_goes_on(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    driver.start()
    before = list(simulator.writes)
    driver.close()
    driver.open()
    driver.adopt()
    assert simulator.writes == before
    bench.step(1.1)
    assert len(collect(driver)) == 1


def test_the_channels_are_those_of_the_options(bench, eds):
    simulator, first = eds
    driver = Dp5("eds", first.address, options=Dp5.Options(channels=512, **FAST))
    driver.open()
    try:
        run(bench, driver)
        (sample,) = collect(driver)
        assert sample.data.shape == driver.stream().shape == (512,)
        bench.step(1)
        bench.do(lambda: simulator._set("MCAC", "1024"))
        bench.step(1.1)
        with pytest.raises(Garbled, match="1024 channels, configured are 512"):
            collect(driver)
    finally:
        driver.close()


def test_an_acquisition_that_somebody_else_stopped_is_an_error(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    driver.start()
    bench.do(simulator._disable)
    with pytest.raises(InstrumentError, match="by itself"):
        collect(driver)


def test_another_device_is_the_wrong_instrument(bench, eds, monkeypatch):
    monkeypatch.setattr("coldframe.simulators.dp5.DEVICE_DP5", 3)
    driver = Dp5("eds", eds[1].address, options=Dp5.Options(**FAST))
    driver.open()
    try:
        with pytest.raises(WrongInstrument, match="MCA8000D"):
            driver.identify()
    finally:
        driver.close()


def test_a_text_command_it_refuses_carries_its_own_words(eds):
    _, driver = eds
    with pytest.raises(OutOfRange, match="bad parameter: MCAC=77"):
        driver.tell("MCAC=77")
    with pytest.raises(InstrumentError, match="unknown command: COFF"):
        driver.ask("COFF")


# ---- the fault script ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["silence", "late", "drop"])
def test_no_answer_is_silence_and_the_next_question_is_answered(bench, eds, name):
    simulator, driver = eds
    driver.acquisition_time.set(3.0)
    fault(bench, simulator, name)
    with pytest.raises(Silence):
        driver.acquisition_time.get()
    mend(bench, simulator)
    assert driver.acquisition_time.get() == 3.0


def test_an_answer_that_comes_late_is_never_taken_for_the_next_one(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(3.0)
    fault(bench, simulator, "late", 0.35)  # later than all tries
    with pytest.raises(Silence):
        driver.acquisition_time.get()
    bench.do(lambda: simulator._set("PRER", "7"))
    mend(bench, simulator)
    for _ in range(50):
        assert driver.acquisition_time.get() == 7.0


@pytest.mark.parametrize("name", ["garbage", "echo"])
def test_nonsense_is_an_error_and_not_a_value(bench, eds, name):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    fault(bench, simulator, name)
    for question in (driver.acquisition_time.get, driver.start, driver.stop):
        with pytest.raises(LinkError):
            question()
    mend(bench, simulator)
    assert driver.acquisition_time.get() == 1.0


def test_half_a_packet_at_every_byte_is_no_packet(bench, eds):
    simulator, first = eds
    first.acquisition_time.set(3.0)
    driver = Dp5("eds", first.address, options=Dp5.Options(timeout=0.003))
    driver.open()
    try:
        whole = 8 + len("PRER=3.000;")
        for count in range(whole):
            fault(bench, simulator, "half", (count + 0.5) / whole)
            with pytest.raises(LinkError):
                driver.acquisition_time.get()
    finally:
        driver.close()


def test_a_spectrum_with_a_lost_datagram_is_asked_for_again(bench, eds, monkeypatch):
    simulator, driver = eds
    run(bench, driver)
    counted = bench.do(lambda: simulator.spectrum.tolist())
    lost = []

    def lossy(conversation, data):
        reply = conversation._reply(data)
        for start in range(0, len(reply), DATAGRAM):
            if start == 3 * DATAGRAM and not lost:
                lost.append(start)
                continue
            conversation._send(reply[start : start + DATAGRAM])

    monkeypatch.setattr("coldframe.simulators.dp5._Packets.feed", lossy)
    (sample,) = collect(driver)
    assert lost
    assert sample.data.tolist() == counted


def test_a_link_lost_while_clearing_costs_no_spectrum_and_repeats_none(bench, eds, monkeypatch):
    simulator, driver = eds
    run(bench, driver)
    clear = simulator._disable

    def broken():
        clear()
        simulator.faults.switch_on("silence")

    monkeypatch.setattr(simulator, "_disable", broken)
    (first,) = collect(driver)
    monkeypatch.undo()
    with pytest.raises(Silence):
        driver.take()
    mend(bench, simulator)
    assert driver.take() == []
    bench.step(1.1)
    (second,) = collect(driver)
    assert [first.details["number"], second.details["number"]] == [1, 2]
    assert first.data.tolist() != second.data.tolist()


def test_a_lie_about_a_setting_a_start_or_a_stop_is_found_out(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    fault(bench, simulator, "lie")
    with pytest.raises(InstrumentError, match="reads"):
        driver.acquisition_time.set(5.0)
    with pytest.raises(InstrumentError, match="does not count"):
        driver.start()
    mend(bench, simulator)
    driver.start()
    fault(bench, simulator, "lie")
    with pytest.raises(InstrumentError, match="still counts"):
        driver.stop()


def test_a_clear_that_was_not_obeyed_gives_no_spectrum_twice(bench, eds):
    simulator, driver = eds
    run(bench, driver)
    fault(bench, simulator, "lie")
    assert len(collect(driver)) == 1
    with pytest.raises(InstrumentError, match="still there"):
        driver.take()


def test_a_value_that_is_no_number_is_not_a_number(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    fault(bench, simulator, "nan")
    assert math.isnan(driver.acquisition_time.get())
    with pytest.raises(ColdframeError):
        driver.start()


def test_a_frozen_processor_never_finishes(bench, eds):
    simulator, driver = eds
    fault(bench, simulator, "frozen")
    run(bench, driver)
    bench.step(10)
    assert driver.take() == []
    assert driver.real_time.get() == 0


def test_a_reboot_is_noticed_by_what_is_missing(bench, eds):
    simulator, driver = eds
    driver.acquisition_time.set(1.0)
    driver.start()
    fault(bench, simulator, "reboot")
    with pytest.raises(ColdframeError):
        collect(driver)
    driver.close()
    driver.open()
    assert "serial 2814" in driver.identify()
    assert math.isnan(driver.acquisition_time.get())


def test_nobody_there_is_no_connection(bench):
    driver = Dp5("eds", "udp://127.0.0.1:1", options=Dp5.Options(timeout=0.05))
    with pytest.raises(LinkError):
        driver.open()
    with pytest.raises(Disconnected, match="not open"):
        driver.take()
    driver.close()
