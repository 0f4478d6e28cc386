"""Two clocks, both handed in: lab time stamps what happened, monotonic time decides who is alive.

Lab time is UTC with real instruments. In an all-simulated lab it may run fast:
``lab = lab0 + (mono - mono0) * speed``. The triple lives in a small file that every process of the
lab maps, so a change of speed reaches all of them at the same instant. Monotonic time never runs
fast: permits, staleness, debounce and timeouts are counted in it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

NS = 1_000_000_000


class Clock(Protocol):
    """What every part of Coldframe is given instead of the time."""

    def lab_ns(self) -> int:
        """Lab time, nanoseconds since 1970 UTC."""
        ...

    def mono_ns(self) -> int:
        """Monotonic time in nanoseconds; only differences mean anything."""
        ...

    @property
    def speed(self) -> float:
        """Lab seconds in one monotonic second: 1 unless everything is simulated."""
        ...


class Triple(NamedTuple):
    """The relation of the two clocks from one instant on."""

    lab0_ns: int
    mono0_ns: int
    speed: float


class SystemClock:
    """UTC and the monotonic clock of this machine."""

    speed = 1.0

    def lab_ns(self) -> int:
        return time.time_ns()

    def mono_ns(self) -> int:
        return time.monotonic_ns()


class ManualClock:
    """Time in a test: it moves when told to."""

    def __init__(self, lab_ns: int = 1_700_000_000 * NS, mono_ns: int = NS, speed: float = 1.0):
        self._lab, self._mono, self.speed = lab_ns, mono_ns, speed

    def lab_ns(self) -> int:
        return self._lab

    def mono_ns(self) -> int:
        return self._mono

    def advance(self, seconds: float) -> None:
        """Move monotonic time by `seconds` and lab time by `seconds * speed`."""
        self._mono += round(seconds * NS)
        self._lab += round(seconds * self.speed * NS)


class SharedClock:
    """Lab time of a simulated lab, read from the triple in a file all its processes map."""

    # sequence (odd while being written), lab0, mono0, speed: a seqlock, one writer at a time
    _layout = struct.Struct("<Qqqd")

    def __init__(self, path: Path):
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._layout.size)

    @classmethod
    def create(cls, path: Path, *, speed: float = 1.0, lab_ns: int | None = None) -> SharedClock:
        """Make the file, lab time starting at `lab_ns` (now, unless told), and open it."""
        lab0 = time.time_ns() if lab_ns is None else lab_ns
        scratch = path.with_suffix(f".{os.getpid()}")
        scratch.write_bytes(cls._layout.pack(0, lab0, time.monotonic_ns(), speed))
        os.replace(scratch, path)
        return cls(path)

    def triple(self) -> Triple:
        while True:
            sequence, lab0, mono0, speed = self._layout.unpack(self._map[: self._layout.size])
            if sequence % 2 == 0 and sequence == self._layout.unpack(self._map[:])[0]:
                return Triple(lab0, mono0, speed)

    def lab_ns(self) -> int:
        lab0, mono0, speed = self.triple()
        return lab0 + round((time.monotonic_ns() - mono0) * speed)

    def mono_ns(self) -> int:
        return time.monotonic_ns()

    @property
    def speed(self) -> float:
        return self.triple().speed

    def set_speed(self, speed: float) -> Triple:
        """Run lab time at `speed` from this instant on; lab time itself does not jump."""
        if not 0 < speed <= 10_000:
            raise ValueError(f"clock speed {speed:g}: give a number above 0 and up to 10000")
        sequence = self._layout.unpack(self._map[:])[0]
        lab0, mono0, old = self.triple()
        now = time.monotonic_ns()
        new = Triple(lab0 + round((now - mono0) * old), now, speed)
        self._map[:8] = struct.pack("<Q", sequence + 1)
        self._map[8:] = self._layout.pack(0, *new)[8:]
        self._map[:8] = struct.pack("<Q", sequence + 2)
        return new

    def close(self) -> None:
        self._map.close()


def iso(lab_ns: int) -> str:
    """Lab time as ISO 8601 with its offset, microseconds kept."""
    whole = datetime.fromtimestamp(lab_ns // NS, UTC).replace(microsecond=lab_ns % NS // 1000)
    return whole.isoformat(timespec="microseconds")


@contextlib.contextmanager
def open_clock(path: Path | None) -> Iterator[Clock]:
    """The clock of this lab: shared where a triple's file is given, the system's otherwise."""
    if path is None:
        yield SystemClock()
        return
    clock = SharedClock(path)
    try:
        yield clock
    finally:
        clock.close()
