"""The wires: bytes to and from an instrument over TCP, UDP, a serial port or VISA.

A wire is opened from an address in the laboratory's TOML:

    tcp://192.168.1.20:7777        serial:///dev/ttyUSB0?baud=57600        udp://192.168.1.21:10001
    visa://TCPIP0::192.168.1.20::5025::SOCKET   (any resource pyvisa knows)
"""

from __future__ import annotations

import os
import select
import socket
import sys
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, urlsplit

from coldframe.errors import ConfigurationError, Disconnected

BUFFER_LIMIT = 65536  # bytes; more than this without an end of line is not an answer
OPEN_TIMEOUT = 0.5  # s; a host that waits longer for who is not there would be taken for hung


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


def open_wire(
    address: str, framing: SerialFraming | None = None, timeout: float = OPEN_TIMEOUT
) -> Wire:
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
