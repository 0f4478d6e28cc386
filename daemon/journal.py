"""The guard's journal: append-only JSON lines, numbered, checksummed and chained by hash.

A line carries the SHA-256 of the line before it and a CRC-32 of itself, so that a changed, missing
or inserted line is seen. Reading stops at the first line that does not hold and says so; a last
line without its end is what a crash leaves, and is only reported. What cannot be seen is a cut at
the end, between two lines.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldframe.errors import StorageError

FIRST = "0" * 64  # the hash before the first line


@dataclass(frozen=True)
class Entry:
    """One line: what happened, when on both clocks, and who asked."""

    seq: int
    kind: str
    text: str
    t_ns: str
    mono_ns: str
    by: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    configuration: str = ""

    def line(self, previous: str) -> bytes:
        body = json.dumps(
            {**self.__dict__, "prev": previous},
            separators=(",", ":"),
            ensure_ascii=False,
            allow_nan=False,
        ).encode()
        return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


@dataclass(frozen=True)
class Account:
    """What a journal holds: the entries that can be believed, and what is wrong with the rest."""

    entries: list[Entry]
    good_bytes: int
    last_hash: str
    torn: bytes = b""  # a last line without its end
    broken: str = ""  # why reading stopped before the end


def read(path: Path) -> Account:
    """The journal at `path`; an absent one is empty."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Account([], 0, FIRST)
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from None
    entries: list[Entry] = []
    good, previous = 0, FIRST
    for line in _lines(data):
        if not line.endswith(b"\n"):
            return Account(entries, good, previous, torn=line)
        entry, problem = _parse(line, len(entries) + 1, previous)
        if entry is None:
            broken = f"{path.name} line {len(entries) + 1}: {problem}"
            return Account(entries, good, previous, broken=broken)
        entries.append(entry)
        good += len(line)
        previous = hashlib.sha256(line).hexdigest()
    return Account(entries, good, previous)


class Journal:
    """The journal open for writing. Only one process writes it; the service's lock sees to that.

    A torn last line is cut off (it was never answered for). A broken file is set aside whole under
    another name and a new one begun: `account` holds what could be believed, `account.broken` why.
    """

    def __init__(self, path: Path):
        self.path = path
        self.account = read(path)
        self._seq, self._previous = len(self.account.entries), self.account.last_hash
        if self.account.broken:
            path.rename(_free_name(path))
            self._seq, self._previous = 0, FIRST
        elif self.account.torn:
            os.truncate(path, self.account.good_bytes)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)
        except OSError as error:
            raise StorageError(f"{path}: {error.strerror}") from None
        self._size = os.fstat(self._file).st_size

    def append(
        self,
        kind: str,
        text: str,
        *,
        t_ns: int,
        mono_ns: int,
        by: str = "",
        details: dict[str, Any] | None = None,
        configuration: str = "",
        sync: bool = False,
    ) -> Entry:
        """Write one line; with `sync` it is on the disk when this returns. `StorageError` if not:
        then nothing is left of the line, and the next one takes its number."""
        entry = Entry(
            self._seq + 1, kind, text, str(t_ns), str(mono_ns), by, details or {}, configuration
        )
        line = entry.line(self._previous)
        try:
            written = os.write(self._file, line)
            if written != len(line):
                raise OSError(28, "no space left")
            if sync:
                os.fdatasync(self._file)
        except OSError as error:
            self._undo()
            raise StorageError(f"{self.path}: {error.strerror}") from None
        self._seq, self._size = entry.seq, self._size + len(line)
        self._previous = hashlib.sha256(line).hexdigest()
        return entry

    def close(self) -> None:
        os.close(self._file)

    def _undo(self) -> None:
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:  # the next reader meets a torn line, which it can bear
            raise StorageError(f"{self.path}: {error.strerror}, and not undone") from None


def _lines(data: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(data):
        end = data.find(b"\n", start)
        stop = len(data) if end < 0 else end + 1
        yield data[start:stop]
        start = stop


def _parse(line: bytes, seq: int, previous: str) -> tuple[Entry | None, str]:
    head, mark, tail = line[:-1].rpartition(b',"crc":"')
    if not mark or len(tail) != 10 or tail[8:] != b'"}':
        return None, "no checksum"
    body = head + b"}"
    if b"%08x" % zlib.crc32(body) != tail[:8]:
        return None, "the checksum does not fit"
    try:
        data = json.loads(body)
        if data.pop("prev") != previous:
            return None, "it does not follow the line before it"
        entry = Entry(**data)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"not an entry: {error}"
    if entry.seq != seq:
        return None, f"number {entry.seq} where {seq} should be"
    return entry, ""


def _free_name(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    return aside
