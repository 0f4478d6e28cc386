"""An Amptek DP5 digital pulse processor with its silicon drift detector: packets over UDP.

Written from the DP5 Programmer's Guide (FW6: packet format ch. 4, status ch. 4.2, text commands
ch. 5): `F5 FA PID1 PID2 LEN LEN data CHK CHK`, the sum of all bytes and the checksum being zero in
16 bits. A long answer is spread over several datagrams of at most 520 bytes.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from coldframe.simulators.faults import Faults
from coldframe.simulators.ports import Conversation, Instrument, Send
from coldframe.simulators.world import World

DATAGRAM = 520
DEAD_TIME = 2.0e-6  # s a pulse occupies the shaper: peaking and flat top of a fast SDD
CHANNELS = {256: 1, 512: 3, 1024: 5, 2048: 7, 4096: 9, 8192: 11}  # PID2 of a plain spectrum
FIRMWARE, FPGA, SERIAL, DEVICE_DP5 = 0x68, 0x61, 2814, 0

# the first page of chapter 5: name, value after a reset, what it may be
OFF = r"OFF|0*\.?0*"
NUMBER = r"\d{1,8}(\.\d*)?"
TEXT: dict[str, tuple[str, str]] = {
    "RESC": ("?", r"Y|YES|N|NO|\?"),
    "CLCK": ("80", r"20|80"),
    "TPEA": ("1.000", NUMBER),  # peaking time, us
    "GAIN": ("34.56", NUMBER),
    "MCAS": ("NORM", r"NORM|MCS|FAST|PUR|RTD"),
    "MCAC": ("2048", "|".join(map(str, CHANNELS))),
    "THSL": ("0.500", NUMBER),  # slow threshold, %
    "PRET": ("OFF", f"{OFF}|{NUMBER}"),  # preset accumulation time, s
    "PRER": ("OFF", f"{OFF}|{NUMBER}"),  # preset real time, s
    "PREC": ("OFF", f"{OFF}|{NUMBER}"),  # preset counts
    "HVSE": ("-130", rf"OFF|-?{NUMBER}"),  # V
    "TECS": ("230", f"OFF|{NUMBER}"),  # K
    "MCAE": ("OFF", r"ON|OFF"),
}
ACK_OK, ACK_SYNC, ACK_PID, ACK_LENGTH, ACK_CHECKSUM, ACK_PARAMETER, ACK_UNKNOWN = (
    0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x07,
)  # fmt: skip


def packet(pid1: int, pid2: int, data: bytes = b"") -> bytes:
    """One packet with its checksum."""
    body = bytes([0xF5, 0xFA, pid1, pid2]) + struct.pack(">H", len(data)) + data
    return body + struct.pack(">H", -sum(body) & 0xFFFF)


class Dp5Simulator(Instrument):
    """Counts the world's X-rays while its MCA is enabled and no preset is reached."""

    models: ClassVar[tuple[str, ...]] = ("dp5",)
    transports: ClassVar[tuple[str, ...]] = ("udp",)

    spectrum: npt.NDArray[np.uint32]
    fast_count: int
    slow_count: int
    real_time: float  # s

    def __init__(self, world: World, model: str = "", faults: Faults | None = None):
        self.writes: list[str] = []
        self._random = np.random.default_rng(SERIAL)
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.text = {name: default for name, (default, _) in TEXT.items()}
        self.enabled = False
        self.configured = False
        self.rebooted = True
        self._looked = self.world.now
        self._clear()

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return _Packets(self, send)

    def tick(self) -> None:
        """Accumulate what fell in since the last look, up to the preset."""
        elapsed, self._looked = self.world.now - self._looked, self.world.now
        if not self.enabled or self.done or self.faults.on("frozen"):
            return
        seconds = min(elapsed, self._preset() - self.real_time)
        if seconds <= 0:
            return
        pulses = self.world.xray.counts(seconds, len(self.spectrum)).astype(np.int64)
        fast = int(pulses.sum())
        counted = self._random.binomial(pulses, 1 / (1 + fast / seconds * DEAD_TIME))
        self.spectrum = np.minimum(self.spectrum + counted, 0xFFFFFF).astype(np.uint32)
        self.fast_count += fast
        self.slow_count += int(counted.sum())
        self.real_time += seconds

    @property
    def done(self) -> bool:
        """Whether the preset time is reached."""
        return self.real_time >= self._preset() - 1e-9

    def _preset(self) -> float:
        return min(_seconds(self.text["PRET"]), _seconds(self.text["PRER"]))

    def _clear(self) -> None:
        channels = int(self.text["MCAC"])
        self.spectrum = np.zeros(channels, np.uint32)
        self.fast_count = self.slow_count = 0
        self.real_time = 0.0

    # ---- requests ---------------------------------------------------------------------

    def answer(self, pid1: int, pid2: int, data: bytes) -> bytes:
        """The answer to a whole request packet."""
        if (pid1, pid2) == (0x01, 0x01):
            return packet(0x80, 0x01, self.status())
        if pid1 == 0x02 and pid2 in (1, 2, 3, 4):
            with_status = pid2 in (3, 4)
            block = self.spectrum_bytes() + (self.status() if with_status else b"")
            reply = packet(0x81, CHANNELS[len(self.spectrum)] + with_status, block)
            if pid2 in (2, 4):
                self._order(f"{pid1:02X} {pid2:02X}", self._clear)
            return reply
        if (pid1, pid2) == (0x20, 0x02):
            return self._configure(data)
        if (pid1, pid2) == (0x20, 0x03):
            return self._read_back(data)
        orders = {1: self._clear, 2: self._enable, 3: self._disable}
        if pid1 == 0xF0 and pid2 in orders:
            self._order(f"{pid1:02X} {pid2:02X}", orders[pid2])
            return packet(0xFF, ACK_OK)
        return packet(0xFF, ACK_PID)

    def _order(self, words: str, act: Callable[[], None]) -> None:
        self.writes.append(words)
        if not self.faults.on("lie"):
            act()

    def _enable(self) -> None:
        self.enabled, self.text["MCAE"] = True, "ON"

    def _disable(self) -> None:
        self.enabled, self.text["MCAE"] = False, "OFF"

    def _configure(self, data: bytes) -> bytes:
        """`NAME=VALUE;` one after another; the first bad one ends it and is sent back."""
        for command in filter(None, data.decode("latin-1").split(";")):
            name, _, value = command.partition("=")
            if name not in TEXT:
                return packet(0xFF, ACK_UNKNOWN, command.encode("latin-1"))
            if not re.fullmatch(TEXT[name][1], value):
                return packet(0xFF, ACK_PARAMETER, command.encode("latin-1"))
            self._order(f"{command};", partial(self._set, name, value))
        return packet(0xFF, ACK_OK)

    def _set(self, name: str, value: str) -> None:
        if name == "RESC":
            if value.startswith("Y"):
                self.text = {known: default for known, (default, _) in TEXT.items()}
                self.enabled = False
            return
        if name in ("PRET", "PRER"):
            value = "OFF" if _seconds(value) == float("inf") else f"{float(value):.3f}"
        self.text[name] = value
        self.enabled = self.text["MCAE"] == "ON"
        self.configured = True
        if name == "MCAC" and int(value) != len(self.spectrum):
            self._clear()

    def _read_back(self, data: bytes) -> bytes:
        parts = []
        for command in filter(None, data.decode("latin-1").split(";")):
            name = command.partition("=")[0]
            if name not in TEXT:
                return packet(0xFF, ACK_UNKNOWN, command.encode("latin-1"))
            value = "NaN" if self.faults.on("nan") and name == "PRER" else self.text[name]
            parts.append(f"{name}={value};")
        return packet(0x82, 0x07, "".join(parts).encode("ascii"))

    # ---- blocks of bytes --------------------------------------------------------------

    def spectrum_bytes(self) -> bytes:
        """Three little-endian bytes a channel."""
        four = self.spectrum.astype("<u4").view(np.uint8).reshape(-1, 4)
        return bytes(four[:, :3].tobytes())

    def status(self) -> bytes:
        """The 64 status bytes (Programmer's Guide 4.2, "DP4-style" status)."""
        milliseconds = round(self.real_time * 1000)
        block = bytearray(64)
        struct.pack_into("<III", block, 0, self.fast_count, self.slow_count, 0)
        block[12] = milliseconds % 100  # accumulation time: ms, then 0.1 s in three bytes
        block[13:16] = (milliseconds // 100).to_bytes(3, "little")
        struct.pack_into("<I", block, 20, milliseconds)
        block[24], block[25] = FIRMWARE, FPGA
        struct.pack_into("<I", block, 26, SERIAL)
        volts = 0.0 if self.text["HVSE"] == "OFF" else float(self.text["HVSE"])
        struct.pack_into(">h", block, 30, round(volts * 2))  # 0.5 V a count
        kelvin = 298.0 if self.text["TECS"] == "OFF" else float(self.text["TECS"])
        struct.pack_into(">H", block, 32, round(kelvin * 10) & 0x0FFF)  # 0.1 K a count
        block[34] = 31  # board, signed degrees
        block[35] = 128 * self.done | 32 * self.enabled | 2 * self.configured
        block[36] = 32 * self.rebooted | 2 | 1
        block[37] = 6  # build
        block[38] = 128  # power supply PC5 present
        block[39] = DEVICE_DP5
        self.rebooted = False  # reading clears it
        return bytes(block)


class _Packets:
    """One client: each of its datagrams is one request."""

    def __init__(self, device: Dp5Simulator, send: Send):
        self._device, self._send = device, send

    def feed(self, data: bytes) -> None:
        reply = self._reply(data)
        for start in range(0, len(reply), DATAGRAM):
            self._send(reply[start : start + DATAGRAM])

    def _reply(self, data: bytes) -> bytes:
        if len(data) < 8 or data[:2] != b"\xf5\xfa":
            return packet(0xFF, ACK_SYNC)
        length = struct.unpack_from(">H", data, 4)[0]
        if length > 512 or len(data) != length + 8:
            return packet(0xFF, ACK_LENGTH)
        checksum = struct.unpack_from(">H", data, length + 6)[0]
        if (sum(data[:-2]) + checksum) & 0xFFFF:
            return packet(0xFF, ACK_CHECKSUM)
        return self._device.answer(data[2], data[3], data[6:-2])


def _seconds(text: str) -> float:
    """A preset in seconds; none is infinity."""
    number = 0.0 if text == "OFF" else float(text or 0)
    return number if number > 0 else float("inf")
