"""The last hand: when a host dies or hangs, it opens the instrument's port and makes safe itself.

It waits with the drivers already imported, watching the hosts by pidfd, so that nothing has to be
started when it matters. A host that hangs is killed first, for the port must be free. It writes the
safe state without asking who is there: the host that died had identified that instrument.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
import zmq

from coldframe.daemon.lanes import dealer
from coldframe.daemon.lifeline import at_the_end
from coldframe.drivers.base import Driver
from coldframe.errors import BadRequest, ColdframeError
from coldframe.messages import Left, Secured, Takeover, Watch, Watching, control, new_id

log = structlog.get_logger()

NAME = "lasthand"
TURN_MS = 20
TELL_S = 0.5  # between two tellings of whom it watches
AGAIN_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # a dead process's port is free at once, nearly
OUTPUT_S = 10.0  # for an attempt under way when it must end: longer than any output takes
REPORT_S = 2.0  # then it is said that it is not safe yet; the attempts go on


@dataclass(frozen=True)
class Port:
    """An instrument with outputs, as the configuration names it."""

    driver: type[Driver]
    address: str
    model: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, name: str) -> Driver:
        options = self.driver.Options.model_validate(dict(self.options))
        return self.driver(name, self.address, self.model, options)


@dataclass
class Process:
    """A host's process and the devices it serves: device → boot."""

    pid: int
    handle: int  # pidfd: cannot come to mean another process
    ours: bool  # started by the service, so ours to kill
    devices: dict[str, str] = field(default_factory=dict)


class LastHand:
    """One loop; a thread for each device that must be made safe, so that none waits for another."""

    def __init__(
        self,
        ports: Mapping[str, Port],
        guard: str,
        context: zmq.Context[zmq.Socket[bytes]],
        parent_pid: int,
    ):
        self._ports, self._parent = ports, parent_pid
        self._service = os.pidfd_open(parent_pid)
        self._socket = dealer(context, NAME, guard)
        self._processes: dict[int, Process] = {}  # by pidfd
        self._gone: set[str] = set()  # boots of hosts that need no watching any more
        self._securing: dict[str, tuple[threading.Event, threading.Thread]] = {}
        self._results: queue.SimpleQueue[Secured] = queue.SimpleQueue()
        self._stop = False

    def stop(self) -> None:
        """End soon; from a signal handler or another thread."""
        self._stop = True

    def run(self) -> None:
        """Watch until told to stop, or until the service and all its hosts are gone."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._service, zmq.POLLIN)
        tell, orphaned = 0.0, False
        try:
            while not self._stop and not (orphaned and self._idle()):
                if time.monotonic() >= tell:
                    tell = time.monotonic() + TELL_S
                    self._tell(Watching(boots=self._boots()))
                ready = dict(poller.poll(TURN_MS))
                if ready.pop(self._service, None):
                    poller.unregister(self._service)
                    orphaned = True
                for handle in [handle for handle in ready if isinstance(handle, int)]:
                    poller.unregister(handle)
                    self._died(self._processes.pop(handle))
                if self._socket in ready:
                    for handle in self._hear():
                        poller.register(handle, zmq.POLLIN)
                self._report()
        finally:
            self._end()

    # ---- what it is told ----------------------------------------------------------------------

    def _hear(self) -> list[int]:
        """Everything the guard has sent; returns the handles of processes that are new."""
        new: list[int] = []
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return new
            try:
                message = control(frames[-1], Watch, Takeover, Left)
            except BadRequest as error:
                log.error("not understood", error=str(error))
                continue
            if isinstance(message, Watch):
                handle = self._watch(message)
                new += [] if handle is None else [handle]
            elif isinstance(message, Takeover):
                self._take_over(message)
            elif isinstance(message, Left):
                self._let_go(message)

    def _watch(self, message: Watch) -> int | None:
        device = message.device
        if device not in self._ports or message.boot in self._boots():
            return None
        if device in self._securing:  # it has a host again, and the port is the host's
            self._securing.pop(device)[0].set()
        for process in self._processes.values():
            if process.pid == message.pid:
                process.devices[device] = message.boot
                return None
        try:
            handle = os.pidfd_open(message.pid)
        except ProcessLookupError:
            self._gone.add(message.boot)
            self._secure(device, "its host had died before it could be watched")
            return None
        ours = _parent_of(message.pid) == self._parent
        self._processes[handle] = Process(message.pid, handle, ours, {device: message.boot})
        return handle

    def _take_over(self, message: Takeover) -> None:
        """End the host's process, by its handle: its death starts the rest. When it had died long
        ago, make safe once more."""
        if message.boot in self._gone:
            self._secure(message.device, message.why)
            return
        for process in self._processes.values():
            if process.devices.get(message.device) != message.boot:
                continue
            if not process.ours:
                words = f"process {process.pid} is not the service's own: not killed"
                self._tell(_secured(message.device, False, words))
                return
            log.error("killed", device=message.device, pid=process.pid, why=message.why)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.handle, signal.SIGKILL)
            return

    def _let_go(self, message: Left) -> None:
        """Safe and verified before it ended: like a host that has long been dealt with."""
        for process in self._processes.values():
            if process.devices.get(message.device) == message.boot:
                del process.devices[message.device]
                self._gone.add(message.boot)

    def _died(self, process: Process) -> None:
        self._gone |= set(process.devices.values())
        for device in process.devices:
            self._secure(device, f"its host (process {process.pid}) is gone")
        os.close(process.handle)

    # ---- what it does ------------------------------------------------------------------------

    def _secure(self, device: str, why: str) -> None:
        if device in self._securing and self._securing[device][1].is_alive():
            return
        log.warning("takes over", device=device, why=why)
        cancelled = threading.Event()
        thread = threading.Thread(
            target=self._make_safe, args=[device, cancelled], name=f"secure {device}"
        )
        self._securing[device] = (cancelled, thread)
        thread.start()

    def _make_safe(self, device: str, cancelled: threading.Event) -> None:
        """Until verified, or until the device has a host again."""
        began, attempt, reported = time.monotonic(), 0, False
        while not cancelled.is_set():
            words = self._try(device)
            took = time.monotonic() - began
            if words is None:
                text = f"made safe by the last hand, {took * 1000:.0f} ms after its host was gone"
                self._results.put(_secured(device, True, text))
                return
            if not reported and took > REPORT_S:
                reported = True
                self._results.put(_secured(device, False, words))
            cancelled.wait(AGAIN_S[min(attempt, len(AGAIN_S) - 1)])
            attempt += 1

    def _try(self, device: str) -> str | None:
        """One attempt; what went wrong, or None when the safe state is verified."""
        driver = self._ports[device].make(device)
        try:
            driver.open()
            driver.make_safe()
        except ColdframeError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  a driver's defect must not end the attempts
            return f"{type(error).__name__}: {error}"
        finally:
            driver.close()
        return None

    # ---- what it says ------------------------------------------------------------------------

    def _boots(self) -> list[str]:
        watched = [set(process.devices.values()) for process in self._processes.values()]
        return sorted(self._gone.union(*watched))

    def _idle(self) -> bool:
        working = any(thread.is_alive() for _, thread in self._securing.values())
        return not self._processes and not working and self._results.empty()

    def _report(self) -> None:
        while not self._results.empty():
            result = self._results.get()
            log.warning("secured", device=result.device, verified=result.verified)
            self._tell(result)

    def _tell(self, message: Secured | Watching) -> None:
        with contextlib.suppress(zmq.Again):
            self._socket.send(message.encode(), zmq.NOBLOCK)

    def _end(self) -> None:
        for cancelled, thread in self._securing.values():
            cancelled.set()
            thread.join(OUTPUT_S)
        self._report()
        for handle in (*self._processes, self._service):
            os.close(handle)
        self._socket.close()


def _secured(device: str, verified: bool, words: str) -> Secured:
    return Secured(
        id=f"{NAME}-{new_id()}",
        device=device,
        verified=verified,
        words=words,
        mono_ns=str(time.monotonic_ns()),
    )


def _parent_of(pid: int) -> int | None:
    """Who started this process; None when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[1])  # the name may hold anything, even ')'


def run_lasthand(ports: Mapping[str, Port], guard: str) -> int:
    """Watch until SIGTERM, or until the service is gone and all is safe."""
    with zmq.Context() as context:
        hand = LastHand(ports, guard, context, os.getppid())
        at_the_end(hand.stop)
        hand.run()
    return 0
