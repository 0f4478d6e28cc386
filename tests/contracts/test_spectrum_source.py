"""What every spectrum source owes: one whole spectrum for each acquisition time, taken once."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from coldframe.drivers.base import Sample
from coldframe.errors import Disconnected, OutOfRange
from coldframe.roles import SpectrumSource
from coldframe.status import Status

ROLE, NAME = SpectrumSource, "eds"


@pytest.fixture(autouse=True)
def lamella(bench: Any) -> None:
    """Something to see, in the beam."""
    bench.do(lambda: bench.world.load("lamella"))
    bench.world.beam.blanked = False
    bench.step(0.1)


def accepted(driver: Any) -> SpectrumSource:
    """mypy checks that the driver fits the role."""
    fits: SpectrumSource = driver
    return fits


def collect(driver: Any, bench: Any, count: int) -> list[Sample]:
    """`count` spectra, the world moving a little at a time."""
    samples: list[Sample] = []
    deadline = time.monotonic() + 5
    while len(samples) < count and time.monotonic() < deadline:
        bench.step(0.05)
        samples += driver.take()
    return samples


def test_it_declares_the_role_no_output_and_what_its_spectra_are(pair: Any) -> None:
    driver, _ = pair

    assert driver.role == "SpectrumSource"
    assert driver.outputs == ()
    assert driver.stream().kind == "spectrum"
    assert np.dtype(driver.stream().dtype).str == driver.stream().dtype
    assert driver.stream().axes["energy_eV"] > 0
    assert driver.commands["stop"].hazard == "safe"
    assert driver.commands["start"].hazard == "neutral"


def test_adopting_changes_nothing(pair: Any) -> None:
    driver, simulator = pair

    driver.adopt()
    driver.make_safe()

    assert simulator.writes == []
    assert driver.outputs_on() == []
    assert isinstance(driver.status(), Status)


def test_spectra_are_as_declared_numbered_and_stamped_in_order(pair: Any, bench: Any) -> None:
    driver, _ = pair
    accepted(driver).acquisition_time.set(0.2)
    begun = time.monotonic_ns()

    accepted(driver).start()
    samples = collect(driver, bench, 3)

    assert {(s.data.dtype.str, s.data.shape) for s in samples} == {driver.stream()[1:3]}
    assert [s.details["number"] for s in samples] == [1, 2, 3]
    assert {s.details["real_time_s"] for s in samples} == {0.2}
    stamps = [s.mono_ns for s in samples]
    assert begun < stamps[0] and stamps == sorted(stamps) and stamps[-1] < time.monotonic_ns()


def test_the_lines_of_the_specimen_stand_at_their_energies(pair: Any, bench: Any) -> None:
    driver, _ = pair
    accepted(driver).acquisition_time.set(1.0)
    accepted(driver).start()

    (sample,) = collect(driver, bench, 1)

    step = driver.stream().axes["energy_eV"]
    oxygen = sample.data[round(470 / step) : round(580 / step)].sum()
    nothing = sample.data[round(3000 / step) : round(3110 / step)].sum()
    assert oxygen > 5 * nothing  # O K at 525 eV in the lamella


def test_no_spectrum_comes_before_a_start_or_after_a_stop(pair: Any, bench: Any) -> None:
    driver, _ = pair
    accepted(driver).acquisition_time.set(0.2)
    bench.step(1)
    assert driver.take() == []

    accepted(driver).start()
    assert driver.acquiring.get() is True
    assert collect(driver, bench, 1)
    accepted(driver).stop()
    assert driver.acquiring.get() is False

    bench.step(1)
    assert driver.take() == []


def test_a_time_outside_its_limits_is_refused_before_the_wire(pair: Any) -> None:
    driver, simulator = pair
    for value in (0.0, -1.0, 1e12):
        with pytest.raises(OutOfRange):
            accepted(driver).acquisition_time.set(value)
    assert simulator.writes == []


def test_a_closed_driver_says_so_and_opens_again(pair: Any) -> None:
    driver, _ = pair
    name = driver.identify()

    driver.close()
    driver.close()
    with pytest.raises(Disconnected):
        driver.take()

    driver.open()
    assert driver.identify() == name
