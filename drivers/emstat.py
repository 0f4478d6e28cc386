"""A PalmSens potentiostat that runs MethodSCRIPT: EmStat Pico, EmStat4, over a serial port.

It has no command that says whether its cell is on. But it refuses to measure an open-circuit
potential unless the cell is off: so a short such script, run to its end without an error, is the
proof. While a chronoamperometry runs, its points arrive unasked; every look at a parameter takes in
what has arrived. Positive current is oxidation at the working electrode, as the instrument counts.
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

from coldframe.drivers.base import Driver, Output, Parameter, command, retry_safe
from coldframe.drivers.links import SerialFraming, Wire, open_wire
from coldframe.drivers.methodscript import (
    PROGRESS,
    Point,
    Refusal,
    ca_script,
    ocp_script,
    parse_package,
    parse_point,
    parse_refusal,
)
from coldframe.errors import (
    BadRequest,
    Busy,
    Disconnected,
    Garbled,
    InstrumentError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.status import Severity, Status

FRAMING = SerialFraming(baud=230400)
TIMEOUT = 0.25  # s for one line
OCP_INTERVAL = 0.02  # s
POTENTIALS = {"es4_hr": (-6.0, 6.0), "es4_lr": (-3.0, 3.0), "espico": (-1.7, 2.0)}  # V, WE vs RE
BUFFER_LIMIT, KEEP = 65536, 1_000_000


class EmStat(Driver):
    """Holds a potential, or leaves the cell alone and measures it."""

    models: ClassVar[tuple[str, ...]] = ("emstat",)
    role: ClassVar[str] = "Potentiostat"
    outputs: ClassVar[tuple[Output, ...]] = (Output("cell", "cell off, open circuit", 0.3),)

    voltage = Parameter(float, unit="V", poll=0.2, doc="applied, while a technique runs")
    current = Parameter(float, unit="A", poll=0.2, doc="positive is oxidation; while one runs")
    running = Parameter(bool, poll=0.2, doc="a technique is under way")
    overload = Parameter(bool, poll=1.0, doc="the last current was beyond its range")

    def __init__(self, name: str, address: str, model: str = "", options: Any = None):
        super().__init__(name, address, model, options)
        self._wire: Wire | None = None
        self._family = ""
        self._forget()

    def _forget(self) -> None:
        self._buffer = b""
        self._probes = 0  # sent to get back into step, not yet answered
        self._in_step = True
        self._running = False
        self._error: Refusal | None = None  # that ended the last script
        self._may_be_on = True  # until a script has proved the cell off
        self._points: deque[Point] = deque(maxlen=KEEP)
        self._latest: Point | None = None
        self._heard = time.monotonic()
        self._quiet = 1.0  # s without a point that are too long

    # ---- the wire -----------------------------------------------------------------------

    def open(self) -> None:
        self.close()
        self._wire = open_wire(self.address, FRAMING)

    def close(self) -> None:
        self._forget()
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    def _connected(self) -> Wire:
        if self._wire is None:
            raise Disconnected(f"{self.name}: not open")
        return self._wire

    def _line(self, timeout: float) -> str | None:
        """The next whole line, or None when there is none in time."""
        wire, deadline = self._connected(), time.monotonic() + timeout
        while b"\n" not in self._buffer:
            remaining = deadline - time.monotonic()
            data = wire.read(max(0.0, remaining))
            if not data and remaining <= 0:
                return None
            self._buffer += data
            if len(self._buffer) > BUFFER_LIMIT:
                self._buffer, self._in_step = b"", False
                raise Garbled(f"{self.name}: {BUFFER_LIMIT} bytes and no end of line")
        line, self._buffer = self._buffer.split(b"\n", 1)
        try:
            return line.decode("ascii")
        except UnicodeDecodeError:
            self._in_step = False
            raise Garbled(f"{self.name}: {line[:60]!r}") from None

    def _until(self, wanted: Callable[[str], bool], what: str, timeout: float = TIMEOUT) -> str:
        """The next line that is `wanted`; the running script's lines before it are taken in."""
        deadline = time.monotonic() + timeout
        while (line := self._line(deadline - time.monotonic())) is not None:
            if wanted(line):
                return line
            self._take_in(line, what)
        self._in_step = False
        got = f" (only {self._buffer[:60]!r})" if self._buffer else ""
        raise Silence(f"{self.name}: {what}: nothing whole in {timeout:g} s{got}")

    def _ask(self, letter: str) -> str:
        """`t`, `i` or `v`; the answer without its letter."""
        self._step_in()
        self._connected().write(f"{letter}\n".encode())
        return self._until(lambda line: line.startswith(letter), letter)[1:]

    def _step_in(self) -> None:
        """After a silence: ask something harmless and let all that comes before its answer go.
        Points of a running script are taken in even so."""
        if self._in_step:
            return
        self._connected().write(b"v\n")
        self._probes += 1
        deadline, answered = time.monotonic() + 2 * TIMEOUT, False
        while self._probes and time.monotonic() < deadline:
            with contextlib.suppress(Garbled):
                line = self._line(deadline - time.monotonic())
                # half a line of before may stand in front of it
                if line is not None and re.search(r"v\d\d[\d.]+$", line):
                    self._probes, answered = self._probes - 1, True
                elif line is not None:
                    self._take_in(line, "v")
        if not answered:
            raise Silence(f"{self.name}: v: nothing whole in {2 * TIMEOUT:g} s")
        self._probes, self._in_step = 0, True  # older probes were lost: the line is quiet

    def _take_in(self, line: str, what: str) -> None:
        """A line of the running script; `Garbled` when it cannot be one."""
        self._heard = time.monotonic()
        refusal = parse_refusal(line)
        if line.startswith("P"):
            self._running = True
            self._keep(line)
        elif refusal is not None and not refusal.command:
            self._error = refusal
        elif line == "" and self._running:
            self._running = False
            self._may_be_on = self._error is not None  # on_finished has put it off
        elif not PROGRESS.fullmatch(line):
            self._in_step = False
            raise Garbled(f"{self.name}: {what} → {line[:60]!r}")

    def _keep(self, line: str) -> None:
        try:
            point = parse_point(line)
        except Garbled:
            self._in_step = False
            raise
        if point is not None:
            self._latest = point
            self._points.append(point)

    def _pump(self) -> None:
        """Take in what has arrived; `Silence` when a running technique has stopped talking."""
        while (line := self._line(0)) is not None:
            self._take_in(line, "running")
        if self._running and time.monotonic() - self._heard > self._quiet:
            raise Silence(f"{self.name}: no point for {self._quiet:g} s")

    # ---- what it is and how ----------------------------------------------------------------

    def identify(self) -> str:
        firmware = self._ask("t")
        self._until(lambda line: line.endswith("*"), "t")
        self._family = next((f for f in POTENTIALS if firmware.startswith(f)), "")
        if not self._family:
            raise WrongInstrument(
                f"{self.name}: {self.address} says {firmware!r}; known are {', '.join(POTENTIALS)}"
            )
        return f"PalmSens {firmware}, {self._ask('i')}"

    def status(self) -> Status:
        self._pump()
        if self._running:
            return Status(Severity.BUSY, "technique running, cell on")
        if self._error is not None:
            return Status(Severity.ERROR, f"script ended: {self._error}")
        if self._may_be_on:
            return Status(Severity.WARN, "cell not known to be off")
        return Status(Severity.IDLE, "cell off")

    def read_voltage(self) -> float:
        self._pump()
        return self._latest.voltage if self._running and self._latest else math.nan

    def read_current(self) -> float:
        self._pump()
        return self._latest.current if self._running and self._latest else math.nan

    def read_running(self) -> bool:
        self._pump()
        return self._running

    def read_overload(self) -> bool:
        self._pump()
        return self._running and self._latest is not None and self._latest.overload

    def points(self) -> list[Point]:
        """The points that arrived since the last call; never blocks."""
        self._pump()
        taken = list(self._points)
        self._points.clear()
        return taken

    # ---- techniques --------------------------------------------------------------------------

    @command("hazardous", output="cell", voltage="voltage", current_limit="current")
    def chronoamperometry(
        self, voltage: float, seconds: float, interval: float, current_limit: float
    ) -> None:
        """Hold `voltage` (V) for `seconds`, a point every `interval` s; beyond `current_limit` (A)
        the instrument ends it by itself. Returns when it has begun; the cell is off at its end."""
        if not self._family:
            self.identify()
        low, high = POTENTIALS[self._family]
        if not low <= voltage <= high:
            raise OutOfRange(f"{self.name}: {voltage:g} V is outside {low:g} … {high:g} V")
        if not 0 < current_limit <= 0.1:
            raise OutOfRange(f"{self.name}: current_limit {current_limit:g} A is outside 0 … 0.1 A")
        if not 1e-3 <= interval <= seconds <= 1e7:
            raise BadRequest(f"{self.name}: give 1 ms ≤ interval ≤ seconds ≤ 1e7 s")
        self._refuse_if_running()
        self._points.clear()
        self._latest = None
        self._may_be_on = True
        self._upload(ca_script(voltage, interval, seconds, current_limit))
        self._running = True
        self._quiet = max(1.0, 3 * interval)
        began = self._until(lambda line: line == "M0007" or line.startswith("!"), "script")
        if began != "M0007":
            self._running, self._error = False, parse_refusal(began)
            raise InstrumentError(f"{self.name}: {self._error or began}")

    @command("neutral")
    def measure_ocv(self) -> float:
        """The open-circuit voltage (V) of the cell, which is off, and stays off."""
        self._refuse_if_running()
        return self._prove_off(points=3)

    @command("safe")
    def open_circuit(self) -> None:
        """End what runs and take the cell off; verified."""
        self.make_safe()

    def outputs_on(self) -> list[str]:
        return ["cell"] if self._may_be_on else []

    def make_safe(self, sensor_good: bool | None = None) -> None:
        """Abort, cell off, and a measurement the instrument makes only with the cell off."""
        self._may_be_on = True
        retry_safe(self, self._secure, "cell off")

    def _secure(self) -> bool:
        try:
            if self._wire is None:
                self.open()
            self._abort()
            self._prove_off(points=1)
        except Disconnected:
            self.close()
            raise
        return not self._may_be_on

    def _abort(self) -> None:
        """End a running script. `Z` and an empty line: should half a script have arrived before,
        they make it one that is refused, not one that runs."""
        self._connected().write(b"Z\n\n")
        if not self._in_step:  # its answer is among what is let go: ask once more
            self._step_in()
            self._connected().write(b"Z\n\n")
        answer = self._until(lambda line: line in ("Z", "Z!0006") or line.startswith("e!"), "Z")
        if answer == "Z":
            self._running = True
            self._until(lambda line: line == "", "end of script")
        self._running, self._error = False, None

    def _prove_off(self, points: int) -> float:
        self._upload(ocp_script(OCP_INTERVAL, points * OCP_INTERVAL))
        self._may_be_on = True
        potential = math.nan
        while (line := self._until(lambda line: True, "open-circuit potential", 2 * TIMEOUT)) != "":
            refusal = parse_refusal(line)
            if refusal is not None:
                raise InstrumentError(f"{self.name}: open-circuit potential: {refusal}")
            if line.startswith("P"):
                variables = parse_package(line)
                if [variable.kind for variable in variables] != ["ab"]:
                    raise Garbled(f"{self.name}: {line!r} is not an open-circuit potential")
                potential, points = variables[0].value, points - 1
            elif not PROGRESS.fullmatch(line):
                self._in_step = False
                raise Garbled(f"{self.name}: open-circuit potential → {line[:60]!r}")
        if points != 0:
            raise Garbled(f"{self.name}: the open-circuit script ended {points} points short")
        self._may_be_on, self._error = False, None
        return potential

    def _refuse_if_running(self) -> None:
        self._step_in()
        self._pump()
        if self._running:
            raise Busy(f"{self.name}: a technique is running; wait, or open the circuit")

    def _upload(self, script: str) -> None:
        """Send a script whole; `InstrumentError` names the line it stumbled over."""
        self._step_in()
        self._error = None
        self._connected().write(script.encode("ascii"))
        answer = self._until(lambda line: line == "e" or line.startswith("e!"), "script")
        if answer != "e":
            raise InstrumentError(f"{self.name}: script refused: {parse_refusal(answer) or answer}")
