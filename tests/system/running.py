"""A whole service with its simulated instruments, as processes, for a test to use and to hurt."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import coldframe
from coldframe.client import Lab
from coldframe.daemon.configuration import CONFIG
from coldframe.daemon.plan import FILE, Plan
from coldframe.daemon.simulation import ADDRESSES, addresses
from coldframe.errors import ColdframeError

ROOT = Path(__file__).resolve().parents[2]
START, STOP = 60.0, 40.0  # s; bounds of a hang, not expectations
FREE_PORTS = "\n[service]\nhub = 0\nstreams = 0\nguard = 0\n"
SYSTEMD = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")  # not for a service of ours


class RunningLab:
    """`coldframe serve` on free ports, in folders of its own.

    `outside`: the instruments run in a process of their own, as real ones do. They outlive the
    service and tell afterwards what happened to them.
    """

    def __init__(
        self,
        lab: str = "simulated.toml",
        *,
        outside: bool = False,
        reserve_mb: float = 50,
        **environment: str,
    ):
        # sockets need short paths, so not pytest's folder
        self.folder = Path(tempfile.mkdtemp(prefix="cf-"))
        self.run_folder, self.state = self.folder / "run", self.folder / "state"
        self.run_folder.mkdir(mode=0o700)
        self.state.mkdir()
        text = (CONFIG / lab).read_text(encoding="utf-8")
        self.lab_file = self.folder / "lab.toml"
        self.lab_file.write_text(f"{text}{FREE_PORTS}[record]\nreserve_mb = {reserve_mb}\n")
        self.lab_file.chmod(0o644)
        self.environment = {
            **{key: value for key, value in os.environ.items() if key not in SYSTEMD},
            "RUNTIME_DIRECTORY": str(self.run_folder),
            "STATE_DIRECTORY": str(self.state),
            **environment,
        }
        self.log, self.printed = self.folder / "log", self.folder / "printed"
        self._outside = outside
        self._simulators: subprocess.Popen[bytes] | None = None
        self._handles: list[int] = []  # pidfds of what a killed service left behind
        self.process: subprocess.Popen[bytes] | None = None

    # start and stop ----------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> RunningLab:
        """Start it; with `wait` until it says that it is ready."""
        if self._outside and self._simulators is None:
            self._simulators = self._spawn("simulate", str(self.lab_file))
            wait_for((self.run_folder / ADDRESSES).exists, START, "the instruments listen")
        self.process = self._spawn("serve", str(self.lab_file), "--json")
        if wait:
            self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        assert self.process is not None
        process = self.process

        def ready() -> bool:
            assert process.poll() is None, f"ended with {process.returncode}:\n{self.tail()}"
            return any('"address": "tcp' in line for line in self._last_words('"ready"'))

        try:
            wait_for(ready, START, "ready")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None
        self.plan = Plan.read(self.run_folder / FILE)

    def _last_words(self, word: str) -> list[str]:
        """The service's own lines; those of its instruments name a device."""
        lines = self.printed.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if word in line and '"name"' not in line]

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.printed, "w") as printed, open(self.log, "a") as log:
            return subprocess.Popen(
                ["sh", "-c", 'ulimit -c 0; exec "$0" "$@"', *self.command(*arguments)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=log,
                env=self.environment,
                cwd=ROOT,
                start_new_session=True,  # a Ctrl-C at the test is not meant for it
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to stop; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Until it ends by itself; returns the exit status."""
        assert self.process is not None
        try:
            return self.process.wait(STOP)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"it does not stop:\n{self.tail()}") from None

    def kill(self, number: int = signal.SIGKILL) -> set[int]:
        """End the service itself, and nothing else; returns what it leaves behind."""
        assert self.process is not None
        left = set(self.pids().values())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                self._handles.append(os.pidfd_open(pid))
        self.process.send_signal(number)
        self.process.wait(10)
        return left

    def sweep(self) -> None:
        """What systemd does with the control group of a service that is gone."""
        for handle in self._handles:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
            os.close(handle)
        self._handles.clear()

    def close(self) -> None:
        """Stop what still runs and remove the folders."""
        try:
            if self.process is not None and self.process.poll() is None:
                self.stop()
        finally:
            self.sweep()
            if self._simulators is not None:
                self._simulators.terminate()
                self._simulators.wait(10)
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> RunningLab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # what a person does --------------------------------------------------------------------

    def command(self, *arguments: str) -> list[str]:
        """A command line of coldframe."""
        return [sys.executable, "-m", "coldframe.daemon", *arguments]

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """One command of the command line, talking to this service."""
        environment = dict(self.environment)
        if self.process is not None:
            environment["COLDFRAME_ADDRESS"] = self.address
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            cwd=ROOT,
        )

    @property
    def address(self) -> str:
        return self.plan.tcp(self.plan.hub)

    def client(self, **options: Any) -> Lab:
        return coldframe.connect(self.address, **options)

    def arm(self, *outputs: str) -> None:
        """What a person does first: acknowledge, arm the rules, enable outputs."""
        with self.client() as lab:

            def armed() -> bool:
                for rule in self.tripped():
                    lab.ack(rule)
                return lab.reset() is not None

            wait_for(armed, 15, "a reset is accepted")
            for name in outputs:
                wait_for(lambda name=name: lab.enable(name), 10, f"{name} is enabled")

    def beam_on(self) -> None:
        """The electron beam falls on the specimen, with a person's leave."""
        self.arm("beam")
        with self.client() as lab:
            wait_for(lambda: lab.call("beam.unblank") is None, 10, "the beam may be unblanked")
        wait_for(lambda: not self.truth()["blanked"], 5, "the beam is on, as the world sees it")

    def calibrate(self) -> None:
        """Spots 6 (1 e⁻/Å²/s), 4 (10) and 3 (32), as the Faraday cup would measure them."""
        with self.client() as lab:
            optics = {name: lab.get(f"beam.{name}") for name in ("high_voltage", "magnification")}
            for spot, current in ((6, 12.58e-12), (4, 125.8e-12), (3, 397.8e-12)):
                lab.call(
                    "guard.calibrate_dose", spot=spot, current=current, diameter=1e-6, **optics
                )

    def turn_spot(self, spot: int) -> None:
        """Somebody turns the knob at the microscope, past all of us; PyJEM counts from 0."""
        host, port = self.plan.addresses["beam"].removeprefix("tcp://").split(":")
        request = {"id": 1, "call": "EOS3.SelectSpotSize", "args": [spot - 1]}
        with socket.create_connection((host, int(port)), 5) as wire:
            wire.sendall(json.dumps(request).encode() + b"\n")
            assert "error" not in json.loads(wire.recv(1000))

    # what can be seen ----------------------------------------------------------------------

    def truth(self, **request: Any) -> Any:
        """Ask the simulated world; with nothing, everything it counts."""
        host, port = addresses(self.run_folder)["truth"].removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 5) as link, link.makefile("rb") as file:
            link.sendall(json.dumps(request or {"do": "truth"}).encode() + b"\n")
            reply = json.loads(file.readline())
        assert "error" not in reply, reply
        return reply["value"]

    def fault(self, device: str, name: str, value: float | None = 1.0) -> None:
        """Switch a fault of an instrument on; with None off."""
        self.truth(do="fault", device=device, name=name, value=value)

    def tripped(self) -> list[str]:
        """The rules that are latched: guard.il_03 is IL-03."""
        with self.client() as lab:
            readings = wait_for(lambda: lab.snapshot("guard")["readings"], 10, "the guard's states")
        return [
            name.removeprefix("guard.").upper().replace("_", "-")
            for name, reading in readings.items()
            if str(reading["value"]) == "tripped"
        ]

    def pids(self) -> dict[str, int]:
        """The processes of the service by their name; hosts by their devices."""
        assert self.process is not None
        found = {}
        with contextlib.suppress(OSError):
            pid = self.process.pid
            for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
                with contextlib.suppress(OSError, ValueError):  # it has just ended
                    words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
                    name, *rest = words[words.index("coldframe.daemon") + 1 : -1]
                    names = rest[1:] if name == "hosts" else [name]
                    found.update(dict.fromkeys(names, child))
        return found

    def tail(self, lines: int = 40) -> str:
        """The end of the log."""
        return "\n".join(self.log.read_text(encoding="utf-8").splitlines()[-lines:])


def alive(pid: int) -> bool:
    """Does this process still run? One that nobody has buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process is stopped for so long, as by a debugger or a swapping machine."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGSTOP)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGCONT)
        os.close(handle)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0, what: str = "") -> Any:
    """Poll until `condition()` is true (errors of ours count as false); returns its value."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except ColdframeError as error:
            last = error
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}; last: {last!r}")
