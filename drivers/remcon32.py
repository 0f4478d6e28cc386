"""Zeiss SmartSEM by its RemCon32 serial interface: the electron column of a scanning microscope.

9600 baud, 8N1, CR LF. An order has two answers: `@` (accepted) or `#` (rejected) at once, then `>`
with what was asked for, or `*` and an error number. The microscope keeps at the controls of its own
program; nothing here opens a dialogue there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from coldframe.drivers.base import Output, Parameter, command, parse, retry_safe
from coldframe.drivers.lines import LineDriver
from coldframe.drivers.links import Dialect, LineLink, SerialFraming, open_wire
from coldframe.errors import Garbled, InstrumentError, LinkError, WrongInstrument
from coldframe.status import Severity, Status

DIALECT = Dialect(
    write_end=b"\r\n", read_end=b"\r\n", timeout=0.25, probe="VER?", recognise=r">.*SmartSEM.*"
)
ERRORS = {
    600: "unknown command",
    601: "wrong number of parameters",
    602: "wrong type of parameter",
    603: "parameter out of range",
    604: "timeout",
    605: "catastrophic error",
    611: "aborted from outside",
    613: "cannot be attained",
    614: "this option is not installed",
    615: "cannot be changed now",
    616: "cannot be executed now",
    617: "command too long",
}
TOLERANCE = 0.02  # of a read-back: the column takes the nearest value its optics allow


class RemCon32(LineDriver):
    """A SmartSEM column: probe current, high voltage, magnification, blanker."""

    models = ("remcon32",)
    role = "ElectronColumn"
    outputs = (Output("beam", "beam blanked", seconds=0.05, fast_blank=True),)

    probe_current = Parameter(
        float, unit="A", read="PRB?", poll=1.0, limits=(1e-14, 2e-5), output="beam"
    )
    high_voltage = Parameter(float, unit="kV", read="EHT?", poll=5.0, limits=(0, 40), output="beam")
    magnification = Parameter(float, read="MAG?", poll=1.0, limits=(1, 5e6), output="beam")
    pixel = Parameter(float, unit="nm", read="PIX?", poll=5.0, doc="Size of a pixel of the image.")
    scan_rotation = Parameter(float, unit="deg", read="SRO?", poll=5.0)
    blanked = Parameter(bool, poll=0.1)
    external_scan = Parameter(
        bool, read="EXS?", poll=5.0, doc="Another instrument moves the beam; slow to change (2 s)."
    )

    _blanked: bool | None = None  # as last read back; None: not known

    def open(self) -> None:
        self.close()
        self._link = LineLink(open_wire(self.address, SerialFraming(9600, 8, "N", 1)), DIALECT)

    def close(self) -> None:
        super().close()
        self._blanked = None

    def identify(self) -> str:
        version = self.ask("VER?")
        if "SmartSEM" not in version:
            raise WrongInstrument(f"{self.name}: VER? → {version!r}, which is no SmartSEM")
        return version

    def ask(self, text: str) -> str:
        """One question or order; what came after the `>`."""
        try:
            acknowledgement = self.link.ask(text)
            if acknowledgement == "#":
                raise InstrumentError(f"{self.name}: {text} → rejected (#)")
            if acknowledgement == "@":
                answer = self.link.read_line(question=text)
                if answer.startswith(">"):
                    return answer[1:].strip()
                if answer.startswith("*"):
                    raise InstrumentError(f"{self.name}: {text} → {_meaning(answer)}")
                acknowledgement = answer
            self.link.out_of_step()
            raise Garbled(f"{self.name}: {text} → {acknowledgement!r}")
        except LinkError:
            self._blanked = None
            raise

    def tell(self, text: str) -> None:
        """An order; its second answer must be empty."""
        answer = self.ask(text)
        if answer:
            raise Garbled(f"{self.name}: {text} → {answer!r}, where nothing was expected")

    def read_blanked(self) -> bool:
        self._blanked = None
        self._blanked = parse(bool, self.ask("BBL?"), f"{self.name}.blanked")
        return self._blanked

    def write_probe_current(self, amperes: float) -> None:
        self._set("PROB", amperes, self.probe_current.get)

    def write_high_voltage(self, kilovolts: float) -> None:
        self._set("EHT", kilovolts, self.high_voltage.get)

    def write_magnification(self, magnification: float) -> None:
        self._set("MAG", magnification, self.magnification.get)

    @command("safe", output="beam")
    def blank(self) -> None:
        """Blank the beam, and see that it is."""
        self.make_safe()

    @command("hazardous", output="beam")
    def unblank(self) -> None:
        """Let the beam on to the specimen."""
        self._blanked = None  # until it has been read back, the beam may be on
        self.tell("BBLK 0")
        if self.read_blanked():
            raise InstrumentError(f"{self.name}: BBLK 0 was accepted, but the beam is blanked")

    def make_safe(self, sensor_good: bool | None = None) -> None:
        def attempt() -> bool:
            self.tell("BBLK 1")
            return self.read_blanked()

        retry_safe(self, attempt, "beam blanked")

    def outputs_on(self) -> list[str]:
        return [] if self._blanked else ["beam"]

    def status(self) -> Status:
        if self._link is None:
            return Status(Severity.ERROR, "not connected")
        if self._blanked is None:
            return Status(Severity.WARN, "whether the beam is blanked is not known")
        if self._blanked:
            return Status(Severity.IDLE, "beam blanked")
        return Status(Severity.BUSY, "beam on the specimen")

    def _set(self, order: str, value: float, read: Callable[[], float]) -> None:
        self.tell(f"{order} {value:G}")
        found = read()
        if not math.isclose(found, value, rel_tol=TOLERANCE, abs_tol=1e-15):
            raise InstrumentError(
                f"{self.name}: {order} {value:G} was accepted, but it is {found:G}"
            )


def _meaning(answer: str) -> str:
    number = answer[1:].strip()
    words = ERRORS.get(int(number)) if number.isdecimal() else None
    return f"error {number}: {words}" if words else f"error {number}"
