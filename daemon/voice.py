"""What the guard says of its own: readings, states, events, to hub and recorder, never waiting."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from coldframe.clock import NS
from coldframe.daemon.rules import DERIVED_POLL_S
from coldframe.daemon.stamps import Stamps
from coldframe.messages import DeviceInfo, Register, SessionMark

REGISTER_S = 2.0  # hub and recorder may have been restarted, and then know nobody
EVERYTHING_S = 1.0  # between two tellings of what has not changed

Values = Mapping[str, tuple[float | str | None, str]]


class Voice:
    """Numbers what it says, so that what a full lane dropped is seen as a gap."""

    def __init__(
        self,
        stamps: Stamps,
        hub: zmq.Socket[bytes],
        recorder: zmq.Socket[bytes],
        mono: Callable[[], int],
    ):
        self._stamps, self._hub, self._recorder, self._mono = stamps, hub, recorder, mono
        self._said: dict[str, float | str | None] = {}
        self._next_say = self._next_everything = self._next_register = 0

    def event(self, kind: str, text: str, details: dict[str, Any]) -> None:
        """Something the guard decided or was told."""
        self._publish(self._stamps.event(kind, text, **details))

    def mark(self, mark: SessionMark) -> None:
        """The recorder's session begins or ends here."""
        offer(self._recorder, [self._stamps.mark(mark.session).encode()])

    def speak(self, values: Values, info: Callable[[], DeviceInfo]) -> None:
        """Registration, numbers ten times a second, words when they change, everything each second;
        whichever is due."""
        now = self._mono()
        if now >= self._next_register:
            self._next_register = now + round(REGISTER_S * NS)
            register = Register(info=info()).encode()
            offer(self._hub, [register])
            offer(self._recorder, [register])
        if now < self._next_say:
            return
        self._next_say = now + round(DERIVED_POLL_S * NS)
        everything = now >= self._next_everything
        if everything:
            self._next_everything = now + round(EVERYTHING_S * NS)
        for name, (value, unit) in values.items():
            if everything or not isinstance(value, str) or self._said.get(name) != value:
                self._said[name] = value
                self._publish(self._stamps.reading(name, value, unit))

    def _publish(self, frames: list[bytes]) -> None:
        offer(self._recorder, frames)
        offer(self._hub, frames)


def offer(socket: zmq.Socket[bytes], frames: list[bytes]) -> None:
    """Send if there is room."""
    with contextlib.suppress(zmq.Again):
        socket.send_multipart(frames, zmq.NOBLOCK)
