"""The recorder: the only process that opens HDF5, and the lane on which nothing is lost silently.

Hosts, guard and hub connect to its ROUTER and send every stream message. `record start` opens a
file and marks the session to all of them; `record stop` waits until each has said where it stopped.
After `kill -9` the file opens for SWMR readers up to the last flush, with its journal beside it.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import zmq

import coldframe
from coldframe.clock import NS, Clock, open_clock
from coldframe.daemon import metadata
from coldframe.daemon.chunks import Compression
from coldframe.daemon.lanes import BATCH, dealer, inner_router
from coldframe.daemon.metadata import Given
from coldframe.daemon.recording import Recording
from coldframe.daemon.session_file import About
from coldframe.daemon.space import Ballast, free_bytes
from coldframe.daemon.stamps import Stamps
from coldframe.errors import BadRequest, Busy, ColdframeError, StorageError
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

log = structlog.get_logger()

REPORT_EVERY = 1.0  # s between two readings of the recorder's own
UNFINISHED = 74  # exit status (EX_IOERR): a file had to be left as it was


@dataclass(frozen=True)
class RecorderSettings:
    """Where the recorder listens and writes."""

    lane: str  # bound: hosts, guard and hub send everything here
    hub: str  # connected: commands come from there
    folder: Path
    lab: str = ""
    simulated: bool = False
    configuration: str = ""  # the text of the laboratory's TOML
    metadata: Given = field(default_factory=dict)
    compression: Compression = "portable"
    reserve_bytes: int = 1 << 30  # recording stops before this is used
    ballast_bytes: int = 64 << 20
    flush_seconds: float = 0.2
    handshake_seconds: float = 2.0  # for all senders to mark a session's begin or end
    clock: Path | None = None


@dataclass
class _Waiting:
    """A handshake under way: who has not marked yet, until when to wait, what comes then."""

    peers: set[str]
    until_ns: int
    then: Callable[[set[str]], None]


class Recorder:
    """The sockets, and at most one recording. One thread."""

    def __init__(
        self, settings: RecorderSettings, clock: Clock, context: zmq.Context[zmq.Socket[bytes]]
    ):
        self.settings, self._clock = settings, clock
        self._mono = clock.mono_ns
        self._stamps = Stamps("recorder", clock, settings.simulated)
        self._recording: Recording | None = None
        self._metadata: Given = {}
        self._ballast: Ballast | None = None
        self._devices: dict[str, DeviceInfo] = {}
        self._peers: dict[str, str] = {}  # who is there: its boot, where it has one
        self._waiting: _Waiting | None = None
        self._boot = new_id()
        self._stop = threading.Event()
        self._damaged = False
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
                self._tick()
        finally:
            self._lane.close()
            self._hub.close()
        return UNFINISHED if self._damaged else 0

    # ---- hearing ----------------------------------------------------------------------

    def _drain(self, socket: zmq.Socket[bytes], hear: Callable[[list[zmq.Frame]], None]) -> None:
        for _ in range(BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            hear(frames)

    def _hear_lane(self, frames: list[zmq.Frame]) -> None:
        peer = frames[0].bytes.decode("ascii", "replace")
        if peer not in self._peers:
            self._peers[peer] = ""
            self._mark([peer])
        if len(frames) == 2:
            self._hear_control(peer, frames[1].bytes)
            return
        if self._recording is not None:
            message: list[Any] = [frame.bytes for frame in frames[1:3]]
            message += [frame.buffer for frame in frames[3:]]
            self._guarded(lambda recording: recording.take(peer, message))

    def _hear_control(self, peer: str, data: bytes) -> None:
        try:
            message = control(data, Register, SessionMarked)
        except BadRequest as error:
            log.error("not understood", peer=peer, error=str(error))
            return
        if isinstance(message, Register):
            info = message.info
            self._devices[info.device] = info
            if self._recording is not None:
                self._guarded(lambda recording: recording.add(info))
            if self._peers[peer] != info.boot:
                self._peers[peer] = info.boot
                self._mark([peer])
            self._send(peer, Registered(boot=info.boot).encode())
        elif isinstance(message, SessionMarked):
            self._marked(peer, message)

    def _marked(self, peer: str, message: SessionMarked) -> None:
        recording = self._recording
        if recording is not None:
            if message.session == recording.about.session:
                recording.begin(peer, self._peers[peer], message.next)
            elif message.session is None:
                recording.end(peer, message.next)
        wanted = None if recording is None or self._ending else recording.about.session
        if self._waiting is not None and message.session == wanted:
            self._waiting.peers.discard(peer)

    def _hear_hub(self, frames: list[zmq.Frame]) -> None:
        try:
            message = control(frames[0].bytes, Relay, Registered)
        except BadRequest as error:
            log.error("not understood", peer="hub", error=str(error))
            return
        if not isinstance(message, Relay):
            return
        command = message.command
        try:
            self._obey(command)
        except ColdframeError as error:
            self._answer(failure(command.id, error))

    # ---- commands ---------------------------------------------------------------------

    def _obey(self, command: Command) -> None:
        if command.do != "record":
            raise BadRequest(f"{command.do!r} is not for the recorder")
        if command.name == "status":
            self._answer(Reply(id=command.id, value=self._status()))
        elif command.name == "start":
            self._start(command)
        elif command.name == "stop":
            self._check_recording()
            self._finish(command.args, "stopped", command.id)
        elif command.name == "note":
            self._check_recording()
            text = command.args.get("text", command.value)
            if not isinstance(text, str) or not text.strip():
                raise BadRequest("record note: say something")
            self._say(self._stamps.event("note", text, by=command.by))
            self._guarded(Recording.flush)
            self._answer(Reply(id=command.id, value=text))
        else:
            raise BadRequest(f"record {command.name!r}: say start, stop, note or status")

    def _check_recording(self) -> None:
        if self._recording is None:
            raise BadRequest("nothing is being recorded; `record start` begins")
        if self._waiting is not None:
            raise Busy(f"{self._recording.path.name} is just beginning or ending")

    def _status(self) -> dict[str, Any]:
        recording = self._recording
        return {
            "recording": recording is not None,
            "file": None if recording is None else str(recording.path),
            "session": None if recording is None else recording.about.session,
            "received": {} if recording is None else dict(recording.received),
            "gaps": 0 if recording is None else recording.gaps,
            "free_bytes": self._free(),
            "senders": sorted(self._peers),
        }

    def _start(self, command: Command) -> None:
        if self._recording is not None:
            raise Busy(f"{self._recording.path} is being recorded; `record stop` ends it")
        settings = self.settings
        title = command.args.get("title") or "session"
        if not isinstance(title, str) or "\0" in title or len(title) > 500:
            raise BadRequest("record start: the title is not a short text")
        given = {k: v for k, v in command.args.items() if k != "title"}
        self._metadata = metadata.merge(settings.metadata, given)
        settings.folder.mkdir(parents=True, exist_ok=True)
        free = self._free()
        if free < settings.reserve_bytes + settings.ballast_bytes:
            raise StorageError(
                f"{settings.folder}: {free / 1e6:.0f} MB free, and "
                f"{(settings.reserve_bytes + settings.ballast_bytes) / 1e6:.0f} MB are kept in "
                "reserve: make room, or lower [record] reserve_mb"
            )
        about = About(
            session=new_id(),
            title=title,
            start_ns=self._clock.lab_ns(),
            simulated=settings.simulated,
            software=coldframe.__version__,
            lab=settings.lab,
            configuration=settings.configuration,
            metadata=self._metadata,
        )
        path = free_path(settings.folder, about.start_ns, title)
        self._ballast = Ballast(settings.folder, settings.ballast_bytes)
        try:
            self._recording = Recording(
                path,
                about,
                [*self._devices.values(), self._info()],
                self._clock,
                settings.compression,
            )
        except ColdframeError:
            self._ballast.drop()
            raise
        self._recording.begin("recorder", "", self._stamps.mark(about.session).next)
        peers = self._mark(self._peers)

        def begun(missing: set[str]) -> None:
            recording = self._recording
            assert recording is not None
            recording.unmarked |= missing
            self._say(self._stamps.event("recording", f"{path.name}: {title}", file=str(path)))
            self._guarded(Recording.flush)
            value = {
                "file": str(path),
                "session": about.session,
                "streams": recording.file.streams,
                "unmarked": sorted(missing),
            }
            self._answer(Reply(id=command.id, value=value))  # type: ignore[arg-type]

        self._wait_for(peers, begun)

    def _finish(self, more: dict[str, Any], reason: str, command_id: str = "") -> None:
        """Tell all senders that the session ends, wait for their last numbers, close the file."""
        recording = self._recording
        assert recording is not None
        self._metadata = metadata.merge(self._metadata, more)
        self._say(self._stamps.event("recorded", f"{recording.path.name}: {reason}"))
        recording.end("recorder", self._stamps.mark(None).next)

        def done(missing: set[str]) -> None:
            error = self._close(reason)
            if command_id and error is not None:
                self._answer(failure(command_id, error))
            elif command_id:
                value = {
                    "file": str(recording.path),
                    "session": recording.about.session,
                    "messages": recording.file.messages,
                    "gaps": recording.gaps,
                    "unmarked": sorted(missing),
                }
                self._answer(Reply(id=command_id, value=value))  # type: ignore[arg-type]

        self._wait_for(self._mark(self._peers, None), done)
        self._ending = True

    _ending = False

    def _close(self, reason: str) -> StorageError | None:
        recording, ballast = self._recording, self._ballast
        assert recording is not None
        if ballast is not None:
            ballast.drop()
        self._recording, self._ballast, self._ending = None, None, False
        try:
            recording.close(self._metadata, reason)
        except StorageError as error:
            self._wrecked(recording, error)
            return error
        return None

    # ---- what must not fail -----------------------------------------------------------

    def _guarded(self, action: Callable[[Recording], None]) -> None:
        """Do it; when the disk refuses, throw the ballast overboard, do it again, and end the
        session. When it still refuses the file is left as it is."""
        recording = self._recording
        if recording is None:
            return
        try:
            action(recording)
            return
        except StorageError as error:
            log.error("disk", error=str(error))
            reason = str(error)
        if self._ballast is not None:
            self._ballast.drop()
        try:
            recording.flush()
        except StorageError as error:
            self._recording = None
            self._wrecked(recording, error)
            return
        if not self._ending:
            self._finish({}, f"the disk refused: {reason}")

    def _wrecked(self, recording: Recording, error: StorageError) -> None:
        """HDF5 cannot let go of a file on a full disk without risk to the process, so the process
        ends here; the file opens for SWMR readers up to the last flush that worked."""
        text = f"{recording.path.name} is unfinished: {error}; `verify` reads what is there"
        self._say(self._stamps.event("unfinished", text))
        log.error("unfinished", file=str(recording.path), error=str(error))
        self._damaged = True
        self._stop.set()

    def _tick(self) -> None:
        now = self._mono()
        waiting = self._waiting
        if waiting is not None and (not waiting.peers or now >= waiting.until_ns):
            self._waiting = None
            waiting.then(waiting.peers)
        self._keep_reserve()
        if now < self._next_flush:
            return
        self._next_flush = now + round(self.settings.flush_seconds * NS)
        if now >= self._next_report:
            self._next_report = now + round(REPORT_EVERY * NS)
            self._report()
        if self._recording is None:
            return
        self._guarded(Recording.flush)

    def _keep_reserve(self) -> None:
        """End the session while there is room to end it well; asked every turn, for a fast camera
        fills a disk faster than anybody looks."""
        if self._recording is None or self._waiting is not None:
            return
        free, reserve = self._free() - self._recording.file.backlog, self.settings.reserve_bytes
        if free < reserve:
            self._finish({}, f"disk nearly full: {free} bytes free, {reserve} kept in reserve")

    def _ended(self) -> bool:
        """Told to stop, and nothing is open any more."""
        if not self._stop.is_set():
            return False
        if self._recording is not None and self._waiting is None:
            self._finish({}, "the service stopped")
        return self._recording is None

    def _free(self) -> int:
        used = 0
        if self._recording is not None:
            with contextlib.suppress(OSError):
                used = os.path.getsize(self._recording.path)
        return free_bytes(self.settings.folder, used)

    def _look_for_wrecks(self) -> None:
        """Files that an earlier recorder could not finish: said once, and left alone."""
        for journal in sorted(self.settings.folder.glob("*.journal")):
            text = f"{journal.stem}.nxs was interrupted; `info` and `verify` read what is there"
            self._say(self._stamps.event("interrupted", text))
        for ballast in self.settings.folder.glob(".ballast-*"):
            ballast.unlink(missing_ok=True)

    # ---- saying -----------------------------------------------------------------------

    def _mark(self, peers: Any, session: Any = ...) -> set[str]:
        """Send the session's mark; returns those that are there to hear it."""
        if session is ...:
            recording = None if self._ending else self._recording
            session = None if recording is None else recording.about.session
        data = SessionMark(session=session).encode()
        return {peer for peer in list(peers) if self._send(peer, data)}

    def _wait_for(self, peers: set[str], then: Callable[[set[str]], None]) -> None:
        until = self._mono() + round(self.settings.handshake_seconds * NS)
        self._waiting = _Waiting(peers, until, then)

    def _send(self, peer: str, data: bytes) -> bool:
        try:
            self._lane.send_multipart([peer.encode(), data], zmq.NOBLOCK)
        except zmq.ZMQError:  # gone, or too far behind
            return False
        return True

    def _answer(self, reply: Reply) -> None:
        with contextlib.suppress(zmq.Again):
            self._hub.send(Answer(reply=reply).encode(), zmq.NOBLOCK)

    def _say(self, message: list[bytes]) -> None:
        """To the hub, and into the session like everybody's messages."""
        with contextlib.suppress(zmq.Again):
            self._hub.send_multipart(message, zmq.NOBLOCK)
        if self._recording is not None:
            self._recording.take("recorder", message)

    def _info(self) -> DeviceInfo:
        """The recorder as a device of its own: nothing to command, three things to read."""
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

    def _report(self) -> None:
        recording = self._recording
        backlog = 0 if recording is None else recording.file.backlog
        name = "" if recording is None else recording.path.name
        self._say(self._stamps.reading("recorder.backlog", backlog, "B"))
        self._say(self._stamps.reading("recorder.free_bytes", self._free(), "B"))
        self._say(self._stamps.reading("recorder.file", name))


def free_path(folder: Path, start_ns: int, title: str) -> Path:
    """`YYYYMMDDThhmmssZ-title.nxs` in `folder`, numbered when that is taken."""
    stamp = datetime.fromtimestamp(start_ns // NS, UTC).strftime("%Y%m%dT%H%M%SZ")
    ascii_title = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", ascii_title).strip("-")[:60].strip("-") or "session"
    path, number = folder / f"{stamp}-{slug}.nxs", 1
    while path.exists() or path.with_suffix(".journal").exists():
        number += 1
        path = folder / f"{stamp}-{slug}-{number}.nxs"
    return path


def run_recorder(settings: RecorderSettings) -> int:
    """Serve until SIGTERM or SIGINT, then finish the file."""
    with open_clock(settings.clock) as clock, zmq.Context() as context:
        recorder = Recorder(settings, clock, context)

        def stop(number: int, frame: FrameType | None) -> None:
            recorder.stop()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        status = recorder.run()
    if status == UNFINISHED:
        os._exit(status)  # not through HDF5, which would write once more, and crash
    return status
