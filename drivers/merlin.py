"""Quantum Detectors Merlin (Medipix3): a camera that counts electrons and streams its frames.

Control on TCP 6341, frames on the next port (docs/explanation/sources.md, "Instruments"). A control
connection that failed is replaced before the next question, so that no late answer can be taken for
another's; the data socket is read by a thread into a bounded queue, and `take` empties it.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from coldframe.drivers import base
from coldframe.drivers.base import Driver, Parameter, Sample, Stream, command
from coldframe.drivers.links import Wire, open_wire
from coldframe.drivers.merlin_frames import FrameReader
from coldframe.drivers.merlin_wire import PREFIX, length_of, reply_fields, request
from coldframe.errors import (
    Busy,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.status import Severity, Status

OK, BUSY, UNKNOWN, RANGE = 0, 1, 2, 3
REPLY_LIMIT = 65536  # bytes


class Merlin(Driver):
    """Exposure, frames and the trigger; `lost` counts what the detector numbered and never sent."""

    models: ClassVar[tuple[str, ...]] = ("merlin",)
    role: ClassVar[str] = "FrameSource"

    class Options(base.Options):
        """Where the frames come from, and how they look."""

        data_port: int | None = None  # the port after the control's, unless told
        rows: int = Field(256, ge=1, le=4096)
        columns: int = Field(256, ge=1, le=4096)
        wide: bool = False  # frames as <u4: the 24-bit counter needs it
        queue: int = Field(64, ge=1)  # frames held here before the socket is left to fill
        timeout: float = Field(1.0, gt=0)  # s for one answer of the LabVIEW server

    # fmt: off
    exposure = Parameter(float, unit="s", limits=(1e-6, 1e4), hazard="neutral")
    period = Parameter(float, unit="s", limits=(1e-6, 1e4), hazard="neutral",
                       doc="from frame to frame; never shorter than exposure and readout")
    frames = Parameter(int, read="NUMFRAMESTOACQUIRE", write="NUMFRAMESTOACQUIRE,{value}",
                       limits=(0, 1_000_000_000), hazard="neutral", doc="0: until stopped")
    acquiring = Parameter(bool, read="DETECTORSTATUS", poll=0.5)
    counter_depth = Parameter(int, unit="bit", read="COUNTERDEPTH", choices=(1, 6, 12, 24),
                              hazard="neutral")
    trigger_start = Parameter(int, read="TRIGGERSTART", write="TRIGGERSTART,{value}",
                              choices=(0, 1, 2, 3), hazard="neutral",
                              doc="0 internal, 1 rising edge, 2 falling edge, 3 software")
    frames_per_trigger = Parameter(int, read="NUMFRAMESPERTRIGGER", limits=(1, 1_000_000_000),
                                   write="NUMFRAMESPERTRIGGER,{value}", hazard="neutral")
    threshold = Parameter(float, unit="keV", read="THRESHOLD0", write="THRESHOLD0,{value:.6g}",
                          limits=(0, 1000), hazard="neutral")
    sensor_bias = Parameter(float, unit="V", read="HVBIAS", poll=10)
    lost = Parameter(int, unit="frames", poll=1)
    garbled = Parameter(int, unit="byte", poll=5)
    # fmt: on

    def __init__(self, name: str, address: str, model: str = "", options: Any = None):
        super().__init__(name, address, model, options)
        self._control: Wire | None = None
        self._reader: FrameReader | None = None
        self._acquiring: bool | None = None

    # ---- the wire ---------------------------------------------------------------------

    def open(self) -> None:
        self.close()
        self._control = open_wire(self.address)
        parts, stream = urlsplit(self.address), self.stream()
        port = self.options.data_port or (parts.port or 0) + 1
        shape = (self.options.rows, self.options.columns)
        try:
            self._reader = FrameReader(
                parts.hostname or "", port, shape, stream.dtype, self.options.queue
            )
        except LinkError:
            self.close()
            raise

    def close(self) -> None:
        if self._control is not None:
            self._control.close()
        if self._reader is not None:
            self._reader.close()
        self._control = self._reader = self._acquiring = None

    def ask(self, text: str) -> str:
        """The value of the setting `text`."""
        return self._converse("GET", text)

    def tell(self, text: str) -> None:
        """Set `NAME,VALUE`, and read it back."""
        name, _, value = text.partition(",")
        self._converse("SET", name, value)
        found = self.ask(name)
        if not base.agrees(found, value, 1e-5, 1e-9):
            raise InstrumentError(f"{self.name}: {name} accepted {value} and reads {found!r}")

    def identify(self) -> str:
        """Model, software version and the size of its frames."""
        version = self.ask("SOFTWAREVERSION").strip()
        if not version[:1].isdigit():
            raise WrongInstrument(f"{self.name}: SOFTWAREVERSION {version!r} is not a Merlin's")
        rows, columns = self.ask("IMAGEY").strip(), self.ask("IMAGEX").strip()
        if (rows, columns) != (str(self.options.rows), str(self.options.columns)):
            raise WrongInstrument(
                f"{self.name}: frames are {rows} x {columns}, configured are "
                f"{self.options.rows} x {self.options.columns}: correct the options rows, columns"
            )
        return f"Quantum Detectors Merlin {columns}x{rows}, software {version}"

    def _converse(self, verb: str, name: str, value: str | None = None) -> str:
        if self._reader is None:
            raise Disconnected(f"{self.name}: not open")
        if self._control is None:  # the last conversation failed: none of it may come in here
            self._control = open_wire(self.address)
        try:
            while self._control.read(0):  # what came before the question cannot be its answer
                pass
            self._control.write(request(verb, name, value))
            found, code = reply_fields(self._read_reply(self._control, name), verb, name)
        except LinkError:
            self._control.close()
            self._control = None
            raise
        if code == OK:
            return found
        asked = f"{self.name}: {verb} {name}" + (f" {value}" if value is not None else "")
        if code == BUSY:
            raise Busy(f"{asked}: the detector is acquiring; stop it first")
        if code == RANGE:
            raise OutOfRange(f"{asked}: the detector says out of range")
        raise InstrumentError(f"{asked}: the detector does not know it")

    def _read_reply(self, wire: Wire, name: str) -> bytes:
        """One whole reply's body."""
        deadline = time.monotonic() + self.options.timeout
        buffer = b""

        def fill(count: int) -> None:
            nonlocal buffer
            while len(buffer) < count:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    got = f" (only {buffer[:60]!r})" if buffer else ""
                    raise Silence(
                        f"{self.name}: {name}: nothing whole in {self.options.timeout:g} s{got}"
                    )
                buffer += wire.read(remaining)

        fill(PREFIX)
        length = length_of(buffer[:PREFIX])
        if length is None or length > REPLY_LIMIT:
            raise Garbled(f"{self.name}: {name} → {buffer[:60]!r}")
        end = PREFIX + length - 1
        fill(end)
        if buffer[PREFIX:end].endswith(b","):  # a server that does not count the comma
            end += 1
            fill(end)
        return buffer[PREFIX:end]

    # ---- parameters that need more than a template ------------------------------------

    def read_exposure(self) -> float:
        return self._milliseconds("ACQUISITIONTIME")

    def write_exposure(self, value: float) -> None:
        self.tell(f"ACQUISITIONTIME,{value * 1e3:.9g}")

    def read_period(self) -> float:
        return self._milliseconds("ACQUISITIONPERIOD")

    def write_period(self, value: float) -> None:
        self.tell(f"ACQUISITIONPERIOD,{value * 1e3:.9g}")

    def write_counter_depth(self, value: int) -> None:
        if value == 24 and not self.options.wide:
            raise OutOfRange(
                f"{self.name}.counter_depth: 24 bits do not fit into <u2: set the option wide"
            )
        self.tell(f"COUNTERDEPTH,{value}")

    def read_lost(self) -> int:
        return self._frames().lost

    def read_garbled(self) -> int:
        return self._frames().garbled

    def get(self, name: str) -> base.Value:
        value = super().get(name)
        if name == "acquiring":
            self._acquiring = bool(value)
        return value

    # ---- commands ---------------------------------------------------------------------

    @command("neutral")
    def start(self) -> None:
        """Begin an acquisition; believed when its header has come or the detector is busy."""
        reader = self._frames()
        seen = reader.acquisitions
        self._converse("CMD", "STARTACQUISITION")
        deadline = time.monotonic() + self.options.timeout
        while not reader.await_header(seen, 0.05):
            if self.get("acquiring"):
                break
            if time.monotonic() > deadline:
                raise InstrumentError(f"{self.name}: start was accepted and nothing began")
        self._acquiring = True

    @command("safe")
    def stop(self) -> None:
        """End the acquisition; the frames already counted still come."""
        self._converse("CMD", "STOPACQUISITION")
        deadline = time.monotonic() + self.options.timeout
        while self.get("acquiring"):
            if time.monotonic() > deadline:
                raise InstrumentError(f"{self.name}: stop was accepted and it still acquires")
            time.sleep(0.02)

    @command("neutral")
    def trigger(self) -> None:
        """One software trigger, where `trigger_start` is 3 and an acquisition waits for it."""
        self._converse("CMD", "SOFTTRIGGER")

    # ---- what the service asks of any driver ------------------------------------------

    def status(self) -> Status:
        reader = self._reader
        if reader is None:
            return Status(Severity.ERROR, "not connected")
        if reader.lost or reader.garbled:
            words = f"{reader.lost} frames lost, {reader.garbled} bytes garbled since connecting"
            return Status(Severity.WARN, words)
        if self._acquiring:
            return Status(Severity.BUSY, f"acquiring, {reader.received} frames so far")
        return Status(Severity.IDLE, f"idle, {reader.queued()} frames waiting")

    def stream(self) -> Stream:
        dtype = "<u4" if self.options.wide else "<u2"
        return Stream("frame", dtype, (self.options.rows, self.options.columns))

    def take(self) -> list[Sample]:
        """The frames that arrived since the last call; raises what ended the stream."""
        return self._frames().take()

    def _frames(self) -> FrameReader:
        if self._reader is None:
            raise Disconnected(f"{self.name}: not open")
        return self._reader

    def _milliseconds(self, name: str) -> float:
        return base.parse(float, self.ask(name), f"{self.name}: {name}") * 1e-3
