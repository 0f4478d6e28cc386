"""Replay: a recorded session on the wire again, the same messages under the same topics.

Whoever watched the live laboratory watches the replay with the same program: streams come out of an
XPUB byte for byte, `describe`, `get` and `snapshot` are answered as the hub would, and whatever
would change something is refused. One block of the file is in memory at a time.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from pathlib import Path
from typing import Any, cast

import zmq

from coldframe.clock import NS
from coldframe.daemon import reception
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.session import Message, Session
from coldframe.daemon.show import Out
from coldframe.daemon.switchboard import Expected, Switchboard
from coldframe.errors import (
    BadRequest,
    ColdframeError,
    NotPermitted,
    NotReady,
    UnknownName,
)
from coldframe.messages import (
    HUB_PORT,
    STREAM_PORT,
    Command,
    Reading,
    Reply,
    failure,
    header_of,
)

ROOM = 500  # messages a subscriber may be behind; then everybody waits for it: none is dropped
ARRAY_ROOM_BYTES = 64 << 20
SETTLE = 0.1  # s without a new subscription before the first message goes out
LOOK_EVERY = 100  # messages between two looks at the sockets when nothing waits
LAST_WORDS = 10_000  # ms a subscriber has to take the rest
COMMAND_LIMIT = 1 << 20


class Replay:
    """A session file, a pace, and the two sockets of a hub. One thread."""

    def __init__(
        self,
        session: Session,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        speed: float = 1.0,
        commands: str = f"tcp://127.0.0.1:{HUB_PORT}",
        streams: str = f"tcp://127.0.0.1:{STREAM_PORT}",
        wait: bool = True,
    ):
        _check_speed(speed)
        self._session, self._speed, self._wait = session, speed, wait
        self.sent = 0
        self.state = "waiting for a subscriber" if wait else "playing"
        devices = {info.device: info for info in session.devices()}
        expected = {name: Expected(info.model, info.role) for name, info in devices.items()}
        self._board = Switchboard(expected, time.monotonic_ns)
        self._board.devices = devices
        self._subscribed_ns: int | None = None
        self._anchor: tuple[int, int] | None = None  # recorded and present time of one instant
        self._stop = threading.Event()
        with contextlib.ExitStack() as undo:
            self._commands = reception.commands(context, commands, COMMAND_LIMIT)
            undo.callback(self._commands.close)
            self._streams = reception.streams(context, streams, COMMAND_LIMIT, self._room())
            undo.pop_all()
        self._streams.setsockopt(zmq.XPUB_NODROP, 1)
        here = reception.endpoint(self._commands)
        self.addresses = {
            "commands": here,
            "streams": reception.endpoint(self._streams),
            "guard": here,  # an abort is answered too: there is nothing to stop
        }
        self._poller = zmq.Poller()
        self._poller.register(self._commands, zmq.POLLIN)
        self._poller.register(self._streams, zmq.POLLIN)

    def stop(self) -> None:
        """End soon; from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> int:
        """Publish everything once, or until told to stop; how many messages went out."""
        try:
            while self._wait and not self._stop.is_set() and not self._settled():
                self._serve(SETTLE / 2)
            self.state = "playing"
            for message in self._session.messages():
                self._pace(message.arrival)
                self._publish(message)
                if self._stop.is_set():
                    break
            self.state = "ended"
        finally:
            self._commands.close()
            self._streams.close(linger=0 if self._stop.is_set() else LAST_WORDS)
        return self.sent

    # ---- out --------------------------------------------------------------------------

    def _settled(self) -> bool:
        return (
            self._subscribed_ns is not None
            and time.monotonic_ns() - self._subscribed_ns > SETTLE * NS
        )

    def _pace(self, arrival: int) -> None:
        """Wait until this message is due; answer whoever asks meanwhile."""
        if self.sent % LOOK_EVERY == 0:
            self._serve(0)
        while not self._stop.is_set():
            if self.state == "paused":
                self._serve(SETTLE)
                self._anchor = None
                continue
            if self._speed == 0:
                return
            now = time.monotonic_ns()
            if self._anchor is None:
                self._anchor = (arrival, now)
            recorded, present = self._anchor
            remaining = present + (arrival - recorded) / self._speed - now
            if remaining <= 0:
                return
            self._serve(min(remaining / NS, SETTLE))

    def _publish(self, message: Message) -> None:
        while not self._stop.is_set():
            try:
                self._streams.send_multipart(message.frames, zmq.NOBLOCK)
            except zmq.Again:  # a subscriber is behind: wait for it
                self._serve(0.005)
                continue
            self.sent += 1
            self._board.note(header_of(message.topic, message.header))
            return

    def _room(self) -> int:
        """Messages a subscriber may be behind: fewer where arrays are large."""
        arrays = [s.group["data"] for s in self._session.streams() if s.kind != "reading"]
        largest = max((d.dtype.itemsize * math.prod(d.shape[1:]) for d in arrays), default=1)
        return max(4, min(ROOM, ARRAY_ROOM_BYTES // largest))

    # ---- in ---------------------------------------------------------------------------

    def _serve(self, seconds: float) -> None:
        """Answer commands and subscriptions for at most about `seconds`."""
        ready = dict(self._poller.poll(max(0, round(seconds * 1000))))
        if self._streams in ready:
            self._drain(self._streams)
        if self._commands in ready:
            self._drain(self._commands)

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        while True:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if socket is self._commands:
                self._hear(frames)
                continue
            if frames[0][:1] == b"\x01":
                self._subscribed_ns = time.monotonic_ns()
            reception.confirm(self._streams, frames[0])

    def _hear(self, frames: list[bytes]) -> None:
        asker, asked = reception.open_envelope(frames)
        reception.answer(
            self._commands, asker, asked if isinstance(asked, Reply) else self._reply(asked)
        )

    def _reply(self, command: Command) -> Reply:
        try:
            return Reply(id=command.id, value=self._obey(command))
        except ColdframeError as error:
            return failure(command.id, error)

    def _obey(self, command: Command) -> Any:
        if command.do == "describe":
            return self._describe(command.name)
        if command.do == "snapshot":
            return self._board.snapshot(command.name)
        if command.do == "get":
            return self._value(command.name)
        if command.do == "replay":
            return self._control(command)
        raise NotPermitted(
            f"{command.do} {command.name}: this is a replay of {self._session.path.name}; "
            "it can be watched, and changes nothing"
        )

    def _describe(self, name: str) -> Any:
        if name:
            return self._board.describe(name)
        devices = [each.model_dump(mode="json") for each in self._board.devices.values()]
        return {
            "lab": str(self._session.entry.attrs["lab"]),
            "simulated": self._session.simulated,
            "identity": "local",
            "role": "observer",
            "addresses": self.addresses,
            "expected": sorted(self._board.devices),
            "devices": devices,
            "replay": self._status(),
        }

    def _value(self, name: str) -> Any:
        last = self._board.readings.get(name)
        if last is None:
            if name in self._board.names():
                raise NotReady(f"{name} has not come yet in this replay")
            raise UnknownName(f"no value {name!r} in {self._session.path.name}")
        value = cast(Reading, last.header).value
        if value is None:
            raise NotReady(f"{name} is not known now (quality {last.header.quality})")
        return value

    def _control(self, command: Command) -> dict[str, Any]:
        if command.name == "pause":
            self.state = "paused"
        elif command.name == "resume":
            self.state, self._wait = "playing", False
        elif command.name == "stop":
            self.stop()
        elif command.name == "speed":
            self._speed, self._anchor = _check_speed(command.value), None
        elif command.name not in ("", "status"):
            raise BadRequest(f"replay {command.name!r}: say pause, resume, speed, stop or status")
        return self._status()

    def _status(self) -> dict[str, Any]:
        return {
            "file": self._session.path.name,
            "session": self._session.session,
            "state": self.state,
            "speed": self._speed,
            "sent": self.sent,
        }


def _check_speed(speed: Any) -> float:
    if isinstance(speed, bool) or not isinstance(speed, int | float) or not 0 <= speed <= 1e6:
        raise BadRequest(f"replay speed {speed!r}: 1 is as it was, 10 faster, 0 without waiting")
    return float(speed)


def run_replay(
    path: Path,
    speed: float,
    out: Out,
    *,
    commands: str = f"tcp://127.0.0.1:{HUB_PORT}",
    streams: str = f"tcp://127.0.0.1:{STREAM_PORT}",
) -> int:
    """Replay `path` once it has a subscriber, until its end, SIGTERM or SIGINT; the exit status."""
    with Session(path) as session, zmq.Context() as context:
        replay = Replay(session, context, speed=speed, commands=commands, streams=streams)
        at_the_end(replay.stop)
        out.say(f"{session.path.name}: streams on {replay.addresses['streams']}, {replay.state}")
        sent = replay.run()
    out.value({"file": path.name, "messages": sent}, f"{sent} messages")
    return 0
