"""A subscription that begins with what is known: snapshot first, then news, nothing twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import numpy as np

from coldframe.errors import BadRequest
from coldframe.messages import Array, Header, Reading, header_of, new_id

Kind = Literal["reading", "frame", "spectrum", "event"]


class Frame(NamedTuple):
    """An image or a spectrum with its header (name, seq, both times, unit, details)."""

    data: np.ndarray[Any, np.dtype[Any]]
    header: Array


class Subscription:
    """Which topics to ask for, and what to make of the messages that come; owns no socket.

    The last topic is `sync TOKEN `: the hub answers on it at once, and because subscriptions of one
    connection come in order, its answer means that all of them are in force. A snapshot asked for
    then leaves no gap.
    """

    def __init__(self, kind: Kind, names: Iterable[str]):
        self.kind, self.names = kind, tuple(names)
        self.topics = [topic for name in self.names for topic in _topics(kind, name)]
        self.topics = self.topics or [f"{kind} ".encode()]
        self.sync = f"sync {new_id()} ".encode()
        self._known: dict[str, tuple[int, int]] = {}

    def begin(self, snapshot: list[Reading]) -> list[Reading]:
        """What was known at the start; older messages that come after it are no news."""
        self._known = {each.name: (int(each.t_ns), each.seq) for each in snapshot}
        return snapshot

    def take(self, frames: list[bytes]) -> Header | Frame | None:
        """A message as it came; None when it says nothing new."""
        if frames[0].startswith(b"sync "):
            return None
        if len(frames) < 2:
            raise BadRequest(f"{frames[0][:80]!r}: a stream message has a header")
        header = header_of(frames[0], frames[1])
        t_ns, seq = self._known.pop(header.name, (-1, -1))
        if int(header.t_ns) <= t_ns and header.seq <= seq:
            self._known[header.name] = (t_ns, seq)
            return None
        return Frame(_array(header, frames), header) if isinstance(header, Array) else header


def _array(header: Array, frames: list[bytes]) -> np.ndarray[Any, np.dtype[Any]]:
    """The bytes as numbers; refused when they are not what the header says."""
    try:
        dtype = np.dtype(header.dtype)
        if dtype.hasobject or len(frames) != 3:
            raise ValueError("no plain numbers")
        return np.frombuffer(frames[2], dtype).reshape(header.shape)
    except (ValueError, TypeError) as error:
        raise BadRequest(f"{header.name} {header.seq}: the bytes do not fit: {error}") from None


def _topics(kind: Kind, name: str) -> list[bytes]:
    """`stage.temperature` is one stream; `stage` is everything of it."""
    return [f"{kind} {name} ".encode(), *([] if "." in name else [f"{kind} {name}.".encode()])]
