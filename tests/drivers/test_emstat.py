"""The EmStat's driver against its simulator on a pty, the world moving behind it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coldframe.drivers.emstat import EmStat
from coldframe.drivers.methodscript import Point
from coldframe.errors import (
    BadRequest,
    Busy,
    ColdframeError,
    Disconnected,
    InstrumentError,
    LinkError,
    NotSafe,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.emstat import EmStatSimulator
from coldframe.status import Severity

FAULTS = ["silence", "late", "garbage", "half", "echo", "frozen", "lie", "nan", "reboot", "drop"]
OCV = 2.8


@pytest.fixture
def served(bench: Any) -> tuple[EmStatSimulator, str]:
    simulator, address = bench.serve(EmStatSimulator, "emstat", transport="serial")
    return simulator, address


@pytest.fixture
def simulator(served: Any) -> EmStatSimulator:
    return served[0]


@pytest.fixture
def lively(bench: Any) -> None:
    """The world moves by itself, ten times as fast as the wall's clock."""

    async def move() -> None:
        while True:
            bench.pump.step(0.02)
            await asyncio.sleep(0.002)

    bench.tasks = []
    bench.do(lambda: bench.tasks.append(asyncio.get_running_loop().create_task(move())))


@pytest.fixture
def cell(served: Any, lively: None) -> Iterator[EmStat]:
    driver = EmStat("cell", served[1])
    driver.open()
    yield driver
    driver.close()


@pytest.fixture
def still(served: Any) -> Iterator[EmStat]:
    """The driver in a world that moves only when the test says so."""
    driver = EmStat("cell", served[1])
    driver.open()
    yield driver
    driver.close()


def wait(until: Callable[[], object], seconds: float = 3.0) -> None:
    deadline = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < deadline, "it did not happen"


def finish(driver: EmStat) -> list[Point]:
    """Every point of the technique that runs, until it is over."""
    points: list[Point] = []

    def over() -> bool:
        running = driver.running.get()
        points.extend(driver.points())
        return not running

    wait(over)
    return points


def test_it_adopts_without_sending_a_script(still: EmStat, simulator: EmStatSimulator) -> None:
    still.adopt()

    assert simulator.writes == []
    assert still.identify().endswith("ES4HR23H0137")
    assert still.outputs_on() == ["cell"]  # nobody knows
    assert still.status().severity is Severity.WARN


def test_a_technique_found_running_is_adopted(
    served: Any, still: EmStat, simulator: EmStatSimulator, bench: Any
) -> None:
    still.chronoamperometry(3.0, 60.0, 0.1, 1e-3)
    still.close()
    still.open()
    simulator.writes.clear()
    bench.step(0.1)

    still.adopt()
    bench.step(0.1)

    assert simulator.writes == []
    wait(still.running.get)
    assert still.voltage.get() == 3.0


def test_ocv_is_that_of_the_cell_and_leaves_it_off(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    assert cell.measure_ocv() == pytest.approx(OCV, abs=1e-3)
    assert not simulator.cell_on
    assert cell.outputs_on() == []
    assert cell.status().severity is Severity.IDLE


def test_a_chronoamperometry_gives_all_its_points_and_ends_with_the_cell_off(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.chronoamperometry(3.0, 2.0, 0.1, 1e-3)
    assert cell.outputs_on() == ["cell"]

    points = finish(cell)

    assert len(points) == 20
    assert [p.seconds for p in points] == pytest.approx([0.1 * n for n in range(1, 21)])
    assert {p.voltage for p in points} == {3.0}
    assert not simulator.cell_on
    assert cell.outputs_on() == []


@pytest.mark.parametrize(("volts", "sign"), [(3.3, 1), (2.3, -1)])
def test_positive_current_is_oxidation_at_the_working_electrode(
    cell: EmStat, bench: Any, volts: float, sign: int
) -> None:
    cell.chronoamperometry(volts, 1.0, 0.1, 10e-3)
    points = finish(cell)

    assert all(sign * p.current > 0 for p in points)
    assert sign * bench.world.cell.charge > 0


def test_voltage_and_current_follow_the_points(still: EmStat, bench: Any) -> None:
    assert math.isnan(still.voltage.get())
    still.chronoamperometry(2.9, 10.0, 1.0, 1e-3)
    assert math.isnan(still.current.get())

    bench.step(1.0)
    wait(lambda: not math.isnan(still.current.get()))

    assert still.voltage.get() == 2.9
    assert still.current.get() == pytest.approx(bench.world.cell.current, rel=0.05)
    assert still.running.get() is True
    assert len(still.points()) == 1
    assert still.points() == []


def test_the_instrument_itself_ends_at_the_current_limit(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.chronoamperometry(4.5, 100.0, 0.1, 100e-9)

    points = finish(cell)

    assert len(points) < 100
    assert not simulator.cell_on


def test_a_second_technique_waits_for_the_first(cell: EmStat) -> None:
    cell.chronoamperometry(2.9, 60.0, 0.1, 1e-3)

    with pytest.raises(Busy):
        cell.chronoamperometry(2.9, 1.0, 0.1, 1e-3)
    with pytest.raises(Busy):
        cell.measure_ocv()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((6.5, 1.0, 0.1, 1e-3), OutOfRange),
        ((3.0, 1.0, 0.1, 0.0), OutOfRange),
        ((3.0, 1.0, 2.0, 1e-3), BadRequest),
        ((3.0, 1.0, 1e-4, 1e-3), BadRequest),
    ],
)
def test_what_it_cannot_do_never_reaches_the_wire(
    still: EmStat, simulator: EmStatSimulator, arguments: Any, error: type[Exception]
) -> None:
    with pytest.raises(error):
        still.chronoamperometry(*arguments)

    assert simulator.writes == []


def test_a_pico_has_a_pico_s_limits(still: EmStat, simulator: EmStatSimulator) -> None:
    simulator.device = "espico"

    with pytest.raises(OutOfRange, match="2 V"):
        still.chronoamperometry(2.8, 1.0, 0.1, 1e-3)


def test_another_instrument_is_refused(still: EmStat, simulator: EmStatSimulator) -> None:
    simulator.device = "nexus1"

    with pytest.raises(WrongInstrument, match="nexus1"):
        still.identify()


def test_a_refused_script_is_told_with_its_line(still: EmStat, simulator: EmStatSimulator) -> None:
    with pytest.raises(InstrumentError, match=r"line 2"):
        still._upload("e\nvar p\nfly\n\n")

    assert simulator.writes == []


# ---- the safe state -----------------------------------------------------------------------


def test_the_safe_state_ends_what_runs_and_is_proved(
    cell: EmStat, simulator: EmStatSimulator, bench: Any
) -> None:
    cell.chronoamperometry(4.0, 1000.0, 0.1, 10e-3)

    cell.open_circuit()

    assert not simulator.running
    assert not simulator.cell_on
    assert bench.world.cell.mode == "open"
    assert cell.outputs_on() == []
    assert cell.running.get() is False


def test_half_a_script_in_the_instrument_is_refused_not_run(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell._connected().write(b"e\nset_e 4\ncell_o")

    cell.make_safe()

    assert not simulator.cell_on
    assert not any("set_e 4" in script for script in simulator.writes)
    assert cell.outputs_on() == []


def test_a_cell_that_stays_on_is_not_called_off(cell: EmStat, simulator: EmStatSimulator) -> None:
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    simulator.faults.switch_on("lie")

    with pytest.raises(NotSafe, match="cell off"):
        cell.make_safe()

    assert cell.outputs_on() == ["cell"]


def test_an_instrument_that_only_listens_is_still_turned_off(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    simulator.faults.switch_on("silence")

    with pytest.raises(NotSafe):
        cell.make_safe()

    assert not simulator.cell_on


def test_after_a_silence_the_safe_state_is_still_reached(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    simulator.faults.switch_on("silence")
    with pytest.raises(Silence):
        cell.identify()
    simulator.faults.switch_off("silence")

    cell.make_safe()

    assert not simulator.cell_on
    assert cell.outputs_on() == []


def test_an_error_while_running_leaves_the_cell_suspect(
    cell: EmStat, simulator: EmStatSimulator, bench: Any
) -> None:
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    bench.do(lambda: simulator._say("!0032: Line 12\n"))

    wait(lambda: not cell.running.get())

    assert cell.outputs_on() == ["cell"]
    assert cell.status().severity is Severity.ERROR


# ---- the fault script ------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_under_every_fault_an_ocv_is_right_or_an_error(
    cell: EmStat, simulator: EmStatSimulator, fault: str
) -> None:
    simulator.faults.switch_on(fault, 0.3 if fault == "late" else None)
    try:
        ocv = cell.measure_ocv()
    except ColdframeError as error:
        assert isinstance(error, LinkError | InstrumentError)
    else:
        assert math.isnan(ocv) or ocv == pytest.approx(OCV, abs=1e-3)

    simulator.faults.switch_off()
    cell.make_safe()
    assert cell.measure_ocv() == pytest.approx(OCV, abs=1e-3)


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("frozen", "lie")])
def test_under_every_fault_a_running_technique_s_points_are_right_or_missing(
    cell: EmStat, simulator: EmStatSimulator, fault: str
) -> None:
    cell.chronoamperometry(2.9, 1.0, 0.1, 1e-3)
    simulator.faults.switch_on(fault)
    deadline, points = time.monotonic() + 0.3, []
    while time.monotonic() < deadline:
        try:
            points += cell.points()
        except ColdframeError as error:
            assert isinstance(error, LinkError)

    assert all(math.isnan(p.voltage) or p.voltage == 2.9 for p in points)
    assert all(math.isnan(p.current) or 0 < p.current < 1e-3 for p in points)


def test_half_a_package_is_never_half_a_number(
    still: EmStat, simulator: EmStatSimulator, bench: Any
) -> None:
    package = "Peb98BCB00u;da82C4020u;ba81E8480p,10,209"
    still.identify()

    def look(found: list[Any]) -> bool:
        try:
            found += still.points()
        except LinkError:
            found.append("error")
        return bool(found)

    for cut in range(1, len(package)):
        bench.do(lambda c=cut: simulator._out(package[:c].encode()))
        bench.do(lambda: simulator._say(package))
        found: list[Any] = []
        wait(lambda f=found: look(f))
        assert found == ["error"]


def test_a_late_answer_is_not_taken_for_the_next_question_s(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.measure_ocv()
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(Silence):
        cell.measure_ocv()
    simulator.faults.switch_off("late")

    assert cell.measure_ocv() == pytest.approx(OCV, abs=1e-3)
    assert cell.identify().endswith("ES4HR23H0137")


def test_after_a_reboot_it_opens_and_identifies_again(
    cell: EmStat, simulator: EmStatSimulator, bench: Any
) -> None:
    before = cell.identify()
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    bench.do(simulator.power_on)

    cell.close()
    cell.open()

    assert cell.identify() == before
    assert cell.outputs_on() == ["cell"]
    cell.make_safe()
    assert cell.outputs_on() == []


def test_a_running_technique_that_falls_silent_is_noticed(
    cell: EmStat, simulator: EmStatSimulator
) -> None:
    cell.chronoamperometry(3.0, 1000.0, 0.1, 1e-3)
    simulator.faults.switch_on("silence")
    cell._quiet = 0.05

    with pytest.raises(Silence, match="no point"):
        wait(lambda: cell.running.get() and False)


def test_a_port_that_is_not_there_is_disconnected() -> None:
    driver = EmStat("cell", "serial:///dev/does-not-exist")

    with pytest.raises(Disconnected):
        driver.open()
    with pytest.raises(Disconnected):
        driver.identify()
