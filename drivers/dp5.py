"""Amptek DP5: the pulse processor of an energy-dispersive X-ray detector, on UDP 10001.

One spectrum for each preset real time: when the preset is reached the processor stops by itself,
the spectrum is fetched whole, and only then cleared for the next. UDP loses packets, so questions
are asked again, on a fresh socket that no late answer can reach; orders never are.
"""

from __future__ import annotations

import math
import time
from typing import Any, ClassVar, Literal

from pydantic import Field

from coldframe.drivers import base
from coldframe.drivers import dp5_wire as dp5
from coldframe.drivers.base import Driver, Parameter, Sample, Stream, command
from coldframe.drivers.links import Wire, open_wire
from coldframe.errors import (
    Busy,
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.status import Severity, Status
from coldframe.units import ZERO_CELSIUS

TRIES = 3  # for a question: datagrams get lost
FRESH = 0.02  # s for which one status block answers all parameters


class Dp5(Driver):
    """Acquisition time in, spectra out, with the counts, times and temperatures beside them."""

    models: ClassVar[tuple[str, ...]] = ("dp5",)
    role: ClassVar[str] = "SpectrumSource"

    class Options(base.Options):
        """The spectrum's shape and what one channel means."""

        channels: Literal[256, 512, 1024, 2048, 4096, 8192] = 2048
        ev_per_channel: float = Field(10.0, gt=0)  # of the gain set and calibrated here
        look: float = Field(0.1, ge=0)  # s between two looks for a finished spectrum
        timeout: float = Field(0.25, gt=0)  # s for one answer

    # fmt: off
    acquisition_time = Parameter(float, unit="s", limits=(0.1, 4_294_967.0), hazard="neutral",
                                 doc="real time of one spectrum")
    acquiring = Parameter(bool, poll=1)
    real_time = Parameter(float, unit="s", poll=1)
    live_time = Parameter(float, unit="s", poll=1, doc="accumulation time")
    fast_count = Parameter(int, poll=1, doc="pulses that came")
    slow_count = Parameter(int, poll=1, doc="pulses that were counted")
    detector_temperature = Parameter(float, unit="K", poll=5)
    board_temperature = Parameter(float, unit="K", poll=10)
    high_voltage = Parameter(float, unit="V", poll=5)
    # fmt: on

    def __init__(self, name: str, address: str, model: str = "", options: Any = None):
        super().__init__(name, address, model, options)
        self._wire: Wire | None = None
        self._open = False
        self._block: tuple[float, dp5.StatusBlock] | None = None
        self._running = self._taken = False
        self._number = 0
        self._look_at = 0.0

    # ---- the wire ---------------------------------------------------------------------

    def open(self) -> None:
        self.close()
        self._open = True
        try:
            self._status()  # a datagram socket always opens: only an answer is a connection
        except LinkError:
            self.close()
            raise

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
        self._wire = self._block = None
        self._open = self._running = self._taken = False

    def ask(self, text: str) -> str:
        """The value of the text command `text`."""
        packet = self._question(dp5.READ_BACK, dp5.CONFIGURATION, f"{text}=?;".encode("ascii"))
        found = packet.data.decode("latin-1").strip().rstrip(";")
        name, equals, value = found.partition("=")
        if packet.pid2 != 0x07 or name != text or not equals:
            raise Garbled(f"{self.name}: {text}=? → {found[:80]!r}")
        return value

    def tell(self, text: str) -> None:
        """Send `NAME=VALUE`, and read it back."""
        self._order(dp5.CONFIGURE, f"{text};".encode("ascii"))
        name, _, value = text.partition("=")
        if not base.agrees(found := self.ask(name), value, 1e-4, 1e-3):
            raise InstrumentError(f"{self.name}: {text} was accepted and reads {found!r}")

    def identify(self) -> str:
        """Device, serial number and firmware, from the status block."""
        block = self._status()
        if block.device != "DP5":
            raise WrongInstrument(f"{self.name}: configured is a DP5, this is {block.identity}")
        return block.identity

    def adopt(self) -> None:
        """Read everything; a processor that is counting goes on, and its spectra are taken."""
        super().adopt()
        self._running = self._status().enabled

    def _question(self, pid: tuple[int, int], expected: int, data: bytes = b"") -> dp5.Packet:
        """Ask what changes nothing, a few times if need be."""
        for _ in range(TRIES - 1):
            try:
                return self._converse(pid, expected, data)
            except (Silence, Garbled):
                continue
        return self._converse(pid, expected, data)

    def _order(self, pid: tuple[int, int], data: bytes = b"") -> None:
        """Tell it something, once."""
        self._block = None
        self._converse(pid, dp5.ACK, data)

    def _converse(self, pid: tuple[int, int], expected: int, data: bytes) -> dp5.Packet:
        if not self._open:
            raise Disconnected(f"{self.name}: not open")
        if self._wire is None:
            self._wire = open_wire(self.address)
        try:
            while self._wire.read(0):
                pass
            self._wire.write(dp5.encode(pid, data))
            packet = dp5.decode(self._read_packet(self._wire))
            if packet.pid1 != expected and packet.pid1 != dp5.ACK:
                raise Garbled(f"{self.name}: {_hex(pid)} → packet {_hex(packet[:2])}")
        except LinkError:
            self._wire.close()
            self._wire = None  # a late answer finds nobody
            raise
        if packet.pid1 == dp5.ACK and packet.pid2 not in dp5.ACKS_OK:
            self._refused(pid, packet)
        if packet.pid1 != expected:
            raise Garbled(f"{self.name}: {_hex(pid)} → acknowledged, not answered")
        return packet

    def _read_packet(self, wire: Wire) -> bytes:
        """The datagrams of one packet, put together."""
        deadline = time.monotonic() + self.options.timeout
        buffer = b""
        while dp5.missing(buffer):
            datagram = wire.read(max(0.0, deadline - time.monotonic()))
            if not datagram and time.monotonic() >= deadline:
                got = f" (only {len(buffer)} bytes)" if buffer else ""
                raise Silence(f"{self.name}: nothing whole in {self.options.timeout:g} s{got}")
            buffer += datagram
        return buffer

    def _refused(self, pid: tuple[int, int], packet: dp5.Packet) -> None:
        words = dp5.ACKS.get(packet.pid2, f"error {packet.pid2:02X}")
        offending = packet.data.decode("latin-1")
        text = f"{self.name}: {_hex(pid)}: {words}" + (f": {offending}" if offending else "")
        if packet.pid2 == 0x05:
            raise OutOfRange(text)
        if packet.pid2 == 0x0D:
            raise Busy(text)
        if packet.pid2 in (0x01, 0x03, 0x04):
            raise Garbled(f"{text} (our packet arrived broken)")
        raise InstrumentError(text)

    # ---- parameters -------------------------------------------------------------------

    def _status(self) -> dp5.StatusBlock:
        now = time.monotonic()
        if self._block is None or now - self._block[0] > FRESH:
            packet = self._question(dp5.REQUEST_STATUS, dp5.STATUS)
            self._block = (time.monotonic(), dp5.status_of(packet))
        return self._block[1]

    def read_acquisition_time(self) -> float:
        """The preset real time; not a number while none is set."""
        found = self.ask("PRER")
        if found == "OFF":
            return math.nan
        return base.parse(float, found, f"{self.name}.acquisition_time")

    def write_acquisition_time(self, value: float) -> None:
        self.tell("PRET=OFF")
        self.tell(f"PRER={value:.3f}")

    def read_acquiring(self) -> bool:
        return self._status().enabled

    def read_real_time(self) -> float:
        return self._status().real_time

    def read_live_time(self) -> float:
        return self._status().accumulation_time

    def read_fast_count(self) -> int:
        return self._status().fast_count

    def read_slow_count(self) -> int:
        return self._status().slow_count

    def read_detector_temperature(self) -> float:
        return self._status().detector_temperature

    def read_board_temperature(self) -> float:
        return self._status().board_temperature + ZERO_CELSIUS

    def read_high_voltage(self) -> float:
        return self._status().high_voltage

    # ---- commands ---------------------------------------------------------------------

    @command("neutral")
    def start(self) -> None:
        """Begin a new spectrum, and another after each that is finished."""
        if math.isnan(self.read_acquisition_time()):
            raise InstrumentError(f"{self.name}: set {self.name}.acquisition_time before starting")
        if self.ask("MCAC") != str(self.options.channels):
            self.tell(f"MCAC={self.options.channels}")
        self._renew()
        if not self._status().enabled:
            raise InstrumentError(f"{self.name}: start was accepted and it does not count")
        self._running = True

    @command("safe")
    def stop(self) -> None:
        """Stop counting; the spectrum under way stays in the processor until the next start."""
        self._running = False
        self._order(dp5.DISABLE)
        if self._status().enabled:
            raise InstrumentError(f"{self.name}: stop was accepted and it still counts")

    def _renew(self) -> None:
        """Stop, clear, see that it is clear, and count again."""
        self._order(dp5.DISABLE)
        self._order(dp5.CLEAR)
        if (block := self._status()).enabled or block.real_time > 0:
            raise InstrumentError(
                f"{self.name}: clear was accepted and the spectrum is still there"
            )
        self._order(dp5.ENABLE)
        self._taken = False

    # ---- what the service asks of any driver ------------------------------------------

    def status(self) -> Status:
        if not self._open:
            return Status(Severity.ERROR, "not connected")
        if self._running:
            return Status(Severity.BUSY, f"counting, {self._number} spectra so far")
        return Status(Severity.IDLE, f"idle, {self._number} spectra so far")

    def stream(self) -> Stream:
        axes = {"energy_eV": self.options.ev_per_channel}
        return Stream("spectrum", "<u4", (self.options.channels,), axes=axes)

    def take(self) -> list[Sample]:
        """The spectrum that was finished since the last look, if one was."""
        if not self._open:
            raise Disconnected(f"{self.name}: not open")
        now = time.monotonic()
        if not self._running or now < self._look_at:
            return []
        self._look_at = now + self.options.look
        self._block = None
        if self._taken:
            self._renew()
            return []
        if not (block := self._status()).enabled and not block.preset_reached:
            self._running = False
            raise InstrumentError(f"{self.name}: it stopped counting by itself: start it again")
        return [self._fetch()] if block.preset_reached else []

    def _fetch(self) -> Sample:
        """The finished spectrum; the next one begins."""
        packet = self._question(dp5.REQUEST_SPECTRUM, dp5.SPECTRUM)
        mono_ns = time.monotonic_ns()
        counts, block = dp5.counts_of(packet), dp5.status_of(packet)
        if len(counts) != self.options.channels:
            raise Garbled(
                f"{self.name}: spectrum of {len(counts)} channels, configured are "
                f"{self.options.channels}: correct the option channels, or start again"
            )
        self._number += 1
        details = {
            "number": self._number,
            "real_time_s": block.real_time,
            "live_time_s": block.accumulation_time,
            "fast_count": block.fast_count,
            "slow_count": block.slow_count,
            "detector_temperature_K": block.detector_temperature,
        }
        self._taken = True
        try:
            self._renew()
        except ColdframeError:
            self._look_at = 0.0  # the spectrum is safe here; the next look clears it, or raises
        return Sample(counts, mono_ns, details)


def _hex(pid: tuple[int, ...]) -> str:
    return " ".join(f"{byte:02X}" for byte in pid[:2])
