"""A stand-in for the vendor's module `PyJEM.TEM3`: the same calls, a simulated microscope.

JEOL publishes no wire; what can be imitated faithfully is the *call interface* (PyJEM manual 1.3,
"PyJEM.TEM3 module"). `tem3(address)` gives an object with the vendor's names; each call travels as
one line of JSON to the simulated column (`pyjem.py`) and comes back as one line. Whoever starts a
device of a simulated laboratory hands this object in where `from PyJEM import TEM3` would stand.

What goes wrong comes out as the kinds of exception the vendor's binding can raise: `OSError` for a
connection, `TimeoutError` when nothing comes, `RuntimeError` for a refusal, `ValueError` for an
answer that makes no sense.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

TIMEOUT = 0.25  # s for one call
LIMIT = 65536  # bytes of an answer

# The part of the vendor's interface that is imitated: class → methods.
CALLS: dict[str, tuple[str, ...]] = {
    "Def3": ("GetBeamBlank", "SetBeamBlank"),
    "EOS3": (
        "DownSelector",
        "GetCurrentMagSelectorID",
        "GetFunctionMode",
        "GetMagValue",
        "GetSpotSize",
        "GetTemStemMode",
        "SelectFunctionMode",
        "SelectSpotSize",
        "SetSelector",
        "UpSelector",
    ),
    "HT3": ("GetHtRange", "GetHtValue", "SetHtValue"),
    "GUN3": ("GetEmissionCurrentValue",),
    "FEG3": ("GetBeamValve", "SetBeamValve"),
    "Lens3": ("GetCL3", "SetCL3"),
    "Detector3": ("GetPosition", "GetScreen", "SetPosition", "SetScreen"),
}


class Tem3:
    """What `PyJEM.TEM3` is to its user: `connect()`, and classes to make instances of."""

    def __init__(self, address: str):
        parts = urlsplit(address)
        if parts.scheme != "tcp" or not parts.hostname or not parts.port:
            raise ValueError(f"{address!r}: the simulated column listens at tcp://HOST:PORT")
        self._where = (parts.hostname, parts.port)
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._number = 0

    def connect(self) -> None:
        """Begin to talk to the column."""
        self.close()
        self._socket = socket.create_connection(self._where, 2.0)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def isconnect(self) -> bool:
        """Whether `connect` has been called and nothing has broken since."""
        return self._socket is not None

    def close(self) -> None:
        """Not the vendor's: lets go of the socket that the vendor's module does not have."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""

    def __getattr__(self, name: str) -> Callable[[], Group]:
        if name not in CALLS:
            raise AttributeError(f"module 'TEM3' has no attribute {name!r}")
        return lambda: Group(self, name)

    def call(self, name: str, *arguments: Any) -> Any:
        """One call and its result; an answer to an earlier call is thrown away."""
        if self._socket is None:
            raise ConnectionError("TEM3 is not connected")
        self._number += 1
        self._buffer = b""  # the beginning of an answer whose end never came
        request = {"id": self._number, "call": name, "args": list(arguments)}
        try:
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            answer = self._answer(self._socket, time.monotonic() + TIMEOUT)
        except TimeoutError:
            raise TimeoutError(f"{name}: no answer in {TIMEOUT:g} s") from None
        except OSError:
            self.close()
            raise
        if "error" in answer:
            raise RuntimeError(f"{name}: {answer['error']}")
        return answer["value"]

    def _answer(self, wire: socket.socket, deadline: float) -> dict[str, Any]:
        while True:
            line = self._line(wire, deadline)
            try:
                answer = json.loads(line)
            except ValueError:  # not JSON, or not even text
                raise ValueError(f"the answer {line[:80]!r} makes no sense") from None
            if (
                isinstance(answer, dict)
                and answer.get("id") == self._number
                and ("value" in answer or "error" in answer)
            ):
                return answer

    def _line(self, wire: socket.socket, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            wire.settimeout(max(0.001, deadline - time.monotonic()))
            if time.monotonic() > deadline:
                raise TimeoutError
            data = wire.recv(LIMIT)
            if not data:
                raise ConnectionError("the column has closed the connection")
            self._buffer += data
            if len(self._buffer) > LIMIT:
                self._buffer = b""
                raise ValueError(f"{LIMIT} bytes and no end of the answer")
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line


class Group:
    """An instance of one of the vendor's classes: `Def3()`, `EOS3()` …"""

    def __init__(self, tem3: Tem3, name: str):
        self._tem3, self._name = tem3, name

    def __getattr__(self, method: str) -> Callable[..., Any]:
        name = self._name
        if method not in CALLS[name]:
            raise AttributeError(f"{name!r} object has no attribute {method!r}")
        return lambda *arguments: self._tem3.call(f"{name}.{method}", *arguments)


def tem3(address: str) -> Tem3:
    """The stand-in for the module `PyJEM.TEM3`, talking to the simulated column at `address`."""
    return Tem3(address)
