"""The wires: bytes to and from an instrument, and question-and-answer by lines on top of them.

A wire is opened from an address in the laboratory's TOML:

    tcp://192.168.1.20:7777        serial:///dev/ttyUSB0?baud=57600        udp://192.168.1.21:10001
    visa://TCPIP0::192.168.1.20::5025::SOCKET   (any resource pyvisa knows)

No answer is ever believed that was not whole, and none that may belong to an earlier question:
after a silence the link is *out of step*, and the next question first asks for the identity and
throws away everything before the identity's answer. Buffers are bounded; every wait ends.
"""

from __future__ import annotations

import os
import re
import select
import socket
import sys
import time
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

from coldframe.errors import BadRequest, ConfigurationError, Disconnected, Garbled, Silence

NEVER = 5.0  # s; an answer that has not come by then will not come
BUFFER_LIMIT = 65536  # bytes; more than this without an end of line is not an answer


class Wire(Protocol):
    """Raw bytes both ways. Any failure of the port raises `Disconnected`."""

    def write(self, data: bytes) -> None: ...
    def read(self, timeout: float) -> bytes:
        """What has arrived, waiting up to `timeout` seconds for the first byte; b"" if nothing."""
        ...

    def close(self) -> None: ...


class SerialFraming(NamedTuple):
    """How a serial port is set; the driver's default, overridden by the address's query."""

    baud: int = 9600
    bytesize: int = 8
    parity: str = "N"
    stopbits: float = 1


def open_wire(address: str, framing: SerialFraming | None = None, timeout: float = 2.0) -> Wire:
    """Open `address`; raises `Disconnected` when nothing is there, `ConfigurationError` when it
    is not an address."""
    if address.startswith("visa://"):  # a resource's name is no URL
        return VisaWire(address.removeprefix("visa://"), timeout)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:  # a port that is no number, a bracket left open
        raise ConfigurationError(f"{address!r}: {error}") from None
    if parts.scheme in ("tcp", "udp") and parts.hostname and port:
        kind = TcpWire if parts.scheme == "tcp" else UdpWire
        return kind(parts.hostname, port, timeout)
    if parts.scheme == "serial" and parts.path:
        return SerialWire(parts.path, _framing(parts.query, framing or SerialFraming()))
    raise ConfigurationError(
        f"{address!r} is not an address: write tcp://HOST:PORT, udp://HOST:PORT, "
        "serial:///dev/NAME?baud=9600 or visa://RESOURCE"
    )


def _framing(query: str, default: SerialFraming) -> SerialFraming:
    given = {key: values[-1] for key, values in parse_qs(query).items()}
    known = {"baud": int, "bytesize": int, "parity": str, "stopbits": float}
    if unknown := set(given) - set(known):
        raise ConfigurationError(f"serial address: unknown {', '.join(sorted(unknown))}")
    try:
        return default._replace(**{key: known[key](value) for key, value in given.items()})
    except ValueError as error:
        raise ConfigurationError(f"serial address: {error}") from None


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class TcpWire:
    """A TCP connection; small writes leave at once."""

    def __init__(self, host: str, port: int, timeout: float):
        try:
            self._socket = socket.create_connection((host, port), timeout)
        except (OSError, UnicodeError) as error:  # UnicodeError: no name a resolver could know
            raise Disconnected(f"tcp://{host}:{port}: {_words(error)}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.name = f"tcp://{host}:{port}"

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Disconnected(f"{self.name}: {_words(error)}") from None

    def read(self, timeout: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], max(0.0, timeout))[0]:
                return b""
            data = self._socket.recv(BUFFER_LIMIT)
        except (OSError, ValueError) as error:
            raise Disconnected(f"{self.name}: {error}") from None
        if not data:
            raise Disconnected(f"{self.name}: closed by the instrument")
        return data

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


class UdpWire:
    """Datagrams to one instrument; `read` returns one datagram."""

    def __init__(self, host: str, port: int, timeout: float):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.name = f"udp://{host}:{port}"
        try:
            self._socket.connect((host, port))
        except (OSError, UnicodeError) as error:
            self._socket.close()
            raise Disconnected(f"{self.name}: {_words(error)}") from None

    def write(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:  # a refused earlier datagram is reported here
            raise Disconnected(f"{self.name}: {_words(error)}") from None

    def read(self, timeout: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], max(0.0, timeout))[0]:
                return b""
            return self._socket.recv(BUFFER_LIMIT)
        except (OSError, ValueError) as error:
            raise Disconnected(f"{self.name}: {error}") from None

    def close(self) -> None:
        self._socket.close()


class SerialWire:
    """A serial port, held exclusively.

    A pty cannot do 7 bits or parity: the first open pretends to, the second fails with EINVAL. So
    on a pty the line is 8N1, whatever the instrument's real port would be.
    """

    def __init__(self, path: str, framing: SerialFraming):
        import serial  # needs termios or win32: only where there is a serial port

        self.name = path
        # a setting the port cannot do is termios' own error, which is none of the others
        termios = getattr(sys.modules.get("termios"), "error", OSError)
        self._errors = (OSError, ValueError, TypeError, serial.SerialException, termios)
        try:
            self._port = self._open(path, framing)
        except self._errors as error:
            raise Disconnected(f"{path}: {error}") from None

    @staticmethod
    def _open(path: str, framing: SerialFraming) -> Any:
        import serial

        if os.path.realpath(path).startswith("/dev/pts/"):
            framing = framing._replace(bytesize=8, parity="N")
        exclusive = True if os.name == "posix" else None  # Windows ports are always exclusive
        return serial.Serial(
            path,
            framing.baud,
            bytesize=framing.bytesize,
            parity=framing.parity,
            stopbits=framing.stopbits,
            timeout=0,
            write_timeout=1,
            exclusive=exclusive,
        )

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except self._errors as error:
            raise Disconnected(f"{self.name}: {error}") from None

    def read(self, timeout: float) -> bytes:
        try:
            self._port.timeout = max(0.0, timeout)
            first = self._port.read(1)
            return first + self._port.read(self._port.in_waiting) if first else b""
        except self._errors as error:
            raise Disconnected(f"{self.name}: {error}") from None

    def close(self) -> None:
        self._port.close()


class VisaWire:
    """Any pyvisa resource, through pyvisa-py unless a vendor's VISA is installed."""

    def __init__(self, resource: str, timeout: float):
        import pyvisa  # heavy, and only some labs have VISA instruments

        self.name = resource
        try:
            self._manager: Any = pyvisa.ResourceManager("@py")
            opened: Any = self._manager.open_resource(resource, open_timeout=round(timeout * 1000))
        except (pyvisa.Error, OSError, ValueError) as error:
            raise Disconnected(f"visa://{resource}: {error}") from None
        self._errors = (pyvisa.Error, OSError)
        self._resource = opened
        # every VISA instrument here speaks in lines that end in LF: reading ends there
        opened.read_termination, opened.write_termination = "\n", None

    def write(self, data: bytes) -> None:
        try:
            self._resource.write_raw(data)
        except self._errors as error:
            raise Disconnected(f"visa://{self.name}: {error}") from None

    def read(self, timeout: float) -> bytes:
        from pyvisa.constants import StatusCode
        from pyvisa.errors import VisaIOError

        self._resource.timeout = max(1, round(timeout * 1000))
        try:
            return bytes(self._resource.read_raw())
        except VisaIOError as error:
            if error.error_code == StatusCode.error_timeout:
                return b""
            raise Disconnected(f"visa://{self.name}: {error}") from None
        except self._errors as error:
            raise Disconnected(f"visa://{self.name}: {error}") from None

    def close(self) -> None:
        self._resource.close()
        self._manager.close()


class Dialect(NamedTuple):
    """How an instrument ends its lines, how fast it may be talked to, how it says who it is."""

    write_end: bytes = b"\n"
    read_end: bytes = b"\n"
    timeout: float = 0.25  # s for one answer; hazardous ports stay at or below this
    pace: float = 0.0  # s of quiet the instrument needs between messages
    probe: str = "*IDN?"  # a harmless question whose answer …
    recognise: str = r".+,.+,.*,.*"  # … looks like nothing else
    encoding: str = "ascii"


class LineLink:
    """Questions and answers by lines, never out of step for longer than one question."""

    def __init__(self, wire: Wire, dialect: Dialect):
        self.wire, self.dialect = wire, dialect
        self._identity = re.compile(dialect.recognise)
        self._patience = max(0.5, 2 * dialect.timeout)
        self._buffer = b""
        self._in_step = True
        self._owed: list[float] = []  # when each probe was sent that was not answered yet
        self._strays = 0  # how many of them are older than the last question
        self._quiet_until = 0.0

    def tell(self, text: str) -> None:
        """Send a line that has no answer."""
        self._send(text)

    def shout(self, text: str) -> None:
        """Send a line at once, in step or not, and believe nothing until asked again.

        For safe orders alone: an instrument whose answers are lost may still hear.
        """
        try:
            self._quiet()
        except Garbled:
            pass  # it talks on; it is told all the same
        self._in_step, self._strays = False, len(self._owed)
        self._write(text.encode(self.dialect.encoding) + self.dialect.write_end)

    def ask(self, text: str, timeout: float | None = None) -> str:
        """Send a line, return its one-line answer without the end of line.

        Raises `Silence`, `Garbled` or `Disconnected`; after any of them the link gets back into
        step before it sends anything else.
        """
        self._send(text)
        answer = self.read_line(timeout, text)
        if answer == text:
            self._in_step = False
            raise Garbled(f"{text} came back as its own answer: the instrument echoes")
        if self._strays and text != self.dialect.probe and self._identity.search(answer):
            self._answered()
            self._in_step = False
            raise Garbled(f"{text} → {answer!r}: that answers an earlier {self.dialect.probe}")
        return answer

    def read_line(self, timeout: float | None = None, question: str = "") -> str:
        """The next whole line; for instruments that answer in several."""
        limit = self.dialect.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        self._in_step = False
        end = self.dialect.read_end
        while end not in self._buffer:
            remaining = deadline - time.monotonic()
            data = self.wire.read(remaining) if remaining > 0 else b""
            if not data and remaining <= 0:
                got = f" (only {self._buffer[:60]!r})" if self._buffer else ""
                raise Silence(f"{question or 'answer'}: nothing whole in {limit:g} s{got}")
            self._buffer += data
            if len(self._buffer) > BUFFER_LIMIT:
                self._buffer = b""
                raise Garbled(f"{question}: {BUFFER_LIMIT} bytes and no end of line")
        line, self._buffer = self._buffer.split(end, 1)
        self._quiet_until = time.monotonic() + self.dialect.pace
        try:
            answer = line.decode(self.dialect.encoding)
        except UnicodeDecodeError:
            raise Garbled(f"{question} → {line[:80]!r}") from None
        self._in_step = True
        return answer

    def out_of_step(self) -> None:
        """Say that what comes next cannot be trusted: an answer did not fit its question."""
        self._in_step = False

    def close(self) -> None:
        self.wire.close()

    def _send(self, text: str) -> None:
        try:
            line = text.encode(self.dialect.encoding) + self.dialect.write_end
        except UnicodeEncodeError:
            raise BadRequest(f"{text!r} cannot be written in {self.dialect.encoding}") from None
        if not self._quiet():  # somebody talks without being asked
            self._in_step = False
        if not self._in_step:
            self._fall_into_step()
            self._quiet()
        self._write(line)

    def _write(self, line: bytes) -> None:
        self.wire.write(line)
        self._quiet_until = time.monotonic() + self.dialect.pace

    def _quiet(self) -> bool:
        """Wait as long as the instrument needs, and throw away what came before the question: it
        cannot be its answer. False when there was anything but ends of lines."""
        wait = self._quiet_until - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        blank = not self._buffer.strip()
        self._buffer = b""
        deadline = time.monotonic() + self._patience
        while data := self.wire.read(0):
            blank = blank and not data.strip()
            if time.monotonic() > deadline:
                self._in_step = False
                raise Garbled("it talks without being asked and does not stop")
        return blank

    def _fall_into_step(self) -> None:
        """Ask who is there, and throw away all that comes before the answer to that.

        Instruments answer in order, so behind the answer to a probe that was sent after the last
        question nothing old can follow but answers to other probes, and those are known by their
        looks. Which probe an identity answers is not: it counts for the oldest that may still be
        answered, until the line is quiet.
        """
        probe = self.dialect.probe
        self._quiet()
        now = time.monotonic()
        while self._owed and self._owed[0] < now - NEVER:
            self._answered()
        self._write(probe.encode(self.dialect.encoding) + self.dialect.write_end)
        self._owed.append(now)
        recognised = False
        deadline = time.monotonic() + self._patience
        while self._owed:
            left = deadline - time.monotonic()
            try:
                line = self.read_line(max(left, 0.0), probe)
            except Garbled:
                line = ""
            except Silence:
                if recognised:
                    break
                raise
            if self._identity.fullmatch(line):
                recognised = recognised or not self._strays
                self._answered()
                deadline = time.monotonic() + self.dialect.timeout
            elif left <= 0:
                self._in_step = False
                raise Garbled(f"{probe}: it talks on and does not say who it is")
        self._strays = len(self._owed)  # a question is sent next
        self._in_step = True

    def _answered(self) -> None:
        """The oldest probe is not waited for any longer."""
        del self._owed[0]
        self._strays = max(0, self._strays - 1)
