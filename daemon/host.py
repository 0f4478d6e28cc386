"""A device host: one loop that owns one instrument, its wire, and its leave to have outputs on.

Each turn does the urgent first: what the guard says, then permits, then one piece of work (a
command, a reading, the frames that arrived), so that nothing waits longer than one exchange with
the instrument. Runs where there is no POSIX: a vendor's Windows PC may be a host.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog
import zmq

from coldframe.clock import NS, Clock, open_clock
from coldframe.daemon.description import describe
from coldframe.daemon.instrument import STATUS, Instrument
from coldframe.daemon.lanes import Lane, Lanes
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.orders import Orders
from coldframe.daemon.permits import Permits
from coldframe.daemon.stamps import Stamps
from coldframe.drivers.base import Driver
from coldframe.errors import BadRequest
from coldframe.messages import (
    Answer,
    DeviceInfo,
    Grant,
    Message,
    Register,
    Registered,
    Relay,
    Reply,
    Safe,
    Secured,
    SessionMark,
    control,
    new_id,
)

log = structlog.get_logger()

REGISTER_EVERY = 2.0  # s; hub and recorder may have been restarted, and then know nobody
GRACE = 0.5  # s after connecting in which an output found on may wait for its first grant
RETRY_SAFE = 1.0  # s between two tries at a safe state that could not be verified
STOPPED = 50  # ms a wait may take too long before we say this process was stopped meanwhile
LOOK_FOR_FRAMES = 0.01  # s between two looks at an instrument that sends by itself


@dataclass(frozen=True)
class HostSettings:
    """One device, as the laboratory's configuration names it."""

    name: str
    driver: type[Driver]
    address: str
    guard: str  # the inner sockets: ipc:// in the run folder, tcp:// from another machine
    hub: str
    recorder: str
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    polls: Mapping[str, float | None] = field(default_factory=dict)
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    simulated: bool = False
    clock: Path | None = None  # the shared triple of a simulated laboratory


class DeviceHost:
    """The loop of one device. `run` returns True when it ended with every output verified safe."""

    def __init__(
        self, settings: HostSettings, clock: Clock, context: zmq.Context[zmq.Socket[bytes]]
    ):
        options = settings.driver.Options.model_validate(dict(settings.options))
        driver = settings.driver(settings.name, settings.address, settings.model, options)
        self.settings, self.boot, self.driver = settings, new_id(), driver
        self._mono = clock.mono_ns
        self._info = self._describe("")
        addresses: dict[Lane, str] = {
            "guard": settings.guard,
            "hub": settings.hub,
            "recorder": settings.recorder,
        }
        stream = driver.stream()
        size = 0
        if stream is not None:
            size = int(np.prod(stream.shape)) * np.dtype(stream.dtype).itemsize
        self._lanes = Lanes(context, settings.name, addresses, size)
        self._stamps = Stamps(settings.name, clock, settings.simulated)
        outputs = [output.name for output in driver.outputs]
        self._permits = Permits(settings.name, self.boot, outputs, self._mono)
        self._instrument = Instrument(driver, self._info, self._stamps, self._publish, self._mono)
        driver.between = self._ask
        self._orders = Orders(self._info, self._instrument, self._permits, self._mono)
        self._stop = threading.Event()
        self._poller = zmq.Poller()
        for socket in self._lanes.sockets.values():
            self._poller.register(socket, zmq.POLLIN)
        self._introduced: dict[Lane, int] = dict.fromkeys(addresses, 0)  # when next, mono
        self._marks: list[SessionMark] = []
        self._next_look = self._retry_safe = self._grace_until = 0

    def stop(self) -> None:
        """Make safe, verify, end; may be called from a signal handler or another thread."""
        self._stop.set()

    def run(self) -> bool:
        """Serve until told to stop. A defect in a driver ends the loop too, safe state first."""
        try:
            while not self._stop.is_set():
                self._turn()
        except Exception:
            log.exception("host failed", device=self.settings.name)
            raise
        finally:
            verified = self._leave()
        return verified

    # one turn --------------------------------------------------------------------------

    def _turn(self) -> None:
        self._hear_guard()
        self._keep_permits()
        self._hear_others()
        self._introduce()  # before anything is said of the instrument, or nobody would believe it
        self._connect()
        self._answer(self._orders.work())
        self._read()
        self._look_for_frames()
        self._wait()

    def _hear_guard(self) -> None:
        """Everything the guard has sent, and above all `safe`: it goes before whatever waits.

        An order in front of a `safe` is refused, for the guard has changed its mind since; so is
        every grant given before it.
        """
        heard = [
            self._parse(data, Grant, Safe, Relay, Registered)
            for data in self._lanes.receive("guard")
        ]
        safes = [each for each in heard if isinstance(each, Safe)]
        for message in heard:
            if isinstance(message, Safe):
                self._permits.withdraw()
                self._answer(self._orders.refuse_hazardous(message.why))
            elif isinstance(message, Grant):
                self._permits.grant(message)
            elif isinstance(message, Relay):
                self._queue(message, from_guard=True)
            elif isinstance(message, Registered):
                self._registered("guard", message)
        if safes:
            verified, words = self._make_safe(safes[-1].why)
            for each in safes:
                self._secured(each.id, verified, words)

    def _hear_others(self) -> None:
        for data in self._lanes.receive("hub"):
            message = self._parse(data, Relay, Registered)
            if isinstance(message, Relay):
                self._queue(message, from_guard=False)
            elif isinstance(message, Registered):
                self._registered("hub", message)
        for data in self._lanes.receive("recorder"):
            message = self._parse(data, SessionMark, Registered)
            if isinstance(message, SessionMark):
                self._marks.append(message)
            elif isinstance(message, Registered):
                self._registered("recorder", message)
        self._orders.drained()
        if self._lanes.flush():  # what was taken under the old session leaves before the new one
            for mark in self._marks:
                self._lanes.send("recorder", self._stamps.mark(mark.session))
                if mark.session is not None:
                    self._instrument.refresh()  # a file says of every setting what it was
            self._marks.clear()
        if lost := self._lanes.take_lost():
            text = f"{self.settings.name}: {lost} readings did not reach the recorder"
            self._publish(self._stamps.event("gap", text, lost=lost))

    def _keep_permits(self) -> None:
        """Ask when it is time; when a grant has ended under an output that is on, make it safe.

        A device without outputs asks too: that is how the guard knows its loop is alive.
        """
        self._ask()
        now, granted = self._mono(), self._permits.granted()
        if granted:
            self._grace_until = 0
        if not self._instrument.up or now < self._grace_until or now < self._retry_safe:
            return
        if self._instrument.owes_safe or self._instrument.loose(granted):
            loose = ", ".join(sorted(self._instrument.loose(granted))) or "an earlier order"
            verified, words = self._make_safe(f"no permit for {loose}")
            self._secured("", verified, words)

    def _ask(self) -> None:
        """Also between two exchanges of a driver's long sequence: the wire's work goes on."""
        if (ask := self._permits.ask()) is not None:
            self._lanes.send("guard", ask)

    def _connect(self) -> None:
        if not self._instrument.due():
            return
        if self._instrument.connect():
            self._grace_until = self._mono() + round(GRACE * NS)
        if self._instrument.identity != self._info.identity:
            self._info = self._orders.info = self._describe(self._instrument.identity)
            self._introduced = dict.fromkeys(self._introduced, 0)

    def _read(self) -> None:
        name = self._instrument.schedule.take() if self._instrument.up else None
        if name == STATUS:
            self._instrument.report_status()
        elif name is not None:
            self._instrument.poll(name)

    def _look_for_frames(self) -> None:
        stream = self.driver.stream()
        self._next_look = self._mono() + round(LOOK_FOR_FRAMES * NS)
        if stream is None or not self._instrument.up or self._lanes.congested:
            return
        for sample in self._instrument.take():
            frames = self._stamps.array(
                stream.kind, sample.data, sample.mono_ns, stream.unit, sample.details
            )
            self._publish(frames)

    def _introduce(self) -> None:
        """Register where that is due: at the start, with a new identity, after a peer's silence."""
        now = self._mono()
        for lane, due in self._introduced.items():
            if now < due:
                continue
            self._introduced[lane] = now + round(REGISTER_EVERY * NS)
            if lane != "guard" or not due or self._permits.silent_for() > REGISTER_EVERY / 2:
                self._lanes.send(lane, Register(info=self._info))

    def _wait(self) -> None:
        if (len(self._orders) and not self._orders.held) or self._poller.poll(0):
            return  # what lies there now may have come while the loop was busy
        wakes = [self._permits.wake_ns(), self._instrument.wake_ns()]
        if self._instrument.up and self._info.stream is not None:
            wakes.append(self._next_look)
        begin = self._mono()
        remaining = max(1, round((min(wakes) - begin) / 1e6))
        self._poller.poll(remaining)
        if (self._mono() - begin) / 1e6 < remaining + STOPPED:
            self._orders.drained()  # what woke us has only just come

    # parts of a turn -------------------------------------------------------------------

    def _make_safe(self, why: str) -> tuple[bool, str]:
        verified, words = self._instrument.make_safe(why)
        self._retry_safe = 0 if verified else self._mono() + round(RETRY_SAFE * NS)
        log.warning("made safe", device=self.settings.name, why=why, verified=verified)
        return verified, words

    def _secured(self, safe_id: str, verified: bool, words: str, *, leaving: bool = False) -> None:
        message = Secured(
            id=safe_id,
            device=self.settings.name,
            verified=verified,
            words=words,
            mono_ns=str(self._mono()),
            leaving=leaving,
        )
        self._lanes.send("guard", message)

    def _queue(self, relay: Relay, *, from_guard: bool) -> None:
        self._answer(self._orders.take(relay.command, from_guard=from_guard))

    def _answer(self, replies: list[Reply]) -> None:
        for reply in replies:
            self._lanes.send("hub", Answer(reply=reply))

    def _publish(self, frames: list[bytes]) -> None:
        self._lanes.publish(frames, in_session=self._stamps.session is not None)

    def _registered(self, lane: Lane, message: Registered) -> None:
        if message.boot == "":
            self._introduced[lane] = 0  # a hub that was started again does not know us
        elif message.boot == self.boot and message.error is not None:
            log.error("not accepted", device=self.settings.name, by=lane, reason=message.error)

    def _parse(self, data: bytes, *models: type[Message]) -> Message | None:
        try:
            return control(data, *models)
        except BadRequest as error:
            log.error("not understood", device=self.settings.name, error=str(error))
            return None

    def _describe(self, identity: str) -> DeviceInfo:
        settings = self.settings
        return describe(
            self.driver,
            boot=self.boot,
            identity=identity,
            simulated=settings.simulated,
            limits=settings.limits,
            polls=settings.polls,
        )

    def _leave(self) -> bool:
        """Safe before tidy: outputs safe and verified, then the wire, then the sockets."""
        verified = True
        try:
            if self.driver.outputs and self._instrument.identity:
                verified, words = self._make_safe("its host stops")
                self._secured("", verified, words, leaving=True)
        finally:
            self._instrument.close()
            self._lanes.close()
        return verified


def run_hosts(devices: list[HostSettings]) -> int:
    """Serve these devices, a loop each, until SIGTERM or SIGINT; 0 when all ended verified safe.

    One loop that fails ends them all: what shares a process shares its fate, and the service starts
    it again.
    """
    with open_clock(devices[0].clock) as clock, zmq.Context() as context:
        hosts = [DeviceHost(settings, clock, context) for settings in devices]
        ended: list[bool] = []

        def stop() -> None:
            for host in hosts:
                host.stop()

        def serve(host: DeviceHost) -> None:
            try:
                ended.append(host.run())
            finally:
                stop()

        at_the_end(stop)
        threads = [
            threading.Thread(target=serve, args=[host], name=host.settings.name) for host in hosts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():  # joined in slices, so that signals are heard on Windows too
                thread.join(0.2)
    return 0 if len(ended) == len(hosts) and all(ended) else 1
