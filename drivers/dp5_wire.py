"""Packets of an Amptek DP5 or PX5: `F5 FA PID1 PID2 LEN LEN data CHK CHK`, and what is in them.

From the DP5 Programmer's Guide (packets ch. 4, status block ch. 4.2): length and checksum are
big-endian, all bytes and the checksum add up to zero in 16 bits, counts are three little-endian
bytes. Nothing here touches a socket.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from coldframe.errors import Garbled

SYNC = b"\xf5\xfa"
OVERHEAD = 8  # bytes around the data
LARGEST = 32767  # bytes of data
STATUS_BYTES = 64
ACK = 0xFF

REQUEST_STATUS = (0x01, 0x01)
REQUEST_SPECTRUM = (0x02, 0x03)  # with status, and without clearing it
CONFIGURE, READ_BACK = (0x20, 0x02), (0x20, 0x03)
CLEAR, ENABLE, DISABLE = (0xF0, 0x01), (0xF0, 0x02), (0xF0, 0x03)
STATUS, SPECTRUM, CONFIGURATION = 0x80, 0x81, 0x82

DEVICES = ("DP5", "PX5", "DP5G", "MCA8000D", "TB5", "DP5-X")
ACKS = {
    0x00: "ok",
    0x01: "sync error",
    0x02: "unknown packet",
    0x03: "length error",
    0x04: "checksum error",
    0x05: "bad parameter",
    0x06: "bad hex record",
    0x07: "unknown command",
    0x08: "FPGA not initialised",
    0x09: "Ethernet controller not found",
    0x0A: "no scope data",
    0x0B: "PC5 not present",
    0x0C: "ok, another interface asks to share",
    0x0D: "busy, another interface is in use",
    0x0E: "I2C error",
    0x10: "not supported by this FPGA version",
    0x11: "no calibration data",
}
ACKS_OK = (0x00, 0x0C)


class Packet(NamedTuple):
    """One whole packet whose checksum fits."""

    pid1: int
    pid2: int
    data: bytes


class StatusBlock(NamedTuple):
    """The 64 status bytes."""

    device: str
    serial: int
    firmware: str
    fast_count: int
    slow_count: int
    accumulation_time: float  # s
    real_time: float  # s
    high_voltage: float  # V
    detector_temperature: float  # K
    board_temperature: float  # °C
    enabled: bool
    preset_reached: bool
    configured: bool
    rebooted: bool

    @property
    def identity(self) -> str:
        """Which device this is."""
        return f"Amptek {self.device}, serial {self.serial}, firmware {self.firmware}"


def encode(pid: tuple[int, int], data: bytes = b"") -> bytes:
    """A request packet."""
    body = SYNC + bytes(pid) + struct.pack(">H", len(data)) + data
    return body + struct.pack(">H", -sum(body) & 0xFFFF)


def missing(buffer: bytes) -> int:
    """Bytes that `buffer` lacks to be one packet; `Garbled` when it is none."""
    if not SYNC.startswith(buffer[:2]):
        raise Garbled(f"not an Amptek packet: {buffer[:16].hex(' ')}")
    if len(buffer) < 6:
        return OVERHEAD - len(buffer)
    length: int = struct.unpack_from(">H", buffer, 4)[0]
    if length > LARGEST:
        raise Garbled(f"packet of {length} bytes: {buffer[:16].hex(' ')}")
    return max(0, length + OVERHEAD - len(buffer))


def decode(buffer: bytes) -> Packet:
    """The one packet that `buffer` is; `Garbled` when too long, too short or its sum is wrong."""
    if len(buffer) < OVERHEAD or missing(buffer):
        raise Garbled(f"half a packet: {buffer[:16].hex(' ')} ({len(buffer)} bytes)")
    length: int = struct.unpack_from(">H", buffer, 4)[0]
    if len(buffer) > length + OVERHEAD:
        raise Garbled(f"{len(buffer)} bytes where {length + OVERHEAD} belong to the packet")
    checksum: int = struct.unpack_from(">H", buffer, length + 6)[0]
    if (sum(buffer[:-2]) + checksum) & 0xFFFF:
        raise Garbled(f"checksum of {buffer[:6].hex(' ')} … ({length} bytes) does not fit")
    return Packet(buffer[2], buffer[3], buffer[6:-2])


def counts_of(packet: Packet) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """The counts of a spectrum packet, `<u4`."""
    if packet.pid1 != SPECTRUM or not 1 <= packet.pid2 <= 12:
        raise Garbled(f"packet {packet.pid1:02X} {packet.pid2:02X} is no spectrum")
    channels = 256 << (packet.pid2 - 1) // 2
    with_status = packet.pid2 % 2 == 0
    if len(packet.data) != 3 * channels + STATUS_BYTES * with_status:
        raise Garbled(f"spectrum of {channels} channels in {len(packet.data)} bytes")
    three = np.frombuffer(packet.data, np.uint8, 3 * channels).reshape(channels, 3)
    four = np.zeros((channels, 4), np.uint8)
    four[:, :3] = three
    return four.view("<u4").ravel()


def status_of(packet: Packet) -> StatusBlock:
    """The status block of a status packet, or behind a spectrum."""
    alone = (packet.pid1, packet.pid2) == (STATUS, 0x01)
    behind = packet.pid1 == SPECTRUM and packet.pid2 % 2 == 0
    if not (alone or behind) or len(packet.data) < STATUS_BYTES:
        raise Garbled(f"packet {packet.pid1:02X} {packet.pid2:02X} has no status")
    raw = packet.data[-STATUS_BYTES:]
    fast, slow = struct.unpack_from("<II", raw, 0)
    device = DEVICES[raw[39]] if raw[39] < len(DEVICES) else f"device {raw[39]}"
    return StatusBlock(
        device=device,
        serial=struct.unpack_from("<I", raw, 26)[0],
        firmware=f"{raw[24] >> 4}.{raw[24] & 15:02d}.{raw[37] & 15:02d}",
        fast_count=fast,
        slow_count=slow,
        accumulation_time=raw[12] * 1e-3 + int.from_bytes(raw[13:16], "little") * 0.1,
        real_time=struct.unpack_from("<I", raw, 20)[0] * 1e-3,
        high_voltage=struct.unpack_from(">h", raw, 30)[0] * 0.5,
        detector_temperature=((raw[32] & 15) * 256 + raw[33]) * 0.1,
        board_temperature=float(struct.unpack_from("b", raw, 34)[0]),
        enabled=bool(raw[35] & 32),
        preset_reached=bool(raw[35] & (128 | 16)),
        configured=bool(raw[35] & 2),
        rebooted=bool(raw[36] & 32),
    )
