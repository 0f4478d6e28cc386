"""Is a session file whole? Every chunk, number, length and line is looked at, none is repaired."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py

from coldframe.daemon import layout, metadata, packing
from coldframe.daemon.columns import column_crc
from coldframe.daemon.session import BLOCK, Session, Stream
from coldframe.daemon.session_journal import Line, flaws, parse
from coldframe.errors import ColdframeError, StorageError
from coldframe.messages import header_of

# what h5py and the columns raise when bytes of a file are not what was written
_UNREADABLE = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, AttributeError)


class Problem(NamedTuple):
    """What is wrong, and where in the file."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


def verify(path: Path | str) -> list[Problem]:
    """Everything that is wrong with the file at `path`; an empty list means it is whole.

    A file that is live or was left by a crash is checked up to its last flush, and said to be so.
    """
    try:
        with Session(path) as session:
            found: list[Problem] = []
            for look in _LOOKS:
                try:
                    found += look(session)
                except _UNREADABLE as error:
                    found.append(Problem(str(path), f"damaged: {error}"))
            return found
    except (ColdframeError, *_UNREADABLE) as error:
        return [Problem(str(path), str(error))]


def _state(session: Session) -> Iterator[Problem]:
    if not session.closed:
        yield Problem(str(session.path), "not closed: live, or left so by a crash")


def _streams(session: Session) -> Iterator[Problem]:
    for stream in session.streams():
        yield from _lengths(session, stream)
        yield from _arrivals(stream)
        yield from _chunks(session, stream)
        yield from _columns(stream)


def _lengths(session: Session, stream: Stream) -> Iterator[Problem]:
    lengths = {part: stream.group[part].shape[0] for part in stream.parts}
    if session.closed and len(set(lengths.values())) > 1:
        text = ", ".join(f"{part} {length}" for part, length in lengths.items())
        yield Problem(_where(stream), f"parts of unequal length: {text}")


def _arrivals(stream: Stream) -> Iterator[Problem]:
    last = -1
    for start in range(0, len(stream), BLOCK):
        for offset, arrival in enumerate(stream.group["arrival"][start : start + BLOCK]):
            if arrival <= last:
                yield Problem(
                    f"{_where(stream)}/arrival[{start + offset}]", "not after the one before"
                )
                return
            last = arrival


def _chunks(session: Session, stream: Stream) -> Iterator[Problem]:
    if stream.kind == "reading":
        return
    for index, chunk in enumerate(session.chunks(stream)):
        if isinstance(chunk, StorageError):
            yield Problem(f"{_where(stream)}/data[{index}]", str(chunk))


def _columns(stream: Stream) -> Iterator[Problem]:
    for part in stream.parts:
        dataset: h5py.Dataset = stream.group[part]
        if "crc32" not in dataset.attrs:
            continue
        try:
            crc = 0
            for start in range(0, len(dataset), BLOCK):
                crc = column_crc(dataset[start : start + BLOCK], crc)
        except OSError as error:
            yield Problem(f"{_where(stream)}/{part}", f"cannot be read: {error}")
            continue
        if crc != int(dataset.attrs["crc32"]):
            yield Problem(f"{_where(stream)}/{part}", "its CRC does not fit its values")


def _journal(session: Session) -> Iterator[Problem]:
    where = packing.JOURNAL if session.closed else str(session.path.with_suffix(".journal"))
    for flaw in flaws(session.journal()):
        yield Problem(f"{where}[{flaw.number - 1}]", flaw.words)
    lines = int(session.entry.attrs.get("journal_lines", -1))
    present = sum(1 for _ in session.journal())
    if session.closed and lines != present:
        yield Problem(where, f"{present} lines, not {lines}")


def _numbers(session: Session) -> Iterator[Problem]:
    """Each stream's numbers go on one by one, but for gaps and restarts that are written down."""
    due: dict[str, int] = {}
    records = session.records()
    record = next(records, None)
    try:
        for message in session.messages(payloads=False):
            while record is not None and record.arrival < message.arrival:
                yield from _follow(record, due)
                record = next(records, None)
            stream = message.topic.decode().strip()
            seq = header_of(message.topic, message.header).seq
            expected = due.get(stream, seq)
            if seq > expected:
                count = seq - expected
                yield Problem(
                    stream, f"{count} messages from seq {expected} are lost, and no gap is recorded"
                )
            elif seq < expected:
                yield Problem(stream, f"seq {seq} comes where {expected} is due")
            due[stream] = seq + 1
        while record is not None:
            yield from _follow(record, due)
            record = next(records, None)
    except ColdframeError as error:
        yield Problem(str(session.path), str(error))


def _follow(line: Line, due: dict[str, int]) -> Iterator[Problem]:
    """What the recorder wrote about the numbering changes what is due."""
    said = line.record
    if line.kind == "begin":
        due.update(said["next"])
    elif line.kind == "restart":
        due[said["stream"]] = said["seq"]
    elif line.kind == "gap":
        expected = due.get(said["stream"], said["first"])
        if expected != said["first"]:
            text = f"a gap from seq {said['first']} is recorded where {expected} is due"
            yield Problem(said["stream"], text)
        due[said["stream"]] = said["first"] + said["count"]
    elif line.kind == "end":
        for stream, number in said["next"].items():
            if due.get(stream, number) != number:
                text = f"ended before seq {number}, and {due[stream]} is due"
                yield Problem(stream, text)


def _texts(session: Session) -> Iterator[Problem]:
    for name in metadata.missing(session.metadata()):
        yield Problem(layout.METADATA, f"{name} is missing: a value, or unknown and the reason")
    text = session.text(f"{layout.CONFIGURATION}/data")
    if hashlib.sha256(text.encode()).hexdigest() != session.text(f"{layout.CONFIGURATION}/sha256"):
        yield Problem(layout.CONFIGURATION, "the text does not fit its SHA-256")
    for line in session.journal():
        parse(line)


def _where(stream: Stream) -> str:
    return str(stream.group.name).lstrip("/")


_LOOKS = (_state, _streams, _journal, _numbers, _texts)
