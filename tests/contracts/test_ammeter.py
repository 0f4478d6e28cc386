"""What every ammeter owes: amperes or nothing, and a zero that is verified."""

from __future__ import annotations

import math
from typing import Any

import pytest

from coldframe.errors import ColdframeError, LinkError
from coldframe.roles import Ammeter
from tests.conftest import Bench

ROLE, NAME = Ammeter, "cup"


def accepted(driver: Any) -> Ammeter:
    """mypy checks that what a driver is used as here fits the role."""
    fits: Ammeter = driver
    return fits


def beam(bench: Bench, instrument: Any) -> float:
    """Let electrons fall into the cup; their current, which is negative."""

    def unblank() -> float:
        column = instrument.world.beam
        column.blanked, column.screen_down = False, True
        instrument.world.step(1)
        return -float(column.current)

    return bench.do(unblank)


def test_it_declares_the_role(pair: tuple[Any, Any]) -> None:
    driver, _ = pair

    assert driver.role == "Ammeter"
    assert driver.parameters["current"].unit == "A"
    assert driver.parameters["current"].poll is not None
    assert not driver.parameters["current"].writable
    assert driver.outputs == ()


def test_adopting_changes_nothing(pair: tuple[Any, Any]) -> None:
    driver, instrument = pair

    driver.adopt()

    assert instrument.writes == []


def test_zeroed_it_measures_the_beam(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    accepted(driver).zero()

    true = beam(bench, instrument)

    assert accepted(driver).current.get() == pytest.approx(true, rel=0.01)


def test_positive_charge_that_flows_in_is_a_positive_current(
    pair: tuple[Any, Any], bench: Bench
) -> None:
    driver, instrument = pair
    driver.zero()

    def ions() -> float:
        world = instrument.world
        world.cup.source, world.ion.on = "ion", True
        return float(world.ion.current)

    assert beam(bench, instrument) < 0 and driver.current.get() < 0  # electrons
    true = bench.do(ions)
    assert driver.current.get() == pytest.approx(true, rel=0.02)


def test_zeroed_it_measures_nothing_when_nothing_falls_in(pair: tuple[Any, Any]) -> None:
    driver, _ = pair

    driver.zero()

    assert abs(driver.current.get()) < 1e-13


def test_zeroing_with_the_beam_on_does_not_take_the_beam_away(
    pair: tuple[Any, Any], bench: Bench
) -> None:
    driver, instrument = pair
    true = beam(bench, instrument)

    driver.zero()

    assert driver.current.get() == pytest.approx(true, rel=0.01)


def test_a_zero_that_did_not_happen_is_an_error(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    driver.zero()
    bench.do(lambda: instrument.faults.switch_on("lie"))

    with pytest.raises(ColdframeError, match="cup"):
        driver.zero()


def test_not_a_number_is_nan(pair: tuple[Any, Any], bench: Bench) -> None:
    driver, instrument = pair
    driver.zero()
    bench.do(lambda: instrument.faults.switch_on("nan"))

    assert math.isnan(driver.current.get())


@pytest.mark.parametrize("fault", ["silence", "garbage", "half", "echo"])
def test_a_bad_answer_is_an_error_and_ends(pair: tuple[Any, Any], bench: Bench, fault: str) -> None:
    driver, instrument = pair
    bench.do(lambda: instrument.faults.switch_on(fault))

    with pytest.raises(LinkError):
        driver.current.get()


def test_it_comes_back_after_a_cut(pair: tuple[Any, Any]) -> None:
    driver, _ = pair
    before = driver.identify()

    driver.close()
    driver.open()

    assert driver.identify() == before
    driver.adopt()
