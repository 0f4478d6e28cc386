"""The simulated EmStat, spoken to over its serial port with the manual's scripts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import serial

from coldframe.simulators.emstat import EmStatSimulator
from coldframe.simulators.methodscript import ScriptError, check

CA = """e
var p
var c
set_pgstat_chan 0
set_pgstat_mode 3
set_max_bandwidth 60
set_range ba 100u
set_autoranging ba 100n 2m
set_e 3
cell_on
meas_loop_ca p c 3 100m 500m
\tpck_start
\tpck_add p
\tpck_add c
\tpck_end
endloop
on_finished:
cell_off

"""


class Console:
    """A serial port, read by lines."""

    def __init__(self, path: str):
        self.port = serial.Serial(path, 230400, timeout=2)

    def tell(self, text: str) -> None:
        self.port.write(text.encode())

    def lines(self, count: int) -> list[str]:
        return [self.port.readline().decode() for _ in range(count)]

    def nothing(self) -> bool:
        self.port.timeout = 0.05
        got = self.port.read(1)
        self.port.timeout = 2
        return got == b""


@pytest.fixture
def served(bench: Any) -> Iterator[tuple[EmStatSimulator, Console]]:
    simulator, address = bench.serve(EmStatSimulator, "emstat", transport="serial")
    console = Console(address.removeprefix("serial://"))
    yield simulator, console
    console.port.close()


def test_it_says_who_it_is_in_two_lines(served: Any) -> None:
    _, console = served

    console.tell("t\n")

    first, second = console.lines(2)
    assert first.startswith("tes4_hr")
    assert second == "R*\n"


def test_a_chronoamperometry_is_echo_loop_packages_end(served: Any, bench: Any) -> None:
    simulator, console = served
    console.tell(CA)

    assert console.lines(2) == ["e\n", "M0007\n"]
    assert simulator.cell_on
    for _ in range(10):
        bench.step(0.05)

    lines = console.lines(7)
    assert all(line.startswith("Pda") and ";ba" in line for line in lines[:5])
    assert lines[5:] == ["*\n", "\n"]
    assert not simulator.cell_on
    assert bench.world.cell.mode == "open"


def test_points_come_in_lab_time(served: Any, bench: Any) -> None:
    _, console = served
    console.tell(CA)
    console.lines(2)

    assert console.nothing()
    bench.step(0.1)
    assert console.lines(1)[0].startswith("P")
    assert console.nothing()


def test_an_abort_closes_the_loop_and_turns_the_cell_off(served: Any, bench: Any) -> None:
    simulator, console = served
    console.tell(CA)
    console.lines(2)

    console.tell("Z\n")

    assert console.lines(3) == ["Z\n", "*\n", "\n"]
    assert not simulator.cell_on
    console.tell("Z\n")
    assert console.lines(1) == ["Z!0006\n"]


def test_a_script_with_a_mistake_is_refused_whole(served: Any) -> None:
    simulator, console = served

    console.tell("e\nvar p\ncell_on\nfly p\n\n")

    assert console.lines(1) == ["e!4001: Line 3, Col 1\n"]
    assert not simulator.cell_on
    assert simulator.writes == []


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("fly", "!4001: Line 1, Col 1"),
        ("set_e", "!4004: Line 1, Col 6"),
        ("set_e x", "!420B: Line 1, Col 7"),
        ("set_e 1.5", "!4004: Line 1, Col 7"),
        ("var a\nvar a", "!4026: Line 2, Col 2"),
        ("meas_loop_ca", "!4004: Line 1, Col 13"),
        ("var p\nmeas_loop_ocp p 1 1", "!4018: Line 2, Col 1"),
        ("endif", "!400E: Line 1, Col 1"),
    ],
)
def test_mistakes_are_named_with_line_and_column(script: str, error: str) -> None:
    with pytest.raises(ScriptError) as refusal:
        check(script.split("\n"))

    assert refusal.value.text == error


def test_open_circuit_is_not_measured_with_the_cell_on(served: Any) -> None:
    simulator, console = served

    console.tell("e\nvar p\nset_e 3\ncell_on\nmeas_loop_ocp p 20m 100m\nendloop\n\n")

    assert console.lines(4) == ["e\n", "M000B\n", "!0014: Line 4\n", "\n"]
    assert simulator.cell_on  # an error ends the script before on_finished


def test_a_potential_it_cannot_reach_is_refused(served: Any) -> None:
    simulator, console = served

    console.tell("e\nset_e 7\ncell_on\n\n")

    assert console.lines(3) == ["e\n", "!000F: Line 1\n", "\n"]
    assert not simulator.cell_on


def test_variables_loops_and_conditions(served: Any, bench: Any) -> None:
    _, console = served

    console.tell(
        "e\nvar a\nstore_var a 0 ja\nloop a < 3\nadd_var a 1\nif a == 2\nbreakloop\nelse\n"
        'pck_start\npck_add a\npck_end\nendif\nendloop\nsend_string "done"\n\n'
    )

    assert console.lines(6) == ["e\n", "L\n", "Pja80F4240u\n", "+\n", "Tdone\n", "\n"]


def test_another_script_while_one_runs_is_refused(served: Any) -> None:
    _, console = served
    console.tell(CA)
    console.lines(2)

    console.tell("e\n")

    assert console.lines(1) == ["e!0006\n"]


def test_points_it_could_not_take_in_time_are_marked(served: Any, bench: Any) -> None:
    simulator, console = served
    console.tell(CA)
    console.lines(2)

    bench.do(lambda: bench.world.step(10))  # nobody looked
    bench.do(simulator.tick)

    assert all(",11," in line for line in console.lines(5))


def test_each_point_sees_the_world_of_its_own_instant(served: Any, bench: Any) -> None:
    _, console = served
    console.tell(CA)
    console.lines(2)

    bench.step(60)  # in one go

    lines = console.lines(7)
    assert all(",10," in line for line in lines[:5])
    assert len(set(lines[:5])) == 5
    assert bench.world.cell.mode == "open"


def test_a_current_beyond_its_range_is_in_overload(served: Any, bench: Any) -> None:
    _, console = served
    narrow = CA.replace("ba 100n 2m", "ba 100n 100n")
    console.tell(narrow.replace("set_e 3", "set_e 5").replace("p c 3 ", "p c 5 "))
    console.lines(2)

    bench.step(0.1)

    assert ",12,209" in console.lines(1)[0]
