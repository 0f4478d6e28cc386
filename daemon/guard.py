"""The guard's process: sockets and a loop around the judge. One thread; nothing in it waits.

Hosts, the hub and the last hand talk to the inner ROUTER; people and programs to their own ROUTER,
heard first, so that an abort has its own way in. The guard's own readings go out like a device's,
under numbers of their own, and are dropped rather than waited for.
"""

from __future__ import annotations

import contextlib
import gc
import os
from dataclasses import dataclass
from pathlib import Path

import structlog
import zmq
from pydantic import JsonValue

from coldframe.clock import NS, Clock, open_clock
from coldframe.daemon import reception
from coldframe.daemon.journal import Journal
from coldframe.daemon.judge import GUARD, Host, Judge
from coldframe.daemon.lanes import BATCH, dealer, inner_router
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.petitions import Petitions
from coldframe.daemon.plan import Plan
from coldframe.daemon.reception import Asker
from coldframe.daemon.rules import GuardSettings
from coldframe.daemon.stamps import Stamps
from coldframe.daemon.voice import Voice, offer
from coldframe.errors import BadRequest, ColdframeError, NotSafe
from coldframe.messages import (
    Answer,
    Ask,
    Command,
    Left,
    Message,
    Reading,
    Register,
    Registered,
    Relay,
    Reply,
    Safe,
    Secured,
    SessionMark,
    Takeover,
    Watch,
    Watching,
    control,
    decode,
    failure,
    new_id,
    stream_kind,
)

log = structlog.get_logger()

TICK_MS = 10  # between two looks at silence and debounce
COMMAND_LIMIT = 1 << 16  # bytes
CLIENT_BATCH = 10  # commands heard before the readings have their turn: a flood delays no trip
ANSWER_ABORT_S = 3.0  # past the time the slowest output takes
LEAVE_S = 2.0  # for hosts to verify, when the guard must go; past the same
LAST_HAND = "lasthand"


@dataclass(frozen=True)
class GuardAddresses:
    """Where the guard listens and where it speaks."""

    inner: str
    clients: str
    hub: str
    recorder: str


@dataclass
class Waiting:
    """An abort: answered when all is verified safe, or when it is clear what is not."""

    asker: Asker | None  # None: through the hub
    command: Command
    devices: set[str]
    until_ns: int


class Guard:
    """Told to stop by `stop`; returns from `run` when it has."""

    def __init__(
        self,
        settings: GuardSettings,
        addresses: GuardAddresses,
        journal: Path,
        clock: Clock,
        context: zmq.Context[zmq.Socket[bytes]],
        service_pid: int | None = None,
    ):
        self.boot, self.clock = new_id(), clock
        self.judge = Judge(settings, clock, Journal(journal))
        self.petitions = Petitions(self.judge, self.boot)
        self._inner = inner_router(context, addresses.inner)
        self._clients = reception.commands(context, addresses.clients, COMMAND_LIMIT)
        self._hub = dealer(context, GUARD, addresses.hub)
        self._recorder = dealer(context, GUARD, addresses.recorder)
        for lane in (self._hub, self._recorder):
            lane.linger = 0
        stamps = Stamps(GUARD, clock, settings.simulated)
        self._voice = Voice(stamps, self._hub, self._recorder, clock.mono_ns)
        self._service = None if service_pid is None else os.pidfd_open(service_pid)
        self._waiting: list[Waiting] = []
        self._stop = False
        self.clients = reception.endpoint(self._clients)

    def stop(self) -> None:
        """Outputs safe, then end; from a signal handler or another thread."""
        self._stop = True

    def run(self) -> int:
        """Serve; 0 after `stop`, 1 when the service that started it died."""
        poller = zmq.Poller()
        sockets = [self._clients, self._inner, self._hub, self._recorder]
        for socket in sockets:
            poller.register(socket, zmq.POLLIN)
        if self._service is not None:
            poller.register(self._service, zmq.POLLIN)
        try:
            while not self._stop and self.judge.granting:
                self._turn(dict(poller.poll(TICK_MS)))
            self._leave(poller)
            return 0 if self.judge.granting else 1
        finally:
            for socket in sockets:
                socket.close()
            if self._service is not None:
                os.close(self._service)
            self.judge.journal.close()

    # ---- one turn -------------------------------------------------------------------------------

    def _turn(self, ready: dict[object, int]) -> None:
        if self._service in ready:
            self.judge.granting = False
            self.judge.say("orphaned", "the service is gone: nothing is granted any more")
        for socket in (self._clients, self._inner, self._hub, self._recorder):
            if socket in ready:
                self._drain(socket)
        self._look_after_hosts()
        self.judge.tick()
        self._send()
        self._answer_aborts()
        self._voice.speak(self.judge.values(), self.petitions.info)

    def _drain(self, socket: zmq.Socket[bytes]) -> None:
        for _ in range(CLIENT_BATCH if socket is self._clients else BATCH):
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                if socket is self._clients:
                    self._hear_client(frames)
                elif socket is self._inner:
                    self._hear_inside(frames[0].decode("ascii", "replace"), frames[1:])
                elif len(frames) == 1:
                    self._hear_lane(socket, frames[0])
            except BadRequest as error:
                log.error("not understood", error=str(error))
            self._send()

    def _send(self) -> None:
        """Safe orders first, then the journal, then what is told."""
        out = self.judge.out
        while out.to_hosts:
            device, message = out.to_hosts.pop(0)
            self._tell(device, message)
            host = self.judge.hosts.get(device)
            if isinstance(message, Safe) and host is not None and host.lost:
                self._tell(LAST_HAND, Takeover(device=device, boot=host.info.boot, why=message.why))
        self.judge.settle()
        while out.events:
            kind, text, details = out.events.pop(0)
            log.info(kind, text=text)
            self._voice.event(kind, text, details)

    # ---- inside ---------------------------------------------------------------------------------

    def _hear_inside(self, peer: str, message: list[bytes]) -> None:
        if len(message) == 2:
            self._hear_stream(peer, message)
            return
        if len(message) != 1:
            raise BadRequest(f"{peer} sent {len(message)} frames")
        heard = control(message[0], Ask, Register, Secured, Watching)
        if isinstance(heard, Ask) and heard.device == peer:
            if (grant := self.judge.ask(heard)) is not None:
                self._tell(peer, grant)
        elif isinstance(heard, Register):
            error = self.judge.register(peer, heard.info)
            self._tell(peer, Registered(boot=heard.info.boot, error=error))
            if error is None:
                self._watch(self.judge.hosts[peer])
        elif isinstance(heard, Secured) and peer in (heard.device, LAST_HAND):
            self.judge.secured(heard)
            if heard.leaving and heard.verified and peer in self.judge.hosts:
                boot = self.judge.hosts[peer].info.boot
                self._tell(LAST_HAND, Left(device=peer, boot=boot))
        elif isinstance(heard, Watching) and peer == LAST_HAND:
            for host in self.judge.hosts.values():
                if host.info.boot not in heard.boots:
                    self._watch(host)

    def _hear_stream(self, peer: str, message: list[bytes]) -> None:
        if stream_kind(message[0]) != "reading":
            return
        try:
            self.judge.reading(peer, decode(Reading, message[1]))
        except BadRequest as error:
            name = message[0].decode("ascii", "replace").split(" ")[1:2]
            self.judge.spoilt(peer, name[0] if name else "", str(error))

    def _hear_lane(self, socket: zmq.Socket[bytes], data: bytes) -> None:
        heard = control(data, Relay, Registered, SessionMark)
        if isinstance(heard, Relay) and socket is self._hub:
            self._obey(heard.command, None)
        elif isinstance(heard, SessionMark):
            self._voice.mark(heard)
        elif isinstance(heard, Registered) and heard.error is not None:
            log.error("not accepted", reason=heard.error)

    def _look_after_hosts(self) -> None:
        """A host whose own asks have stopped does no work on its wire: the last hand takes over."""
        now = self.clock.mono_ns()
        for name, host in self.judge.hosts.items():
            if host.lost or host.asked_ns is None or not host.info.outputs:
                continue
            silent = (now - host.asked_ns) / NS
            if silent > self.judge.settings.host_silent_s + host.seconds:
                host.lost = True
                why = f"{name}: its host has not asked for {silent:.2f} s"
                self.judge.say("takeover", why, device=name)
                self._tell(LAST_HAND, Takeover(device=name, boot=host.info.boot, why=why))

    def _slowest(self) -> float:
        return max((host.seconds for host in self.judge.hosts.values()), default=0.0)

    def _watch(self, host: Host) -> None:
        if host.info.outputs:
            info = host.info
            self._tell(LAST_HAND, Watch(device=info.device, pid=info.pid, boot=info.boot))

    def _tell(self, peer: str, message: Message) -> None:
        """To a host or the last hand. One that is not there is known by its silence."""
        with contextlib.suppress(zmq.ZMQError):
            self._inner.send_multipart([peer.encode(), message.encode()], zmq.NOBLOCK)

    # ---- commands -------------------------------------------------------------------------------

    def _hear_client(self, frames: list[bytes]) -> None:
        asker, command = reception.open_envelope(frames)
        if isinstance(command, Reply):
            self._reply(asker, command)
        else:
            self._obey(command, asker)

    def _obey(self, command: Command, asker: Asker | None) -> None:
        """The guard's own commands are answered; a hazardous one is refused, or passed on now."""
        try:
            if command.do == "abort":
                devices = self.petitions.abort(command)
                until = self.clock.mono_ns() + round((ANSWER_ABORT_S + self._slowest()) * NS)
                self._waiting.append(Waiting(asker, command, devices, until))
                return
            device = command.name.partition(".")[0]
            if command.do in ("set", "call") and device != GUARD:
                if asker is not None:
                    raise BadRequest(f"{command.name}: commands for devices go to the hub")
                to, relay = self.petitions.forward(command)
                self._tell(to, relay)  # the host answers to the hub
                return
            reply = Reply(id=command.id, value=self.petitions.answer(command))
        except ColdframeError as error:
            reply = failure(command.id, error)
        self._reply(asker, reply)

    def _answer_aborts(self) -> None:
        for waiting in list(self._waiting):
            open_orders = waiting.devices & set(self.judge.securing.orders)
            if open_orders and self.clock.mono_ns() < waiting.until_ns:
                continue
            self._waiting.remove(waiting)
            if open_orders:
                said = [f"{d}: {self.judge.securing.orders[d].last_words}" for d in open_orders]
                text = f"NOT SAFE, go and look: {'; '.join(sorted(said))}"
                self._reply(waiting.asker, failure(waiting.command.id, NotSafe(text)))
            else:
                verified: list[JsonValue] = [*sorted(waiting.devices)]
                reply = Reply(id=waiting.command.id, value={"verified": verified})
                self._reply(waiting.asker, reply)

    def _reply(self, asker: Asker | None, reply: Reply) -> None:
        if asker is None:
            offer(self._hub, [Answer(reply=reply).encode()])
        else:
            reception.answer(self._clients, asker, reply)

    def _leave(self, poller: zmq.Poller) -> None:
        """Nothing is granted any more; every host that is still there makes safe and verifies."""
        judge, now = self.judge, self.clock.mono_ns()
        stopping, judge.granting = judge.granting, False
        alive = [host for host in judge.hosts.values() if host.alive(now)]
        judge.make_safe([name for host in alive for name in host.outputs], "the guard stops")
        self._send()
        until = now + round((LEAVE_S + self._slowest()) * NS)
        while judge.securing.orders and self.clock.mono_ns() < until:
            ready = dict(poller.poll(TICK_MS))
            ready.pop(self._service, None)
            if self._inner in ready:
                self._drain(self._inner)
            judge.tick()
            self._send()
        judge.granting = stopping
        with contextlib.suppress(ColdframeError):
            judge.leave()


def run_guard(plan: Plan) -> int:
    """Serve until SIGTERM, or until the service is gone."""
    plan.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    addresses = GuardAddresses(
        plan.inner("guard"), plan.tcp(plan.guard_port), plan.inner("hub"), plan.inner("recorder")
    )
    journal = plan.state / f"{plan.name}.guard.journal"
    with open_clock(plan.clock) as clock, zmq.Context() as context:
        guard = Guard(plan.guard, addresses, journal, clock, context, plan.service_pid)
        at_the_end(guard.stop)
        gc.freeze()  # what lives for ever need not be looked at again
        return guard.run()
