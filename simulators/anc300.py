"""An attocube ANC300 piezo controller on TCP port 7230, moving the needle.

A text console: greeting with telnet bytes, password echoed as stars, every command echoed until
`echo off`, each reply closed by OK or ERROR (the line before ERROR says why). Three modules that
can step and hold an offset. Steps take time: so many a second, in lab time. No position is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from coldframe.simulators.ports import Conversation, Instrument, Send

# IAC WILL ECHO, IAC WILL SUPPRESS-GO-AHEAD (RFC 854), then the prompt
GREETING = b"\xff\xfb\x01\xff\xfb\x03\r\nANC300 console\r\nAuthorization code: "
MODES = ("gnd", "inp", "cap", "stp", "off", "stp+", "stp-")
STEPPING = ("stp", "stp+", "stp-")
OFFSET = ("off", "stp+", "stp-")  # modes in which the offset voltage is on the piezo
CONTINUOUS = -1  # steps to go, of an axis told to step until stopped
AXES = (1, 2, 3)


class Refusal(Exception):
    """The console's words before ERROR."""


class Axis:
    """One module: what it is set to, and the steps it still has to make."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        self.mode = "gnd"
        self.frequency = 200
        self.voltage = 30.0
        self.offset = 0.0
        self.direction = 1
        self.to_go = 0
        self.since = 0.0  # lab time from which the next step counts

    @property
    def moving(self) -> bool:
        return self.to_go != 0


class Verb(NamedTuple):
    pattern: re.Pattern[str]
    obey: Callable[..., list[str]]
    changes: bool


class Anc300Simulator(Instrument):
    """The controller, its three modules and its console."""

    models: ClassVar[tuple[str, ...]] = ("anc300",)
    transports: ClassVar[tuple[str, ...]] = ("tcp",)

    password = "123456"  # the factory's
    version = ("attocube ANC300 controller version 1.1.0-1304 2013-10-17 08:16", "ANC150 console")
    serial = "ANC300B-C-1514-3006076"

    def power_on(self) -> None:
        self.writes: list[str] = []
        self._waiting: list[Console] = []
        self._frozen: dict[str, list[str]] = {}
        self.axes = {n: Axis(f"ANM300A-M-1545-301004{n}") for n in AXES}
        for number in AXES:
            self._apply_offset(number)

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Console(self, send)

    def tick(self) -> None:
        """Make the steps whose time has come."""
        for number, axis in self.axes.items():
            if not axis.moving:
                continue
            due = int((self.world.now - axis.since) * axis.frequency + 1e-9)
            steps = due if axis.to_go == CONTINUOUS else min(due, axis.to_go)
            if steps <= 0:
                continue
            axis.since += steps / axis.frequency
            if axis.to_go != CONTINUOUS:
                axis.to_go -= steps
            self.world.needle.step(number, steps * axis.direction, axis.voltage)
        for console in list(self._waiting):
            console.resume()

    def answer(self, line: str) -> list[str]:
        """The lines that answer one command, OK or ERROR last."""
        try:
            for verb in self._verbs():
                if match := verb.pattern.fullmatch(line):
                    if verb.changes:
                        if self.faults.on("lie"):
                            return ["OK"]
                        lines = verb.obey(*match.groups())
                        self.writes.append(line)
                        return [*lines, "OK"]
                    return self._freeze(line, [*verb.obey(*match.groups()), "OK"])
            raise Refusal(f"Unknown command: {line.split(' ')[0]}")
        except Refusal as refusal:
            return [str(refusal), "ERROR"]

    def _freeze(self, question: str, reply: list[str]) -> list[str]:
        """The first answer to a question, for as long as values are frozen."""
        if not self.faults.on("frozen"):
            self._frozen.clear()
            return reply
        return self._frozen.setdefault(question, reply)

    def wait(self, console: Console) -> None:
        """Tell this console when something has moved."""
        if console not in self._waiting:
            self._waiting.append(console)

    def done_waiting(self, console: Console) -> None:
        """This console waits for nothing."""
        if console in self._waiting:
            self._waiting.remove(console)

    def waiting_for(self, line: str) -> Axis | None:
        """The axis whose standstill `stepw` waits for, if it does move."""
        match = re.fullmatch(r"stepw (\d+)", line)
        axis = self.axes.get(int(match[1])) if match else None
        return axis if axis is not None and axis.moving else None

    # ---- the commands -------------------------------------------------------------------

    def _verbs(self) -> list[Verb]:
        def verb(pattern: str, obey: Callable[..., list[str]], changes: bool = True) -> Verb:
            return Verb(re.compile(pattern), obey, changes)

        number = r"([+-]?\d+(?:\.\d*)?)"
        return [
            verb("ver", lambda: list(self.version), False),
            verb("getcser", lambda: [self.serial], False),
            verb(r"getser (\d+)", lambda n: [self._axis(n).serial], False),
            verb(r"getm (\d+)", lambda n: [f"mode = {self._axis(n).mode}"], False),
            verb(r"setm (\d+) (\S+)", self._set_mode),
            verb(r"getf (\d+)", lambda n: [f"frequency = {self._axis(n).frequency} Hz"], False),
            verb(rf"setf (\d+) {number}", self._set_frequency),
            verb(r"getv (\d+)", lambda n: [self._volts(self._axis(n).voltage)], False),
            verb(rf"setv (\d+) {number}", self._set_voltage),
            verb(r"geta (\d+)", lambda n: [self._volts(self._axis(n).offset)], False),
            verb(rf"seta (\d+) {number}", self._set_offset),
            verb(r"geto (\d+)", lambda n: [self._volts(self._output(self._axis(n)))], False),
            verb(r"step([ud]) (\d+) (\d+|c)", self._step),
            verb(r"stepw (\d+)", lambda n: [self._axis(n).serial][1:], False),
            verb(r"stop (\d+)", self._stop),
            verb(r"getc (\d+)", lambda n: ["capacitance = 998.901733 nF"], False),
        ]

    def _axis(self, number: str) -> Axis:
        axis = self.axes.get(int(number))
        if axis is None:
            raise Refusal("Wrong axis type")
        return axis

    def _volts(self, value: float) -> str:
        return "voltage = nan V" if self.faults.on("nan") else f"voltage = {value:.6f} V"

    def _output(self, axis: Axis) -> float:
        return axis.offset if axis.mode in OFFSET else 0.0

    def _apply_offset(self, number: int) -> None:
        self.world.needle.set_offset(number, self._output(self.axes[number]))

    def _set_mode(self, number: str, mode: str) -> list[str]:
        axis = self._axis(number)
        if mode not in MODES:
            raise Refusal("Wrong mode")
        axis.mode = mode
        if mode not in STEPPING:
            axis.to_go = 0
        self._apply_offset(int(number))
        return []

    def _set_frequency(self, number: str, value: str) -> list[str]:
        axis, hertz = self._axis(number), float(value)
        if not 1 <= hertz <= 10_000:
            raise Refusal("Frequency out of range")
        axis.frequency, axis.since = round(hertz), self.world.now
        return []

    def _set_voltage(self, number: str, value: str) -> list[str]:
        axis, volts = self._axis(number), float(value)
        if not 0 <= volts <= 150:
            raise Refusal("Voltage out of range")
        axis.voltage = volts
        return []

    def _set_offset(self, number: str, value: str) -> list[str]:
        axis, volts = self._axis(number), float(value)
        if not 0 <= volts <= 150:
            raise Refusal("Voltage out of range")
        axis.offset = volts
        self._apply_offset(int(number))
        return []

    def _step(self, way: str, number: str, count: str) -> list[str]:
        axis = self._axis(number)
        if axis.mode not in STEPPING:
            raise Refusal("Axis in wrong mode")
        axis.direction = 1 if way == "u" else -1
        axis.to_go = CONTINUOUS if count == "c" else int(count)
        axis.since = self.world.now
        return []

    def _stop(self, number: str) -> list[str]:
        self._axis(number).to_go = 0
        return []


class Console:
    """One session: log in, then command and reply. `stepw` holds it up until its axis is still."""

    def __init__(self, controller: Anc300Simulator, send: Send) -> None:
        self._controller, self._send = controller, send
        self._buffer = b""
        self._trusted, self._echo = False, True
        self._lines: list[str] = []
        send(GREETING)

    def feed(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-65536:]
        *lines, self._buffer = self._buffer.replace(b"\r\n", b"\n").split(b"\n")
        self._lines += [line.decode("latin-1").strip() for line in lines]
        self.resume()

    def resume(self) -> None:
        """Take up the lines that have arrived, as far as nothing is waited for."""
        while self._lines:
            if self._trusted and self._controller.waiting_for(self._lines[0]):
                self._controller.wait(self)
                return
            text = self._lines.pop(0)
            self._command(text) if self._trusted else self._login(text)
        self._controller.done_waiting(self)

    def _login(self, text: str) -> None:
        self._trusted = text == self._controller.password
        verdict = "Authorization success" if self._trusted else "Authorization failed"
        again = b"" if self._trusted else b"Authorization code: "
        self._send(f"{'*' * len(text)}\r\n{verdict}\r\n".encode("latin-1") + again)

    def _command(self, text: str) -> None:
        if not text:
            return
        reply = [f"> {text}"] if self._echo else []
        if text in ("echo off", "echo on"):
            self._echo = text == "echo on"
            reply.append("OK")
        else:
            reply += self._controller.answer(text)
        self._send("".join(f"{line}\r\n" for line in reply).encode("latin-1"))
