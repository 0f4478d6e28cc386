"""A session file being written: NeXus (NXem) inside, readable by others while it grows (SWMR).

Every stream is created before the file goes live; a stream that turns up later makes the file close
and open again for a moment. `flush` makes what was appended visible, `finalise` makes the file an
ordinary one: streams nobody used pruned, all columns of a stream equally long, the journal packed.
The layout and its reasons: `docs/reference/session-file.md`.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from coldframe.clock import Clock
from coldframe.daemon import layout
from coldframe.daemon.chunks import Chunk, Compression, pack
from coldframe.daemon.columns import (
    DETAILS_BYTES,
    VALUE,
    VERBATIM,
    Rows,
    stamps,
    store_value,
)
from coldframe.daemon.metadata import Given
from coldframe.daemon.session_journal import Journal, message_body, record_body
from coldframe.daemon.stacks import Log, Stack
from coldframe.errors import BadRequest, StorageError
from coldframe.messages import Array, DeviceInfo, Header, Reading, StreamInfo

PENDING_BYTES = 64 << 20  # of arrays being compressed; the one who appends waits beyond that


@dataclass(frozen=True)
class About:
    """What is known of a session when it begins."""

    session: str
    title: str
    start_ns: int
    simulated: bool
    software: str
    lab: str = ""
    configuration: str = ""
    metadata: Given = field(default_factory=dict)


@dataclass
class _Pending:
    stack: Stack
    row: tuple[Any, ...]
    nbytes: int
    chunk: Future[Chunk]


class SessionFile:
    """One session on its way to disk. One thread calls; compression has threads of its own."""

    def __init__(
        self,
        path: Path,
        about: About,
        devices: Iterable[DeviceInfo],
        *,
        compression: Compression = "portable",
        threads: int = 2,
    ):
        self.path, self.about, self._compression = path, about, compression
        self.devices = {info.device: info for info in devices}
        self.journal = Journal(path.with_suffix(".journal"))
        self._logs: dict[str, Log] = {}
        self._stacks: dict[tuple[str, str, str, tuple[int, ...]], Stack] = {}
        self._undeclared: dict[str, Reading] = {}
        self._pending: deque[_Pending] = deque()
        self._pending_bytes = 0
        self.messages = 0
        self._pool = ThreadPoolExecutor(threads, "compress") if compression != "none" else None
        self._file = h5py.File(path, "x", libver=("v110", "v110"), locking=False)
        layout.create_entry(self._file, about)
        self._create(self.devices.values())
        self._clock = Rows(self._file[layout.CLOCK], layout.CLOCK_COLUMNS)
        self._file.swmr_mode = True
        self._file.flush()

    # ---- appending ------------------------------------------------------------------------

    def append(
        self, arrival: int, topic: bytes, header: Header, data: bytes, payload: bytes | None = None
    ) -> None:
        """One message: its topic, its parsed header and the bytes it was parsed from.

        `arrival` grows with every call, and orders the messages of all streams.
        """
        self.messages += 1
        if isinstance(header, Reading) and payload is None:
            stored = self._append_reading(arrival, header, data)
        elif isinstance(header, Array) and payload is not None:
            stored = self._append_array(arrival, topic, header, data, payload)
            payload = None
        else:
            stored = False
        if not stored:
            self.journal.append(message_body(arrival, topic, data, payload))

    def record(self, arrival: int, kind: str, **fields: Any) -> None:
        """Something about the recording itself: a gap, a restart, a message refused."""
        self.journal.append(record_body(arrival, kind, fields))

    def tell_time(self, clock: Clock, wall_ns: int) -> None:
        """A pair of the two clocks, and how fast lab time runs."""
        self._clock.add(clock.mono_ns(), clock.lab_ns(), wall_ns, clock.speed)

    def flush(self) -> None:
        """Everything appended so far becomes visible to readers and survives `kill -9`."""
        self._drain(0)
        if self._undeclared:
            self._adopt_undeclared()
        for rows in self._all_rows():
            rows.flush()
        self._file.flush()
        for rows in self._all_rows():
            rows.confirm()
        self.journal.flush()

    @property
    def backlog(self) -> int:
        """Bytes of arrays that wait for compression or disk."""
        return self._pending_bytes

    @property
    def streams(self) -> int:
        return len(self._logs) + len(self._stacks)

    # ---- streams that turn up later -------------------------------------------------------

    def add(self, info: DeviceInfo) -> None:
        """A device that was not there at the start, or came back with something new."""
        self.devices[info.device] = info
        self._reopen(lambda: self._create([info]))

    # ---- the end --------------------------------------------------------------------------

    def finalise(self, end_ns: int, metadata: Given, reason: str = "") -> None:
        """Make it an ordinary, complete file, and take the journal in. The file is closed then."""
        self.flush()
        crcs = {each.path: each.rows.columns for each in self._each()}
        self._close_file()
        self.journal.close()
        try:
            with h5py.File(self.path, "r+", libver=("v110", "v110"), locking=False) as file:
                layout.finish(file, self.about, end_ns, metadata, reason, crcs, self.journal.path)
            descriptor = os.open(self.path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{self.path}: could not be finished: {error}") from error
        self.journal.path.unlink()

    # ---- inside ---------------------------------------------------------------------------

    def _append_reading(self, arrival: int, header: Reading, data: bytes) -> bool:
        log = self._logs.get(header.name)
        if log is None:
            self._undeclared.setdefault(header.name, header)
            if header.value is not None:
                self._undeclared[header.name] = header
            return False
        value, form = store_value(log.kind, header.value)
        exact = header.unit == log.unit and _canonical(header, data)
        row = stamps(header, arrival, self.about.start_ns, form if exact else VERBATIM)
        if row is None:
            return False
        log.rows.add(value, *row)
        return exact and form != VERBATIM

    def _append_array(
        self, arrival: int, topic: bytes, header: Array, data: bytes, payload: bytes
    ) -> bool:
        stack = self._stack(topic, header)
        if len(payload) != stack.nbytes:
            raise BadRequest(
                f"{header.name}: {len(payload)} bytes cannot be {header.shape} {header.dtype}"
            )
        details = json.dumps(header.details, separators=(",", ":"), ensure_ascii=False)
        exact = (
            header.unit == stack.unit
            and len(details.encode()) <= DETAILS_BYTES
            and _canonical(header, data)
        )
        row = stamps(header, arrival, self.about.start_ns, VALUE if exact else VERBATIM)
        if row is None:
            raise BadRequest(f"{header.name}: a stamp of its header does not fit 64 bits")
        chunk: Future[Chunk]
        if self._pool is None:
            chunk = Future()
            chunk.set_result(pack(payload, stack.dtype.itemsize, self._compression))
        else:
            chunk = self._pool.submit(pack, payload, stack.dtype.itemsize, self._compression)
        fields = (*row, details if exact else "{}")
        self._pending.append(_Pending(stack, fields, len(payload), chunk))
        self._pending_bytes += len(payload)
        self._drain(PENDING_BYTES)
        return exact

    def _drain(self, allowed: int) -> None:
        """Write what is compressed; wait while more than `allowed` bytes are on the way."""
        while self._pending:
            first = self._pending[0]
            if not first.chunk.done() and self._pending_bytes <= allowed:
                return
            chunk = first.chunk.result()
            first.stack.write(chunk)
            first.stack.rows.add(*first.row, chunk.crc)
            self._pending.popleft()
            self._pending_bytes -= first.nbytes

    def _stack(self, topic: bytes, header: Array) -> Stack:
        kind = topic.split(b" ", 1)[0].decode()
        key = (kind, header.name, header.dtype, header.shape)
        if key not in self._stacks:  # nobody announced it, or the camera changed its frame
            declared = self.devices.get(header.name)
            axes = declared.stream.axes if declared is not None and declared.stream else {}
            info = StreamInfo(
                kind="frame" if kind == "frame" else "spectrum",
                dtype=header.dtype,
                shape=list(header.shape),
                unit=header.unit,
                axes=axes,
            )
            layout.check_stream(header.name, info)
            self._reopen(lambda: self._create_stack(header.name, info))
        return self._stacks[key]

    def _adopt_undeclared(self) -> None:
        """Give readings that nobody announced a log; so far they are in the journal."""
        known = {n: h for n, h in self._undeclared.items() if h.value is not None}
        if not known:
            return
        self._undeclared.clear()

        def create() -> None:
            for name, header in known.items():
                self._create_log(name, type(header.value).__name__, header.unit, "")

        self._reopen(create)

    def _create(self, devices: Iterable[DeviceInfo]) -> None:
        for info in devices:
            layout.create_device(self._file, info)
            for name, parameter in info.named().items():
                if name not in self._logs:
                    self._create_log(name, parameter.kind, parameter.unit, parameter.doc)
            if info.stream is not None:
                layout.check_stream(info.device, info.stream)
                self._create_stack(info.device, info.stream)

    def _create_log(self, name: str, kind: str, unit: str, doc: str) -> None:
        group = layout.create_log(self._file, self.about, name, kind, unit, doc)
        self._logs[name] = Log(group, name, kind, unit)

    def _create_stack(self, name: str, info: StreamInfo) -> None:
        key = (info.kind, name, info.dtype, tuple(info.shape))
        if key not in self._stacks:
            group = layout.create_stack(self._file, self.about, name, info, self._compression)
            self._stacks[key] = Stack(group, name, info)

    def _reopen(self, create: Any) -> None:
        """Close, open for more than one reader's sake without locks, create, go live again."""
        self._drain(0)
        for rows in self._all_rows():
            rows.flush()
        self._file.flush()
        for rows in self._all_rows():
            rows.confirm()
        self._file.close()
        self._file = h5py.File(self.path, "r+", libver=("v110", "v110"), locking=False)
        create()
        for each in self._each():
            each.bind(self._file)
        self._clock.bind(self._file[layout.CLOCK])
        self._file.swmr_mode = True
        self._file.flush()

    def _each(self) -> list[Log | Stack]:
        return [*self._logs.values(), *self._stacks.values()]

    def _all_rows(self) -> list[Rows]:
        return [self._clock, *(each.rows for each in self._each())]

    def _close_file(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        self._file.close()


def _canonical(header: Header, data: bytes) -> bool:
    """Would the columns give these very bytes back?"""
    return (
        str(int(header.t_ns)) == header.t_ns
        and str(int(header.mono_ns)) == header.mono_ns
        and header.encode() == data
    )
