"""A whole service with its simulated instruments, as processes, for a test to use and to hurt."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import coldframe
import coldframe.errors
from coldframe.client import Lab
from coldframe.daemon.configuration import CONFIG
from coldframe.daemon.plan import FILE, Plan
from coldframe.daemon.simulation import addresses

ROOT = Path(__file__).resolve().parents[2]
START, STOP = 60.0, 40.0  # s; bounds of a hang, not expectations
FREE_PORTS = "\n[service]\nhub = 0\nstreams = 0\nguard = 0\nrecorder = 0\n"


class RunningLab:
    """`coldframe serve` on free ports in folders of its own."""

    def __init__(self, lab: str = "simulated.toml", extra: str = "", **environment: str):
        # sockets need short paths, so not pytest's folder
        self.folder = Path(tempfile.mkdtemp(prefix="cf-"))
        self.run_folder, self.state = self.folder / "run", self.folder / "state"
        self.run_folder.mkdir(mode=0o700)
        self.state.mkdir()
        text = (CONFIG / lab).read_text() if lab.endswith(".toml") else lab
        self.lab_file = self.folder / "lab.toml"
        self.lab_file.write_text(text + FREE_PORTS + f"[record]\nreserve_mb = 50\n{extra}")
        self.lab_file.chmod(0o644)
        self.environment = {
            **os.environ,
            "RUNTIME_DIRECTORY": str(self.run_folder),
            "STATE_DIRECTORY": str(self.state),
            **environment,
        }
        self.log = self.folder / "log"
        self.process: subprocess.Popen[str] | None = None

    def command(self, *arguments: str) -> list[str]:
        """A command line of coldframe."""
        return [sys.executable, "-m", "coldframe.daemon", *arguments]

    def run(self, *arguments: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
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

    def start(self) -> RunningLab:
        """Start it and wait until it says that it is ready."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                self.command("serve", str(self.lab_file), "--json"),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        deadline = time.monotonic() + START
        while '"ready"' not in (self.process.stdout.read() or ""):
            assert self.process.poll() is None, f"ended {self.process.returncode}:\n{self.tail()}"
            assert time.monotonic() < deadline, f"not ready:\n{self.tail()}"
            time.sleep(0.02)
        self.plan = Plan.read(self.run_folder / FILE)
        return self

    @property
    def address(self) -> str:
        return self.plan.tcp(self.plan.hub)

    def client(self, **options: Any) -> Lab:
        return coldframe.connect(self.address, **options)

    def truth(self, **request: Any) -> Any:
        """Ask the simulated world; with nothing, everything it counts."""
        host, port = addresses(self.run_folder)["truth"].removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 5) as link, link.makefile("rb") as file:
            link.sendall(json.dumps(request or {"do": "truth"}).encode() + b"\n")
            reply = json.loads(file.readline())
        assert "error" not in reply, reply
        return reply["value"]

    def pid_of(self, device: str) -> int:
        """The process that hosts a device."""
        with self.client() as lab:
            return int(lab.describe(device)["pid"])

    def arm(self, *outputs: str) -> None:
        """What a person does first: arm the rules, enable outputs."""
        with self.client() as lab:
            wait_for(lambda: lab.reset() is not None or True, 15)
            for name in outputs:
                lab.enable(name)

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text().splitlines()[-lines:])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it; returns the exit status."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(STOP)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait(5)

    def close(self) -> None:
        """Stop what still runs and remove the folders."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def wait_for(condition: Any, seconds: float = 10.0, what: str = "") -> Any:
    """Poll until `condition()` is true (errors of ours count as false); returns its value."""
    deadline = time.monotonic() + seconds
    last: Any = None
    while time.monotonic() < deadline:
        try:
            if last := condition():
                return last
        except coldframe.errors.ColdframeError as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds:g} s: {what or condition}; last: {last}")
