"""A TESCAN FIB-SEM behind SharkSEM's control port, written from its wire format.

32-byte little-endian header, 4-byte fields, numbers as text, no answer unless flag 1 asks for one.
The ion beam takes seconds of lab time to come and go and says 1000 meanwhile. Unknown names are
not answered.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from coldframe.simulators.faults import Faults
from coldframe.simulators.ports import Conversation, Instrument, Send
from coldframe.simulators.world import World

HEADER = struct.Struct("<16sIIHHI")
ANSWER = 1  # flag: the client wants an answer
LONGEST = 1 << 16  # bytes of a body
RAMP = 2.0  # s of lab time for the ion beam to come or go
OFF, ON, TRANSITION = 0, 1, 1000
READ = ("TcpGet", "HVGet", "GetBeam", "ScGet", "FibEnum", "FibReadFC", "FibHVGet")


class SharkSemSimulator(Instrument):
    """Ion column and blanker of a FIB-SEM in the shared world."""

    models = ("sharksem",)

    def __init__(self, world: World, model: str = "", faults: Faults | None = None):
        self.writes: list[str] = []  # orders that changed something
        self.disturbed = 0  # how often a reading of the ion current disturbed the operator
        self._held: dict[str, bytes] = {}
        beam, ion = world.beam, world.ion
        self._orders: dict[str, Callable[[Body], bytes]] = {
            "TcpGetVersion": lambda _: text("3.2.20"),
            "TcpGetDevice": lambda _: text("VF-117-0042"),
            "TcpGetModel": lambda _: text("AMBER"),
            "TcpGetSWVersion": lambda _: text("4.2.30.0"),
            "HVGetBeam": lambda _: integer(ON if beam.on else OFF),
            "HVGetVoltage": lambda _: number(beam.kv * 1000),
            "GetBeamCurrent": lambda _: self._measured(beam.current * 1e12),
            "ScGetBlanker": lambda body: self._get_blanker(body),
            "ScSetBlanker": self._set_blanker,
            "ScStopScan": lambda _: b"",
            "FibEnumPresets": lambda _: text("\n".join(ion.presets)),
            "FibSetPreset": self._set_preset,
            "FibSetPresetEx": self._set_preset,
            "FibReadFCCurr": lambda _: self._read_cup(),
            "FibHVGetVoltage": lambda _: self._measured(ion.kv * 1000),
            "FibHVGetBeam": lambda _: integer(self._beam()),
            "FibHVBeamOn": lambda _: self._ramp(True),
            "FibHVBeamOff": lambda _: self._ramp(False),
            "FibScScanXY": self._scan,
            "FibScStopScan": lambda _: self._stop_scan(),
        }
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.world.ion.on = self.world.ion.scanning = False
        self.world.beam.blanked = True
        self._blanker = 1
        self._goal: bool | None = None  # where the ion beam is going
        self._due = 0.0
        self._frame = 0

    def tick(self) -> None:
        """The ion beam arrives where it was going."""
        if self._goal is not None and self.world.now >= self._due:
            self.world.ion.on, self._goal = self._goal, None
            if not self.world.ion.on:
                self.world.ion.scanning = False

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return _Messages(send, self._serve)

    def _serve(self, name: str, flags: int, body: bytes) -> bytes | None:
        """The body of the answer, or None when there is none."""
        self.tick()
        order = self._orders.get(name)
        if order is None:
            return None
        reading = name.startswith(READ)
        if not reading and self.faults.on("lie"):
            return b"" if flags & ANSWER else None
        try:
            result = order(Body(body))
        except (struct.error, ValueError):
            return None  # what it cannot parse it drops
        if not reading:
            self.writes.append(name)
        elif not self.faults.on("frozen"):
            self._held.clear()
        else:
            result = self._held.setdefault(name, result)
        return result if flags & ANSWER else None

    def _measured(self, value: float) -> bytes:
        return text("nan") if self.faults.on("nan") else number(value)

    def _beam(self) -> int:
        if self.faults.on("nan"):
            return -1
        if self._goal is not None:
            return TRANSITION
        return ON if self.world.ion.on else OFF

    def _ramp(self, on: bool) -> bytes:
        if self._goal is None and self.world.ion.on == on:
            return b""
        if self._goal is not on:
            self._goal, self._due = on, self.world.now + RAMP
        return b""

    def _read_cup(self) -> bytes:
        self.disturbed += 1
        return self._measured(self.world.ion.current * 1e12)

    def _set_preset(self, body: Body) -> bytes:
        name = body.text()
        if name in self.world.ion.presets:
            self.world.ion.preset = name
        return b""

    def _scan(self, body: Body) -> bytes:
        if not self.world.ion.on:
            return integer(-1)
        self.world.ion.scanning = True
        self._frame += 1
        return integer(self._frame)

    def _stop_scan(self) -> bytes:
        self.world.ion.scanning = False
        return b""

    def _get_blanker(self, body: Body) -> bytes:
        body.integer()
        return integer(self._blanker)

    def _set_blanker(self, body: Body) -> bytes:
        body.integer()
        mode = body.integer()
        if mode not in (0, 1, 2):
            raise ValueError(mode)
        self._blanker = mode
        self.world.beam.blanked = mode != 0  # auto: blanked while nothing scans, and nothing does
        return b""


class Body:
    """The fields of a request."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def integer(self) -> int:
        value: int = struct.unpack_from("<i", self._data, self._at)[0]
        self._at += 4
        return value

    def text(self) -> str:
        (size,) = struct.unpack_from("<I", self._data, self._at)
        start = self._at + 4
        data = self._data[start : start + size]
        if len(data) != size or not data.endswith(b"\0"):
            raise ValueError("text without end")
        self._at = start + size + -size % 4
        return data[:-1].decode("ascii")


def integer(value: int) -> bytes:
    """A 32-bit integer field."""
    return struct.pack("<i", value)


def text(value: str) -> bytes:
    """A text field: length with its NUL, text, NUL, and NULs to a multiple of four."""
    data = value.encode("ascii") + b"\0"
    return struct.pack("<I", len(data)) + data.ljust((len(data) + 3) // 4 * 4, b"\0")


def number(value: float) -> bytes:
    """A floating-point field, which is text."""
    return text(f"{value:.6g}")


class _Messages:
    """Whole messages out of a stream of bytes; a header that is none ends the conversation."""

    def __init__(self, send: Send, serve: Callable[[str, int, bytes], bytes | None]):
        self._send, self._serve = send, serve
        self._buffer = b""
        self._lost = False

    def feed(self, data: bytes) -> None:
        self._buffer = b"" if self._lost else self._buffer + data
        while len(self._buffer) >= HEADER.size:
            name, size, number_, flags, queue, _ = HEADER.unpack_from(self._buffer)
            if size > LONGEST:
                self._lost = True
                return
            end = HEADER.size + size
            if len(self._buffer) < end:
                return
            body, self._buffer = self._buffer[HEADER.size : end], self._buffer[end:]
            answer = self._serve(name.rstrip(b"\0").decode("latin-1"), flags, body)
            if answer is not None:
                header = HEADER.pack(name, len(answer), number_, 0, queue, 0)
                self._send(header + answer)
