"""What every potentiostat owes: a cell that is off unless it works, and the sign of its current."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from coldframe.roles import Potentiostat

ROLE, NAME = Potentiostat, "potentiostat"


@pytest.fixture(autouse=True)
def time_passes(bench: Any) -> None:
    """The world moves by itself: a script takes time."""

    async def move() -> None:
        while True:
            bench.pump.step(0.02)
            await asyncio.sleep(0.002)

    tasks: list[Any] = []
    bench.do(lambda: tasks.append(asyncio.get_running_loop().create_task(move())))


def accepted(driver: Any) -> Potentiostat:
    """mypy checks that the driver fits the role."""
    fits: Potentiostat = driver
    return fits


def wait(until: Callable[[], object]) -> None:
    deadline = time.monotonic() + 3
    while not until():
        assert time.monotonic() < deadline, "it did not happen"


def test_it_declares_the_role_and_a_hazardous_cell(pair: Any) -> None:
    driver, _ = pair

    assert driver.role == "Potentiostat"
    assert [output.name for output in driver.outputs] == ["cell"]
    assert driver.commands["chronoamperometry"].hazard == "hazardous"
    assert driver.commands["chronoamperometry"].output == "cell"
    assert driver.commands["open_circuit"].hazard == "safe"
    assert driver.parameters["voltage"].unit == "V"
    assert driver.parameters["current"].unit == "A"


def test_adopting_writes_nothing(pair: Any) -> None:
    driver, simulator = pair

    driver.adopt()

    assert simulator.writes == []
    assert driver.outputs_on() == ["cell"]


def test_the_open_circuit_voltage_is_the_cell_s_and_not_zero(pair: Any, bench: Any) -> None:
    driver, _ = pair

    ocv = driver.measure_ocv()

    assert ocv == pytest.approx(bench.world.cell.voltage, abs=1e-3)
    assert bench.world.cell.mode == "open"


@pytest.mark.parametrize("step", [0.3, -0.3])
def test_oxidation_is_a_positive_current(pair: Any, bench: Any, step: float) -> None:
    driver, _ = pair
    rest = driver.measure_ocv()

    driver.chronoamperometry(rest + step, 60.0, 0.1, 1e-3)
    wait(lambda: accepted(driver).current.get() * step > 0)

    assert accepted(driver).voltage.get() == pytest.approx(rest + step, abs=1e-4)
    driver.make_safe()


def test_open_circuit_ends_everything(pair: Any, bench: Any) -> None:
    driver, _ = pair
    driver.chronoamperometry(3.0, 60.0, 0.1, 1e-3)

    accepted(driver).open_circuit()

    assert bench.world.cell.mode == "open"
    assert driver.outputs_on() == []
    assert driver.running.get() is False
