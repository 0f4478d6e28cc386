"""The simulated ANC300, spoken to over a bare socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.simulators.anc300 import GREETING, Anc300Simulator


class Telnet:
    """A bare socket that logs in."""

    def __init__(self, address: str, password: str = "123456"):
        host, port = address.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), 2)
        self.socket.settimeout(2)
        self.greeting = self.until(b"code: ")
        self.socket.sendall(password.encode() + b"\r\n")
        self.verdict = self.until(b"success\r\n" if password == "123456" else b"code: ")

    def until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            got += self.socket.recv(4096)
        return got

    def ask(self, text: str, end: bytes = b"OK\r\n") -> bytes:
        self.socket.sendall(text.encode() + b"\r\n")
        return self.until(end)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def served(bench: Any) -> tuple[Anc300Simulator, str]:
    simulator, address = bench.serve(Anc300Simulator, "anc300")
    return simulator, address


@pytest.fixture
def telnet(served: Any) -> Iterator[Telnet]:
    made = Telnet(served[1])
    made.ask("echo off")
    yield made
    made.close()


def test_the_greeting_is_not_ascii(served: Any) -> None:
    telnet = Telnet(served[1])

    assert telnet.greeting == GREETING
    assert any(byte > 127 for byte in telnet.greeting)
    telnet.close()


def test_the_password_comes_back_as_stars(served: Any) -> None:
    telnet = Telnet(served[1])

    assert telnet.verdict == b"******\r\nAuthorization success\r\n"
    telnet.close()


def test_a_wrong_password_opens_nothing(served: Any) -> None:
    telnet = Telnet(served[1], "654321")

    telnet.socket.sendall(b"setm 1 stp\r\n")

    assert b"failed" in telnet.verdict
    assert b"failed" in telnet.until(b"code: ")
    assert served[0].writes == []
    telnet.close()


def test_commands_are_echoed_until_told_otherwise(served: Any) -> None:
    telnet = Telnet(served[1])

    assert telnet.ask("getm 1") == b"> getm 1\r\nmode = gnd\r\nOK\r\n"
    assert telnet.ask("echo off") == b"> echo off\r\nOK\r\n"
    assert telnet.ask("getm 1") == b"mode = gnd\r\nOK\r\n"
    telnet.close()


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("getf 1", b"frequency = 200 Hz\r\nOK\r\n"),
        ("getv 2", b"voltage = 30.000000 V\r\nOK\r\n"),
        ("geta 3", b"voltage = 0.000000 V\r\nOK\r\n"),
        ("getcser", b"ANC300B-C-1514-3006076\r\nOK\r\n"),
        ("getser 1", b"ANM300A-M-1545-3010041\r\nOK\r\n"),
    ],
)
def test_it_answers_as_the_real_one(telnet: Telnet, question: str, reply: bytes) -> None:
    assert telnet.ask(question) == reply


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("stepu 1 5", b"Axis in wrong mode"),
        ("getm 7", b"Wrong axis type"),
        ("seta 3 151", b"Voltage out of range"),
        ("setf 1 0", b"Frequency out of range"),
        ("dance", b"Unknown command"),
    ],
)
def test_it_says_why_and_error(telnet: Telnet, served: Any, command: str, reason: bytes) -> None:
    assert telnet.ask(command, b"ERROR\r\n").startswith(reason)
    assert served[0].writes == []


def test_steps_take_their_time(telnet: Telnet, bench: Any) -> None:
    bench.do(lambda: bench.world.load("particle_5nm"))
    telnet.ask("setm 3 stp")
    telnet.ask("setf 3 100")
    start = bench.world.needle.gap

    telnet.ask("stepu 3 20")
    bench.step(0.1)
    halfway = bench.world.needle.gap
    bench.step(10)
    end = bench.world.needle.gap
    bench.step(10)

    assert start - halfway == pytest.approx((start - end) / 2, rel=0.3)
    assert end < halfway < start
    assert bench.world.needle.gap == end


def test_continuous_stepping_goes_on_until_stopped(telnet: Telnet, bench: Any) -> None:
    telnet.ask("setm 1 stp")
    telnet.ask("stepd 1 c")
    bench.step(0.5)
    first = bench.world.needle.miss
    bench.step(0.5)
    telnet.ask("stop 1")
    second = bench.world.needle.miss
    bench.step(5)

    assert second != first
    assert bench.world.needle.miss == second


def test_stepw_answers_when_the_axis_is_still(telnet: Telnet, bench: Any) -> None:
    telnet.ask("setm 1 stp")
    telnet.ask("stepu 1 10")
    telnet.socket.sendall(b"stepw 1\r\ngetm 1\r\n")
    telnet.socket.settimeout(0.05)
    with pytest.raises(TimeoutError):
        telnet.until(b"OK\r\n")

    bench.step(1)

    telnet.socket.settimeout(2)
    assert telnet.until(b"stp\r\nOK\r\n") == b"OK\r\nmode = stp\r\nOK\r\n"


def test_the_offset_moves_the_needle_only_in_a_mode_that_applies_it(
    telnet: Telnet, bench: Any
) -> None:
    bench.do(lambda: bench.world.load("particle_5nm"))
    start = bench.world.needle.gap

    telnet.ask("seta 3 50")
    grounded = bench.world.needle.gap
    telnet.ask("setm 3 off")
    held = bench.world.needle.gap
    telnet.ask("setm 3 gnd")

    assert grounded == start
    assert held < start - 500e-9
    assert bench.world.needle.gap == pytest.approx(start)
