"""A Zeiss SmartSEM behind its RemCon32 serial port, written from the interface's command list.

Each line is answered twice: `@` or `#`, then `>` and a payload or `*` and an error number. A known
command with the wrong number of parameters is rejected; an unknown one is accepted, and then fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from coldframe.simulators.faults import Faults
from coldframe.simulators.ports import Conversation, Instrument, Lines, Send
from coldframe.simulators.world import World

VERSION = "SmartSEM V06.07.00 RemCon32"
UNKNOWN, TYPE, RANGE, LONG = 600, 602, 603, 617
LONGEST = 80  # characters of a command line
PIXELS = 1024  # across the image
SCREEN = 0.1142  # m, width of the Polaroid 545 picture that magnification refers to
STAGE_SPEED = 1.0  # mm/s

Order = Callable[[list[float]], str]


class Refused(Exception):
    """The second answer is an error number."""

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


class RemCon32Simulator(Instrument):
    """A SmartSEM column in the shared world."""

    models = ("remcon32",)
    transports = ("serial", "tcp")  # TCP stands for a serial-to-network converter

    def __init__(self, world: World, model: str = "", faults: Faults | None = None):
        self.writes: list[str] = []  # orders that changed something
        self._held: dict[str, str] = {}
        beam = world.beam
        self._numbers: dict[str, tuple[int, Order]] = {  # name: (parameters, what it does)
            "VER?": (0, lambda _: VERSION),
            "PRB?": (0, lambda _: f"{self._probe:.6G}"),
            "PROB": (1, self._set_probe),
            "EHT?": (0, lambda _: f"{beam.kv if beam.on else 0:.6G}"),
            "EHT": (1, self._set_voltage),
            "BBL?": (0, lambda _: f"{beam.blanked:d}"),
            "BBLK": (1, self._set_blank),
            "MAG?": (0, lambda _: f"{beam.magnification:.6G}"),
            "MAG": (1, self._set_magnification),
            "PIX?": (0, lambda _: f"{SCREEN / beam.magnification / PIXELS * 1e9:.6G}"),
            "FOC?": (0, lambda _: f"{self._focus:.6G}"),
            "FOCS": (1, lambda v: self._keep("_focus", v[0], 0, 0.121)),
            "SRO?": (0, lambda _: f"{self._rotation:.6G}"),
            "SRO": (1, lambda v: self._keep("_rotation", v[0], 0, 360)),
            "SRON": (1, lambda v: self._keep("_rotated", self._switch(v[0]), 0, 1)),
            "EXS?": (0, lambda _: f"{self._external:d}"),
            "EDX": (1, lambda v: self._keep("_external", self._switch(v[0]), 0, 1)),
            "STG?": (0, lambda _: self._stage()),
            "STG": (3, self._move),
            "ABO": (0, lambda _: self._stop()),
        }
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.world.beam.blanked = True
        self._probe = float(f"{self.world.beam.current or 1e-11:.3G}")
        self._focus, self._rotation = 0.005, 0.0  # working distance in m; degrees
        self._rotated = self._external = 0
        self._here = self._there = (0.0, 0.0, 10.0)  # mm
        self._left = 0.0  # lab time at which the last move began

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Lines(send, self._answer)

    def _answer(self, line: str) -> str:
        name, *words = line.split()
        if len(line) > LONGEST:
            return f"@\r\n*{LONG}"
        if name not in self._numbers:
            return f"@\r\n*{UNKNOWN}"
        wanted, act = self._numbers[name]
        if len(words) != wanted:
            return "#"
        try:
            values = [self._number(word) for word in words]
            if wanted and self.faults.on("lie"):
                return "@\r\n>"
            if wanted or name == "ABO":
                result = act(values)
                self.writes.append(line)
            else:
                result = self._observed(name, act(values))
        except Refused as refused:
            return f"@\r\n*{refused.number}"
        return f"@\r\n>{result}"

    def _observed(self, name: str, value: str) -> str:
        """A read-out, as the faults leave it."""
        if not self.faults.on("frozen"):
            self._held.clear()
        elif name != "VER?":
            value = self._held.setdefault(name, value)
        return "nan" if self.faults.on("nan") and name != "VER?" else value

    def _number(self, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            raise Refused(TYPE) from None
        if not math.isfinite(value):
            raise Refused(RANGE)
        return value

    def _switch(self, value: float) -> int:
        if value not in (0.0, 1.0):
            raise Refused(RANGE)
        return int(value)

    def _keep(self, what: str, value: float, low: float, high: float) -> str:
        if not low <= value <= high:
            raise Refused(RANGE)
        setattr(self, what, value)
        return ""

    def _set_probe(self, values: list[float]) -> str:
        self._keep("_probe", values[0], 1e-14, 2e-5)
        self.world.beam.set_current(min(self._probe, 1e-6))
        return ""

    def _set_voltage(self, values: list[float]) -> str:
        if not 0 <= values[0] <= 40:
            raise Refused(RANGE)
        self.world.beam.on = values[0] > 0
        if values[0] > 0:
            self.world.beam.kv = values[0]
        return ""

    def _set_blank(self, values: list[float]) -> str:
        self.world.beam.blanked = bool(self._switch(values[0]))
        return ""

    def _set_magnification(self, values: list[float]) -> str:
        if not 5 <= values[0] <= 2e6:
            raise Refused(RANGE)
        self.world.beam.magnification = values[0]
        return ""

    def _stage(self) -> str:
        """x y z in mm, and 1.0 while it moves; moves are not waited for."""
        longest = max(abs(b - a) for a, b in zip(self._here, self._there, strict=True))
        done = 1.0 if longest == 0 else (self.world.now - self._left) * STAGE_SPEED / longest
        part = min(1.0, done)
        now = [a + (b - a) * part for a, b in zip(self._here, self._there, strict=True)]
        moving = float(part < 1.0)
        return " ".join(f"{value:.4f}" for value in now) + f" {moving:.1f}"

    def _move(self, values: list[float]) -> str:
        if any(abs(value) > 130 for value in values):
            raise Refused(RANGE)
        self._stop()
        self._there = (values[0], values[1], values[2])
        return ""

    def _stop(self) -> str:
        x, y, z, _ = (float(word) for word in self._stage().split())
        self._here = self._there = (x, y, z)
        self._left = self.world.now
        return ""
