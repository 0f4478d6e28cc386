"""Is a session file whole? Every chunk, number, length and line is looked at, none is repaired."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import h5py

from coldframe.daemon import layout, metadata, packing
from coldframe.daemon.chunks import crc32
from coldframe.daemon.session import BLOCK, Session, Stream
from coldframe.daemon.session_journal import flaws, parse
from coldframe.errors import ColdframeError, StorageError
from coldframe.messages import header_of


class Problem(NamedTuple):
    """What is wrong, and where in the file."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


class _Numbers:
    """The sequence numbers of one stream, in recorded order, and what explains their holes."""

    def __init__(self) -> None:
        self.next: int | None = None
        self.holes: list[tuple[int, int]] = []  # first missing, how many
        self.restarts = 0


def verify(path: Path | str) -> list[Problem]:
    """Everything that is wrong with the file at `path`; an empty list means it is whole.

    A file that is live or was left by a crash is checked up to its last flush, and said to be so.
    """
    try:
        with Session(path) as session:
            return list(_problems(session))
    except ColdframeError as error:
        return [Problem(str(path), str(error))]


def _problems(session: Session) -> Iterator[Problem]:
    if not session.closed:
        yield Problem(str(session.path), "not closed: live, or left so by a crash")
    for stream in session.streams():
        yield from _lengths(session, stream)
        yield from _arrivals(stream)
        yield from _chunks(session, stream)
        yield from _columns(stream)
    yield from _journal(session)
    yield from _numbers(session)
    yield from _texts(session)


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
    for index in range(len(stream)):
        try:
            session.chunk(stream, index)
        except StorageError as error:
            yield Problem(f"{_where(stream)}/data[{index}]", str(error))


def _columns(stream: Stream) -> Iterator[Problem]:
    for part in stream.parts:
        dataset: h5py.Dataset = stream.group[part]
        if "crc32" not in dataset.attrs:
            continue
        try:
            crc = 0
            for start in range(0, len(dataset), BLOCK):
                crc = crc32(dataset[start : start + BLOCK].tobytes(), crc)
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
    """Holes in the numbering must be the recorded gaps, no more and no fewer."""
    streams: dict[str, _Numbers] = defaultdict(_Numbers)
    restarts: dict[tuple[str, int], int] = defaultdict(int)
    for record in session.records("restart"):
        restarts[record["stream"], record["to"]] += 1
    try:
        for message in session.messages(payloads=False):
            key = message.topic.decode().strip()
            numbers = streams[key]
            seq = header_of(message.topic, message.header).seq
            if numbers.next is not None and seq != numbers.next:
                if restarts[key, seq] > 0:
                    restarts[key, seq] -= 1
                elif seq > numbers.next:
                    numbers.holes.append((numbers.next, seq - numbers.next))
                else:
                    yield Problem(key, f"seq goes from {numbers.next - 1} back to {seq}")
            numbers.next = seq + 1
    except ColdframeError as error:
        yield Problem(str(session.path), str(error))
    said: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for gap in session.records("gap"):
        said[gap["stream"]].append((gap["first"], gap["count"]))
    for key, numbers in streams.items():
        for first, count in numbers.holes:
            if (first, count) in said[key]:
                said[key].remove((first, count))
            else:
                yield Problem(
                    key, f"{count} messages from seq {first} are missing, and no gap is recorded"
                )


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
