"""Keithley 6485 picoammeter: the current that falls into a Faraday cup.

Numbers and formats from the instruction manual (6485-901-01): RS-232 9600 8N1 (chapter 9), also
through a serial-to-TCP server; readings chapter 13, zero check and zero correct chapter 3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from coldframe.drivers.base import Options, Parameter, command, parse
from coldframe.drivers.lines import LineDriver
from coldframe.drivers.links import Dialect, LineLink, SerialFraming, open_wire
from coldframe.errors import Garbled, InstrumentError, WrongInstrument
from coldframe.status import Severity, Status
from coldframe.units import show

RS232 = SerialFraming(9600, 8, "N", 1)
ENDS = {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n"}
OVERFLOW, NAN = 9.9e37, 9.91e37  # manual 13-6
STAT_OVERFLOW, STAT_ZERO_CHECK = 1, 512  # bits of the status word
LOWEST_RANGE = 2e-9  # A; zero correct is best acquired there
QUEUE = 12  # error messages at most, and a few


class Keithley6485Options(Options):
    """What the meter's menu says, and how long one reading may take."""

    terminator: Literal["CR", "LF", "CRLF"] = "CR"
    reading_s: float = Field(2.0, gt=0, le=60)  # three integration times for each reading averaged


class Reading(NamedTuple):
    """One reading: amperes (NaN when it says nothing), and why it says nothing."""

    current: float
    overflow: bool
    zero_check: bool


class Keithley6485(LineDriver):
    """A picoammeter that measures 10 fA to 20 mA, zero check and zero correct included."""

    models = ("keithley6485",)
    role = "Ammeter"
    Options: ClassVar[type[Options]] = Keithley6485Options
    options: Keithley6485Options

    current = Parameter(float, unit="A", poll=0.5, hazard="neutral",
                        doc="NaN while zero check is on, or over range")  # fmt: skip
    overflow = Parameter(bool, poll=0.5, hazard="neutral", doc="the last reading was over range")
    zero_check = Parameter(bool, read="SYST:ZCH?", poll=5, hazard="neutral",
                           doc="the input is disconnected from the meter")  # fmt: skip
    zero_correct = Parameter(bool, read="SYST:ZCOR?", poll=5, hazard="neutral",
                             doc="the offset of the last zero is taken away")  # fmt: skip
    range = Parameter(float, unit="A", read="CURR:RANG?", limits=(2e-9, 2e-2), hazard="neutral",
                      doc="the range in use; setting it ends auto range")  # fmt: skip
    range_auto = Parameter(bool, read="CURR:RANG:AUTO?", hazard="neutral")
    integration = Parameter(float, read="CURR:NPLC?", limits=(0.01, 60), hazard="neutral",
                            doc="in power line cycles; a reading takes three times it")  # fmt: skip

    _last: Reading | None = None
    _fresh = True  # errors queued before we came are not ours

    def open(self) -> None:
        self.close()
        end = ENDS[self.options.terminator]
        recognise = r"KEITHLEY INSTRUMENTS INC\.,MODEL 6485,.*"
        wire = open_wire(self.address, RS232, timeout=1.0)
        self._link = LineLink(wire, Dialect(end, end, timeout=0.25, recognise=recognise))
        self._fresh, self._last = True, None

    def identify(self) -> str:
        identity = self.ask("*IDN?")
        if not re.fullmatch(r"KEITHLEY INSTRUMENTS INC\.,MODEL \w+,\w+,.*", identity):
            self.link.out_of_step()
            raise Garbled(f"{self.name}: *IDN? → {identity!r}")
        if ",MODEL 6485," not in identity:
            raise WrongInstrument(f"{self.name}: {self.model} is configured, {identity} answers")
        return identity

    def ask(self, text: str, timeout: float | None = None) -> str:
        return self.link.ask(text, timeout)

    def tell(self, text: str) -> None:
        """Send an order, then look into the error queue: in a line of its own, since what stands
        behind a refused command in one line is discarded."""
        if self._fresh:
            self._empty_queue()
        self.link.tell(text)
        number, words = self._error(self.ask("SYST:ERR?"))
        if number:
            raise InstrumentError(f'{self.name}: {text} was refused: {number},"{words}"')

    def status(self) -> Status:
        """Whether the input is connected and the reading means something."""
        zero_check, zero_correct = self.zero_check.get(), self.zero_correct.get()
        if zero_check:
            return Status(Severity.WARN, "zero check on: the input is disconnected")
        if self._last is not None and self._last.overflow:
            return Status(Severity.WARN, "over range")
        return Status(Severity.IDLE, "measures" if zero_correct else "measures, not zero corrected")

    # ---- readings ---------------------------------------------------------------------

    def read_current(self) -> float:
        self._last = None
        self._last = self._measure()
        return self._last.current

    def read_overflow(self) -> bool:
        if self._last is None:
            self._last = self._measure()
        return self._last.overflow

    def _measure(self) -> Reading:
        """A new reading, whatever fields the meter is set to send: it is asked in the same line."""
        reply = self.ask("FORM:ELEM?;:READ?", self.options.reading_s)
        elements, _, values = reply.partition(";")
        names = [name[:4] for name in elements.upper().split(",")]
        shown = [name for name in names if name != "UNIT"]  # the unit stands behind the reading
        fields = dict(zip(shown, values.split(","), strict=False))
        whole = len(fields) == len(shown) == len(values.split(","))
        if not whole or "READ" not in fields or set(names) - {"READ", "UNIT", "TIME", "STAT"}:
            self.link.out_of_step()
            raise Garbled(f"{self.name}.current: READ? → {reply!r}")
        value = self._number(re.sub(r"A(DC)?$", "", fields["READ"].strip()))
        status = int(self._number(fields["STAT"])) if "STAT" in fields else 0
        zero_check = bool(status & STAT_ZERO_CHECK)
        if "STAT" not in fields:
            zero_check = bool(self.zero_check.get())
        overflow = bool(status & STAT_OVERFLOW) or abs(value) == OVERFLOW
        if zero_check or overflow or abs(value) >= OVERFLOW:
            value = math.nan
        return Reading(value, overflow, zero_check)

    # ---- settings -----------------------------------------------------------------------

    @command("neutral")
    def zero(self) -> None:
        """Measure the meter's own offset with the input disconnected, take it away from here on.

        Fails with zero check left on, so that no reading is believed that was not zeroed.
        """
        auto, value = self.range_auto.get(), self.range.get()
        self.zero_check.set(True)
        self._set("SYST:ZCOR", "OFF", False, self.zero_correct.get)
        self.tell(f"CURR:RANG {LOWEST_RANGE:G}")
        if self.ask("INIT;*OPC?", self.options.reading_s).strip() != "1":
            self.link.out_of_step()
            raise Garbled(f"{self.name}.zero: INIT was not completed")
        restore = "CURR:RANG:AUTO ON" if auto else f"CURR:RANG {value:G}"
        self.tell("SYST:ZCOR:ACQ")
        self._set("SYST:ZCOR", "ON", True, self.zero_correct.get)
        self.tell(restore)
        self.zero_check.set(False)

    def write_zero_check(self, value: bool) -> None:
        self._set("SYST:ZCH", "ON" if value else "OFF", value, self.zero_check.get)

    def write_range(self, value: float) -> None:
        self.tell(f"CURR:RANG {value:.6G}")
        reads = self.range.get()
        if not value * 0.95 <= reads <= value * 10.6:  # the range that holds the value
            told = show(value, "A")
            raise InstrumentError(f"{self.name}.range: told {told}, reads {show(reads, 'A')}")

    def write_range_auto(self, value: bool) -> None:
        self._set("CURR:RANG:AUTO", "ON" if value else "OFF", value, self.range_auto.get)

    def write_integration(self, value: float) -> None:
        self.tell(f"CURR:NPLC {value:.2f}")
        reads = self.integration.get()
        if abs(reads - value) > 0.01:
            raise InstrumentError(f"{self.name}.integration: told {value:g}, reads {reads:g}")

    # ---- the wire -----------------------------------------------------------------------

    def _set(self, head: str, word: str, value: bool, read: Callable[[], bool]) -> None:
        self.tell(f"{head} {word}")
        if read() != value:
            raise InstrumentError(f"{self.name}: {head} was set {word} and reads otherwise")

    def _empty_queue(self) -> None:
        for _ in range(QUEUE):
            if not self._error(self.ask("SYST:ERR?"))[0]:
                self._fresh = False
                return
        raise InstrumentError(f"{self.name}: its error queue does not get empty")

    def _error(self, reply: str) -> tuple[int, str]:
        match = re.fullmatch(r'([+-]?\d+),"(.*)"', reply.strip())
        if match is None:
            self.link.out_of_step()
            raise Garbled(f"{self.name}: SYST:ERR? → {reply!r}")
        return int(match[1]), match[2]

    def _number(self, text: str) -> float:
        return parse(float, text, f"{self.name}.current")
