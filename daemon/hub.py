"""The hub: routes commands, fans streams out, keeps the latest of everything. Touches nothing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import zmq

from coldframe.clock import NS, Clock, open_clock
from coldframe.daemon import lab_clock, reception
from coldframe.daemon.lanes import BATCH, dealer, inner_router
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.reception import Asker
from coldframe.daemon.stamps import Stamps
from coldframe.daemon.switchboard import Expected, Switchboard
from coldframe.errors import BadRequest, ColdframeError, NotReady
from coldframe.messages import (
    Answer,
    Command,
    Register,
    Registered,
    Relay,
    Reply,
    SessionMark,
    control,
    failure,
    header_of,
)

log = structlog.get_logger()

COMMAND_LIMIT = 1 << 20  # bytes; a client that sends more is disconnected
STREAM_ROOM = 500  # messages a slow subscriber may be behind before it misses some
ARRAYS_PER_SECOND = 25  # of one stream to watchers; the recorder has them all
ARRAY_BYTES_PER_SECOND = 50e6
WELCOME_EVERY = 0.2  # s between two requests to a host to register
TURN = 0.1  # s at most between two looks at deadlines

_PARTS = ("guard", "recorder", "service", "run")  # speak without being a device
_GOES_TO = {
    "abort": "guard", "ack": "guard", "reset": "guard", "enable": "guard", "bypass": "guard",
    "lease": "guard", "record": "recorder", "run": "service", "pause": "service",
    "resume": "service", "replay": "service",
}  # fmt: skip


@dataclass(frozen=True)
class HubSettings:
    """Where the hub listens, and what the laboratory consists of."""

    lab: str
    expected: Mapping[str, Expected]
    inner: str  # hosts, guard, recorder and service connect here
    commands: str = "tcp://127.0.0.1:5750"
    streams: str = "tcp://127.0.0.1:5751"
    guard: str = "tcp://127.0.0.1:5752"  # told to clients: their own way to abort
    recorder_lane: str = ""  # the recorder's inner socket, for what the hub itself has to say
    simulated: bool = False
    clock: Path | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # more for `describe`


class Hub:
    """The sockets around a switchboard; one thread, and nothing in it waits for anybody."""

    def __init__(
        self, settings: HubSettings, clock: Clock, context: zmq.Context[zmq.Socket[bytes]]
    ):
        self.settings = settings
        self._mono = clock.mono_ns
        self.board = Switchboard(settings.expected, self._mono)
        self._stamps = Stamps("hub", clock, settings.simulated)
        self._lab_clock = lab_clock.LabClock(clock, settings.lab, self._stamps)
        self._next_array: dict[bytes, int] = {}
        self._next_welcome: dict[str, int] = {}
        self._stop = threading.Event()
        self._commands = reception.commands(context, settings.commands, COMMAND_LIMIT)
        self._streams = reception.streams(context, settings.streams, COMMAND_LIMIT, STREAM_ROOM)
        self._inner = inner_router(context, settings.inner)
        self._recorder = None
        if settings.recorder_lane:
            self._recorder = dealer(context, "hub", settings.recorder_lane)
        self.addresses = {
            "commands": reception.endpoint(self._commands),
            "streams": reception.endpoint(self._streams),
            "guard": settings.guard,
        }

    def stop(self) -> None:
        """End soon; from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> None:
        """Serve until told to stop."""
        poller = zmq.Poller()
        sockets = [self._commands, self._streams, self._inner]
        sockets += [] if self._recorder is None else [self._recorder]
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        try:
            if self.settings.clock is not None:
                self.board.devices["clock"] = self._lab_clock.info()
                self._say(self._lab_clock.reading())
            while not self._stop.is_set():
                ready = dict(poller.poll(round(TURN * 1000)))
                for socket in sockets:
                    if socket in ready:
                        self._drain(socket)
                for reply in self.board.overdue():
                    self._finish(reply)
        finally:
            for socket in sockets:
                socket.close()

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            if socket is self._commands:
                self._hear_client(frames)
            elif socket is self._streams:
                reception.confirm(self._streams, frames[0])
            elif socket is self._inner:
                self._hear_inside(frames)
            else:
                self._hear_recorder(frames)

    # clients ---------------------------------------------------------------------------

    def _hear_client(self, frames: list[bytes]) -> None:
        asker, command = reception.open_envelope(frames)
        if isinstance(command, Reply):
            self._reply(asker, command)
            return
        try:
            earlier = self.board.seen(asker, command)
        except BadRequest as error:
            self._reply(asker, failure(command.id, error))
            return
        if earlier is True:
            return  # under way: its answer comes once
        if isinstance(earlier, Reply):
            self._reply(asker, earlier)
            return
        try:
            value = self._obey(asker, command)
        except ColdframeError as error:
            reply = failure(command.id, error)
        else:
            if value is _LATER:
                return
            reply = Reply(id=command.id, value=value)
        self.board.answered(asker, command, reply)
        self._reply(asker, reply)

    def _obey(self, asker: Asker, command: Command) -> Any:
        """The value that answers, or `_LATER` when somebody else will answer."""
        if command.do == "describe":
            return self._describe(command.name)
        if command.do == "snapshot":
            return self.board.snapshot(command.name)
        if command.do == "get" and (value := self.board.latest(command)) is not None:
            return value
        if command.do in ("get", "set", "call"):
            hazard = self.board.check(command)
            if command.name == lab_clock.NAME:
                value, said = self._lab_clock.obey(command)
                for message in said:
                    self._say(message)
                return value
            device = command.name.partition(".")[0]
            return self._relay(asker, command, "guard" if hazard == "hazardous" else device)
        if command.do in _GOES_TO:
            return self._relay(asker, command, _GOES_TO[command.do])
        raise BadRequest(f"{command.do!r} is not for clients")

    def _relay(self, asker: Asker, command: Command, to: str) -> Any:
        inner = self.board.begin(asker, command, to)
        if not self._send_inside(to, Relay(command=inner).encode()):
            error = NotReady(f"{command.do} {command.name}: {to!r} is not there; see `status`")
            self._finish(failure(inner.id, error))
        return _LATER

    def _finish(self, reply: Reply, peer: str | None = None) -> None:
        if (found := self.board.finish(reply, peer)) is not None:
            self._reply(*found)

    def _reply(self, asker: Asker, reply: Reply) -> None:
        reception.answer(self._commands, asker, reply)

    def _describe(self, name: str) -> Any:
        if name:
            return self.board.describe(name)
        return {
            "lab": self.settings.lab,
            "simulated": self.settings.simulated,
            "identity": "local",
            "role": "admin",
            "addresses": self.addresses,
            "expected": sorted(self.settings.expected),
            "devices": [each.model_dump(mode="json") for each in self.board.devices.values()],
            **self.settings.details,
        }

    # inside ----------------------------------------------------------------------------

    def _hear_inside(self, frames: list[bytes]) -> None:
        peer, message = frames[0].decode("ascii", "replace"), frames[1:]
        try:
            if len(message) > 1:
                self._fan_out(peer, message)
            elif message:
                self._control(peer, message[0])
        except BadRequest as error:
            log.error("not understood", peer=peer, error=str(error))

    def _control(self, peer: str, data: bytes) -> None:
        message = control(data, Register, Answer)
        if isinstance(message, Answer):
            self._finish(message.reply, peer)
        elif isinstance(message, Register):
            info = message.info
            known = self.board.devices.get(info.device)
            error = self.board.register(peer, info)
            self._send_inside(peer, Registered(boot=info.boot, error=error).encode())
            if error is not None:
                self._say(self._stamps.event("refused", error, peer=peer))
            elif known is None or known.boot != info.boot:
                text = f"{info.device}: {info.model}, {info.identity or 'not connected yet'}"
                self._say(self._stamps.event("registered", text, boot=info.boot))

    def _fan_out(self, peer: str, message: list[bytes]) -> None:
        """Out as it came in, byte for byte; arrays only as often as eyes can follow."""
        header = header_of(message[0], message[1])
        if peer not in self.board.devices and peer not in _PARTS:
            self._ask_for_registration(peer)
            return
        if peer != "guard" and header.name.partition(".")[0] != peer:
            raise BadRequest(f"{peer} speaks for {header.name}")
        if len(message) > 2:
            now = self._mono()
            if now < self._next_array.get(message[0], 0):
                return
            pause = max(1 / ARRAYS_PER_SECOND, len(message[2]) / ARRAY_BYTES_PER_SECOND)
            self._next_array[message[0]] = now + round(pause * NS)
        else:
            self.board.note(header)
        self._streams.send_multipart(message, zmq.NOBLOCK)

    def _ask_for_registration(self, peer: str) -> None:
        """A host we do not know, or do not know any more, is not believed; it may try again."""
        now = self._mono()
        if now >= self._next_welcome.get(peer, 0):
            self._next_welcome[peer] = now + round(WELCOME_EVERY * NS)
            error = "register first: the hub does not know you"
            self._send_inside(peer, Registered(boot="", error=error).encode())

    def _send_inside(self, peer: str, data: bytes) -> bool:
        try:
            self._inner.send_multipart([peer.encode(), data], zmq.NOBLOCK)
        except zmq.ZMQError:  # not connected, or too far behind
            return False
        return True

    def _hear_recorder(self, frames: list[bytes]) -> None:
        message = control(frames[0], SessionMark, Registered)
        if isinstance(message, SessionMark) and self._recorder is not None:
            marked = self._stamps.mark(message.session)
            with contextlib.suppress(zmq.Again):
                self._recorder.send(marked.encode(), zmq.NOBLOCK)

    def _say(self, message: list[bytes]) -> None:
        """What the hub itself has to say goes where everything goes."""
        if self._recorder is not None:
            with contextlib.suppress(zmq.Again):
                self._recorder.send_multipart(message, zmq.NOBLOCK)
        self.board.note(header_of(message[0], message[1]))
        self._streams.send_multipart(message, zmq.NOBLOCK)


_LATER: Any = object()


def run_hub(settings: HubSettings) -> int:
    """Serve until SIGTERM or SIGINT."""
    with open_clock(settings.clock) as clock, zmq.Context() as context:
        hub = Hub(settings, clock, context)
        at_the_end(hub.stop)
        hub.run()
    return 0
