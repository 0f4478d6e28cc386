"""What systemd hears and does, by a NOTIFY_SOCKET of our own: tested where systemd is not, too.

The harness does what the unit asks of systemd: a ping that is missed is answered with SIGABRT to
the service, SIGKILL to what is left of its control group, and a new start.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldframe.client import Lab
from coldframe.daemon.plan import FILE, Plan
from coldframe.errors import Interlocked
from tests.system.running import RunningLab, alive, frozen, wait_for

WATCHDOG = 2.0  # s, as in WatchdogSec
PATIENCE = 60.0  # s until it must have started
DEVICES = {"stage", "cup", "beam", "bias", "needle", "camera", "eds", "guard"}


class Manager:
    """The end of the socket at which systemd listens."""

    def __init__(self, path: Path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))

    def hear(self, seconds: float) -> str | None:
        """The next message, or None when there is none for so long."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(4096).decode()
        except TimeoutError:
            return None

    def hear_until(self, word: str, seconds: float) -> list[str]:
        """All messages up to the one with this word."""
        heard: list[str] = []
        deadline = time.monotonic() + seconds
        while not (heard and word in heard[-1]):
            message = self.hear(max(0.01, deadline - time.monotonic()))
            assert message is not None, f"no {word} within {seconds:g} s; heard {heard}"
            heard.append(message)
        return heard

    def wait_for_silence(self, seconds: float, limit: float) -> None:
        """Until no ping came for `seconds`: what systemd calls a missed one."""
        deadline = time.monotonic() + limit
        while self.hear(seconds) is not None:
            assert time.monotonic() < deadline, "the pings go on"


@pytest.fixture(scope="module")
def unit() -> Iterator[tuple[RunningLab, Manager]]:
    with RunningLab(outside=True, WATCHDOG_USEC=str(round(WATCHDOG * 1e6))) as lab:
        path = lab.folder / "notify"
        manager = Manager(path)
        lab.environment["NOTIFY_SOCKET"] = str(path)
        yield lab, manager
        lab.close()
        manager.socket.close()


def test_ready_is_said_when_every_device_is_there_and_not_before(
    unit: tuple[RunningLab, Manager],
) -> None:
    lab, systemd = unit
    lab.start(wait=False)
    host = wait_for(lambda: lab.pids().get("stage"), PATIENCE, "a host for the stage")

    with frozen(host):  # before it could say that it is there
        wait_for((lab.run_folder / FILE).exists, PATIENCE, "the plan is made")
        lab.plan = Plan.read(lab.run_folder / FILE)
        with lab.client(timeout=1.0) as client:
            others = DEVICES - {"stage"}
            wait_for(lambda: others <= devices(client), PATIENCE, "everybody else is there")
        assert systemd.hear(1.0) is None

    first = systemd.hear(PATIENCE)
    assert first is not None and first.startswith("READY=1\n")
    lab.wait_until_ready()
    assert f"STATUS=simulated: serving at {lab.address}" in first
    with lab.client() as client:
        assert devices(client) >= DEVICES


def test_pings_follow_the_work(unit: tuple[RunningLab, Manager]) -> None:
    _, systemd = unit
    begin = time.monotonic()

    for _ in range(3):
        assert systemd.hear_until("WATCHDOG=1", WATCHDOG)

    assert time.monotonic() - begin > 1.0  # work, not a flood


def test_a_guard_that_hangs_misses_the_ping_and_everything_begins_anew_in_init(
    unit: tuple[RunningLab, Manager],
) -> None:
    lab, systemd = unit
    lab.beam_on()

    with frozen(lab.pids()["guard"]):
        systemd.wait_for_silence(WATCHDOG, 20)
        assert lab.truth()["blanked"]  # the hosts did not wait for systemd
        left = lab.kill(signal.SIGABRT)
        assert lab.process is not None and lab.process.returncode == -signal.SIGABRT
        lab.sweep()
        wait_for(lambda: not any(map(alive, left)), 10, "the control group is empty")

    lab.start()
    systemd.hear_until("READY=1", PATIENCE)
    with lab.client() as client:
        states = wait_for(lambda: client.snapshot("guard")["readings"], 10, "the guard's states")
        assert states["guard.il_22"]["value"] == "init"
        with pytest.raises(Interlocked, match="IL-22"):
            client.set("stage.setpoint", 290.0)
        with pytest.raises(Interlocked, match="reset arms"):
            client.call("beam.unblank")
    assert lab.truth()["blanked"]


def test_stopping_is_said_when_it_begins(unit: tuple[RunningLab, Manager]) -> None:
    lab, systemd = unit

    assert lab.stop() == 0

    heard = systemd.hear_until("STOPPING=1", 1)
    assert all(each == "WATCHDOG=1" for each in heard[:-1])
    assert systemd.hear(0.1) is None


def devices(client: Lab) -> set[str]:
    return {device["device"] for device in client.describe()}
