"""The journal of a session: what does not fit a column, line by line, as it came.

Events, notes, gaps, and every message that the columns of the file could not give back byte for
byte. Each line is JSON and ends with a hash chain and a CRC-32 over what stands before them, so a
changed, missing or unfinished line shows. It lies beside the file while the session lasts and is
packed into it, line by line, when the session closes.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from coldframe.daemon.chunks import crc32
from coldframe.errors import StorageError

_TAIL = re.compile(rb',"chain":"([0-9a-f]{16})","crc":"([0-9a-f]{8})"\}')
_TAIL_LENGTH = len(b',"chain":"0123456789abcdef","crc":"01234567"}')
START = "0" * 16


class Line(NamedTuple):
    """One line, taken apart: a message (`topic` not empty) or a record of the recorder's own."""

    arrival: int
    topic: bytes
    header: bytes
    payload: bytes | None
    kind: str  # "message", or what the record says: begin, end, gap, restart, refused
    record: dict[str, Any]


def message_body(arrival: int, topic: bytes, header: bytes, payload: bytes | None) -> bytes:
    """The body of a message's line: the header's JSON stands in it exactly as it was received."""
    parts = [b'{"arrival":%d,"topic":%s' % (arrival, json.dumps(topic.decode()).encode())]
    if payload is not None:
        parts.append(b',"payload":"%s"' % base64.b64encode(payload))
    if b"\n" in header or b"\r" in header:  # a line is a line
        parts.append(b',"base64":"%s"' % base64.b64encode(header))
    else:
        parts.append(b',"header":%s' % header)
    return b"".join(parts)


def record_body(arrival: int, kind: str, record: dict[str, Any]) -> bytes:
    """The body of a record's line."""
    text = json.dumps({"arrival": arrival, kind: record}, separators=(",", ":"))
    return text.encode()[:-1]


def parse(line: bytes) -> Line:
    """Take a line apart (its CRC is another's to check)."""
    body = line[:-_TAIL_LENGTH]
    try:
        # the header is cut out, not parsed: its bytes matter
        before, marker, header = body.partition(b',"header":')
        fields = json.loads(before + b"}" if marker else body + b"}")
        arrival = fields.pop("arrival")
        if "topic" not in fields:
            ((kind, record),) = fields.items()
            return Line(arrival, b"", b"", None, kind, record)
        payload = fields.get("payload")
        return Line(
            arrival,
            fields["topic"].encode(),
            header if marker else base64.b64decode(fields["base64"]),
            None if payload is None else base64.b64decode(payload),
            "message",
            {},
        )
    except (ValueError, KeyError, AttributeError) as error:
        raise StorageError(f"journal: no line of ours: {line[:120]!r} ({error})") from None


class Journal:
    """An append-only file of such lines; they reach the operating system at `flush`."""

    def __init__(self, path: Path):
        self.path = path
        self._chain = START
        self._waiting: list[bytes] = []
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)

    def append(self, body: bytes) -> None:
        self._chain = sha256(self._chain.encode() + body).hexdigest()[:16]
        self._waiting.append(
            body + b',"chain":"%s","crc":"%08x"}\n' % (self._chain.encode(), crc32(body))
        )

    def flush(self) -> None:
        data = b"".join(self._waiting)
        while data:
            data = data[os.write(self._file, data) :]
            self._waiting = [data]  # an error half way leaves exactly what is still owed
        self._waiting = []

    def close(self) -> None:
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def read(path: Path) -> Iterator[bytes]:
    """The whole lines of a journal file, without their line ends; an unfinished last one is not
    whole, because its writer may be about to finish it."""
    with open(path, "rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line[:-1]


class Flaw(NamedTuple):
    """A line that is not as it was written."""

    number: int
    words: str


def flaws(lines: Iterable[bytes]) -> Iterator[Flaw]:
    """What is wrong with the lines: CRC or chain."""
    chain = START
    for number, line in enumerate(lines, 1):
        tail = _TAIL.fullmatch(line[-_TAIL_LENGTH:])
        body = line[:-_TAIL_LENGTH]
        if tail is None:
            yield Flaw(number, "no CRC at its end")
            continue
        said_chain, said_crc = tail[1].decode(), int(tail[2], 16)
        if crc32(body) != said_crc:
            yield Flaw(number, "its CRC does not fit its text")
        if sha256(chain.encode() + body).hexdigest()[:16] != said_chain:
            yield Flaw(
                number,
                "the hash chain is broken: a line here or before was changed, removed or added",
            )
        chain = said_chain
