"""The ion column of a TESCAN FIB-SEM by SharkSEM, the microscope's remote-control port (TCP 8300).

The protocol offers no blanker, no current and no voltage of the ion column, only presets, and the
beam on or off. So the safe state is `FibHVBeamOff`, and slow: the column answers 1000 (in
transition) until it is off. Where ions must be gone faster, a blanker has to be wired. Reading the
ion current moves the Faraday cup and disturbs the operator's window for a moment, so it is read
when asked for and never polled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Literal, TypeVar

from coldframe.drivers.base import Driver, Options, Output, Parameter, command, retry_safe
from coldframe.drivers.links import open_wire
from coldframe.drivers.sharksem_wire import Field, Fields, SharkLink
from coldframe.errors import (
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    WrongInstrument,
)
from coldframe.status import Severity, Status

T = TypeVar("T")

OFF, ON, TRANSITION = 0, 1, 1000  # FibHVGetBeam; -1 when the column cannot say
STATES = {OFF: "off", ON: "on", TRANSITION: "transition", -1: "unknown"}
BLANKER = {0: "off", 1: "on", 2: "auto"}  # ScGetBlanker
ELECTRONS = 1  # the blanker of the electron column
OFF_SECONDS = 5.0  # for the ion beam to be off; to be measured at each microscope
OBEY_SECONDS = 0.5  # for an order to show in the state
LOOK = 0.05  # s between two looks while the column is in transition


class SharkSemOptions(Options):
    """`species`: what the source emits; the protocol does not say."""

    species: Literal["Ga", "Xe", "Ar", "N", "O"] = "Ga"


class SharkSem(Driver):
    """A TESCAN FIB: ion current, preset, ion beam on and off."""

    models = ("sharksem",)
    role = "IonColumn"
    outputs = (Output("ion_beam", "ion beam off", seconds=OFF_SECONDS, fast_blank=False),)
    Options = SharkSemOptions

    current = Parameter(float, unit="A", doc="FibReadFCCurr: read on demand, never polled.")
    preset = Parameter(
        str, output="ion_beam", doc="The preset last chosen from here; empty: not known."
    )
    high_voltage = Parameter(float, unit="V", poll=5.0, doc="FibHVGetVoltage")
    beam_on = Parameter(bool, poll=0.1, doc="FibHVGetBeam; in transition counts as on.")
    beam_state = Parameter(str, poll=1.0, doc="off, on, transition or unknown")
    species = Parameter(str, poll=60, doc="What the ion source emits, from the configuration.")
    electron_blanker = Parameter(str, poll=1.0, doc="ScGetBlanker: off, on or auto")
    electron_current = Parameter(float, unit="A", poll=5.0, doc="GetBeamCurrent")

    _link: SharkLink | None = None
    _state: int | None = None  # of the ion beam, as last read back
    _preset = ""
    presets: tuple[str, ...] = ()  # what FibEnumPresets listed

    def open(self) -> None:
        self.close()
        self._link = SharkLink(open_wire(self.address))

    def close(self) -> None:
        self._state, self._preset = None, ""
        if self._link is not None:
            self._link.close()
        self._link = None

    def identify(self) -> str:
        version = self._ask(Fields.text, "TcpGetVersion")
        if not re.match(r"\d+\.\d+", version):
            raise WrongInstrument(f"{self.name}: TcpGetVersion → {version!r} is no version")
        device = self._ask(Fields.text, "TcpGetDevice")
        software = self._ask(Fields.text, "TcpGetSWVersion")
        listed = self._ask(Fields.text, "FibEnumPresets")
        self.presets = tuple(line.strip() for line in listed.splitlines() if line.strip())
        if not self.presets:
            raise WrongInstrument(f"{self.name}: {device} has no presets of an ion column")
        return f"TESCAN {device}, software {software}, SharkSEM {version}"

    def read_current(self) -> float:
        return self._ask(Fields.number, "FibReadFCCurr") * 1e-12

    def read_preset(self) -> str:
        return self._preset

    def write_preset(self, name: str) -> None:
        """Scan rotation and speed are reset with it; the protocol has no read-back."""
        if name not in self.presets:
            known = ", ".join(self.presets) or "none read yet"
            raise OutOfRange(f"{self.name}.preset: {name!r} is none of {known}")
        self._preset = ""
        self._ask(lambda fields: None, "FibSetPresetEx", name)
        self._preset = name

    def read_high_voltage(self) -> float:
        return self._ask(Fields.number, "FibHVGetVoltage")

    def read_beam_on(self) -> bool:
        state = self._beam()
        if state == -1:
            raise InstrumentError(f"{self.name}: FibHVGetBeam → -1, the column cannot say")
        return state != OFF

    def read_beam_state(self) -> str:
        return STATES[self._beam()]

    def read_species(self) -> str:
        species: str = self.options.species
        return species

    def read_electron_blanker(self) -> str:
        mode = self._ask(Fields.integer, "ScGetBlanker", ELECTRONS)
        if mode not in BLANKER:
            raise Garbled(f"{self.name}: ScGetBlanker → {mode}")
        return BLANKER[mode]

    def read_electron_current(self) -> float:
        return self._ask(Fields.number, "GetBeamCurrent") * 1e-12

    @command("hazardous", output="ion_beam")
    def turn_on(self) -> None:
        """Start the ion beam; it takes seconds, watch `beam_state`."""
        self._state = None
        self._tell("FibHVBeamOn")
        ordered = time.monotonic()
        while (state := self._beam()) == OFF and time.monotonic() < ordered + OBEY_SECONDS:
            time.sleep(LOOK)
        if state == OFF:
            raise InstrumentError(f"{self.name}: FibHVBeamOn was sent, but the beam is off")

    @command("safe", output="ion_beam")
    def turn_off(self) -> None:
        """Stop the scan and the ion beam, and wait until it is off."""
        self.make_safe()

    @command("safe", output="ion_beam")
    def stop_scan(self) -> None:
        """Stop moving the ion beam over the specimen; the beam stays as it is."""
        self._tell("FibScStopScan")

    @command("safe")
    def blank_electrons(self) -> None:
        """Blank the electron column, and see that it is."""
        self._tell("ScSetBlanker", ELECTRONS, 1)
        if (mode := self.read_electron_blanker()) != "on":
            raise InstrumentError(f"{self.name}: told to blank, the electron blanker is {mode}")

    def make_safe(self, sensor_good: bool | None = None) -> None:
        deadline = time.monotonic() + OFF_SECONDS

        def attempt() -> bool:
            if self._link is None or self._link.broken:
                self.open()
            self._tell("FibScStopScan")
            self._tell("FibHVBeamOff")
            ordered = time.monotonic()
            while (state := self._beam()) in (ON, TRANSITION):
                patience = deadline if state == TRANSITION else ordered + OBEY_SECONDS
                if time.monotonic() > patience:
                    break
                time.sleep(LOOK)  # the column does not say when it is done
            return state == OFF

        retry_safe(self, attempt, "ion beam off")

    def outputs_on(self) -> list[str]:
        return [] if self._state == OFF else ["ion_beam"]

    def status(self) -> Status:
        if self._link is None or self._link.broken:
            return Status(Severity.ERROR, "not connected")
        match self._state:
            case None | -1:
                return Status(Severity.WARN, "whether the ion beam is on is not known")
            case 0:
                return Status(Severity.IDLE, "ion beam off")
            case 1000:
                return Status(Severity.BUSY, "ion beam in transition")
        return Status(Severity.BUSY, "ion beam on")

    def _beam(self) -> int:
        self._state = None
        state = self._ask(Fields.integer, "FibHVGetBeam")
        if state not in STATES:
            raise Garbled(f"{self.name}: FibHVGetBeam → {state}")
        self._state = state
        return state

    def _ask(self, read: Callable[[Fields], T], name: str, *fields: Field) -> T:
        try:
            return read(self._connected().ask(name, *fields))
        except LinkError:
            self._state = None
            raise

    def _tell(self, name: str, *fields: Field) -> None:
        self._connected().tell(name, *fields)

    def _connected(self) -> SharkLink:
        if self._link is None:
            raise Disconnected(f"{self.name}: {self.address} is not open")
        return self._link
