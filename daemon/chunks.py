"""Stored chunks: one frame or spectrum each, packed as the filters of HDF5 itself would pack it.

`portable` is byte-shuffle and deflate, which every HDF5 library reads without a plug-in, made with
ISA-L: seven times faster than the filter pipeline, and it lets go of the interpreter meanwhile.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from isal import isal_zlib

from coldframe.errors import StorageError

Compression = Literal["portable", "none"]
SKIP_ALL = 0b11  # the filter mask that says: neither shuffle nor deflate was applied


class Chunk(NamedTuple):
    """The bytes as they stand in the file, which filters were skipped, and their CRC-32."""

    data: bytes
    mask: int
    crc: int


def pack(raw: bytes | memoryview, itemsize: int, compression: Compression) -> Chunk:
    """One array's bytes as a chunk; what does not become smaller is stored as it is."""
    if compression == "portable":
        shuffled = np.frombuffer(raw, np.uint8).reshape(-1, itemsize).T.copy()
        packed = isal_zlib.compress(shuffled, 1)
        if len(packed) < len(raw):
            return Chunk(packed, 0, isal_zlib.crc32(packed))
    stored = bytes(raw)
    mask = SKIP_ALL if compression == "portable" else 0
    return Chunk(stored, mask, isal_zlib.crc32(stored))


def unpack(
    stored: bytes, mask: int, shape: tuple[int, ...], dtype: np.dtype[Any], deflated: bool
) -> bytes:
    """The array's bytes again; `StorageError` when the chunk does not hold exactly that many."""
    expected = int(np.prod(shape)) * dtype.itemsize
    raw = stored
    if deflated and mask == 0:
        try:
            shuffled = isal_zlib.decompress(stored)
        except isal_zlib.error as error:  # type: ignore[misc]  # the stub says an instance
            raise StorageError(f"chunk cannot be inflated: {error}") from None
        if len(shuffled) == expected:
            planes = np.frombuffer(shuffled, np.uint8).reshape(dtype.itemsize, -1)
            raw = planes.T.tobytes()
        else:
            raw = shuffled
    if len(raw) != expected:
        raise StorageError(f"chunk holds {len(raw)} bytes, not the {expected} of {shape} {dtype}")
    return raw


def crc32(data: bytes | memoryview, start: int = 0) -> int:
    """CRC-32 as zlib counts it."""
    return int(isal_zlib.crc32(data, start))
