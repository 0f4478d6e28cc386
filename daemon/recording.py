"""One session being recorded: what goes into the file, and what each stream still owes.

Messages are numbered by their senders, stream by stream. The session begins for a sender where its
mark says it does; from there on a number that does not come is written down as a gap.
"""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from coldframe.clock import NS, Clock, SystemClock
from coldframe.daemon.chunks import Compression
from coldframe.daemon.metadata import Given
from coldframe.daemon.session_file import About, SessionFile
from coldframe.errors import BadRequest, StorageError
from coldframe.messages import DeviceInfo, Header, header_of, stream_kind

CLOCK_EVERY = 10.0  # s between two pairs of the clocks
NOT_RECEIVED = "not received: a lane was full, or a process died"
_KEPT = 4096  # bytes of a refused message


class Recording:
    """A session file, its journal, and the numbers that are due.

    What the disk refuses is raised as `StorageError`; once there is room, `flush` writes what it
    could not write before: nothing is lost, and nothing is written twice.
    """

    def __init__(
        self,
        path: Path,
        about: About,
        devices: Iterable[DeviceInfo],
        clock: Clock,
        compression: Compression = "portable",
    ):
        self.about, self.path = about, path
        self.marked: set[str] = set()  # senders that stamp this session
        self.unmarked: set[str] = set()  # senders that do not stamp any: taken as they are
        self.gaps = 0
        self.received: Counter[str] = Counter()  # messages, by sender
        self._clock = clock
        self._due: dict[str, int] = {}  # stream: the next number
        self._streams_of: dict[str, set[str]] = {}  # sender: its streams
        self._boots: dict[str, str] = {}
        self._arrival = 0
        self._next_clock, self._speed = 0, 0.0
        try:
            self.file = SessionFile(path, about, devices, compression=compression)
        except (OSError, RuntimeError) as error:
            raise StorageError(f"{path}: cannot be created: {error}") from error

    def take(self, sender: str, message: list[Any]) -> None:
        """A stream message `[topic, header]` or `[topic, header, bytes]`."""
        try:
            header = _parse(message)
        except BadRequest as error:
            self._refuse(sender, message, error)
            return
        if header.session != self.about.session and not (
            header.session is None and sender in self.unmarked
        ):
            return  # before the session began for this sender, or after it ended
        self.received[sender] += 1
        stream = message[0].decode().strip()
        self._number(sender, stream, header)
        payload = message[2] if len(message) > 2 else None
        try:
            with _disk(self.path):
                self.file.append(self._now(), message[0], header, message[1], payload)
        except BadRequest as error:
            self._gap(stream, header.seq, 1, str(error))
            self._refuse(sender, message[:2], error)

    def begin(self, sender: str, boot: str, following: dict[str, int]) -> None:
        """`sender` stamps this session from here on; its streams go on with these numbers."""
        known = self._streams_of.setdefault(sender, set())
        if sender in self.marked and self._boots[sender] == boot:
            self._owed(sender, following)
        numbers = dict.fromkeys(known, 0) | following  # a new boot begins at 0
        known |= set(following)
        self._due.update(numbers)
        self._boots[sender] = boot
        self.marked.add(sender)
        self.unmarked.discard(sender)
        self.file.record(self._now(), "begin", sender=sender, boot=boot, next=numbers)

    def end(self, sender: str, following: dict[str, int]) -> None:
        """`sender` has stopped stamping it; what is due before these numbers is lost."""
        if sender not in self.marked:
            return
        self.marked.discard(sender)
        self._owed(sender, following)
        self.file.record(self._now(), "end", sender=sender, next=following)

    def add(self, info: DeviceInfo) -> None:
        """A device came, or came back."""
        if self.file.devices.get(info.device) != info:
            with _disk(self.path):
                self.file.add(info)

    def flush(self) -> None:
        """Everything taken so far becomes visible and survives this process."""
        now = self._clock.mono_ns()
        if now >= self._next_clock or self._clock.speed != self._speed:
            self._next_clock = now + round(CLOCK_EVERY * NS)
            self._speed = self._clock.speed
            self.file.tell_time(self._clock, SystemClock().lab_ns())
        with _disk(self.path):
            self.file.flush()

    def close(self, metadata: Given, reason: str) -> None:
        """Finish the file."""
        self.file.tell_time(self._clock, SystemClock().lab_ns())
        with _disk(self.path):
            self.file.finalise(self._clock.lab_ns(), metadata, reason)

    # ---- inside -----------------------------------------------------------------------

    def _now(self) -> int:
        """The recorder's monotonic clock, made to grow with every call: time and order in one."""
        self._arrival = max(self._clock.mono_ns(), self._arrival + 1)
        return self._arrival

    def _number(self, sender: str, stream: str, header: Header) -> None:
        known = self._streams_of.setdefault(sender, set())
        if stream not in known:
            known.add(stream)
            if sender in self.marked:  # it would have been in the mark had it been used before
                self._due.setdefault(stream, 0)
        due = self._due.get(stream, header.seq)
        if header.seq > due:
            self._gap(stream, due, header.seq - due, NOT_RECEIVED)
        elif header.seq < due:
            self.file.record(self._now(), "restart", stream=stream, due=due, seq=header.seq)
        self._due[stream] = header.seq + 1

    def _owed(self, sender: str, following: dict[str, int]) -> None:
        """What should have come before these numbers."""
        for stream in self._streams_of[sender] & set(following):
            due = self._due.get(stream, 0)
            if following[stream] > due:
                self._gap(stream, due, following[stream] - due, NOT_RECEIVED)
                self._due[stream] = following[stream]

    def _gap(self, stream: str, first: int, count: int, reason: str) -> None:
        self.gaps += count
        self.file.record(self._now(), "gap", stream=stream, first=first, count=count, reason=reason)

    def _refuse(self, sender: str, message: list[Any], error: BadRequest) -> None:
        kept = [base64.b64encode(bytes(part[:_KEPT])).decode() for part in message[:2]]
        self.file.record(self._now(), "refused", sender=sender, why=str(error), message=kept)


def _parse(message: list[Any]) -> Header:
    if not 2 <= len(message) <= 3:
        raise BadRequest(f"{len(message)} frames: a stream message has two or three")
    header = header_of(message[0], message[1])
    if message[0] != f"{stream_kind(message[0])} {header.name} ".encode():
        raise BadRequest(f"topic {message[0][:80]!r} is not that of {header.name!r}")
    return header


@contextlib.contextmanager
def _disk(path: Path) -> Iterator[None]:
    """What HDF5 and the operating system raise, as `StorageError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{path}: cannot be written: {error}") from error
