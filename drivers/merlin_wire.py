"""MPX messages of a Quantum Detectors Merlin: what is said on its two ports, and what it means.

`MPX,` ten digits of length, `,` and the body; the length counts that last comma, in both directions
(docs/explanation/sources.md, "Instruments"). Some servers forget the comma in their replies, so
both are understood. Nothing here touches a socket.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

from coldframe.errors import Garbled

PREFIX = 15  # bytes of "MPX,0000000943,"
LARGEST = 64 * 1024 * 1024  # bytes of body: more is not a Merlin's message

_PREFIX = re.compile(rb"MPX,(\d{10}),")
_MESSAGE = re.compile(rb"MPX,\d{10},(?:HDR|MQ1),")
_TAIL = re.compile(rb"(?:M|MP|MPX|MPX,\d{0,10}|MPX,\d{10},(?:H|HD|HDR|M|MQ|MQ1)?)\Z")
_CODES = ("0", "1", "2", "3")  # ok, busy, unknown, out of range
_DTYPES = {"U08": ">u1", "U8": ">u1", "U16": ">u2", "U32": ">u4"}


class Frame(NamedTuple):
    """One frame: pixels as little-endian `<u2` (`<u4` of the 24-bit counter), and its header."""

    number: int
    data: np.ndarray[Any, np.dtype[Any]]
    exposure_s: float
    device_time: str


class Layout(NamedTuple):
    """What a frame's header says of the bytes behind it."""

    number: int
    offset: int
    rows: int
    columns: int
    dtype: str
    fields: list[str]

    @property
    def size(self) -> int:
        """Bytes of the whole body, header and pixels."""
        return self.offset + self.rows * self.columns * np.dtype(self.dtype).itemsize


def request(verb: str, name: str, value: str | None = None) -> bytes:
    """`GET,NAME`, `SET,NAME,VALUE` or `CMD,NAME`, ready to be sent."""
    body = ",".join([verb, name] if value is None else [verb, name, value]).encode("ascii")
    return b"MPX,%010d," % (len(body) + 1) + body


def length_of(prefix: bytes) -> int | None:
    """The length a 15-byte prefix announces, or None when it is no prefix."""
    match = _PREFIX.fullmatch(prefix)
    if match is None:
        return None
    length = int(match[1])
    return length if 1 < length <= LARGEST else None


def reply_fields(body: bytes, verb: str, name: str) -> tuple[str, int]:
    """Value ("" but for GET) and error code of the reply to `verb,name`; `Garbled` if another's."""
    text = body.decode("latin-1")
    fields = text.split(",")
    expected = 4 if verb == "GET" else 3
    if len(fields) != expected or fields[:2] != [verb, name] or fields[-1] not in _CODES:
        raise Garbled(f"{verb},{name} → {text[:80]!r}")
    return (fields[2] if verb == "GET" else ""), int(fields[-1])


def layout_of(body: bytes | bytearray | memoryview) -> Layout:
    """The layout of an `MQ1,` body; `Garbled` names the field that makes no sense."""
    head = bytes(body[:2048]).split(b"\0", 1)[0].decode("latin-1")
    fields = head.split(",")
    try:
        number, offset = int(fields[1]), int(fields[2])
        columns, rows, dtype = int(fields[4]), int(fields[5]), _DTYPES[fields[6]]
    except (IndexError, ValueError, KeyError) as error:
        raise Garbled(f"frame header {head[:60]!r}: {error}") from None
    sane = fields[0] == "MQ1" and 0 < rows <= 4096 and 0 < columns <= 4096 and number >= 0
    if not sane or not 64 <= offset <= 4096:
        raise Garbled(f"frame header {head[:60]!r}: not a Merlin frame")
    return Layout(number, offset, rows, columns, dtype, fields)


def decode_frame(body: bytes | bytearray | memoryview) -> Frame:
    """A whole `MQ1,` body as a frame; `Garbled` when its length is not what its header says."""
    layout = layout_of(body)
    if len(body) != layout.size:
        raise Garbled(f"frame {layout.number}: {len(body)} bytes, header says {layout.size}")
    pixels = np.frombuffer(body, layout.dtype, layout.rows * layout.columns, layout.offset)
    wanted = "<u4" if layout.dtype == ">u4" else "<u2"
    exposure_s, device_time = _timing(layout)
    data = pixels.astype(wanted).reshape(layout.rows, layout.columns)
    return Frame(layout.number, data, exposure_s, device_time)


def _timing(layout: Layout) -> tuple[float, str]:
    """Exposure and stamp: of the MQ1A extension where there is one, else of the old fields."""
    fields = layout.fields
    try:
        if "MQ1A" in fields:
            at = fields.index("MQ1A")
            stamp, exposure = fields[at + 1], fields[at + 2]
            if exposure.endswith("ns"):
                return int(exposure[:-2]) * 1e-9, stamp
        return float(fields[10]), fields[9]
    except (IndexError, ValueError) as error:
        raise Garbled(f"frame {layout.number}: exposure: {error}") from None


def cut_at(body: bytes | bytearray) -> tuple[int, bool] | None:
    """Where the next message begins *inside* `body`, if its sender broke off before the end.

    The second value is False when only the beginning of a message stands at the very end: pixels
    may look like that by chance, and what follows decides.
    """
    at = body.find(b"MPX,", 1)
    while at >= 0:
        if _MESSAGE.match(body, at):
            return at, True
        at = body.find(b"MPX,", at + 1)
    tail = _TAIL.search(body, max(1, len(body) - PREFIX - 3))
    return (tail.start(), False) if tail else None
