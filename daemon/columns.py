"""Columns of a session file: 1-D datasets that only grow, and the rows of a stream made of them.

Every message of a stream is a row. The columns hold what its header said, so that the very bytes
can be given back; a message that they cannot give back stands whole in the journal, and its row
says `VERBATIM`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import h5py
import numpy as np

from coldframe.daemon.chunks import crc32
from coldframe.messages import Array, Header, Quality, Reading, Scalar

QUALITIES: tuple[Quality, ...] = ("good", "stale", "bad", "simulated")
NULL, VALUE, INTEGER, VERBATIM = 0, 1, 2, 3  # forms; INTEGER: an integer in a column of floats
NO_SESSION = 4  # added to the form: the header's session was null
TEXT_BYTES, DETAILS_BYTES = 128, 256
ROWS = 512  # in a chunk

_INT64 = range(-(2**63), 2**63)
_TEXT = h5py.string_dtype("utf-8", TEXT_BYTES)
_DETAILS = h5py.string_dtype("utf-8", DETAILS_BYTES)
VALUE_TYPES: dict[str, Any] = {
    "float": np.dtype("<f8"),
    "int": np.dtype("<i8"),
    "bool": np.dtype(bool),
    "str": _TEXT,
}
STAMPS: dict[str, tuple[Any, dict[str, str]]] = {
    "time": (np.dtype("<f8"), {"units": "s", "long_name": "time since the start (s)"}),
    "t_ns": (np.dtype("<i8"), {"units": "ns", "description": "lab time since 1970 UTC"}),
    "mono_ns": (np.dtype("<i8"), {"units": "ns", "description": "monotonic clock of the sender"}),
    "seq": (np.dtype("<i8"), {"description": "number of the message in its stream"}),
    "arrival": (
        np.dtype("<i8"),
        {"units": "ns", "description": "monotonic clock of the recorder; orders all streams"},
    ),
    "quality": (
        np.dtype("u1"),
        {"codes": " ".join(f"{code}={word}" for code, word in enumerate(QUALITIES))},
    ),
    "form": (
        np.dtype("u1"),
        {"codes": "0=null 1=value 2=integer 3=whole in the journal; +4: no session in the header"},
    ),
}
LOG_COLUMNS = ("value", *STAMPS)
ARRAY_COLUMNS = (*STAMPS, "details", "crc")


class Row(NamedTuple):
    """The stamps of one message."""

    time: float
    t_ns: int
    mono_ns: int
    seq: int
    arrival: int
    quality: int
    form: int


def create_column(group: h5py.Group, name: str, dtype: Any, attributes: dict[str, str]) -> None:
    """An empty column that may grow without end."""
    dataset = group.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(ROWS,))
    for key, text in attributes.items():
        dataset.attrs[key] = text


def column_crc(block: Any, start: int = 0) -> int:
    """CRC-32 of a block of a column; texts of variable length count with a NUL behind each."""
    if block.dtype.kind == "O":
        return crc32(b"".join(bytes(text) + b"\0" for text in block), start)
    return crc32(block.tobytes(), start)


class Column:
    """A dataset and where it ends. Appending a block costs 25 µs through h5py's low level, 90 µs
    through its high one; there are thousands of these appends in a minute."""

    def __init__(self, dataset: h5py.Dataset, crc: int = 0):
        self.dataset, self.crc = dataset, crc
        self._dtype = dataset.dtype

    def write(self, start: int, values: list[Any]) -> bytes:
        """`values` as rows from `start` on, written again if need be; returns their bytes."""
        if h5py.check_string_dtype(self._dtype):
            block = np.array([text.encode() for text in values], self._dtype)
        else:
            block = np.array(values, self._dtype)
        ident = self.dataset.id
        ident.set_extent((start + len(block),))
        space = ident.get_space()
        space.select_hyperslab((start,), (len(block),))
        ident.write(h5py.h5s.create_simple((len(block),)), space, block)
        return block.tobytes()


class Rows:
    """The columns of one stream, and the rows that wait for the next flush."""

    def __init__(self, group: h5py.Group, names: tuple[str, ...]):
        self.names = names
        self.columns: dict[str, Column] = {}
        self.count = 0  # rows written or waiting
        self._written = 0
        self._handed: list[bytes] = []
        self._waiting: list[tuple[Any, ...]] = []
        self.bind(group)

    def bind(self, group: h5py.Group) -> None:
        """Use the datasets of `group`: the same ones, after the file was opened again."""
        self.columns = {
            name: Column(group[name], self.columns[name].crc if self.columns else 0)
            for name in self.names
        }

    def add(self, *row: Any) -> None:
        """One row, in the order of `names`."""
        self._waiting.append(row)
        self.count += 1

    def flush(self) -> None:
        """Hand what waits to HDF5. A full disk shows only when HDF5 flushes, and what it could not
        write then it forgets: so rows wait until `confirm`, and are written to the same place again
        and again until then."""
        if self._waiting:
            blocks = zip(*self._waiting, strict=True)
            pairs = zip(self.columns.values(), blocks, strict=True)
            self._handed = [column.write(self._written, list(block)) for column, block in pairs]

    def confirm(self) -> None:
        """Everything handed over is safe with the operating system."""
        if self._waiting:
            for column, data in zip(self.columns.values(), self._handed, strict=True):
                column.crc = crc32(data, column.crc)
            self._written += len(self._waiting)
            self._waiting.clear()


# ---- a message as a row ----------------------------------------------------------------------


def stamps(header: Header, arrival: int, start_ns: int, form: int) -> Row | None:
    """The stamps of a message, or None when a number is too large for its column."""
    t_ns, mono_ns = int(header.t_ns), int(header.mono_ns)
    if t_ns not in _INT64 or mono_ns not in _INT64 or header.seq not in _INT64:
        return None
    if header.session is None:
        form += NO_SESSION
    seconds = (t_ns - start_ns) / 1e9
    quality = QUALITIES.index(header.quality)
    return Row(seconds, t_ns, mono_ns, header.seq, arrival, quality, form)


def store_value(kind: str, value: Scalar) -> tuple[Any, int]:
    """What the column of `kind` holds for `value`, and its form."""
    empty = {"float": np.nan, "int": 0, "bool": False, "str": ""}[kind]
    if value is None:
        return empty, NULL
    if kind == "float" and type(value) is float:
        return value, VALUE
    if kind == "float" and type(value) is int:
        exact = abs(value) <= 2**53
        return (float(value), INTEGER) if exact else (np.nan, VERBATIM)
    if kind == "int" and type(value) is int and value in _INT64:
        return value, VALUE
    if kind == "bool" and type(value) is bool:
        return value, VALUE
    if kind == "str" and type(value) is str:
        text = value.encode()[:TEXT_BYTES].decode("utf-8", "ignore").replace("\0", "�")
        text = text.encode()[:TEXT_BYTES].decode("utf-8", "ignore")
        return text, VALUE if text == value else VERBATIM
    return empty, VERBATIM


def load_value(kind: str, stored: Any, form: int) -> Scalar:
    """The value again."""
    if form == NULL:
        return None
    if form == INTEGER:
        return int(stored)
    if kind == "float":
        return float(stored)
    if kind == "int":
        return int(stored)
    if kind == "bool":
        return bool(stored)
    return bytes(stored).decode()


def header_fields(row: dict[str, Any], name: str, unit: str, session: str) -> dict[str, Any]:
    """What the columns say of a message, by the names of `Header`."""
    return {
        "name": name,
        "seq": int(row["seq"]),
        "session": None if row["form"] & NO_SESSION else session,
        "t_ns": str(row["t_ns"]),
        "mono_ns": str(row["mono_ns"]),
        "unit": unit,
        "quality": QUALITIES[row["quality"]],
    }


def reading_bytes(fields: dict[str, Any], value: Scalar) -> bytes:
    """The header of a reading, as it was received."""
    return Reading.model_construct(v=1, **fields, value=value).encode()


def array_bytes(fields: dict[str, Any], dtype: str, shape: tuple[int, ...], details: Any) -> bytes:
    """The header of a frame or spectrum, as it was received."""
    return Array.model_construct(v=1, **fields, dtype=dtype, shape=shape, details=details).encode()
