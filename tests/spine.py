"""A small service for tests: the real hub and hosts, a guard of few lines, a lamp on a wire."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from coldframe.clock import Clock, SharedClock, SystemClock
from coldframe.daemon.guard import Guard as Journalled
from coldframe.daemon.guard import GuardAddresses
from coldframe.daemon.host import DeviceHost, HostSettings
from coldframe.daemon.hub import Hub, HubSettings
from coldframe.daemon.lanes import dealer, inner_router
from coldframe.daemon.rules import GuardSettings
from coldframe.daemon.switchboard import Expected
from coldframe.drivers.base import Driver, Output, Parameter, Sample, Stream, command, retry_safe
from coldframe.drivers.lines import LineDriver
from coldframe.drivers.links import Dialect, LineLink, open_wire
from coldframe.errors import InstrumentError, Interlocked
from coldframe.messages import (
    Answer,
    Ask,
    DeviceInfo,
    Grant,
    Message,
    Register,
    Registered,
    Relay,
    Reply,
    Secured,
    SessionMark,
    SessionMarked,
    control,
    failure,
)
from coldframe.simulators.ports import Instrument, Lines
from coldframe.status import Severity, Status


class LampSimulator(Instrument):
    """A lamp with a dimmer: LEVEL x, LEVEL?, ON, OFF, ON?, BRIGHT?, *IDN?."""

    models = ("lamp",)
    serial = "0001"

    def power_on(self) -> None:
        self.level, self.on = 1.0, False
        self.writes: list[str] = []
        self.level_reply = ""  # what BRIGHT? says instead of the truth

    def converse(self, send: Callable[[bytes], None], port: int = 0) -> Lines:
        return Lines(send, self._answer, b"\n")

    def _answer(self, line: str) -> str | None:
        word, _, rest = line.partition(" ")
        if word in ("LEVEL", "ON", "OFF"):
            self.writes.append(line)
        if word == "LEVEL":
            self.level = float(rest)
        elif word in ("ON", "OFF") and "lie" not in self.faults.active:
            self.on = word == "ON"
        return {
            "*IDN?": f"ACME,LAMP,{self.serial},1.0",
            "LEVEL?": f"{self.level:g}",
            "ON?": str(int(self.on)),
            "BRIGHT?": self.level_reply or f"{self.level * self.on:g}",
        }.get(word)


class Lamp(LineDriver):
    """The lamp: brightness, a dimmer, a switch."""

    models = ("lamp",)
    role = "Lamp"
    outputs = (Output("light", "lamp dark", 0.01),)
    brightness = Parameter(float, unit="W", read="BRIGHT?", poll=0.03)
    level = Parameter(
        float, unit="W", read="LEVEL?", write="LEVEL {value:g}", limits=(0, 10), hazard="neutral"
    )
    lit = Parameter(bool, read="ON?", poll=0.03)
    unstable = Parameter(float, unit="W")
    secret = Parameter(int, write="SECRET {value}", hazard="neutral")

    def open(self) -> None:
        dialect = Dialect(recognise=r"ACME,.*", timeout=0.1)
        self._link = LineLink(open_wire(self.address), dialect)
        self._on: bool | None = None

    def ask(self, text: str) -> str:
        answer = self.link.ask(text)
        if text == "ON?":
            self._on = answer == "1"
        return answer

    def tell(self, text: str) -> None:
        self.link.tell(text)

    def identify(self) -> str:
        return self.ask("*IDN?")

    def read_unstable(self) -> float:
        raise InstrumentError(f"{self.name}: -230, data stale")

    def status(self) -> Status:
        return Status(Severity.IDLE, "lit" if self._on else "dark")

    def outputs_on(self) -> list[str]:
        return [] if self._on is False else ["light"]

    def adopt(self) -> None:
        self.ask("ON?")

    @command("hazardous", output="light")
    def turn_on(self) -> None:
        """Light."""
        self._on = None
        self.tell("ON")

    @command("safe", output="light")
    def turn_off(self) -> None:
        """Dark."""
        self.tell("OFF")

    @command("neutral", watts="level")
    def dim(self, watts: float) -> None:
        """Another way to the dimmer."""
        self.tell(f"LEVEL {watts:g}")

    @command()
    def surge(self) -> None:
        """Dangerous, and nobody has said to which output."""
        self.tell("LEVEL 10")

    @command("neutral")
    def nap(self, seconds: float, note: str = "") -> dict[str, Any]:
        """Be busy for a while."""
        time.sleep(seconds)
        return {"slept": seconds, "note": note}

    @command("neutral")
    def stumble(self) -> None:
        """A defect in a driver."""
        raise ZeroDivisionError("a defect")

    def make_safe(self, sensor_good: bool | None = None) -> None:
        def attempt() -> bool:
            self.tell("OFF")
            return self.ask("ON?") == "0"

        retry_safe(self, attempt, "lamp dark")


class Eye(Driver):
    """A camera without a wire: counts images while it acquires."""

    models = ("eye",)
    role = "FrameSource"
    acquiring = Parameter(bool, poll=0.1)
    _running = False

    def open(self) -> None:
        self._number = 0

    def close(self) -> None:
        self._running = False

    def identify(self) -> str:
        return "ACME,EYE,7"

    def read_acquiring(self) -> bool:
        return self._running

    def status(self) -> Status:
        return Status(Severity.IDLE, "")

    def stream(self) -> Stream:
        return Stream("frame", "<u2", (4, 3))

    @command("neutral")
    def start(self) -> None:
        self._running = True

    def take(self) -> list[Sample]:
        if not self._running:
            return []
        self._number += 1
        image = np.full((4, 3), self._number, dtype="<u2")
        return [Sample(image, time.monotonic_ns(), {"number": self._number})]


class Guard(threading.Thread):
    """Grants what `grants` says, passes hazardous commands on while it does, remembers the rest."""

    def __init__(self, context: zmq.Context[Any], folder: Path):
        super().__init__(name="guard")
        self.grants, self.answers = True, True
        self.secured: list[Secured] = []
        self.readings: list[list[bytes]] = []
        self.asks: list[Ask] = []
        self.commands: list[Any] = []
        self._out: list[tuple[str, Message]] = []
        self._socket = inner_router(context, f"ipc://{folder}/guard")
        self._hub = dealer(context, "guard", f"ipc://{folder}/hub")
        self._end = threading.Event()

    def send(self, device: str, message: Message) -> None:
        self._out.append((device, message))

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._hub, zmq.POLLIN)
        info = DeviceInfo(
            device="guard", model="guard", role="", identity="", simulated=True, boot="g", pid=0
        )
        self._hub.send(Register(info=info).encode())
        while not self._end.is_set():
            for socket, _ in poller.poll(10):
                frames = socket.recv_multipart()
                self._hear_hub(frames[0]) if socket is self._hub else self._hear(frames)
            while self._out:
                device, message = self._out.pop(0)
                with contextlib.suppress(zmq.ZMQError):  # no such host
                    self._socket.send_multipart([device.encode(), message.encode()])
        self._socket.close()
        self._hub.close()

    def stop(self) -> None:
        self._end.set()
        self.join(5)

    def _hear(self, frames: list[bytes]) -> None:
        if len(frames) > 2:
            self.readings.append(frames[1:])
            return
        message = control(frames[1], Register, Ask, Secured)
        if isinstance(message, Register):
            self.send(message.info.device, Registered(boot=message.info.boot))
        elif isinstance(message, Secured):
            self.secured.append(message)
        elif isinstance(message, Ask):
            self.asks.append(message)
            if self.answers:
                granted = message.outputs if self.grants else []
                self.send(message.device, Grant(boot=message.boot, n=message.n, granted=granted))

    def _hear_hub(self, data: bytes) -> None:
        relay = control(data, Relay, Registered)
        if not isinstance(relay, Relay):
            return
        command = relay.command
        self.commands.append(command)
        if command.do not in ("set", "call"):
            self._hub.send(Answer(reply=Reply(id=command.id, value=command.do)).encode())
        elif self.grants:
            self.send(command.name.partition(".")[0], relay)
        else:
            error = Interlocked(f"{command.name}: IL-00 is tripped")
            self._hub.send(Answer(reply=failure(command.id, error)).encode())


class RealGuard(threading.Thread):
    """The service's own guard, in a thread of the test."""

    def __init__(
        self, context: zmq.Context[Any], folder: Path, settings: GuardSettings, clock: Clock
    ):
        super().__init__(name="guard")
        inner = {name: f"ipc://{folder}/{name}" for name in ("guard", "hub", "recorder")}
        addresses = GuardAddresses(
            inner["guard"], "tcp://127.0.0.1:*", inner["hub"], inner["recorder"]
        )
        self.it = Journalled(settings, addresses, folder / "guard.journal", clock, context)

    def run(self) -> None:
        self.it.run()

    def stop(self) -> None:
        self.it.stop()
        self.join(5)


class Recorder(threading.Thread):
    """Remembers what it is sent; marks sessions."""

    def __init__(self, context: zmq.Context[Any], folder: Path):
        super().__init__(name="recorder")
        self.messages: list[list[bytes]] = []
        self.marked: list[SessionMarked] = []
        self._out: list[tuple[str, Message]] = []
        self._socket = inner_router(context, f"ipc://{folder}/recorder")
        self._end = threading.Event()

    def mark(self, device: str, session: str | None) -> None:
        self._out.append((device, SessionMark(session=session)))

    def run(self) -> None:
        while not self._end.is_set():
            while self._out:
                device, message = self._out.pop(0)
                self._socket.send_multipart([device.encode(), message.encode()])
            if not self._socket.poll(10):
                continue
            frames = self._socket.recv_multipart()
            if len(frames) > 2:
                self.messages.append(frames[1:])
                continue
            message = control(frames[1], Register, SessionMarked)
            if isinstance(message, SessionMarked):
                self.marked.append(message)
        self._socket.close()

    def stop(self) -> None:
        self._end.set()
        self.join(5)


class Spine:
    """Hub, guard and recorder in threads, hosts as they are added; ends what it started."""

    def __init__(self, folder: Path, *, simulated: bool = True, rules: GuardSettings | None = None):
        self.folder, self.simulated = folder, simulated
        self.context: zmq.Context[Any] = zmq.Context()
        self.clock_file = folder / "clock" if simulated else None
        self._clock: Clock = (
            SharedClock.create(self.clock_file) if self.clock_file else SystemClock()
        )
        self.real_guard: RealGuard | None = None
        self.guard: Guard | None = None
        if rules is not None:
            self.real_guard = RealGuard(self.context, folder, rules, self._clock)
        else:
            self.guard = Guard(self.context, folder)
        self._hub_settings = HubSettings(
            lab="bench",
            expected={
                "lamp": Expected("lamp", "Lamp"),
                "stage": Expected("lakeshore336", "Thermostat"),
                "guard": Expected("guard"),
                "eye": Expected("eye", "FrameSource"),
                "ghost": Expected("lamp", "Lamp"),
            },
            inner=f"ipc://{folder}/hub",
            commands="tcp://127.0.0.1:*",
            streams="tcp://127.0.0.1:*",
            guard=self.real_guard.it.clients if self.real_guard else "tcp://127.0.0.1:5752",
            simulated=simulated,
            clock=self.clock_file,
        )
        self.hub = Hub(self._hub_settings, self._clock, self.context)
        self.recorder = Recorder(self.context, folder)
        self._parts: list[Any] = [self.recorder, self.guard or self.real_guard]
        for part in self._parts:
            part.start()
        self._threads = [threading.Thread(target=self.hub.run, name="hub")]
        self._threads[0].start()
        wait(lambda: "guard" in self.hub.board.devices)
        self.hosts: list[DeviceHost] = []
        self.failures: list[BaseException] = []

    def restart_hub(self) -> None:
        """As after a crash: nothing is remembered."""
        self.hub.stop()
        self._threads[0].join(5)
        self.hub = Hub(self._hub_settings, self._clock, self.context)
        self._threads[0] = threading.Thread(target=self.hub.run, name="hub")
        self._threads[0].start()

    @property
    def address(self) -> str:
        return str(self.hub.addresses["commands"])

    def host(self, name: str, driver: type[Driver], address: str, **options: Any) -> DeviceHost:
        settings = HostSettings(
            name=name,
            driver=driver,
            address=address,
            guard=f"ipc://{self.folder}/guard",
            hub=f"ipc://{self.folder}/hub",
            recorder=f"ipc://{self.folder}/recorder",
            simulated=self.simulated,
            **options,
        )
        host = DeviceHost(settings, self._clock, self.context)

        def run() -> None:
            try:
                host.run()
            except ZeroDivisionError as error:  # the defect that `stumble` stands for
                self.failures.append(error)

        thread = threading.Thread(target=run, name=name)
        thread.start()
        self.hosts.append(host)
        self._threads.append(thread)
        return host

    def close(self) -> None:
        for host in self.hosts:
            host.stop()
        for thread in self._threads[1:]:
            thread.join(5)
        self.hub.stop()
        self._threads[0].join(5)
        for part in self._parts:
            part.stop()
        if isinstance(self._clock, SharedClock):
            self._clock.close()
        self.context.term()


def wait(what: Callable[[], Any], seconds: float = 10.0) -> Any:
    """The first true value of `what()`; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.005)
    raise AssertionError(f"not within {seconds} s")
