"""An attocube ANC300 piezo controller: the needle of the biasing holder, on three axes.

Coarse by inertial steps, fine by an offset voltage (0 to 150 V). The controller knows no position
and cannot say whether an axis moves: an axis in a stepping mode may. So standing still is, here, a
mode in which no axis can step, read back: `off` keeps the offset voltage on the piezo and the
needle where it is, an axis without offset is grounded; grounding one that holds an offset would
move it.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any, ClassVar, Literal

from pydantic import SecretStr

from coldframe.drivers.base import Driver, Output, Parameter, agrees, command, parse, retry_safe
from coldframe.drivers.base import Options as BaseOptions
from coldframe.drivers.links import Wire, open_wire
from coldframe.errors import (
    BadRequest,
    Busy,
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    NotPermitted,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.status import Severity, Status

AXES = (1, 2, 3)
MODES = ("gnd", "inp", "cap", "stp", "off", "stp+", "stp-")
STEPPING = ("stp", "stp+", "stp-")
HOLDING = ("off", "stp+", "stp-")  # modes in which the offset voltage is on the piezo
TIMEOUT = 0.25  # s
MOST_STEPS = 100_000
ANSWERS = {"getm": "mode", "getf": "frequency", "getv": "voltage", "geta": "voltage"}
BUFFER_LIMIT = 65536


class Console:
    """One session of the text console: each reply ends in OK or ERROR.

    A conversation that went wrong is never continued: the session is given up, and in the next one
    nothing old can arrive.
    """

    def __init__(self, address: str, password: str):
        self._address, self._password = address, password
        self._wire: Wire | None = None
        self._buffer = b""

    def open(self) -> None:
        """Connect, log in, turn the echo off."""
        self.close()
        self._wire = open_wire(self._address)
        try:
            self._until(rb"[Cc]ode: ?", "greeting")
            self._wire.write(self._password.encode("latin-1") + b"\r\n")
            verdict = self._until(rb"Authorization \w+\r?\n", "login")
            if b"Authorization success" not in verdict:
                raise NotPermitted(f"{self._address}: the console refuses the password")
            self._wire.write(b"echo off\r\n")
            self._until(rb"(?:^|\n)OK\r?\n", "echo off")
        except ColdframeError:
            self.close()
            raise

    def close(self) -> None:
        self._buffer = b""
        if self._wire is not None:
            self._wire.close()
            self._wire = None

    @property
    def is_open(self) -> bool:
        return self._wire is not None

    def ask(self, *commands: str) -> list[str]:
        """Send the commands together; the lines of the last one's reply, without its OK.

        ERROR becomes `InstrumentError`, once all have been sent and answered.
        """
        try:
            wire = self._connected()
            if self._buffer or wire.read(0):
                raise Garbled(f"{commands[0]}: something had arrived that nobody asked for")
            wire.write("".join(f"{command}\r\n" for command in commands).encode("ascii"))
            replies = [self._reply(command) for command in commands]
            if self._buffer:
                raise Garbled(f"{commands[-1]}: followed by {self._buffer[:60]!r}")
        except LinkError:
            self.close()
            raise
        for sent, reply in zip(commands, replies, strict=True):
            if reply[-1] == "ERROR":
                raise InstrumentError(f"{sent} → {' '.join(reply[:-1]) or 'ERROR'}")
        return replies[-1][:-1]

    def distrust(self, text: str) -> Garbled:
        """Give the session up for what it said; the error to raise."""
        self.close()
        return Garbled(text)

    def _connected(self) -> Wire:
        if self._wire is None:
            raise Disconnected(f"{self._address}: no session; open it again")
        return self._wire

    def _reply(self, command: str) -> list[str]:
        data = self._until(rb"(?:^|\n)(?:OK|ERROR)\r?\n", command)
        try:
            lines = [line.strip() for line in data.decode("ascii").splitlines()]
        except UnicodeDecodeError:
            raise Garbled(f"{command} → {data[:60]!r}") from None
        return [line for line in lines if line and line.removeprefix("> ") != command]

    def _until(self, pattern: bytes, question: str) -> bytes:
        """What arrives up to and with `pattern`; the rest stays for the next."""
        wire, deadline = self._connected(), time.monotonic() + TIMEOUT
        while not (match := re.search(pattern, self._buffer)):
            remaining = deadline - time.monotonic()
            data = wire.read(remaining) if remaining > 0 else b""
            if not data and remaining <= 0:
                got = f" (only {self._buffer[:60]!r})" if self._buffer else ""
                raise Silence(f"{question}: nothing whole in {TIMEOUT:g} s{got}")
            self._buffer += data
            if len(self._buffer) > BUFFER_LIMIT:
                raise Garbled(f"{question}: {BUFFER_LIMIT} bytes and no end")
        reply, self._buffer = self._buffer[: match.end()], self._buffer[match.end() :]
        return reply


def _mode(axis: int) -> Parameter[str]:
    return Parameter(
        str,
        read=f"getm {axis}",
        choices=MODES,
        poll=1.0,
        output="motion",
        doc=f"axis {axis}: gnd and off cannot step; off, stp+ and stp- hold the offset",
    )


def _frequency(axis: int) -> Parameter[int]:
    return Parameter(
        int,
        unit="Hz",
        read=f"getf {axis}",
        write=f"setf {axis} {{value}}",
        limits=(1, 10_000),
        hazard="neutral",
        doc="steps a second",
    )


def _volts(axis: int, letter: str, doc: str, poll: float | None = None) -> Parameter[float]:
    return Parameter(
        float,
        unit="V",
        read=f"get{letter} {axis}",
        write=f"set{letter} {axis} {{value:.6f}}",
        poll=poll,
        limits=(0, 150),
        output="motion",
        doc=doc,
    )


class Anc300(Driver):
    """Steps the needle, and holds it."""

    models: ClassVar[tuple[str, ...]] = ("anc300",)
    role: ClassVar[str] = "Positioner"
    outputs: ClassVar[tuple[Output, ...]] = (Output("motion", "no axis can step", 0.1),)

    class Options(BaseOptions):
        password: SecretStr = SecretStr("123456")  # the factory's
        step_mode: Literal["stp", "stp+"] = "stp+"  # "stp" for modules without offset (ANM150)
        approach_axis: Literal[1, 2, 3] = 3

    mode_1, mode_2, mode_3 = _mode(1), _mode(2), _mode(3)
    frequency_1, frequency_2, frequency_3 = _frequency(1), _frequency(2), _frequency(3)
    voltage_1 = _volts(1, "v", "height of a step")
    voltage_2 = _volts(2, "v", "height of a step")
    voltage_3 = _volts(3, "v", "height of a step")
    offset_1 = _volts(1, "a", "fine position")
    offset_2 = _volts(2, "a", "fine position")
    offset_3 = _volts(3, "a", "fine position", poll=1.0)
    moving = Parameter(bool, poll=0.2, doc="steps commanded here are not over, or not known to be")

    def __init__(self, name: str, address: str, model: str = "", options: Any = None):
        super().__init__(name, address, model, options)
        self._console = Console(address, self.options.password.get_secret_value())
        self._may_step = set(AXES)  # until read back in a mode that cannot
        self._still_at: dict[int, float] = {}  # monotonic s at which our last steps are over

    # ---- the wire -------------------------------------------------------------------------

    def open(self) -> None:
        self._console.open()

    def close(self) -> None:
        self._console.close()
        self._may_step, self._still_at = set(AXES), {}

    def ask(self, text: str) -> str:
        """The value in a reply `name = value unit`; the whole last line of any other."""
        lines = self._console.ask(text)
        if not lines:
            raise self._console.distrust(f"{self.name}: {text} → OK and no value")
        verb, _, axis = text.partition(" ")
        if verb not in ANSWERS:
            return lines[-1]
        match = re.fullmatch(rf"{ANSWERS[verb]} = (\S+)(?: V| Hz)?", lines[-1])
        if match is None or (verb == "getm" and match[1] not in MODES):
            raise self._console.distrust(f"{self.name}: {text} → {lines[-1]!r}")
        if verb == "getm":
            (self._may_step.add if match[1] in STEPPING else self._may_step.discard)(int(axis))
        return match[1]

    def tell(self, text: str) -> None:
        """An order; what it set is read back."""
        self._console.ask(text)
        verb, axis, *value = text.split(" ")
        if verb.startswith("set"):
            got = self.ask(f"get{verb[3:]} {axis}")
            if not agrees(got, value[0], 0, 1e-3):
                raise InstrumentError(f"{self.name}: {text}, and it reads back {got}")

    def identify(self) -> str:
        version = self._console.ask("ver")
        if not version or "ANC300" not in version[0]:
            self.close()
            raise WrongInstrument(f"{self.name}: {self.address} says {version!r}, not an ANC300")
        return f"{version[0]}, {self.ask('getcser')}"

    def status(self) -> Status:
        if self._may_step:
            axes = ", ".join(map(str, sorted(self._may_step)))
            return Status(Severity.BUSY, f"axis {axes} may step")
        return Status(Severity.IDLE, "no axis can step")

    # ---- modes ----------------------------------------------------------------------------

    def write_mode_1(self, mode: str) -> None:
        self._change(1, mode)

    def write_mode_2(self, mode: str) -> None:
        self._change(2, mode)

    def write_mode_3(self, mode: str) -> None:
        self._change(3, mode)

    def _change(self, axis: int, mode: str) -> None:
        """Change a mode. What would make the needle jump is refused: an offset that has waited on
        a grounded axis, or one that grounding would take away."""
        now, offset = self.ask(f"getm {axis}"), float(self.ask(f"geta {axis}"))
        if offset != 0 and (now in HOLDING) != (mode in HOLDING):
            raise BadRequest(
                f"{self.name}.mode_{axis}: {now} → {mode} would jump by {offset:g} V; "
                f"bring offset_{axis} to 0 first"
            )
        self._may_step.add(axis)  # until read back
        self.tell(f"setm {axis} {mode}")

    def read_moving(self) -> bool:
        now = time.monotonic()
        return any(now < self._still_at.get(axis, math.inf) for axis in self._may_step)

    # ---- motion ---------------------------------------------------------------------------

    @command("hazardous", output="motion")
    def step(self, axis: int, steps: int) -> None:
        """Make `steps` inertial steps (negative: back, away from the specimen on the approach
        axis). Returns when they have begun; `moving` says when they should be over."""
        if axis not in AXES:
            raise OutOfRange(f"{self.name}.step: axis {axis} is none of 1, 2, 3")
        if not 0 < abs(steps) <= MOST_STEPS:
            raise OutOfRange(f"{self.name}.step: {steps} steps: give 1 to {MOST_STEPS}, or back")
        mode = self.ask(f"getm {axis}")
        if mode in STEPPING and time.monotonic() < self._still_at.get(axis, math.inf):
            raise Busy(f"{self.name}: axis {axis} may still be moving; wait, or stop it")
        if mode != self.options.step_mode:
            self._change(axis, self.options.step_mode)
        frequency = parse(int, self.ask(f"getf {axis}"), f"{self.name}.frequency_{axis}")
        self._still_at[axis] = time.monotonic() + abs(steps) / max(frequency, 1) + 0.05
        self.tell(f"step{'u' if steps > 0 else 'd'} {axis} {abs(steps)}")

    @command("hazardous", output="motion", volts="offset_{approach_axis}")
    def approach(self, volts: float) -> None:
        """Bring the fine offset of the approach axis to `volts`; the axis then holds it and cannot
        step."""
        axis = self.options.approach_axis
        self.parameters[f"offset_{axis}"].check(volts, f"{self.name}.offset_{axis}")
        if (mode := self.ask(f"getm {axis}")) in STEPPING:
            mode = self._hold(axis, mode)
        if mode != "off":
            self.tell(f"seta {axis} 0.000000")  # on a grounded axis it waits unseen
            self._change(axis, "off")
        self.tell(f"seta {axis} {volts:.6f}")

    @command("safe")
    def stop(self) -> None:
        """Stop all axes where they are, verified; offsets stay."""
        self.make_safe()

    @command("safe")
    def ground(self) -> None:
        """Stop, take the offsets to 0 V and ground every axis: the fine approach is withdrawn."""
        self.make_safe()
        for axis in AXES:
            self.tell(f"seta {axis} 0.000000")
            self._change(axis, "gnd")

    def outputs_on(self) -> list[str]:
        return ["motion"] if self._may_step else []

    def make_safe(self, sensor_good: bool | None = None) -> None:
        """Stop every axis and put it in a mode that cannot step, read back."""
        self._may_step = set(AXES)
        retry_safe(self, self._secure, "every axis stopped")
        self._still_at.clear()

    def _secure(self) -> bool:
        if not self._console.is_open:
            self._console.open()
        self._console.ask(*(f"stop {axis}" for axis in AXES))  # all, before anything is answered
        for axis in AXES:
            if (mode := self.ask(f"getm {axis}")) in STEPPING:
                self._hold(axis, mode)
        return not self._may_step

    def _hold(self, axis: int, mode: str) -> str:
        """From a stepping mode to the one that cannot step and has the same voltage at rest."""
        still = "off" if mode in HOLDING else "gnd"
        self._console.ask(f"stop {axis}")
        self.tell(f"setm {axis} {still}")
        return still
