"""The wires and the line link: whole answers to the question asked, or a typed error in time."""

from __future__ import annotations

import os
import pty
import socket
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from coldframe.drivers import links
from coldframe.drivers.links import (
    BUFFER_LIMIT,
    Dialect,
    LineLink,
    SerialFraming,
    Wire,
    open_wire,
)
from coldframe.errors import (
    BadRequest,
    ColdframeError,
    ConfigurationError,
    Disconnected,
    Garbled,
    LinkError,
    Silence,
)

IDENTITY = b"ACME,MODEL 1,42,1.0"
DIALECT = Dialect(b"\n", b"\r\n", timeout=0.25, recognise="ACME,.*")


@dataclass(frozen=True)
class Fate:
    """What becomes of one answer: late, lost, cut, garbled, or with more than was asked for."""

    delay: float = 0.0
    lost: bool = False
    cut: int | None = None  # bytes that arrive
    before: bytes = b""
    after: bytes = b""


WELL = Fate()


class Slow:
    """A wire in time of its own: an instrument that answers in order, each answer with its fate.

    To the question `Qn?` it answers `An`; time passes only while the link waits.
    """

    def __init__(self, fates: list[Fate]):
        self.now = 1.0
        self._fates = iter(fates)
        self._arriving: list[tuple[float, bytes]] = []
        self._due = 0.0
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        for line in data.split(b"\n")[:-1]:
            self.heard.append(line)
            if not line.endswith(b"?"):
                continue
            fate = next(self._fates, WELL)
            answer = IDENTITY if line == b"*IDN?" else b"A" + line[1:-1]
            whole = fate.before + answer + b"\r\n" + fate.after
            sent = b"" if fate.lost else whole if fate.cut is None else whole[: fate.cut]
            self._due = max(self._due, self.now + fate.delay)
            if sent:
                self._arriving.append((self._due, sent))

    def read(self, timeout: float) -> bytes:
        if self._arriving and self._arriving[0][0] <= self.now + timeout:
            due, data = self._arriving.pop(0)
            self.now = max(self.now, due)
            return data
        self.now += timeout
        return b""

    def close(self) -> None:
        pass

    # what the link takes for the module `time`

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@contextmanager
def slow_link(fates: list[Fate]) -> Iterator[tuple[LineLink, Slow]]:
    wire = Slow(fates)
    real, links.time = links.time, wire  # type: ignore[assignment]
    try:
        yield LineLink(wire, DIALECT), wire
    finally:
        links.time = real


delays = st.sampled_from([0.0, 0.0, 0.0, 0.1, 0.24, 0.26, 0.4, 0.7, 1.5, 4.0])
noise = st.sampled_from([b"", b"", b"", b"\xff\xfe\r\n", b"A999\r\n", b"\r\n", b"+1.0"])
# cut and late at once is left out: the rest of one line may then begin the next, and look like it
fates = (
    st.builds(Fate, lost=st.booleans(), cut=st.none() | st.integers(0, 12), before=noise)
    | st.builds(Fate, st.sampled_from([0.0, 0.1, 0.24]), before=noise)
)  # fmt: skip


@given(st.lists(fates, max_size=12), st.lists(st.sampled_from(["ask", "tell"]), max_size=12))
@settings(max_examples=600, deadline=None)
def test_an_answer_is_the_one_to_the_question_or_an_error(
    script: list[Fate], verbs: list[str]
) -> None:
    heard_wrong = {b"A999", b"+1.0"}
    with slow_link(script) as (link, wire):
        for n, verb in enumerate([*verbs, "ask", "ask"]):
            began = wire.now
            try:
                if verb == "tell":
                    link.tell(f"O{n}")
                    continue
                answer = link.ask(f"Q{n}?")
            except LinkError as error:
                event(type(error).__name__)
            else:
                # only noise that came *after* the question may pass for its answer: no link can
                # tell; but never an answer to another question, or a part of one
                clean = any(answer.encode().startswith(word) for word in heard_wrong)
                assert answer == f"A{n}" or clean or answer == "", answer
            assert wire.now - began < 10  # every wait ends


late = st.lists(st.builds(Fate, delays, st.booleans()), max_size=15)


@given(late, st.lists(st.booleans(), max_size=10))
@settings(max_examples=600, deadline=None)
def test_late_and_lost_answers_are_never_those_of_the_next_question(
    script: list[Fate], who: list[bool]
) -> None:
    with slow_link(script) as (link, _):
        for n, identify in enumerate([*who, *[False] * 4]):
            try:
                if identify:
                    assert link.ask("*IDN?") == IDENTITY.decode()
                assert link.ask(f"Q{n}?") == f"A{n}"
            except LinkError as error:
                event(type(error).__name__)


@given(late)
@settings(max_examples=300, deadline=None)
def test_a_link_whose_instrument_is_well_again_is_back_in_step(script: list[Fate]) -> None:
    with slow_link(script) as (link, wire):
        while len(wire.heard) < len(script):
            try:
                link.ask("Q0?")
            except LinkError:
                pass
        wire.now += 10  # whatever was late has come
        answers = []
        for n in range(1, 4):
            try:
                answers.append((n, link.ask(f"Q{n}?")))
            except LinkError:
                assert n == 1
        assert [(n, f"A{n}") for n, _ in answers] == answers
        assert len(answers) >= 2


@pytest.mark.parametrize("cut", range(len(b"A7\r\n")))
def test_an_answer_cut_at_any_byte_is_silence_and_shows_what_came(cut: int) -> None:
    with slow_link([Fate(cut=cut)]) as (link, wire):
        with pytest.raises(Silence, match=r"Q7\?: nothing whole in 0.25 s") as silence:
            link.ask("Q7?")
        if cut:
            assert repr(b"A7\r\n"[:cut]) in str(silence.value)
        assert link.ask("Q8?") == "A8"
        assert wire.heard == [b"Q7?", b"*IDN?", b"Q8?"]


def test_a_question_is_asked_once() -> None:
    with slow_link([Fate(lost=True)]) as (link, wire):
        with pytest.raises(Silence):
            link.ask("Q1?")
        link.tell("O2")
        assert wire.heard == [b"Q1?", b"*IDN?", b"O2"]


def test_nothing_is_sent_to_an_instrument_that_does_not_say_who_it_is() -> None:
    with slow_link([Fate(lost=True)] * 3) as (link, wire):
        for question in ("Q1?", "Q2?", "Q3?"):
            with pytest.raises(Silence):
                link.ask(question)
        assert wire.heard == [b"Q1?", b"*IDN?", b"*IDN?"]
        assert link.ask("Q4?") == "A4"


def test_a_safe_order_is_sent_all_the_same() -> None:
    with slow_link([Fate(lost=True)]) as (link, wire):
        with pytest.raises(Silence):
            link.ask("Q1?")
        link.shout("OFF")
        assert wire.heard == [b"Q1?", b"OFF"]
        assert link.ask("Q2?") == "A2"


def test_an_unasked_line_puts_the_link_out_of_step() -> None:
    with slow_link([Fate(after=b"A2\r\n")]) as (link, wire):
        assert link.ask("Q1?") == "A1"
        assert link.ask("Q2?") == "A2"
        assert wire.heard == [b"Q1?", b"*IDN?", b"Q2?"]


def test_an_echo_is_no_answer() -> None:
    with slow_link([Fate(before=b"Q1?\r\n")]) as (link, _):
        with pytest.raises(Garbled, match="the instrument echoes"):
            link.ask("Q1?")
        assert link.ask("Q2?") == "A2"


def test_pace_is_kept_after_the_question_and_after_the_answer() -> None:
    with slow_link([Fate(delay=0.2)]) as (link, wire):
        link.dialect = DIALECT._replace(pace=0.05)
        link.ask("Q1?")
        answered = wire.now
        link.tell("Q2?")
        assert wire.now - answered >= 0.05


def test_what_the_wire_cannot_write_is_a_bad_request() -> None:
    with slow_link([]) as (link, wire):
        with pytest.raises(BadRequest, match="µ"):
            link.ask("5 µA")
        assert wire.heard == []


# ---- floods -------------------------------------------------------------------------------


class Flood:
    """A wire out of which bytes never end."""

    def __init__(self, chunk: bytes):
        self.chunk, self.written = chunk, b""

    def write(self, data: bytes) -> None:
        self.written += data

    def read(self, timeout: float) -> bytes:
        return self.chunk

    def close(self) -> None:
        pass


@pytest.mark.parametrize("chunk", [b"x" * 4096, b"noise\r\n", b"\xff\r\n", b"\r\n"])
def test_an_endless_stream_is_an_error_in_bounded_time_and_space(chunk: bytes) -> None:
    flood = Flood(chunk)
    link = LineLink(flood, DIALECT._replace(timeout=0.02))
    link._patience = 0.02
    for _ in range(3):
        with pytest.raises(LinkError):
            link.ask("Q?")
        assert len(link._buffer) <= BUFFER_LIMIT + len(chunk)
    link.shout("OFF")
    assert flood.written.endswith(b"OFF\n")


def test_a_megabyte_without_an_end_is_garbled_and_forgotten() -> None:
    def instrument(client: socket.socket) -> None:
        question = client.recv(100)
        client.sendall(b"9" * 1_000_000)
        while question := client.recv(100):
            client.sendall((IDENTITY if b"IDN" in question else b"A2") + b"\r\n")

    with serving(instrument) as address, closing(open_wire(address)) as wire:
        link = LineLink(wire, DIALECT._replace(timeout=2))
        with pytest.raises(Garbled, match="65536 bytes and no end of line"):
            link.ask("Q1?")
        assert len(link._buffer) == 0
        assert eventually(link, "Q2?") == "A2"


# ---- wires --------------------------------------------------------------------------------


@contextmanager
def serving(instrument: Callable[[socket.socket], None]) -> Iterator[str]:
    """One client's worth of a TCP instrument, in a thread that ends with its client."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = server.accept()
        with client:
            instrument(client)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        thread.join(5)
        server.close()
    assert not thread.is_alive()


def test_a_closed_connection_is_disconnected() -> None:
    with serving(lambda client: None) as address, closing(open_wire(address)) as wire:
        link = LineLink(wire, DIALECT)
        with pytest.raises(Disconnected, match=r"closed by the instrument|reset by peer"):
            link.ask("Q1?", timeout=2)


def test_a_reset_connection_is_disconnected_when_writing_too() -> None:
    def reset(client: socket.socket) -> None:
        client.recv(100)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    with serving(reset) as address, closing(open_wire(address)) as wire:
        link = LineLink(wire, DIALECT)
        with pytest.raises(Disconnected):
            for _ in range(100):
                link.tell("Q1?")
                wire.read(0.01)


def test_a_closed_wire_is_disconnected() -> None:
    with serving(lambda client: None) as address:
        wire = open_wire(address)
        wire.close()
        with pytest.raises(Disconnected):
            wire.write(b"x")
        with pytest.raises(Disconnected):
            wire.read(0)


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:1", "tcp://no.such.host.invalid:1", f"tcp://{'x' * 70}.invalid:1",
     "udp://no.such.host.invalid:1", "serial:///dev/no-such-port", "serial:///dev/null"],
)  # fmt: skip
def test_nobody_there_is_disconnected(address: str) -> None:
    with pytest.raises(Disconnected):
        open_wire(address, timeout=1)


@pytest.mark.parametrize(
    "address",
    ["", "tcp://host", "tcp://host:x", "tcp://host:99999", "tcp://[::1:5", "ftp://host:1",
     "serial:", "serial:///dev/x?baud=fast", "serial:///dev/x?speed=9600", "/dev/ttyUSB0"],
)  # fmt: skip
def test_what_is_no_address_is_a_configuration_error(address: str) -> None:
    with pytest.raises(ConfigurationError):
        open_wire(address)


@pytest.fixture
def line(tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A pty under another name; what is written to it is in `master`."""
    master, slave = pty.openpty()
    tty.setraw(master)
    tty.setraw(slave)
    link = tmp_path / "ttyUSB0"
    link.symlink_to(os.ttyname(slave))
    made = SimpleNamespace(master=master, address=f"serial://{link}", hung_up=False)
    yield made
    os.close(slave)
    if not made.hung_up:
        os.close(master)


def test_a_pty_opens_again_and_again_with_seven_bits_and_parity(line: SimpleNamespace) -> None:
    for _ in range(3):
        wire = open_wire(line.address, SerialFraming(57600, 7, "O", 1))
        wire.write(b"Q\n")
        assert os.read(line.master, 10) == b"Q\n"
        os.write(line.master, b"\xc1A\r\n")  # eight bits come through
        assert gather(wire, 4) == b"\xc1A\r\n"
        wire.close()


def test_a_serial_port_belongs_to_one(line: SimpleNamespace) -> None:
    with closing(open_wire(line.address)), pytest.raises(Disconnected):
        open_wire(line.address)


def test_a_serial_port_that_goes_away_is_disconnected(line: SimpleNamespace) -> None:
    with closing(open_wire(line.address)) as wire:
        os.close(line.master)
        line.hung_up = True
        with pytest.raises(Disconnected):
            for _ in range(3):
                wire.write(b"Q\n")
                wire.read(0.05)


def test_silence_takes_no_longer_than_it_was_given(line: SimpleNamespace) -> None:
    with closing(open_wire(line.address)) as wire:
        assert wire.read(0.01) == b""
        assert wire.read(-1) == b""


def test_datagrams_come_one_at_a_time() -> None:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as peer:
        peer.bind(("127.0.0.1", 0))
        with closing(open_wire(f"udp://127.0.0.1:{peer.getsockname()[1]}")) as wire:
            wire.write(b"Q")
            _, client = peer.recvfrom(10)
            peer.sendto(b"one", client)
            peer.sendto(b"two", client)
            assert (wire.read(1), wire.read(1), wire.read(0)) == (b"one", b"two", b"")


def test_an_instrument_behind_visa() -> None:
    def instrument(client: socket.socket) -> None:
        while client.recv(100):
            client.sendall(b"A1\n")

    with serving(instrument) as address:
        port = address.rsplit(":", 1)[1]
        with closing(open_wire(f"visa://TCPIP0::127.0.0.1::{port}::SOCKET")) as wire:
            link = LineLink(wire, Dialect())
            assert link.ask("Q1?", timeout=2) == "A1"
            assert wire.read(0.01) == b""


def test_every_error_of_a_link_says_what_to_do_with_it() -> None:
    for error in (Silence, Garbled, Disconnected):
        assert issubclass(error, LinkError)
        assert error.retryable
    assert issubclass(LinkError, ColdframeError)


def eventually(link: LineLink, question: str) -> str:
    """Ask until there is an answer; each failure is a typed one."""
    for _ in range(20):
        with suppress(LinkError):
            return link.ask(question)
    raise AssertionError("no answer in 20 times")


def gather(wire: Wire, count: int) -> bytes:
    data = b""
    while len(data) < count and (more := wire.read(1)):
        data += more
    return data
