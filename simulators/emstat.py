"""A PalmSens EmStat potentiostat on a serial port (230400 8N1), at the leads of the LiPON cell.

It takes scripts, checks them and runs them in lab time: what it does to the cell is what the script
says. An EmStat4 HR unless told otherwise, because a Pico cannot reach this cell's 2.8 V.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import ClassVar

from coldframe.simulators.methodscript import (
    OVERLOAD,
    TIMING,
    Aborted,
    Run,
    ScriptError,
    Value,
    check,
)
from coldframe.simulators.ports import Conversation, Instrument, Send

# index: A. EmStat4: MethodSCRIPT manual, "Current ranges"; Pico: low-speed mode
EMSTAT4_RANGES = {9: 1e-7, 12: 1e-6, 15: 1e-5, 18: 1e-4, 21: 1e-3, 24: 1e-2, 27: 1e-1}
PICO_RANGES = {0: 1e-7, 1: 2e-6, 4: 1.6e-5, 7: 1.25e-4, 10: 1e-3, 11: 5e-3}
DEVICES: dict[str, tuple[tuple[float, float], dict[int, float]]] = {
    "es4_hr": ((-6.0, 6.0), EMSTAT4_RANGES),
    "es4_lr": ((-3.0, 3.0), {3: 1e-9, 6: 1e-8, **EMSTAT4_RANGES}),
    "espico": ((-1.7, 2.0), PICO_RANGES),
}
SCRIPT_LIMIT = 1000  # lines


class EmStatSimulator(Instrument):
    """The instrument, its one script and its cell."""

    models: ClassVar[tuple[str, ...]] = ("emstat",)
    transports: ClassVar[tuple[str, ...]] = ("serial",)

    device = "es4_hr"
    serial = "ES4HR23H0137"

    def power_on(self) -> None:
        self.writes: list[str] = []
        self.cell_on = False
        self._volts = 0.0
        self._limits = (0.0, math.inf)  # of autoranging
        self._run: Run | None = None
        self._steps: Generator[float, None, None] | None = None
        self._due = self._behind = 0.0
        self._frozen: dict[str, Value] = {}
        self._script: list[str] | None = None  # being received
        self._out: Callable[[bytes], None] = _nobody
        self._drive()

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Receiver(self, send)

    @property
    def running(self) -> bool:
        return self._steps is not None

    @property
    def longest_step(self) -> float:
        """Until the script's next point, so that it sees the world of that instant."""
        return math.inf if self._steps is None else max(self._due - self.world.now, 1e-6)

    def tick(self) -> None:
        """Resume the script as often as its time has come."""
        while self._steps is not None and self._due <= self.world.now + 1e-9:
            self._behind = self.world.now - self._due
            self._advance()

    # ---- the console --------------------------------------------------------------------

    def receive(self, line: str, send: Send) -> None:
        """One line from the host."""
        self._out = send
        if self._script is not None:
            self._collect(line)
        elif line in ("t", "v", "i"):
            self._say(
                {
                    "t": f"t{self.device}1600#Sep 30 2025 12:00:00\nR*",
                    "v": "v01.08.00",
                    "i": f"i{self.serial}",
                }[line]
            )
        elif line == "Z":
            self._abort()
        elif line == "e":
            if self.running:
                self._say("e!0006")
            else:
                self._script = []
        elif line:
            self._say(f"{line[0]}!0003")

    def _collect(self, line: str) -> None:
        assert self._script is not None
        if line and len(self._script) < SCRIPT_LIMIT:
            self._script.append(line)
            return
        lines, self._script = self._script, None
        try:
            script = check(lines)
        except ScriptError as error:
            self._say(f"e{error.text}")
            return
        self.writes.append("\n".join(lines))
        self._say("e")
        self._run = Run(script, self, self._say)
        self._steps = self._run.steps()
        self._due = self.world.now
        self._advance()

    def _advance(self, abort: bool = False) -> None:
        """One resumption; at the end an empty line."""
        steps = self._steps
        assert steps is not None
        try:
            if abort:
                self._due += steps.throw(Aborted())
            else:
                self._due += next(steps)
        except StopIteration:
            self._steps = None
            self._say("")
        except ScriptError as error:  # as the real one: no on_finished, the cell as it is
            self._steps = None
            self._say(f"{error.text}\n")

    def _abort(self) -> None:
        if self._steps is None:
            self._say("Z!0006")
            return
        self.writes.append("Z")
        self._say("Z")
        if self._run is not None and self._run.finishing:
            return
        self._due = self.world.now
        self._advance(abort=True)

    def _say(self, text: str) -> None:
        self._out(text.encode("latin-1") + b"\n")

    # ---- what a script can do (methodscript.Bench) ----------------------------------------

    def set_e(self, volts: float) -> None:
        if not self.faults.on("lie"):
            self._volts = volts
            self._drive()

    def switch(self, on: bool) -> None:
        if not self.faults.on("lie"):
            self.cell_on = on
            self._drive()

    def configure(self, name: str, arguments: list[float]) -> None:
        if name == "set_autoranging" and arguments[1] > 0:
            self._limits = (min(arguments[1:]), max(arguments[1:]))

    def in_range(self, volts: float) -> bool:
        low, high = DEVICES[self.device][0]
        return low <= volts <= high

    def measure(self, kind: str) -> Value:
        """Potential (ab) or current (ba) now, with status and range as the real one adds them."""
        if self.faults.on("frozen") and kind in self._frozen:
            return self._frozen[kind]
        volts, amps = self.world.cell.read()
        late = TIMING if self._behind > 0.05 else 0
        if self.faults.on("nan"):
            return Value(math.nan, kind, late, 0)
        value = Value(volts, kind) if kind == "ab" else self._ranged(amps, kind, late)
        self._frozen[kind] = value
        return value

    def _ranged(self, amps: float, kind: str, status: int) -> Value:
        """Each range measures well beyond its name: overload warning at 2.46, overload at 2.92."""
        ranges = DEVICES[self.device][1]
        allowed = {i: top for i, top in ranges.items() if top <= self._limits[1] * 1.001}
        allowed = allowed or {min(ranges, key=lambda i: ranges[i]): min(ranges.values())}
        widest = max(allowed, key=lambda i: allowed[i])
        fitting = [i for i, top in allowed.items() if abs(amps) <= 2.46 * top]
        index = min(fitting, key=lambda i: allowed[i], default=widest)
        top = 2.92 * allowed[index]
        if abs(amps) > top:
            return Value(math.copysign(top, amps), kind, status | OVERLOAD, index)
        return Value(amps, kind, status, index)

    def _drive(self) -> None:
        if self.cell_on:
            self.world.cell.drive("voltage", self._volts, max(DEVICES[self.device][1].values()))
        else:
            self.world.cell.drive("open")


class Receiver:
    """Lines from the serial port; an empty one matters, it ends a script."""

    def __init__(self, instrument: EmStatSimulator, send: Send):
        self._instrument, self._send = instrument, send
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-65536:]
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._instrument.receive(line.decode("latin-1").strip("\r "), self._send)


def _nobody(data: bytes) -> None:
    """Before anyone has come, nobody hears."""
