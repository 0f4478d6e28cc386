"""The Merlin driver against the simulated detector: frames whole, in order, none invented."""

import time
from collections.abc import Iterator

import numpy as np
import pytest

from coldframe.drivers.base import Sample
from coldframe.drivers.merlin import Merlin
from coldframe.errors import (
    Busy,
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.merlin import MerlinSimulator
from coldframe.status import Severity

FAST = {"timeout": 0.15}


@pytest.fixture
def camera(bench) -> Iterator[tuple[MerlinSimulator, Merlin]]:
    simulator, address = bench.serve(MerlinSimulator)
    driver = Merlin("camera", address, options=Merlin.Options(**FAST))
    driver.open()
    driver.identify()
    yield simulator, driver
    driver.close()


def fault(bench, simulator, name, value=None):
    bench.do(lambda: simulator.faults.switch_on(name, value))


def mend(bench, simulator):
    bench.do(lambda: simulator.faults.switch_off())


def collect(driver: Merlin, count: int, seconds: float = 5.0) -> list[Sample]:
    """`count` frames, or as many as came in time."""
    samples: list[Sample] = []
    deadline = time.monotonic() + seconds
    while len(samples) < count and time.monotonic() < deadline:
        samples += driver.take()
    return samples


def acquire(bench, driver, frames, exposure=0.01):
    driver.frames.set(frames)
    driver.exposure.set(exposure)
    driver.period.set(exposure)
    driver.start()
    step_frames(bench, driver, frames)


def step_frames(bench, driver, frames):
    for _ in range(frames):
        bench.step(driver.exposure.get() + 0.01)


def test_frames_arrive_as_the_detector_drew_them(bench, camera):
    simulator, driver = camera
    bench.world.load("particle_5nm")
    bench.world.beam.blanked = False
    bench.step(1)
    driver.counter_depth.set(12)
    driver.frames.set(1)
    driver.exposure.set(0.2)
    before = time.monotonic_ns()
    driver.start()
    bench.step(0.25)
    (sample,) = collect(driver, 1)
    assert sample.data.dtype.str == "<u2"
    assert sample.data.tolist() == bench.do(lambda: np.minimum(simulator._image, 4095)).tolist()
    assert before < sample.mono_ns < time.monotonic_ns()
    assert sample.details == {
        "number": 1,
        "exposure_s": pytest.approx(0.2),
        "device_time": sample.details["device_time"],
        "acquisition": 1,
        "missed": 0,
    }
    assert sample.details["device_time"].startswith("2026-01-01T00:00:01.2")


def test_frames_are_numbered_without_gaps_over_several_acquisitions(bench, camera):
    _, driver = camera
    for acquisition in (1, 2, 3):
        acquire(bench, driver, 5)
        samples = collect(driver, 5)
        assert [s.details["number"] for s in samples] == [1, 2, 3, 4, 5]
        assert {s.details["acquisition"] for s in samples} == {acquisition}
    assert driver.lost.get() == 0
    assert driver.status().severity < Severity.ERROR


def test_settings_reach_the_detector_and_are_read_back(bench, camera):
    simulator, driver = camera
    driver.exposure.set(0.0125)
    driver.period.set(0.5)
    driver.frames.set(0)
    assert simulator.settings["ACQUISITIONTIME"] == 12.5
    assert (driver.exposure.get(), driver.period.get(), driver.frames.get()) == (0.0125, 0.5, 0)
    assert simulator.writes[-1] == "SET,NUMFRAMESTOACQUIRE,0"


def test_a_setting_outside_its_limits_never_reaches_the_wire(bench, camera):
    simulator, driver = camera
    for name, value in (("exposure", 0.0), ("exposure", 1e5), ("frames", -1), ("counter_depth", 7)):
        with pytest.raises(OutOfRange, match=name):
            driver.set(name, value)
    with pytest.raises(OutOfRange, match="wide"):
        driver.counter_depth.set(24)
    assert simulator.writes == []


def test_a_detector_that_acquires_is_busy(bench, camera):
    _, driver = camera
    driver.frames.set(0)
    driver.start()
    assert driver.acquiring.get() is True
    assert driver.status().severity == Severity.BUSY
    for refused in (driver.start, lambda: driver.exposure.set(0.1)):
        with pytest.raises(Busy):
            refused()
    driver.stop()
    assert driver.acquiring.get() is False
    driver.exposure.set(0.1)


def test_a_software_trigger_starts_the_frames(bench, camera):
    _, driver = camera
    driver.trigger_start.set(3)
    driver.frames_per_trigger.set(2)
    driver.frames.set(2)
    driver.start()
    bench.step(1)
    assert driver.take() == []
    driver.trigger()
    bench.step(1)
    assert [s.details["number"] for s in collect(driver, 2)] == [1, 2]


def test_adopting_a_running_detector_changes_nothing(bench, camera):
    simulator, driver = camera
    driver.frames.set(0)
    driver.start()
    driver.close()
    before = list(simulator.writes)
    driver.open()
    driver.adopt()
    assert simulator.writes == before
    assert simulator.state == "acquiring"


def test_a_full_queue_stops_the_reading_and_drops_nothing(bench):
    simulator, address = bench.serve(MerlinSimulator)
    driver = Merlin("camera", address, options=Merlin.Options(queue=2, **FAST))
    driver.open()
    try:
        driver.frames.set(40)
        driver.exposure.set(0.001)
        driver.start()
        for _ in range(10):
            bench.step(0.047)
        while driver._reader.queued() < 2:
            pass
        assert simulator.number == 40
        got = []
        while len(got) < 40:
            taken = driver.take()
            assert len(taken) <= 2
            got += taken
        assert [s.details["number"] for s in got] == list(range(1, 41))
        assert driver.lost.get() == 0
    finally:
        driver.close()


def test_frames_that_the_detector_lost_are_counted_where_they_are_missing(bench, camera):
    _, driver = camera
    driver.frames.set(0)
    driver.start()
    bench.step(0.0117)
    bench.step(60)  # far more than its buffer holds
    bench.step(0.001)
    samples = collect(driver, 5)
    numbers = [s.details["number"] for s in samples]
    assert sum(s.details["missed"] for s in samples) == numbers[-1] - len(numbers)
    assert driver.lost.get() == numbers[-1] - len(numbers) > 5000
    assert driver.status().severity == Severity.WARN
    assert "lost" in driver.status().words


def test_the_24_bit_counter_needs_the_wide_option_and_then_keeps_every_count(bench):
    _, address = bench.serve(MerlinSimulator)
    bench.world.beam.blanked = False
    bench.step(1)
    driver = Merlin("camera", address, options=Merlin.Options(wide=True, **FAST))
    driver.open()
    try:
        assert driver.stream().dtype == "<u4"
        for depth in (6, 12, 24):
            driver.counter_depth.set(depth)
            acquire(bench, driver, 1, exposure=0.1)
            (sample,) = collect(driver, 1)
            assert sample.data.dtype.str == "<u4"
            assert sample.data.max() < 2**depth
    finally:
        driver.close()


def test_frames_of_another_size_are_an_error_and_not_a_frame(bench):
    _, address = bench.serve(MerlinSimulator, chips=4)
    driver = Merlin("camera", address, options=Merlin.Options(**FAST))
    driver.open()
    try:
        with pytest.raises(WrongInstrument, match="512 x 512"):
            driver.identify()
        driver.start()
        bench.step(0.02)
        with pytest.raises(Garbled, match="rows, columns"):
            while True:
                assert driver.take() == []
    finally:
        driver.close()


def test_something_else_on_the_port_is_the_wrong_instrument(bench, camera, monkeypatch):
    simulator, driver = camera
    monkeypatch.setattr(simulator, "_get", lambda name: "undef")
    with pytest.raises(WrongInstrument, match="undef"):
        driver.identify()


# ---- the fault script ---------------------------------------------------------------------


def test_silence_lateness_and_cut_connections_are_named_and_survived(bench, camera):
    simulator, driver = camera
    for name, expected in (("silence", Silence), ("late", Silence), ("drop", Disconnected)):
        fault(bench, simulator, name)
        with pytest.raises(expected):
            driver.exposure.get()
        mend(bench, simulator)
        assert driver.exposure.get() == 0.01


def test_an_answer_that_comes_late_is_never_taken_for_the_next_one(bench, camera):
    simulator, driver = camera
    fault(bench, simulator, "late", 0.2)
    with pytest.raises(Silence):
        driver.exposure.get()
    bench.do(lambda: simulator.settings.update(ACQUISITIONTIME=77.0))
    mend(bench, simulator)
    for _ in range(50):
        assert driver.exposure.get() == 0.077


@pytest.mark.parametrize("name", ["garbage", "echo"])
def test_nonsense_is_an_error_that_shows_it(bench, camera, name):
    simulator, driver = camera
    fault(bench, simulator, name)
    for question in (driver.exposure.get, lambda: driver.exposure.set(0.02), driver.start):
        with pytest.raises(ColdframeError):
            question()
    mend(bench, simulator)
    assert driver.acquiring.get() in (True, False)


def test_half_a_reply_at_every_byte_is_no_reply(bench, camera):
    simulator, _ = camera
    driver = Merlin("camera", camera[1].address, options=Merlin.Options(timeout=0.004))
    whole = len(b"MPX,0000000025,GET,ACQUISITIONTIME,10,0")
    driver.open()
    try:
        for count in range(whole):
            fault(bench, simulator, "half", (count + 0.5) / whole)
            with pytest.raises(Silence):
                driver.exposure.get()
    finally:
        driver.close()


def test_a_lie_about_a_setting_or_a_start_or_a_stop_is_found_out(bench, camera):
    simulator, driver = camera
    fault(bench, simulator, "lie")
    with pytest.raises(InstrumentError, match="reads"):
        driver.exposure.set(0.5)
    with pytest.raises(InstrumentError, match="nothing began"):
        driver.start()
    mend(bench, simulator)
    driver.frames.set(0)
    driver.start()
    fault(bench, simulator, "lie")
    with pytest.raises(InstrumentError, match="still acquires"):
        driver.stop()


def test_a_value_that_is_no_number_is_not_a_number(bench, camera):
    simulator, driver = camera
    fault(bench, simulator, "nan")
    assert np.isnan(driver.sensor_bias.get())
    with pytest.raises(InstrumentError):
        driver.exposure.set(0.5)


def test_a_frozen_detector_repeats_its_image_under_new_numbers(bench, camera):
    simulator, driver = camera
    bench.world.beam.blanked = False
    acquire(bench, driver, 1)
    fault(bench, simulator, "frozen")
    acquire(bench, driver, 3)
    samples = collect(driver, 4)
    assert [s.details["number"] for s in samples] == [1, 1, 2, 3]
    assert all(np.array_equal(s.data, samples[0].data) for s in samples)


@pytest.mark.parametrize("name", ["garbage", "silence"])
def test_frames_that_came_as_nonsense_or_not_at_all_are_missing_and_counted(bench, camera, name):
    simulator, driver = camera
    driver.frames.set(0)
    driver.start()
    bench.step(0.0117)
    fault(bench, simulator, name)
    bench.step(0.0117)
    bench.step(0.0117)
    mend(bench, simulator)
    bench.step(0.0117)
    samples = collect(driver, 2)
    assert [s.details["number"] for s in samples] == [1, 4]
    assert [s.details["missed"] for s in samples] == [0, 2]
    assert driver.lost.get() == 2
    assert (driver.garbled.get() > 0) == (name == "garbage")


def test_a_frame_that_breaks_off_anywhere_is_never_a_frame(bench, camera):
    simulator, driver = camera
    driver.frames.set(0)
    driver.start()
    whole = 15 + 131456
    cuts = [1, 4, 14, 15, 18, 19, 60, 398, 399, 400, 70000, *range(whole - 21, whole)]
    for number, cut in enumerate(cuts):
        fault(bench, simulator, "half", (cut + 0.5) / whole)
        bench.step(0.0117)
        mend(bench, simulator)
        bench.step(0.0117)
        (sample,) = collect(driver, 1)
        assert sample.details["number"] == 2 * number + 2
        assert sample.details["missed"] == 1
        assert sample.data.max() < 10  # blanked: dark counts, and not the text of a header
    assert driver.lost.get() == len(cuts)


def test_a_last_pixel_that_looks_like_the_beginning_of_a_message_is_a_pixel(bench, camera):
    _, driver = camera
    image = np.full((256, 256), ord("M"), np.uint16)  # 77 counts end in the byte "M"
    bench.world.camera.expose = lambda *_: image
    driver.frames.set(2)
    driver.start()
    bench.step(0.0117)
    samples = collect(driver, 1)
    bench.step(0.0117)
    samples += collect(driver, 1)
    assert [s.details["number"] for s in samples] == [1, 2]
    assert all(np.array_equal(s.data, image) for s in samples)


def test_after_a_cut_cable_open_finds_the_same_instrument_again(bench, camera):
    simulator, driver = camera
    name = driver.identify()
    fault(bench, simulator, "drop")
    with pytest.raises(Disconnected):
        driver.exposure.get()
    bench.do(lambda: simulator.faults.switch_off("drop"))
    driver.close()
    driver.open()
    assert driver.identify() == name
    acquire(bench, driver, 2)
    assert [s.details["number"] for s in collect(driver, 2)] == [1, 2]


def test_a_data_connection_that_ends_is_reported_after_its_last_frame(bench, camera):
    simulator, driver = camera
    acquire(bench, driver, 2)
    driver.frames.set(1)
    driver.start()
    fault(bench, simulator, "drop")
    bench.step(0.0117)
    got = []
    with pytest.raises(Disconnected):
        while True:
            got += driver.take()
    assert [s.details["number"] for s in got] == [1, 2]


def test_a_reboot_is_a_lost_connection_and_then_power_on_values(bench, camera):
    simulator, driver = camera
    driver.exposure.set(0.5)
    fault(bench, simulator, "reboot")
    with pytest.raises(Disconnected):
        driver.exposure.get()
    driver.close()
    driver.open()
    assert driver.exposure.get() == 0.01


def test_a_port_where_nobody_listens_is_disconnected(bench):
    driver = Merlin("camera", "tcp://127.0.0.1:1")
    with pytest.raises(Disconnected):
        driver.open()
    driver.close()
    with pytest.raises(Disconnected, match="not open"):
        driver.take()
