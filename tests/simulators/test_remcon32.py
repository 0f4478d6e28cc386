"""The SmartSEM simulator, asked by a bare serial port and a bare socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import serial

from coldframe.simulators.remcon32 import RemCon32Simulator


class Plain:
    """A bare socket that sends lines and reads lines."""

    def __init__(self, address: str):
        host, port = address.removeprefix("tcp://").split(":")
        self._socket = socket.create_connection((host, int(port)), 2)
        self._file = self._socket.makefile("rwb")

    def __call__(self, line: str, answers: int = 2) -> list[str]:
        self._file.write(line.encode() + b"\r\n")
        self._file.flush()
        return [self._file.readline().decode() for _ in range(answers)]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def sem(bench: Any) -> tuple[RemCon32Simulator, str]:
    made: tuple[RemCon32Simulator, str] = bench.serve(RemCon32Simulator)
    return made


@pytest.fixture
def plain(sem: tuple[RemCon32Simulator, str]) -> Iterator[Plain]:
    client = Plain(sem[1])
    yield client
    client.close()


def test_it_answers_as_in_the_transcript(plain: Plain) -> None:
    assert plain("PROB 5E-11") == ["@\r\n", ">\r\n"]
    assert plain("NOPE") == ["@\r\n", "*600\r\n"]
    assert plain("STG 1", answers=1) == ["#\r\n"]


def test_the_version_names_smartsem(plain: Plain) -> None:
    assert "SmartSEM" in plain("VER?")[1]


def test_it_speaks_on_a_serial_port(bench: Any) -> None:
    _, address = bench.serve(RemCon32Simulator, transport="serial")
    with serial.Serial(address.removeprefix("serial://"), 9600, timeout=2) as port:
        port.write(b"BBL?\r\n")
        assert port.read_until(b"\n") == b"@\r\n"
        assert port.read_until(b"\n") == b">1\r\n"


def test_the_beam_obeys_and_the_world_sees_it(bench: Any, plain: Plain) -> None:
    assert plain("BBLK 0")[1] == ">\r\n"
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    plain("BBLK 1")
    bench.step(0.1)
    assert bench.world.beam.blanked_now


def test_probe_current_and_voltage_reach_the_world(bench: Any, plain: Plain) -> None:
    plain("PROB 5E-11")
    plain("EHT 30")
    assert plain("PRB?")[1] == ">5E-11\r\n"
    assert plain("EHT?")[1] == ">30\r\n"
    assert bench.world.beam.current == pytest.approx(5e-11, rel=0.02)
    plain("EHT 0")
    assert not bench.world.beam.on


@pytest.mark.parametrize(
    ("line", "number"),
    [("PROB 1", 603), ("PROB x", 602), ("BBLK 2", 603), ("EHT nan", 603), ("MAG " + "9" * 80, 617)],
)
def test_bad_parameters_are_refused_by_number(plain: Plain, line: str, number: int) -> None:
    assert plain(line) == ["@\r\n", f"*{number}\r\n"]


def test_a_stage_move_is_not_waited_for(bench: Any, plain: Plain) -> None:
    plain("STG 5 0 10")
    assert plain("STG?")[1].endswith(" 1.0\r\n")
    bench.step(6)
    assert plain("STG?")[1] == ">5.0000 0.0000 10.0000 0.0\r\n"


def test_an_aborted_stage_stays_where_it_is(bench: Any, plain: Plain) -> None:
    plain("STG 5 0 10")
    bench.step(2)
    plain("ABO")
    bench.step(6)
    assert plain("STG?")[1] == ">2.0000 0.0000 10.0000 0.0\r\n"


def test_a_lie_is_accepted_and_not_obeyed(
    bench: Any, sem: tuple[RemCon32Simulator, str], plain: Plain
) -> None:
    plain("BBLK 0")
    sem[0].faults.switch_on("lie")
    assert plain("BBLK 1")[1] == ">\r\n"
    assert plain("BBL?")[1] == ">0\r\n"


def test_after_the_mains_switch_the_beam_is_blanked(
    bench: Any, sem: tuple[RemCon32Simulator, str], plain: Plain
) -> None:
    plain("BBLK 0")
    bench.do(sem[0].power_on)
    assert plain("BBL?")[1] == ">1\r\n"
