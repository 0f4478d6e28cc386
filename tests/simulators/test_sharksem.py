"""The FIB simulator, asked by a bare socket with hand-made messages."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.simulators.sharksem import RAMP, SharkSemSimulator


class Shark:
    """A bare socket; every message is made by hand."""

    def __init__(self, address: str):
        host, port = address.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), 2)
        self._number = 100

    def send(self, name: str, body: bytes = b"", flags: int = 1) -> int:
        self._number += 1
        self.socket.sendall(
            struct.pack("<16sIIHHI", name.encode(), len(body), self._number, flags, 0, 0) + body
        )
        return self._number

    def receive(self) -> tuple[str, int, bytes]:
        name, size, number, _, _, reserved = struct.unpack("<16sIIHHI", self._exactly(32))
        assert reserved == 0
        return name.rstrip(b"\0").decode(), number, self._exactly(size)

    def ask(self, name: str, body: bytes = b"") -> bytes:
        number = self.send(name, body)
        answered, found, reply = self.receive()
        assert (answered, found) == (name, number)
        return reply

    def integer(self, name: str, body: bytes = b"") -> int:
        value: int = struct.unpack("<i", self.ask(name, body))[0]
        return value

    def text(self, name: str) -> str:
        reply = self.ask(name)
        (size,) = struct.unpack("<I", reply[:4])
        assert len(reply) % 4 == 0
        assert reply[3 + size] == 0
        return reply[4 : 3 + size].decode()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part
            data += part
        return data


@pytest.fixture
def simulator(bench: Any) -> SharkSemSimulator:
    made: SharkSemSimulator = bench.serve(SharkSemSimulator)[0]
    return made


@pytest.fixture
def shark(bench: Any, simulator: SharkSemSimulator) -> Iterator[Shark]:
    address = bench._ports[-1].address
    made = Shark(address)
    yield made
    made.socket.close()


def preset(name: str) -> bytes:
    data = name.encode() + b"\0"
    return struct.pack("<I", len(data)) + data + b"\0" * (-len(data) % 4)


def test_it_says_who_it_is(shark: Shark) -> None:
    assert shark.text("TcpGetVersion") == "3.2.20"
    assert shark.text("TcpGetDevice").startswith("VF-")


def test_without_flag_one_there_is_no_answer(shark: Shark) -> None:
    shark.send("FibHVGetBeam", flags=0)
    shark.send("NoSuchCommand")
    assert shark.integer("FibHVGetBeam") == 0


def test_the_beam_comes_and_goes_in_seconds(bench: Any, shark: Shark) -> None:
    shark.send("FibHVBeamOn", flags=0)
    assert shark.integer("FibHVGetBeam") == 1000
    assert not bench.world.ion.on
    bench.step(RAMP)
    assert shark.integer("FibHVGetBeam") == 1
    assert bench.world.ion.on
    shark.send("FibHVBeamOff", flags=0)
    assert shark.integer("FibHVGetBeam") == 1000
    assert bench.world.ion.on
    bench.step(RAMP)
    assert shark.integer("FibHVGetBeam") == 0
    assert not bench.world.ion.on


def test_presets_are_listed_by_line_and_change_the_current(bench: Any, shark: Shark) -> None:
    names = shark.text("FibEnumPresets").split("\n")
    assert names == list(bench.world.ion.presets)
    shark.send("FibHVBeamOn", flags=0)
    assert shark.ask("FibSetPresetEx", preset("30 kV; 3 nA")) == b""
    bench.step(RAMP)
    assert float(shark.text("FibReadFCCurr")) == pytest.approx(3000, rel=0.03)
    assert float(shark.text("FibHVGetVoltage")) == 30_000


def test_reading_the_ion_current_disturbs(shark: Shark, simulator: SharkSemSimulator) -> None:
    shark.ask("FibReadFCCurr")
    assert simulator.disturbed == 1
    assert simulator.writes == []


def test_a_scan_mills_until_it_is_stopped(bench: Any, shark: Shark) -> None:
    bench.do(lambda: bench.world.load("lamella"))
    assert shark.integer("FibScScanXY") == -1
    shark.send("FibHVBeamOn", flags=0)
    assert shark.integer("FibHVGetBeam") == 1000
    bench.step(RAMP)
    assert shark.integer("FibScScanXY") == 1
    bench.step(10)
    milled = bench.world.ion.ions
    assert milled == pytest.approx(10e-12 * 10 / 1.602e-19, rel=0.05)
    shark.ask("FibScStopScan")
    bench.step(10)
    assert bench.world.ion.ions == milled


def test_the_electron_blanker_has_three_states(bench: Any, shark: Shark) -> None:
    assert shark.integer("ScGetBlanker", struct.pack("<i", 1)) == 1
    shark.ask("ScSetBlanker", struct.pack("<ii", 1, 0))
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    shark.ask("ScSetBlanker", struct.pack("<ii", 1, 2))
    assert shark.integer("ScGetBlanker", struct.pack("<i", 1)) == 2
    bench.step(0.1)
    assert bench.world.beam.blanked_now


def test_a_message_in_pieces_is_one_message(shark: Shark) -> None:
    whole = struct.pack("<16sIIHHI", b"TcpGetVersion", 0, 5, 1, 0, 0)
    for byte in whole:
        shark.socket.sendall(bytes([byte]))
    assert shark.receive()[:2] == ("TcpGetVersion", 5)


def test_a_lie_is_accepted_and_not_obeyed(shark: Shark, simulator: SharkSemSimulator) -> None:
    simulator.faults.switch_on("lie")
    assert shark.ask("FibHVBeamOn") == b""
    assert shark.integer("FibHVGetBeam") == 0


def test_the_mains_switch_ends_the_beam(
    bench: Any, shark: Shark, simulator: SharkSemSimulator
) -> None:
    shark.ask("FibHVBeamOn")
    bench.step(RAMP)
    bench.do(simulator.power_on)
    assert shark.integer("FibHVGetBeam") == 0
    assert not bench.world.ion.on
