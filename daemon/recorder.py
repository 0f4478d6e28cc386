"""The recorder: the only process that opens HDF5, and the lane on which nothing is lost silently.

Hosts, guard and hub connect to its ROUTER and send every stream message. `record start` opens a
file and marks the session to all of them; `record stop` waits until each has said where it stopped.
After `kill -9` the file opens for SWMR readers up to the last flush, with its journal beside it.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any

import structlog
import zmq

import coldframe
from coldframe.clock import NS, Clock, open_clock
from coldframe.daemon.lanes import BATCH, dealer, inner_router
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.recording import Recording
from coldframe.daemon.session_life import RecorderSettings, SessionLife
from coldframe.daemon.stamps import Stamps
from coldframe.errors import BadRequest, ColdframeError
from coldframe.messages import (
    Answer,
    Command,
    DeviceInfo,
    ParameterInfo,
    Register,
    Registered,
    Relay,
    Reply,
    SessionMark,
    SessionMarked,
    control,
    failure,
    new_id,
)

__all__ = ["Recorder", "RecorderSettings", "run_recorder"]

log = structlog.get_logger()

REPORT_EVERY = 1.0  # s between two readings of the recorder's own
UNFINISHED = 74  # exit status (EX_IOERR): a file had to be left as it was


class Recorder:
    """The sockets around the life of a session. One thread."""

    def __init__(
        self, settings: RecorderSettings, clock: Clock, context: zmq.Context[zmq.Socket[bytes]]
    ):
        self.settings = settings
        self._mono = clock.mono_ns
        self._boot = new_id()
        self._stamps = Stamps("recorder", clock, settings.simulated)
        self._life = SessionLife(settings, clock, self._stamps, self)
        self._devices: dict[str, DeviceInfo] = {"recorder": self._info()}
        self._senders: dict[str, str] = {}  # who is there: its boot, where it has one
        self._stop = threading.Event()
        self._next_flush = self._next_report = 0
        self._hub = dealer(context, "recorder", settings.hub)
        self._lane = inner_router(context, settings.lane)

    def stop(self) -> None:
        """Finish the file and end; from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> int:
        """Serve until told to stop; the exit status."""
        poller = zmq.Poller()
        poller.register(self._lane, zmq.POLLIN)
        poller.register(self._hub, zmq.POLLIN)
        try:
            self.settings.folder.mkdir(parents=True, exist_ok=True)
            self._look_for_wrecks()
            while not self._ended():
                wait = max(0, self._next_flush - self._mono()) / 1e6
                ready = dict(poller.poll(min(round(wait) + 1, 100)))
                if self._lane in ready:
                    self._drain(self._lane, self._hear_lane)
                if self._hub in ready:
                    self._drain(self._hub, self._hear_hub)
                self._life.tend()
                self._tick()
        finally:
            self._lane.close()
            self._hub.close()
        return UNFINISHED if self._life.unfinished else 0

    # ---- what a session needs of us (`session_life.Senders`) ----------------------------

    def mark(self, session: str | None) -> set[str]:
        """Tell all senders which session to stamp; those that are there to hear it."""
        data = SessionMark(session=session).encode()
        return {sender for sender in self._senders if self._send(sender, data)}

    def say(self, message: list[bytes]) -> None:
        """Publish through the hub."""
        with contextlib.suppress(zmq.Again):
            self._hub.send_multipart(message, zmq.NOBLOCK)

    def answer(self, reply: Reply) -> None:
        """Answer a command through the hub."""
        with contextlib.suppress(zmq.Again):
            self._hub.send(Answer(reply=reply).encode(), zmq.NOBLOCK)

    # ---- hearing ----------------------------------------------------------------------

    def _drain(self, socket: zmq.Socket[bytes], hear: Callable[[list[zmq.Frame]], None]) -> None:
        for _ in range(BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            hear(frames)

    def _hear_lane(self, frames: list[zmq.Frame]) -> None:
        sender = frames[0].bytes.decode("ascii", "replace")
        if sender not in self._senders:
            self._senders[sender] = ""
            self._send(sender, SessionMark(session=self._life.session).encode())
        if len(frames) == 2:
            self._hear_control(sender, frames[1].bytes)
        elif self._life.recording is not None:
            message: list[Any] = [frame.bytes for frame in frames[1:3]]
            message += [frame.buffer for frame in frames[3:]]  # arrays are not copied
            self._life.guarded(lambda recording: recording.take(sender, message))

    def _hear_control(self, sender: str, data: bytes) -> None:
        try:
            message = control(data, Register, SessionMarked)
        except BadRequest as error:
            log.error("not understood", sender=sender, error=str(error))
            return
        if isinstance(message, Register):
            info = message.info
            self._devices[info.device] = info
            self._life.guarded(lambda recording: recording.add(info))
            if self._senders[sender] != info.boot:
                self._senders[sender] = info.boot
                self._send(sender, SessionMark(session=self._life.session).encode())
            self._send(sender, Registered(boot=info.boot).encode())
        elif isinstance(message, SessionMarked):
            self._life.marked(sender, self._senders[sender], message)

    def _hear_hub(self, frames: list[zmq.Frame]) -> None:
        try:
            message = control(frames[0].bytes, Relay, Registered)
        except BadRequest as error:
            log.error("not understood", sender="hub", error=str(error))
            return
        if isinstance(message, Relay):
            try:
                self._obey(message.command)
            except ColdframeError as error:
                self.answer(failure(message.command.id, error))

    def _obey(self, command: Command) -> None:
        if command.do != "record":
            raise BadRequest(f"{command.do!r} is not for the recorder")
        if command.name == "status":
            status = {**self._life.status(), "senders": sorted(self._senders)}
            self.answer(Reply(id=command.id, value=status))
        else:
            self._life.obey(command, self._devices.values())

    def _send(self, sender: str, data: bytes) -> bool:
        try:
            self._lane.send_multipart([sender.encode(), data], zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or too far behind
            return False
        return True

    # ---- every turn -------------------------------------------------------------------

    def _tick(self) -> None:
        now = self._mono()
        if now < self._next_flush:
            return
        self._next_flush = now + round(self.settings.flush_seconds * NS)
        if now >= self._next_report:
            self._next_report = now + round(REPORT_EVERY * NS)
            self._report()
        self._life.guarded(Recording.flush)

    def _ended(self) -> bool:
        """Told to stop, and nothing is open any more; or a file had to be left."""
        if self._stop.is_set():
            self._life.end("the service stopped")
            return self._life.recording is None
        return self._life.unfinished

    def _look_for_wrecks(self) -> None:
        """Files that an earlier recorder could not finish: said once, and left alone."""
        for journal in sorted(self.settings.folder.glob("*.journal")):
            text = f"{journal.stem}.nxs was interrupted; `info` and `verify` read what is there"
            self.say(self._stamps.event("interrupted", text))
        for ballast in self.settings.folder.glob(".ballast-*"):
            ballast.unlink(missing_ok=True)

    def _report(self) -> None:
        recording = self._life.recording
        backlog = 0 if recording is None else recording.file.backlog
        name = "" if recording is None else recording.path.name
        say, reading = self._life.say, self._stamps.reading
        say(reading("recorder.backlog", backlog, "B"))
        say(reading("recorder.free_bytes", self._life.free(), "B"))
        say(reading("recorder.file", name))

    def _info(self) -> DeviceInfo:
        """The recorder as a device: nothing to command, three things to read."""
        return DeviceInfo(
            device="recorder",
            model="coldframe",
            role="",
            identity=f"coldframe {coldframe.__version__}",
            simulated=self.settings.simulated,
            boot=self._boot,
            pid=os.getpid(),
            parameters=[
                ParameterInfo(name="backlog", kind="int", unit="B", doc="arrays not yet on disk"),
                ParameterInfo(name="free_bytes", kind="int", unit="B", doc="room to write"),
                ParameterInfo(name="file", kind="str", doc="the file being written"),
            ],
        )


def run_recorder(settings: RecorderSettings) -> int:
    """Serve until SIGTERM or SIGINT, then finish the file."""
    with open_clock(settings.clock) as clock, zmq.Context() as context:
        recorder = Recorder(settings, clock, context)
        at_the_end(recorder.stop)
        status = recorder.run()
    if status == UNFINISHED:
        os._exit(status)  # not through HDF5, which would write once more, and crash
    return status
