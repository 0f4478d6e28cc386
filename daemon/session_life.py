"""The life of a session: begun, kept within the room the disk has, ended, whatever happens."""

from __future__ import annotations

import contextlib
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

import coldframe
from coldframe.clock import NS, Clock
from coldframe.daemon import metadata
from coldframe.daemon.chunks import Compression
from coldframe.daemon.metadata import Given
from coldframe.daemon.recording import Recording
from coldframe.daemon.session_file import About
from coldframe.daemon.space import Ballast, free_bytes
from coldframe.daemon.stamps import Stamps
from coldframe.errors import BadRequest, Busy, ColdframeError, StorageError
from coldframe.messages import (
    Command,
    DeviceInfo,
    Reply,
    SessionMarked,
    failure,
    new_id,
)

log = structlog.get_logger()


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
    reserve_bytes: int = 1 << 30  # recording stops before this is used; holds what lanes hold
    ballast_bytes: int = 64 << 20
    flush_seconds: float = 0.2
    handshake_seconds: float = 2.0  # for all senders to mark a session's begin or end
    clock: Path | None = None


class Senders(Protocol):
    """What the recorder's sockets do for a session."""

    def mark(self, session: str | None) -> set[str]:
        """Tell all senders which session to stamp; those that are there to hear it."""
        ...

    def say(self, message: list[bytes]) -> None:
        """Publish a message of the recorder's own."""
        ...

    def answer(self, reply: Reply) -> None:
        """Answer a command."""
        ...


@dataclass
class _Handshake:
    """Who has not marked yet, until when to wait, and what comes then."""

    missing: set[str]
    until_ns: int
    then: Callable[[set[str]], None]


class SessionLife:
    """At most one recording, and the orders that begin and end it."""

    def __init__(self, settings: RecorderSettings, clock: Clock, stamps: Stamps, senders: Senders):
        self.settings, self._clock = settings, clock
        self._stamps, self._senders = stamps, senders
        self.recording: Recording | None = None
        self.unfinished = False  # a file had to be left as it was
        self._ending = False
        self._handshake: _Handshake | None = None
        self._metadata: Given = {}
        self._ballast: Ballast | None = None

    @property
    def session(self) -> str | None:
        """What senders are to stamp now."""
        return None if self.recording is None or self._ending else self.recording.about.session

    # ---- orders -----------------------------------------------------------------------

    def obey(self, command: Command, devices: Iterable[DeviceInfo]) -> None:
        """`record start | stop | note`; the answer comes when it is done."""
        if command.name == "start":
            self._start(command, devices)
        elif command.name == "stop":
            self._check()
            self.end("stopped", command)
        elif command.name == "note":
            self._check()
            text = command.args.get("text", command.value)
            if not isinstance(text, str) or not text.strip():
                raise BadRequest("record note: say something")
            details: Any = command.args.get("details", {})
            if not isinstance(details, dict) or "by" in details:
                raise BadRequest("record note: details is a table of names and values, without by")
            self.say(self._stamps.event("note", text, by=command.by, **details))
            self.guarded(Recording.flush)
            self._senders.answer(Reply(id=command.id, value=text))
        else:
            raise BadRequest(f"record {command.name!r}: say start, stop, note or status")

    def status(self) -> dict[str, Any]:
        """What is being recorded, for whoever asks."""
        recording = self.recording
        return {
            "recording": recording is not None,
            "file": None if recording is None else str(recording.path),
            "session": None if recording is None else recording.about.session,
            "received": {} if recording is None else dict(recording.received),
            "gaps": 0 if recording is None else recording.gaps,
            "free_bytes": self.free(),
        }

    def say(self, message: list[bytes]) -> None:
        """Publish, and record like everybody's messages."""
        self._senders.say(message)
        if self.recording is not None:
            self.recording.take("recorder", message)

    def _check(self) -> None:
        if self.recording is None:
            raise BadRequest("nothing is being recorded; `record start` begins")
        if self._handshake is not None:
            raise Busy(f"{self.recording.path.name} is just beginning or ending")

    def _start(self, command: Command, devices: Iterable[DeviceInfo]) -> None:
        if self.recording is not None:
            raise Busy(f"{self.recording.path} is being recorded; `record stop` ends it")
        about = self._about(command)
        self._check_room()
        folder = self.settings.folder
        path = free_path(folder, about.start_ns, about.title)
        ballast = Ballast(folder, self.settings.ballast_bytes)
        try:
            recording = Recording(path, about, devices, self._clock, self.settings.compression)
        except ColdframeError:
            ballast.drop()
            raise
        self.recording, self._ballast, self._metadata = recording, ballast, about.metadata
        recording.begin("recorder", "", self._stamps.mark(about.session).next)

        def begun(missing: set[str]) -> None:
            recording.unmarked |= missing
            text = f"{path.name}: {about.title}"
            self.say(self._stamps.event("recording", text, file=str(path)))
            self.guarded(Recording.flush)
            self._answer(command, recording, missing, streams=recording.file.streams)

        self._shake_hands(self._senders.mark(about.session), begun)

    def _about(self, command: Command) -> About:
        title = command.args.get("title") or "session"
        if not isinstance(title, str) or "\0" in title or len(title) > 500:
            raise BadRequest("record start: the title is not a short text")
        given = {key: value for key, value in command.args.items() if key != "title"}
        return About(
            session=new_id(),
            title=title,
            start_ns=self._clock.lab_ns(),
            simulated=self.settings.simulated,
            software=coldframe.__version__,
            lab=self.settings.lab,
            configuration=self.settings.configuration,
            metadata=metadata.merge(self.settings.metadata, given),
        )

    def _check_room(self) -> None:
        folder = self.settings.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: {error.strerror}") from None
        needed = self.settings.reserve_bytes + self.settings.ballast_bytes
        if (free := self.free()) < needed:
            raise StorageError(
                f"{folder}: {free / 1e6:.0f} MB free, and {needed / 1e6:.0f} MB are kept in "
                "reserve: make room, or lower [record] reserve_mb"
            )

    def _answer(
        self, command: Command, recording: Recording, missing: set[str], **more: Any
    ) -> None:
        value = {
            "file": str(recording.path),
            "session": recording.about.session,
            "unmarked": sorted(missing),
            **more,
        }
        self._senders.answer(Reply(id=command.id, value=value))

    # ---- the end ----------------------------------------------------------------------

    def end(self, reason: str, command: Command | None = None) -> None:
        """Tell all senders that the session ends, wait for their last numbers, close the file."""
        recording = self.recording
        if recording is None or self._ending:
            return
        if command is not None:
            self._metadata = metadata.merge(self._metadata, command.args)
        self.say(self._stamps.event("recorded", f"{recording.path.name}: {reason}"))
        recording.end("recorder", self._stamps.mark(None).next)

        def ended(missing: set[str]) -> None:
            error = self._close(recording, reason)
            if command is not None and error is not None:
                self._senders.answer(failure(command.id, error))
            elif command is not None:
                count = recording.file.messages
                self._answer(command, recording, missing, messages=count, gaps=recording.gaps)

        self._ending = True
        self._shake_hands(self._senders.mark(None), ended)

    def _close(self, recording: Recording, reason: str) -> StorageError | None:
        if self._ballast is not None:
            self._ballast.drop()
        self.recording, self._ending = None, False
        try:
            recording.close(self._metadata, reason)
        except StorageError as error:
            self._leave(recording, error)
            return error
        return None

    def _leave(self, recording: Recording, error: StorageError) -> None:
        """HDF5 cannot let go of a file on a full disk without risk to the process, so the process
        ends here; the file opens for SWMR readers up to the last flush that worked."""
        self.recording, self._handshake = None, None
        text = f"{recording.path.name} is unfinished: {error}; `verify` reads what is there"
        self.say(self._stamps.event("unfinished", text))
        log.error("unfinished", file=str(recording.path), error=str(error))
        self.unfinished = True

    # ---- the handshake ----------------------------------------------------------------

    def marked(self, sender: str, boot: str, message: SessionMarked) -> None:
        """A sender stamps another session from here on."""
        if self.recording is not None:
            if message.session == self.recording.about.session:
                self.recording.begin(sender, boot, message.next)
            elif message.session is None:
                self.recording.end(sender, message.next)
        if self._handshake is not None and message.session == self.session:
            self._handshake.missing.discard(sender)

    def _shake_hands(self, senders: set[str], then: Callable[[set[str]], None]) -> None:
        until = self._clock.mono_ns() + round(self.settings.handshake_seconds * NS)
        self._handshake = _Handshake(senders, until, then)

    # ---- every turn -------------------------------------------------------------------

    def tend(self) -> None:
        """Go on with what was waited for; end while there is room to end well. Asked every turn,
        for a fast camera fills a disk faster than anybody looks."""
        hands = self._handshake
        if hands is not None and (not hands.missing or self._clock.mono_ns() >= hands.until_ns):
            self._handshake = None
            hands.then(hands.missing)
        if self.recording is None or self._handshake is not None:
            return
        free, reserve = self.free() - self.recording.file.backlog, self.settings.reserve_bytes
        if free < reserve:
            self.end(f"disk nearly full: {max(0, free)} bytes free, {reserve} kept in reserve")

    def guarded(self, action: Callable[[Recording], None]) -> None:
        """Do it; when the disk refuses, throw the ballast overboard, write what waits, and end the
        session. When it still refuses the file is left as it is."""
        recording = self.recording
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
            self._leave(recording, error)
            return
        self.end(f"the disk refused: {reason}")

    def free(self) -> int:
        """Bytes that may still be written."""
        used = 0
        if self.recording is not None:
            with contextlib.suppress(OSError):
                used = os.path.getsize(self.recording.path)
        return free_bytes(self.settings.folder, used)


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
