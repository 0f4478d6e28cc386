"""A Keithley 2450 source-measure unit: the bias, which when off must touch nothing.

Its default off-state, NORMAL, is a voltage source at 0 V (reference manual, chapter 2, "Output-off
state"): a cell across it is shorted, and `OUTP?` says 0 while it happens. Here off means the relay
open (HIMP). `adopt()` changes nothing; `prepare()` sets HIMP for both source functions while the
output is off, and is repeated and read back before every output-on. Until it is read back as HIMP,
an output that is off counts as on.

Voltage and current are the working electrode's: positive current is oxidation there, provided the
unit's HI is wired to the working electrode (option `invert` when it is not).
"""

from __future__ import annotations

import math
import re
import time
from typing import ClassVar

from coldframe.drivers.base import Options as BaseOptions
from coldframe.drivers.base import Output, Parameter, agrees, command, parse, retry_safe
from coldframe.drivers.lines import LineDriver
from coldframe.drivers.links import Dialect, LineLink, open_wire
from coldframe.errors import (
    Busy,
    Disconnected,
    Garbled,
    InstrumentError,
    NotReady,
    NotSafe,
    WrongInstrument,
)
from coldframe.status import Severity, Status

DIALECT = Dialect(recognise=r"KEITHLEY INSTRUMENTS[^,]*,MODEL 2450,[^,]+,[^,]+")
NOT_A_NUMBER = 9.9e37  # SCPI's overflow and, a little above, its not-a-number
TOLERANCE = 1e-5  # relative, of a setting read back in seven digits
PAIR_AGE = 0.05  # s for which one READ serves voltage and current
SECURE = (":OUTP:VOLT:SMOD HIMP", ":OUTP:CURR:SMOD HIMP", ":OUTP OFF")
SOURCES = {"voltage": "VOLT", "current": "CURR"}


class Keithley2450(LineDriver):
    """Sources a voltage within a current limit, or a current within a voltage limit."""

    models: ClassVar[tuple[str, ...]] = ("keithley2450",)
    role: ClassVar[str] = "BiasSource"
    outputs: ClassVar[tuple[Output, ...]] = (Output("bias", "output off, relay open (HIMP)", 0.1),)

    class Options(BaseOptions):
        invert: bool = False  # True: the unit's LO is at the working electrode
        ocv_settle: float = 0.2  # s between output-on at 0 A and the reading

    voltage = Parameter(float, unit="V", poll=0.1, doc="measured; unknown while the relay is open")
    current = Parameter(float, unit="A", poll=0.1, doc="measured; positive is oxidation")
    output = Parameter(bool, read=":OUTP?", poll=0.5)
    in_limit = Parameter(bool, poll=0.5, doc="the current (or voltage) limit is reached")
    function = Parameter(
        str, choices=("voltage", "current"), hazard="neutral", doc="what is sourced; only while off"
    )
    level = Parameter(float, unit="V", limits=(-210, 210), output="bias", doc="sourced voltage")
    current_limit = Parameter(
        float,
        unit="A",
        read=":SOUR:VOLT:ILIM?",
        write=":SOUR:VOLT:ILIM {value:.6E}",
        limits=(1e-9, 1.05),
        output="bias",
    )
    level_current = Parameter(
        float, unit="A", limits=(-1.05, 1.05), output="bias", doc="sourced current"
    )
    voltage_limit = Parameter(
        float,
        unit="V",
        read=":SOUR:CURR:VLIM?",
        write=":SOUR:CURR:VLIM {value:.6E}",
        limits=(0.02, 210),
        output="bias",
    )
    off_state = Parameter(str, poll=2.0, doc="NORM is 0 V across the cell; HIMP is open")

    _on = True  # until read back as off and open
    _pair: tuple[float, dict[str, float]] = (0.0, {})
    _clean = False  # the error queue held nothing of ours when we came

    # ---- the wire -----------------------------------------------------------------------

    def open(self) -> None:
        self.close()
        self._link = LineLink(open_wire(self.address), DIALECT)

    def close(self) -> None:
        super().close()
        self._on, self._clean, self._pair = True, False, (0.0, {})

    def ask(self, text: str) -> str:
        return self.link.ask(text)

    def tell(self, text: str) -> None:
        """Send an order and let the error queue say how it was taken; then compare, where there is
        something to ask back."""
        self._clear_queue()
        self.link.tell(text)
        if error := self._error():
            self._clean = False
            raise InstrumentError(f"{self.name}: {text} → {error}")
        header, _, value = text.partition(" ")
        if value and not header.startswith("*"):
            self._compare(header, value)

    def _compare(self, header: str, wanted: str) -> None:
        got = self.ask(f"{header}?").strip('"')
        if not agrees(got.upper(), wanted.strip('"').upper(), TOLERANCE, 1e-15):
            self.link.out_of_step()
            raise InstrumentError(f"{self.name}: {header} was set to {wanted} and reads back {got}")

    def _error(self) -> str:
        """The oldest entry of the error queue, or nothing: `-113,"Undefined header;1,0,0"`."""
        reply = self.ask(":SYST:ERR?")
        match = re.fullmatch(r'([+-]?\d+),"([^"]*)"', reply)
        if match is None:
            self.link.out_of_step()
            raise Garbled(f"{self.name}: SYST:ERR? → {reply!r}")
        return "" if int(match[1]) == 0 else f"{match[1]} {match[2].split(';')[0]}"

    def _clear_queue(self) -> None:
        """Somebody's old errors are not the answer to our order."""
        for _ in range(200):
            if self._clean or not self._error():
                break
        self._clean = True

    def identify(self) -> str:
        reply = self.ask("*IDN?")
        if re.fullmatch(DIALECT.recognise, reply) is None:
            raise WrongInstrument(f"{self.name}: {self.address} says {reply!r}, not a MODEL 2450")
        language = self.ask("*LANG?")
        if language != "SCPI":
            raise WrongInstrument(
                f"{self.name}: command set {language!r}: choose SCPI (*LANG SCPI), then power-cycle"
            )
        return reply

    def status(self) -> Status:
        if self._look():
            return Status(Severity.BUSY, "output on")
        if self._on:
            return Status(Severity.ERROR, "off is low impedance: 0 V across the cell; prepare")
        return Status(Severity.IDLE, "off, relay open")

    def adopt(self) -> None:
        """Read everything once; an output found on stays on, an off-state found stays as it is."""
        super().adopt()
        self._look()

    # ---- reading ------------------------------------------------------------------------

    def read_voltage(self) -> float:
        return self._half("voltage")

    def read_current(self) -> float:
        return self._half("current")

    def _half(self, name: str) -> float:
        """One of the two values of a READ; each is given once, so neither grows old."""
        taken, pair = self._pair
        if name not in pair or time.monotonic() - taken > PAIR_AGE:
            pair = self._measure()
        value = pair.pop(name)
        self._pair = (time.monotonic(), pair)
        return value

    def _measure(self) -> dict[str, float]:
        if not self._look():
            return {"voltage": math.nan, "current": math.nan}
        function = self.read_function()
        other = "current" if function == "voltage" else "voltage"
        source, reading = self._numbers(':READ? "defbuffer1",SOUR,READ', 2)
        if self.ask(":SENS:FUNC?").strip('"') != f"{SOURCES[other]}:DC":
            reading = math.nan  # it measures what it sources: the other value is not known
        return {function: self._sign() * source, other: self._sign() * reading}

    def _numbers(self, question: str, count: int) -> list[float]:
        reply = self.ask(question)
        parts = reply.split(",")
        if len(parts) != count:
            self.link.out_of_step()
            raise Garbled(f"{self.name}: {question} → {reply!r}: not {count} numbers")
        try:
            values = [parse(float, part, f"{self.name}: {question}") for part in parts]
        except Garbled:
            self.link.out_of_step()
            raise
        return [math.nan if abs(value) >= NOT_A_NUMBER else value for value in values]

    def _look(self) -> bool:
        """Ask whether the output is on, and keep what may be on in step with the answer."""
        on = parse(bool, self.ask(":OUTP?"), f"{self.name}.output")
        if on:
            self._on = True
        elif self._on:
            self._on = not self._open_when_off()
        return on

    def read_in_limit(self) -> bool:
        limit = "VOLT:ILIM" if self.read_function() == "voltage" else "CURR:VLIM"
        return parse(bool, self.ask(f":SOUR:{limit}:TRIP?"), f"{self.name}.in_limit")

    def read_function(self) -> str:
        reply = self.ask(":SOUR:FUNC?")
        for name, short in SOURCES.items():
            if reply == short:
                return name
        self.link.out_of_step()
        raise Garbled(f"{self.name}: SOUR:FUNC? → {reply!r}")

    def read_off_state(self) -> str:
        """HIMP only when it is so for both functions; else the one that is not."""
        states = [self._off_state(short) for short in SOURCES.values()]
        return next((state for state in states if state != "HIMP"), "HIMP")

    def _off_state(self, function: str) -> str:
        reply = self.ask(f":OUTP:{function}:SMOD?")
        for short in ("HIMP", "NORM", "ZERO", "GUAR"):
            if reply.upper().startswith(short):
                return short
        self.link.out_of_step()
        raise Garbled(f"{self.name}: OUTP:{function}:SMOD? → {reply!r}")

    def _open_when_off(self) -> bool:
        return self.read_off_state() == "HIMP"

    def read_level(self) -> float:
        return self._sign() * self._numbers(":SOUR:VOLT?", 1)[0]

    def read_level_current(self) -> float:
        return self._sign() * self._numbers(":SOUR:CURR?", 1)[0]

    def write_level(self, value: float) -> None:
        self.tell(f":SOUR:VOLT {self._sign() * value:.6E}")

    def write_level_current(self, value: float) -> None:
        self.tell(f":SOUR:CURR {self._sign() * value:.6E}")

    def _sign(self) -> float:
        return -1.0 if self.options.invert else 1.0

    def write_function(self, value: str) -> None:
        """Change what is sourced. Refused while on; off-states set again, and read back, after."""
        if self._look():
            raise Busy(f"{self.name}.function: the output is on; turn it off first")
        self.prepare()  # before: the other function's off-state may be 0 V
        if self.read_function() != value:
            self.tell(f":SOUR:FUNC {SOURCES[value]}")
            self.prepare()
        other = "CURR" if value == "voltage" else "VOLT"
        self.link.tell(f':SENS:FUNC "{other}"')
        if (got := self.ask(":SENS:FUNC?").strip('"')) != f"{other}:DC":
            raise InstrumentError(f"{self.name}: SENS:FUNC was set to {other} and is {got}")

    # ---- on and off -----------------------------------------------------------------------

    @command("safe")
    def prepare(self) -> None:
        """Make off mean open: HIMP for both source functions, read back. Only while the output is
        off; with the output on it changes nothing and says so."""
        if self._look():
            raise Busy(f"{self.name}: the output is on; its off-state is left as it is")
        for function in SOURCES.values():
            if self._off_state(function) != "HIMP":
                self.tell(f":OUTP:{function}:SMOD HIMP")
        if not self._open_when_off():
            raise NotSafe(f"{self.name}: off-state HIMP was set and does not read back")
        self._on = False

    @command("hazardous", output="bias")
    def output_on(self) -> None:
        """Close the relay and source the level, once off is known to mean open."""
        if not self._look():
            self.write_function(self.read_function())  # off-states and what is measured
        self._on = True
        self.tell(":OUTP 1")

    @command("safe")
    def output_off(self) -> None:
        """Open the relay; verified."""
        self.make_safe()

    @command("hazardous", output="bias")
    def measure_ocv(self) -> float:
        """The open-circuit voltage, sourcing 0 A; then off again and open, verified.

        Hazardous, because the relay closes: the cable's charge and the meter's leakage pass
        through the cell, which is much for a single particle.
        """
        if self._look():
            raise Busy(
                f"{self.name}: the output is on; the open-circuit voltage cannot be measured"
            )
        before, level = self.read_function(), self.read_level_current()
        try:
            self.write_function("current")
            self.write_level_current(0.0)
            self.output_on()
            time.sleep(self.options.ocv_settle)
            value = math.nan if self.read_in_limit() else self._measure()["voltage"]
        finally:
            self.make_safe()
        self.write_level_current(level)
        self.write_function(before)
        if math.isnan(value):
            raise NotReady(f"{self.name}: no valid reading at 0 A; is voltage_limit high enough?")
        return value

    def outputs_on(self) -> list[str]:
        return ["bias"] if self._on else []

    def make_safe(self, sensor_good: bool | None = None) -> None:
        """Output off and relay open, both read back. The off-state is set first: off must not be
        0 V for an instant."""
        self._on = True
        retry_safe(self, self._secure, "output off and relay open (HIMP)")
        self._on = False

    def _secure(self) -> bool:
        if self._link is None:
            self.open()
        try:
            for order in SECURE:
                self.link.shout(order)
            self._clean = False  # a refused order is judged by the read-back, not by the queue
            off = not parse(bool, self.ask(":OUTP?"), f"{self.name}.output")
            return off and self._open_when_off()
        except Disconnected:
            self.close()
            raise
