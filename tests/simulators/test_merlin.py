"""The Merlin simulator, talked to with bare sockets as its receivers do."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from coldframe.simulators.merlin import BUFFER, MerlinSimulator


class Talk:
    """A control and a data socket that know nothing but bytes."""

    def __init__(self, address: str, stack: ExitStack, receive_buffer: int | None = None):
        port = int(address.rsplit(":", 1)[1])
        self.control = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        self.data = stack.enter_context(socket.socket())
        if receive_buffer:
            self.data.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.data.settimeout(5)
        self.data.connect(("127.0.0.1", port + 1))

    def ask(self, body: bytes) -> bytes:
        self.control.sendall(b"MPX,%010d," % (len(body) + 1) + body)
        return read_message(self.control)

    def frame(self) -> bytes:
        return read_message(self.data)


def read_message(sock: socket.socket) -> bytes:
    prefix = exactly(sock, 15)
    assert re.fullmatch(rb"MPX,\d{10},", prefix)
    return exactly(sock, int(prefix[4:14]) - 1)  # the length counts the comma


def exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = sock.recv(count - len(data))
        assert piece, "closed"
        data += piece
    return data


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_get_set_and_cmd_answer_as_the_dialect_says(bench, stack):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    assert talk.ask(b"GET,SOFTWAREVERSION") == b"GET,SOFTWAREVERSION,0.67.0.9,0"
    assert talk.ask(b"GET,DETECTORSTATUS,0") == b"GET,DETECTORSTATUS,0,0"  # as LiberTEM asks
    assert talk.ask(b"SET,ACQUISITIONTIME,12.5") == b"SET,ACQUISITIONTIME,0"
    assert talk.ask(b"GET,ACQUISITIONTIME") == b"GET,ACQUISITIONTIME,12.5,0"


def test_what_it_does_not_know_or_cannot_do_has_its_error_code(bench, stack):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    assert talk.ask(b"GET,COFFEE").endswith(b",2")
    assert talk.ask(b"SET,COFFEE,1") == b"SET,COFFEE,2"
    assert talk.ask(b"CMD,BREW") == b"CMD,BREW,2"
    assert talk.ask(b"SET,COUNTERDEPTH,7") == b"SET,COUNTERDEPTH,3"
    assert talk.ask(b"SET,ACQUISITIONTIME,soon") == b"SET,ACQUISITIONTIME,3"
    talk.ask(b"SET,NUMFRAMESTOACQUIRE,0")
    assert talk.ask(b"CMD,STARTACQUISITION") == b"CMD,STARTACQUISITION,0"
    assert talk.ask(b"CMD,STARTACQUISITION") == b"CMD,STARTACQUISITION,1"
    assert talk.ask(b"SET,ACQUISITIONTIME,5") == b"SET,ACQUISITIONTIME,1"


def test_requests_in_pieces_in_heaps_and_without_the_counted_comma_are_understood(bench, stack):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    whole = b"MPX,0000000019,GET,DETECTORSTATUS"
    for byte in whole:
        talk.control.sendall(bytes([byte]))
    assert read_message(talk.control) == b"GET,DETECTORSTATUS,0,0"
    talk.control.sendall(b"nonsense" + whole + whole)
    assert read_message(talk.control) == b"GET,DETECTORSTATUS,0,0"
    assert read_message(talk.control) == b"GET,DETECTORSTATUS,0,0"
    talk.control.sendall(b"MPX,0000000018,GET,DETECTORSTATUS")
    assert read_message(talk.control) == b"GET,DETECTORSTATUS,0,0"


def test_frames_have_the_captured_layout(bench, stack):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    talk.ask(b"SET,NUMFRAMESTOACQUIRE,2")
    talk.ask(b"CMD,STARTACQUISITION")
    header = talk.frame()
    assert header.startswith(b"HDR,")
    assert b"\nFrames in Acquisition (Number):\t2\r\n" in header
    assert header.endswith(b"End\t")
    bench.step(0.03)
    for number in (1, 2):
        body = talk.frame()
        assert len(body) == 131456  # 384 + 256*256*2
        assert body.startswith(b"MQ1,%06d,00384,01,0256,0256,U16,   1x1,01," % number)
    assert talk.ask(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,0,0"


def test_pixels_are_big_endian_and_show_the_world(bench, stack):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    bench.world.load("particle_5nm")
    bench.world.beam.blanked = False
    bench.step(1)
    talk.ask(b"SET,ACQUISITIONTIME,100")
    talk.ask(b"CMD,STARTACQUISITION")
    talk.frame()
    bench.step(0.1)
    image = np.frombuffer(talk.frame()[384:], ">u2").reshape(256, 256)
    expected = bench.world.camera.electrons_per_pixel(0.1) * bench.world.camera.transmission(
        (256, 256)
    )
    assert image.mean() == pytest.approx(expected.mean(), rel=0.02)
    assert np.corrcoef(image.ravel(), expected.ravel())[0, 1] > 0.3


@pytest.mark.parametrize(
    ("depth", "name", "size"), [(6, b"U08", 1), (12, b"U16", 2), (24, b"U32", 4)]
)
def test_the_counter_depth_decides_the_pixel_and_its_largest_count(bench, stack, depth, name, size):
    _, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    bench.world.beam.blanked = False
    bench.step(1)
    talk.ask(b"SET,COUNTERDEPTH,%d" % depth)
    talk.ask(b"SET,ACQUISITIONTIME,1000")
    talk.ask(b"CMD,STARTACQUISITION")
    talk.frame()
    bench.step(1)
    body = talk.frame()
    assert body.split(b",")[6] == name
    assert len(body) == 384 + 256 * 256 * size
    assert np.frombuffer(body[384:], f">u{size}").max() < 2**depth


def test_four_chips_make_a_512_frame_with_the_long_header(bench, stack):
    _, address = bench.serve(MerlinSimulator, chips=4)
    talk = Talk(address, stack)
    talk.ask(b"CMD,STARTACQUISITION")
    talk.frame()
    bench.step(0.01)
    body = talk.frame()
    assert body.startswith(b"MQ1,000001,00768,04,0512,0512,U16,   2x2,0F,")
    assert len(body) == 768 + 512 * 512 * 2


def test_frames_come_at_the_pace_of_exposure_and_readout(bench, stack):
    simulator, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    talk.ask(b"SET,NUMFRAMESTOACQUIRE,0")
    talk.ask(b"SET,ACQUISITIONTIME,100")
    talk.ask(b"SET,ACQUISITIONPERIOD,100")
    talk.ask(b"CMD,STARTACQUISITION")
    for _ in range(21):
        bench.step(0.05)
    assert simulator.number == 10  # 1.05 s of 101.64 ms
    talk.ask(b"CMD,STOPACQUISITION")
    bench.step(1)
    assert simulator.number == 10


def test_a_software_trigger_releases_the_frames(bench, stack):
    simulator, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    assert talk.ask(b"CMD,SOFTTRIGGER") == b"CMD,SOFTTRIGGER,1"
    for setting in (b"TRIGGERSTART,3", b"NUMFRAMESPERTRIGGER,2", b"NUMFRAMESTOACQUIRE,4"):
        talk.ask(b"SET," + setting)
    talk.ask(b"CMD,STARTACQUISITION")
    bench.step(1)
    assert simulator.number == 0
    assert talk.ask(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,1,0"
    talk.ask(b"CMD,SOFTTRIGGER")
    bench.step(1)
    assert simulator.number == 2
    talk.ask(b"CMD,SOFTTRIGGER")
    bench.step(1)
    assert simulator.number == 4
    assert talk.ask(b"GET,DETECTORSTATUS") == b"GET,DETECTORSTATUS,0,0"


def test_a_reader_that_does_not_read_costs_frames_and_the_numbers_show_it(bench, stack):
    simulator, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack, receive_buffer=65536)
    talk.ask(b"SET,NUMFRAMESTOACQUIRE,0")
    talk.ask(b"SET,ACQUISITIONTIME,1")
    talk.ask(b"SET,ACQUISITIONPERIOD,10")
    talk.ask(b"CMD,STARTACQUISITION")
    while simulator.lost == 0:
        bench.step(0.04)
        assert simulator.number < 10 * BUFFER  # kernel buffers are finite, too
    sent = simulator.number - simulator.lost
    talk.ask(b"CMD,STOPACQUISITION")
    talk.frame()
    numbers = [int(talk.frame()[4:10]) for _ in range(sent)]
    assert numbers == list(range(1, sent + 1))  # what was lost is the end, and it is counted


def test_a_jump_in_time_loses_what_the_buffer_cannot_hold(bench, stack):
    simulator, address = bench.serve(MerlinSimulator)
    talk = Talk(address, stack)
    talk.ask(b"SET,NUMFRAMESTOACQUIRE,0")
    talk.ask(b"CMD,STARTACQUISITION")
    bench.step(60)
    assert simulator.lost == pytest.approx(60 / 0.01164 - BUFFER, abs=2)
