"""An open session file: a closed one, or a live or interrupted one up to its last flush.

`Session.messages()` gives every message back, byte for byte, in the order in which it was recorded,
with a bounded part of the file in memory.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import h5py
import hdf5plugin  # noqa: F401  a file that another program compressed its own way opens too
import numpy as np

from coldframe.daemon import layout, packing
from coldframe.daemon.chunks import crc32, unpack
from coldframe.daemon.columns import (
    ARRAY_COLUMNS,
    LOG_COLUMNS,
    VERBATIM,
    array_bytes,
    header_fields,
    load_value,
    reading_bytes,
)
from coldframe.daemon.session_journal import Line, parse, read
from coldframe.errors import StorageError
from coldframe.messages import DeviceInfo, decode, topic

BLOCK = 512  # rows of a stream in memory at once


class Message(NamedTuple):
    """A recorded message: the frames that travelled, and when the recorder got them."""

    arrival: int  # ns on the recorder's monotonic clock; also the order of all messages
    topic: bytes
    header: bytes
    payload: bytes | None = None

    @property
    def frames(self) -> list[bytes]:
        """As it goes on the wire."""
        head = [self.topic, self.header]
        return head if self.payload is None else [*head, self.payload]


class Stream(NamedTuple):
    """One stream as it stands in the file."""

    kind: str  # reading, frame, spectrum
    name: str
    group: h5py.Group

    @property
    def parts(self) -> tuple[str, ...]:
        return LOG_COLUMNS if self.kind == "reading" else (*ARRAY_COLUMNS, "data")

    def __len__(self) -> int:
        """Rows that are complete: the shortest part counts."""
        return int(min(self.group[part].shape[0] for part in self.parts))


class Session:
    """An open session file; use it in a `with` block."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.file, self.swmr = _open(self.path)
        try:
            self._check()
        except BaseException:
            self.file.close()
            raise

    def _check(self) -> None:
        version = self.file.attrs.get("coldframe_format")
        if version is None or layout.ENTRY not in self.file:
            raise StorageError(f"{self.path}: not a session of Coldframe")
        if version > layout.FORMAT:
            raise StorageError(
                f"{self.path}: written by a newer Coldframe (format {version}); this one reads "
                f"up to {layout.FORMAT}"
            )
        self.entry: h5py.Group = self.file[layout.ENTRY]
        self.closed = bool(self.file.attrs["coldframe_state"] == layout.CLOSED)
        self.session = str(self.entry.attrs["session"])
        self.start_ns = int(self.entry.attrs["start_ns"])
        self.simulated = bool(self.entry.attrs["simulated"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()

    def refresh(self) -> None:
        """See what a live file has gained since it was opened."""
        for stream in self.streams():
            for part in stream.parts:
                stream.group[part].refresh()

    # ---- what is in it ----------------------------------------------------------------

    def streams(self) -> list[Stream]:
        """Readings first, then arrays."""
        logs = self.file.get(layout.LOGS, {})
        groups = [("reading", group) for group in logs.values()]
        groups += [
            (str(group.attrs["kind"]), group)
            for group in self.entry.values()
            if isinstance(group, h5py.Group) and group.attrs.get("NX_class") == "NXdata"
        ]
        return [Stream(kind, str(group.attrs["stream"]), group) for kind, group in groups]

    def devices(self) -> list[DeviceInfo]:
        """What the devices said they were."""
        return [
            decode(DeviceInfo, group["description"][()])
            for group in self.file[layout.INSTRUMENT].values()
            if "description" in group
        ]

    def metadata(self) -> dict[str, dict[str, Any]]:
        """What the session says about itself: section, field, value."""
        return {
            section: {name: _plain(dataset[()]) for name, dataset in group.items()}
            for section, group in self.file[layout.METADATA].items()
        }

    def text(self, path: str) -> str:
        """The text at `path` of the file."""
        return str(self.file[path].asstr()[()])

    def journal(self) -> Iterator[bytes]:
        """The journal's lines: packed in a closed file, beside one that is not."""
        if packing.JOURNAL in self.file:
            dataset = self.file[packing.JOURNAL]
            for start in range(0, len(dataset), BLOCK):
                yield from dataset[start : start + BLOCK]
        elif not self.closed:
            beside = self.path.with_suffix(".journal")
            if beside.exists():
                yield from read(beside)

    def records(self, *kinds: str) -> Iterator[Line]:
        """The recorder's own lines: begin, end, gap, restart, refused; all, or those kinds."""
        for line in map(parse, self.journal()):
            if line.kind != "message" and (not kinds or line.kind in kinds):
                yield line

    # ---- every message ----------------------------------------------------------------

    def messages(self, *, payloads: bool = True) -> Iterator[Message]:
        """All messages in recorded order; without `payloads` arrays come with empty bytes."""
        order = count()
        sources = [self._rows(stream, payloads) for stream in self.streams()]
        sources.append(_journal_messages(map(parse, self.journal())))
        keyed = [((m.arrival, next(order), m) for m in source) for source in sources]
        # an array whose header is in the journal comes in two halves with the same arrival
        waiting: Message | None = None
        for _, _, message in heapq.merge(*keyed):
            if waiting is not None and waiting.arrival == message.arrival:
                yield _join(waiting, message)
                waiting = None
                continue
            if waiting is not None and waiting.header:
                yield waiting
            waiting = message
        if waiting is not None and waiting.header:
            yield waiting

    def chunk(self, stream: Stream, index: int) -> bytes:
        """The bytes of one frame or spectrum; `StorageError` when its CRC does not fit."""
        return self._chunk(stream.group["data"], index, int(stream.group["crc"][index]))

    def chunks(self, stream: Stream) -> Iterator[bytes | StorageError]:
        """All frames or spectra of a stream; an error in the place of each that is damaged."""
        data, total = stream.group["data"], len(stream)
        for start in range(0, total, BLOCK):
            crcs = stream.group["crc"][start : min(start + BLOCK, total)].tolist()
            for index, crc in enumerate(crcs, start):
                try:
                    yield self._chunk(data, index, crc)
                except StorageError as error:
                    yield error

    def _chunk(self, data: h5py.Dataset, index: int, crc: int) -> bytes:
        shape, where = data.shape[1:], f"{self.path}: {data.name}[{index}]"
        try:
            mask, stored = data.id.read_direct_chunk((index, *[0] * len(shape)))
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{where} cannot be read: {error}") from None
        if crc32(stored) != crc:
            raise StorageError(f"{where} is damaged: its CRC does not fit its bytes")
        return unpack(stored, mask, shape, data.dtype, data.compression == "gzip")

    def _rows(self, stream: Stream, payloads: bool) -> Iterator[Message]:
        group, total = stream.group, len(stream)
        unit, kind = str(group.attrs["unit"]), str(group.attrs["kind"])
        first = topic(stream.kind, stream.name)  # type: ignore[arg-type]
        columns = {part: group[part] for part in stream.parts if part != "data"}
        data = None if stream.kind == "reading" else group["data"]
        for start in range(0, total, BLOCK):
            end = min(start + BLOCK, total)
            block = [column[start:end].tolist() for column in columns.values()]
            for index, values in enumerate(zip(*block, strict=True), start):
                row = dict(zip(columns, values, strict=True))
                arrival, form = row["arrival"], row["form"] % 4
                fields = header_fields(row, stream.name, unit, self.session)
                if data is None:
                    if form != VERBATIM:
                        value = load_value(kind, row["value"], form)
                        yield Message(arrival, first, reading_bytes(fields, value))
                    continue
                header = b""
                if form != VERBATIM:
                    details = json.loads(row["details"])
                    header = array_bytes(fields, data.dtype.str, data.shape[1:], details)
                payload = self._chunk(data, index, row["crc"]) if payloads else b""
                yield Message(arrival, first, header, payload)


def _open(path: Path) -> tuple[h5py.File, bool]:
    """Open to read; a file still being written, or left so by a crash, as a SWMR reader."""
    if not path.is_file():
        raise StorageError(f"{path}: no such file")
    try:
        return h5py.File(path, "r", locking=False), False
    except OSError as plain:
        try:
            return h5py.File(path, "r", swmr=True, locking=False), True
        except (OSError, ValueError) as error:
            raise StorageError(
                f"{path}: cannot be opened: {plain}; as a live file: {error}"
            ) from None


def _journal_messages(lines: Iterator[Line]) -> Iterator[Message]:
    for line in lines:
        if line.kind == "message":
            yield Message(line.arrival, line.topic, line.header, line.payload)


def _join(one: Message, other: Message) -> Message:
    header = one.header or other.header
    payload = one.payload if one.payload is not None else other.payload
    return Message(one.arrival, one.topic, header, payload)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if isinstance(value, np.generic) else value
