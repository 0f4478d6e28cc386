"""A session as numbers: each parameter over lab time, each frame as an array."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldframe.clock import NS, iso
from coldframe.daemon import layout
from coldframe.daemon.session import Session, Stream
from coldframe.errors import UnknownName

Floats = npt.NDArray[np.float64]


class SessionData(Session):
    """An open session file, read as arrays. Times are lab seconds since 1970."""

    @property
    def title(self) -> str:
        return self.text(f"{layout.ENTRY}/title")

    @property
    def start(self) -> float:
        return self.start_ns / NS

    @property
    def start_iso(self) -> str:
        return iso(self.start_ns)

    def has_log(self, name: str) -> bool:
        """Was this parameter recorded?"""
        return any(s.kind == "reading" and s.name == name for s in self.streams())

    def log(self, name: str) -> tuple[Floats, Floats]:
        """Times and values of a parameter; NaN where it was not known."""
        stream = self._stream(name, "reading")
        n = len(stream)
        values = np.asarray(stream.group["value"][:n], dtype=float)
        return self._times(stream), values

    def frame_times(self, name: str) -> Floats:
        """When each frame of a camera was complete; empty when there is no such stream."""
        if not any(s.name == name and s.kind == "frame" for s in self.streams()):
            return np.empty(0)
        return self._times(self._stream(name, "frame"))

    def frame(self, name: str, index: int) -> npt.NDArray[Any]:
        """One frame, its CRC checked."""
        stream = self._stream(name, "frame")
        data = stream.group["data"]
        return np.frombuffer(self.chunk(stream, index), data.dtype).reshape(data.shape[1:])

    def _times(self, stream: Stream) -> Floats:
        return np.asarray(stream.group["time"][: len(stream)]) + self.start

    def _stream(self, name: str, kind: str) -> Stream:
        for stream in self.streams():
            if stream.name == name and stream.kind == kind:
                return stream
        raise UnknownName(f"{self.path}: no {kind} {name!r} was recorded")
