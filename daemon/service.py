"""The service: parent of guard, last hand, hub, recorder, hosts and runs. It decides nothing.

It validates, takes the lock, starts in order, says READY when every device has a host and the
guard answers, restarts what may be restarted, and stops in the reverse order with outputs safe
first. A guard that dies ends the service: no permit is renewed, every host drives its safe state,
and systemd starts it again in INIT, where nothing is allowed.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator

import structlog
import zmq
from pydantic import JsonValue

from coldframe.daemon import logs, simulation
from coldframe.daemon.children import Child, end_all
from coldframe.daemon.configuration import LoadedLab
from coldframe.daemon.folders import run_folder, session_folder, state_folder
from coldframe.daemon.lab_checks import guard_settings
from coldframe.daemon.lab_models import ELSEWHERE
from coldframe.daemon.lanes import dealer
from coldframe.daemon.lifeline import at_the_end
from coldframe.daemon.lock import Lock
from coldframe.daemon.notify import notify, watchdog_seconds
from coldframe.daemon.peer import Peer
from coldframe.daemon.plan import FILE, Plan
from coldframe.daemon.runner import DEFECT, DONE, FAILED, report_death
from coldframe.errors import BadRequest, Busy, ColdframeError, ConfigurationError, NotReady
from coldframe.messages import Answer, Command, Relay, Reply, control, failure, new_id
from coldframe.protocols.catalogue import check_arguments, find

log = structlog.get_logger()

TURN = 0.2  # s between two looks at the children
START_LIMIT = 60.0  # s until every device has a host
STOP_LIMIT = 12.0  # s for hosts to make safe and verify, and for the recorder to close its file
BEAT = 1.0  # s between two questions to guard and hub
RESTART_WAIT = 2.0  # s before a host, hub or recorder that crashed is started again


class Service:
    """`coldframe serve`. `run` returns the exit status."""

    def __init__(self, loaded: LoadedLab, as_json: bool = False):
        self.loaded, self._as_json = loaded, as_json
        self._lab = loaded.lab
        self.folder = run_folder(self._lab.lab.name)
        self._environment = {"RUNTIME_DIRECTORY": str(self.folder)}
        self._children: dict[str, Child] = {}
        self._restart_at: dict[str, float] = {}
        self._simulators: Child | None = None
        self._run: Child | None = None
        self._running = ("", "")  # id and name of that run
        self._stop = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT: 0; or until the guard is gone: 1."""
        logs.configure("service")
        self._lock = Lock(self.folder / "lock")
        at_the_end(self._told_to_stop)
        try:
            with zmq.Context() as context:
                return self._serve(context)
        finally:
            self._end()
            self._lock.release()

    # start -----------------------------------------------------------------------------

    def _serve(self, context: zmq.Context[zmq.Socket[bytes]]) -> int:
        self._plan = self._make_plan()
        self._plan_file = self._plan.write()
        for name in ("guard", "lasthand", "hub", "recorder"):
            self._start(name, [name, str(self._plan_file)])
        for name, devices in self._hosts().items():
            self._start(name, ["hosts", str(self._plan_file), *devices])
        hub = Peer(context, self._plan.tcp(self._plan.hub))
        guard = Peer(context, self._plan.tcp(self._plan.guard_port))
        inner = dealer(context, "service", self._plan.inner("hub"))
        try:
            if self._wait_until_ready(hub, guard):
                self._announce()
                return self._watch(hub, guard, inner)
            return 0 if self._stop else 1
        finally:
            for each in (hub.socket, guard.socket, inner):
                each.close(linger=0)

    def _make_plan(self) -> Plan:
        lab = self._lab
        addresses = {name: device.address for name, device in lab.device.items()}
        if lab.lab.simulated:
            self._need_simulators()
            found = simulation.addresses(self.folder)
            for name, address in addresses.items():
                wanted = address.removeprefix("sim://").partition("?")[0]
                if wanted not in found:
                    raise ConfigurationError(
                        f"device.{name}.address: nothing simulates {address}; "
                        f"there are {', '.join(sorted(found))}"
                    )
                addresses[name] = found[wanted]
        hub, streams, guard = _ports(lab.service.hub, lab.service.streams, lab.service.guard)
        return Plan(
            name=lab.lab.name,
            lab_file=self.loaded.path.resolve(),
            folder=self.folder,
            state=state_folder(),
            sessions=session_folder(lab.record.folder),
            service_pid=os.getpid(),
            hub=hub,
            streams=streams,
            guard_port=guard,
            clock=self.folder / simulation.CLOCK if lab.lab.simulated else None,
            addresses=addresses,
            guard=guard_settings(lab, self.loaded.sha256),
        )

    def _need_simulators(self) -> None:
        """Start the simulated instruments, unless somebody has: then they outlive us."""
        if simulation.living(self.folder) is not None:
            return
        form = "json" if self._as_json else "words"
        arguments = ["simulators", str(self.loaded.path), str(os.getpid()), form]
        self._simulators = self._child("simulators", arguments)
        deadline = time.monotonic() + 30
        while simulation.living(self.folder) != self._simulators.pid:
            if not self._simulators.alive() or time.monotonic() > deadline:
                raise NotReady("the simulated instruments did not start; see the lines above")
            if self._stop:
                raise NotReady("told to stop")
            time.sleep(0.05)

    def _hosts(self) -> dict[str, list[str]]:
        """Which devices share a process: those that name the same one; else each its own."""
        hosts: dict[str, list[str]] = {}
        for name, device in self._lab.device.items():
            if device.host != ELSEWHERE:
                hosts.setdefault(f"host {device.host or name}", []).append(name)
        return hosts

    def _start(self, name: str, arguments: list[str]) -> None:
        self._children[name] = self._child(name, arguments)

    def _child(self, name: str, arguments: list[str]) -> Child:
        """It holds the lock with us: while one of them lives, nobody else opens these ports."""
        return Child(name, arguments, self._environment, holds=[self._lock.descriptor])

    def _wait_until_ready(self, hub: Peer, guard: Peer) -> bool:
        deadline = time.monotonic() + START_LIMIT
        while not self._stop and time.monotonic() < deadline:
            for name, child in self._children.items():
                if not child.alive():
                    log.error("did not start", child=name, status=child.exit_status)
                    return False
            if self._all_there(hub, guard):
                return True
            time.sleep(0.05)
        if not self._stop:
            log.error("not ready in time", seconds=START_LIMIT)
        return False

    def _all_there(self, hub: Peer, guard: Peer) -> bool:
        """The guard answers, the hub knows it and every host of ours, the recorder listens."""
        ours = {name for devices in self._hosts().values() for name in devices}
        found = hub.ask(Command(id=new_id(), do="describe"), 0.5)
        recorder = hub.ask(Command(id=new_id(), do="record", name="status"), 0.5)
        return (
            guard.ask(Command(id=new_id(), do="describe"), 0.5) is not None
            and found is not None
            and {*ours, "guard"} <= _names(found)
            and recorder is not None
            and recorder.error is None
        )

    def _announce(self) -> None:
        address = self._plan.tcp(self._plan.hub)
        notify(f"READY=1\nSTATUS={self._lab.lab.name}: serving at {address}")
        log.info(
            "ready", lab=self._lab.lab.name, commands=address, sessions=str(self._plan.sessions)
        )
        if self._as_json:
            print(json.dumps({"ready": self._lab.lab.name, "address": address}), flush=True)
        else:
            print(f"ready {self._lab.lab.name} {address}", flush=True)

    # while it runs ---------------------------------------------------------------------

    def _watch(self, hub: Peer, guard: Peer, inner: zmq.Socket[bytes]) -> int:
        """One turn: orders from the hub, the children, the watchdog."""
        ping_every = watchdog_seconds()
        next_beat = 0.0
        while not self._stop:
            if inner.poll(round(TURN * 1000)):
                self._obey(inner)
            if not self._children["guard"].alive():
                log.error("the guard is gone: every output falls to its safe state")
                return 1
            self._look_after_children()
            now = time.monotonic()
            if ping_every is not None and now >= next_beat:
                next_beat = now + min(BEAT, ping_every)
                # the ping follows the work: both loops have just turned
                question = Command(id=new_id(), do="describe")
                if guard.ask(question, BEAT) is not None and hub.ask(question, BEAT) is not None:
                    notify("WATCHDOG=1")
        return 0

    def _look_after_children(self) -> None:
        now = time.monotonic()
        for name, child in self._children.items():
            if child.alive():
                continue
            if name not in self._restart_at:
                log.error("died", child=name, status=child.exit_status)
                self._restart_at[name] = now + RESTART_WAIT
            elif now >= self._restart_at[name]:
                # its outputs are safe by now, and stay so: nobody has enabled the new boot
                del self._restart_at[name]
                child.start()
        if self._run is not None and not self._run.alive():
            status, self._run = self._run.exit_status, None
            if status not in (DONE, FAILED):
                log.error("a run died", status=status)
                self._abort(f"the run died with status {status}")
            if status not in (DONE, FAILED, DEFECT):
                report_death(self._plan, *self._running, status)

    def _obey(self, inner: zmq.Socket[bytes]) -> None:
        message = control(inner.recv(), Relay)
        assert isinstance(message, Relay)
        command = message.command
        try:
            reply = Reply(id=command.id, value=self._order(command))
        except ColdframeError as error:
            reply = failure(command.id, error)
        inner.send(Answer(reply=reply).encode())

    def _order(self, command: Command) -> JsonValue:
        """Start a run; the only order there is for the service."""
        if command.do != "run":
            raise BadRequest(f"{command.do!r}: a run can be started and aborted, no more yet")
        check_arguments(find(command.name), command.args)
        # a run that has just said it is done may still be leaving
        if self._run is not None and not self._run.wait(1.0):
            raise Busy("a protocol is running: wait for it, or abort")
        run_id = new_id()
        self._running = (run_id, command.name)
        arguments = ["runner", str(self._plan_file), run_id, command.name]
        self._run = self._child("run", [*arguments, json.dumps(command.args)])
        return {"run": run_id}

    def _abort(self, reason: str) -> None:
        with zmq.Context() as context:
            peer = Peer(context, self._plan.tcp(self._plan.guard_port))
            peer.ask(Command(id=new_id(), do="abort", args={"reason": reason}), 2.0)
            peer.socket.close(linger=0)

    # stop ------------------------------------------------------------------------------

    def _told_to_stop(self) -> None:
        self._stop = True

    def _end(self) -> None:
        """Safe before tidy: runs, hosts (their outputs), recorder (its file), then the rest."""
        notify("STOPPING=1")
        if self._run is not None:
            end_all([self._run], 2.0)
        for group in self._stages():
            end_all(group, STOP_LIMIT)
        if self._simulators is not None:
            end_all([self._simulators], 5.0)
        (self.folder / FILE).unlink(missing_ok=True)
        log.info("stopped")

    def _stages(self) -> Iterator[list[Child]]:
        children = self._children
        yield [child for name, child in children.items() if name.startswith("host ")]
        # the guard goes before the silence of the hosts that have ended would be a trip
        for name in ("guard", "recorder", "hub", "lasthand"):
            if name in children:
                yield [children[name]]


def run_hosts(loaded: LoadedLab, devices: list[str]) -> int:
    """`coldframe host`: hosts for `devices`, dialling in to the service of this laboratory."""
    from coldframe.daemon import processes

    plan_file = run_folder(loaded.lab.lab.name) / FILE
    if unknown := sorted(set(devices) - set(loaded.lab.device)):
        known = ", ".join(loaded.lab.device)
        raise ConfigurationError(f"no device {', '.join(unknown)} in {loaded.path}; it has {known}")
    if ours := [name for name in devices if loaded.lab.device[name].host != ELSEWHERE]:
        raise ConfigurationError(
            f"{loaded.path}: the service itself hosts {', '.join(ours)}: two hosts must not share "
            f'an instrument. Write host = "{ELSEWHERE}" in its table, and start the service anew'
        )
    if not plan_file.exists():
        raise NotReady(
            f"no service of {loaded.lab.lab.name} runs here: start `coldframe serve` first"
        )
    return processes.run("hosts", Plan.read(plan_file), devices)


def _names(described: Reply) -> set[str]:
    """The devices the hub knows."""
    value = described.value
    devices = value.get("devices") if isinstance(value, dict) else None
    found = devices if isinstance(devices, list) else []
    return {str(each["device"]) for each in found if isinstance(each, dict)}


def _ports(*wanted: int) -> list[int]:
    """The ports, with a free one for each 0."""
    held: list[socket.socket] = []
    try:
        for port in wanted:
            listener = socket.socket()
            listener.bind(("127.0.0.1", port))
            held.append(listener)
        return [listener.getsockname()[1] for listener in held]
    except OSError as error:
        raise ConfigurationError(
            f"port {port} on loopback is taken ({error.strerror}): "
            "another program listens there; choose another in [service]"
        ) from None
    finally:
        for listener in held:
            listener.close()
