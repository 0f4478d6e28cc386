"""Stream messages of one source, stamped: numbered without gaps, on both clocks, in a session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from coldframe.clock import Clock
from coldframe.messages import (
    Array,
    Event,
    Header,
    Reading,
    Scalar,
    SessionMarked,
    StatusReport,
    StreamKind,
    plain,
    topic,
)
from coldframe.status import Status

Frames = list[bytes]


class Stamps:
    """Makes `[topic, header]` of what a device, the guard or the hub has to say.

    Sequence numbers begin at 0 with each boot and count each stream (`reading stage.temperature`)
    by itself. In a simulated lab nothing is ever called `good`.
    """

    def __init__(self, source: str, clock: Clock, simulated: bool):
        self.source, self.simulated = source, simulated
        self.session: str | None = None
        self._clock = clock
        self._next: dict[str, int] = {}

    def reading(self, name: str, value: Any, unit: str = "") -> Frames:
        """The value of `name`; what cannot be known (None, NaN, infinite) travels as null, bad."""
        known: Scalar = plain(value)
        quality = "bad" if known is None else self._good
        stamp = self._stamp("reading", name)
        return self._message("reading", Reading(**stamp, unit=unit, quality=quality, value=known))

    def event(self, kind: str, text: str, name: str = "", **details: Any) -> Frames:
        """Something that happened to this source, or to `name`."""
        name = name or self.source
        stamp = self._stamp("event", name)
        header = Event(**stamp, quality=self._good, kind=kind, text=text, details=details)
        return self._message("event", header)

    def status(self, status: Status) -> Frames:
        """How this source is."""
        stamp = self._stamp("status", self.source)
        report = StatusReport(
            **stamp, quality=self._good, severity=int(status.severity), words=status.words
        )
        return self._message("status", report)

    def array(
        self,
        kind: Literal["frame", "spectrum"],
        data: Any,
        mono_ns: int,
        unit: str,
        details: Mapping[str, Any],
    ) -> Frames:
        """A frame or spectrum whose last byte arrived at `mono_ns`, with its bytes."""
        stamp = self._stamp(kind, self.source)
        ago = int(stamp["mono_ns"]) - mono_ns
        stamp["mono_ns"] = str(mono_ns)
        stamp["t_ns"] = str(int(stamp["t_ns"]) - round(ago * self._clock.speed))
        header = Array(
            **stamp,
            unit=unit,
            quality=self._good,
            dtype=data.dtype.str,
            shape=tuple(data.shape),
            details={key: plain(value) for key, value in details.items()},
        )
        return [*self._message(kind, header), data.tobytes()]

    def mark(self, session: str | None) -> SessionMarked:
        """Stamp `session` from here on; says with which number each stream goes on."""
        self.session = session
        return SessionMarked(device=self.source, session=session, next=dict(self._next))

    # -----------------------------------------------------------------------------------

    @property
    def _good(self) -> Literal["good", "simulated"]:
        return "simulated" if self.simulated else "good"

    def _stamp(self, kind: StreamKind, name: str) -> dict[str, Any]:
        stream = f"{kind} {name}"
        seq = self._next.get(stream, 0)
        self._next[stream] = seq + 1
        return {
            "name": name,
            "seq": seq,
            "session": self.session,
            "t_ns": str(self._clock.lab_ns()),
            "mono_ns": str(self._clock.mono_ns()),
        }

    @staticmethod
    def _message(kind: StreamKind, header: Header) -> Frames:
        return [topic(kind, header.name), header.encode()]
