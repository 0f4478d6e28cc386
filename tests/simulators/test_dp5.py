"""The DP5 simulator, talked to with bare datagrams as the Programmer's Guide shows them."""

import socket
import struct
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from coldframe.simulators.dp5 import DATAGRAM, Dp5Simulator

Ask = Callable[[bytes], list[bytes]]


@pytest.fixture
def device(bench) -> Iterator[tuple[Dp5Simulator, Ask]]:
    simulator, address = bench.serve(Dp5Simulator, transport="udp")
    port = int(address.rsplit(":", 1)[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.connect(("127.0.0.1", port))

        def ask(request: bytes) -> list[bytes]:
            sock.send(request)
            datagrams = [sock.recv(65536)]
            length = struct.unpack_from(">H", datagrams[0], 4)[0] + 8
            while sum(map(len, datagrams)) < length:
                datagrams.append(sock.recv(65536))
            return datagrams

        yield simulator, ask


def packet(pid: str, data: bytes = b"") -> bytes:
    body = bytes.fromhex("f5fa" + pid) + struct.pack(">H", len(data)) + data
    return body + struct.pack(">H", (0x10000 - sum(body)) & 0xFFFF)


def count(bench, simulator, ask, seconds=2.0, preset=b"PRER=2.0;"):
    bench.do(lambda: bench.world.load("particle_5nm"))
    bench.world.beam.blanked = False
    bench.step(0.1)
    ask(packet("2002", preset))
    ask(packet("f001"))
    ask(packet("f002"))
    for _ in range(round(seconds * 10)):
        bench.step(0.1)


def test_the_requests_of_the_guide_are_answered_bit_for_bit(device):
    _, ask = device
    assert ask(bytes.fromhex("f5fa02010000fe0e"))[0][:6].hex() == "f5fa81071800"  # 2048 * 3
    assert ask(bytes.fromhex("f5faf0010000fd20")) == [bytes.fromhex("f5faff000000fd12")]
    status = ask(bytes.fromhex("f5fa01010000fe0f"))[0]
    assert status[:6].hex() == "f5fa80010040"
    assert (sum(status[:-2]) + struct.unpack(">H", status[-2:])[0]) & 0xFFFF == 0


def test_a_spectrum_with_status_comes_in_datagrams_of_520_bytes(bench, device):
    simulator, ask = device
    count(bench, simulator, ask)
    datagrams = ask(packet("0203"))
    assert [len(d) for d in datagrams[:-1]] == [DATAGRAM] * 11
    whole = b"".join(datagrams)
    assert whole[:6].hex() == "f5fa81081840"  # 2048 channels and 64 bytes of status
    three = np.frombuffer(whole[6 : 6 + 6144], np.uint8).reshape(-1, 3).astype(np.uint32)
    counts = three @ np.array([1, 256, 65536], np.uint32)
    assert counts.tolist() == simulator.spectrum.tolist()
    silicon = counts[164:184].sum()
    assert silicon > 20 * counts[210:230].sum()  # the particle is there, 10 eV a channel
    fast, slow = struct.unpack_from("<II", whole, 6 + 6144)
    assert slow == counts.sum() < fast


def test_counting_stops_exactly_at_the_preset_time(bench, device):
    simulator, ask = device
    count(bench, simulator, ask, seconds=3.0)
    status = ask(packet("0101"))[0][6:70]
    assert struct.unpack_from("<I", status, 20)[0] == 2000  # ms of real time
    assert status[12] * 1e-3 + int.from_bytes(status[13:16], "little") * 0.1 == pytest.approx(2)
    assert status[35] & 128
    before = simulator.slow_count
    bench.step(1)
    assert simulator.slow_count == before
    expected = bench.world.beam.current * 1e9 * 2e5 * 2
    assert simulator.fast_count == pytest.approx(expected, rel=0.05)


def test_clearing_begins_the_next_spectrum_while_the_mca_is_enabled(bench, device):
    simulator, ask = device
    count(bench, simulator, ask)
    ask(packet("0204"))
    assert simulator.real_time == 0
    bench.step(0.5)
    assert simulator.real_time == pytest.approx(0.5)
    ask(packet("f003"))
    bench.step(0.5)
    assert simulator.real_time == pytest.approx(0.5)
    assert simulator.writes == ["PRER=2.0;", "F0 01", "F0 02", "02 04", "F0 03"]


def test_text_commands_set_and_read_back(device):
    _, ask = device
    assert ask(packet("2002", b"MCAC=512;PRER=30.5;")) == [packet("ff00")]
    assert ask(packet("2003", b"MCAC=?;PRER=?;PRET=?;")) == [
        packet("8207", b"MCAC=512;PRER=30.500;PRET=OFF;")
    ]
    assert ask(packet("0201"))[0][2:4].hex() == "8103"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (packet("2002", b"MCAC=500;"), packet("ff05", b"MCAC=500")),
        (packet("2002", b"COFF=ON;"), packet("ff07", b"COFF=ON")),
        (packet("2003", b"COFF=?;"), packet("ff07", b"COFF=?")),
        (packet("0909"), packet("ff02")),
        (packet("0101")[:-1], packet("ff01")),
        (packet("0101") + b"\0", packet("ff03")),
        (packet("0101")[:-1] + b"\0", packet("ff04")),
        (b"\0" * 8, packet("ff01")),
    ],
)
def test_mistakes_are_acknowledged_as_what_they_are(device, request_, answer):
    _, ask = device
    assert ask(request_) == [answer]


def test_the_status_block_says_who_it_is_and_how_cold(device):
    _, ask = device
    status = ask(packet("0101"))[0][6:70]
    assert struct.unpack_from("<I", status, 26)[0] == 2814
    assert struct.unpack_from(">h", status, 30)[0] * 0.5 == -130  # V
    assert struct.unpack_from(">H", status, 32)[0] * 0.1 == pytest.approx(230)  # K
    assert status[36] & 32  # rebooted since the last status
    assert not ask(packet("0101"))[0][6 + 36] & 32
