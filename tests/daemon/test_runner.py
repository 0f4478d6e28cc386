"""A run whose process dies without a word: whoever waits for it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from coldframe.client import Lab
from coldframe.daemon.configuration import CONFIG
from coldframe.daemon.plan import FILE, Plan
from coldframe.daemon.rules import GuardSettings
from coldframe.daemon.runner import DEFECT, run_protocol
from coldframe.errors import ColdframeError, Interlocked
from coldframe.protocols.procedure import PROCEDURES, Report, Result
from tests.spine import Spine, wait

ROOT = Path(__file__).resolve().parents[2]
PORTS = "\n[service]\nhub = 0\nstreams = 0\nguard = 0\n[record]\nreserve_mb = 1\n"


@pytest.fixture
def service() -> Iterator[tuple[int, Plan]]:
    """A served simulated laboratory: its process, and where it listens."""
    with TemporaryDirectory(prefix="cf-") as name:
        folder = Path(name)
        (folder / "lab.toml").write_text((CONFIG / "simulated.toml").read_text() + PORTS)
        environment = {"RUNTIME_DIRECTORY": str(folder), "STATE_DIRECTORY": str(folder)}
        command = [sys.executable, "-m", "coldframe.daemon", "serve", str(folder / "lab.toml")]
        with (
            open(folder / "said", "wb") as said,
            subprocess.Popen(
                command, stdout=said, cwd=ROOT, env={**os.environ, **environment}
            ) as process,
        ):
            try:
                wait(lambda: b"ready simulated tcp" in (folder / "said").read_bytes(), 60)
                yield process.pid, Plan.read(folder / FILE)
            finally:
                process.terminate()
                process.wait(40)


def runners(service: int) -> list[int]:
    """The processes of runs that this service has started."""
    children = Path(f"/proc/{service}/task/{service}/children").read_text().split()
    return [
        int(pid)
        for pid in children
        if "runner" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]


def test_who_waits_for_a_run_that_is_killed_gets_an_error_and_all_is_safe(
    service: tuple[int, Plan],
) -> None:
    pid, plan = service
    errors: list[ColdframeError] = []
    begun = threading.Event()

    def run() -> None:
        try:
            with Lab(address) as waiting:
                waiting.run("cool_down", report=lambda fraction, words: begun.set())
        except ColdframeError as error:
            errors.append(error)

    address = plan.tcp(plan.hub)
    with Lab(address) as lab, lab.events("guard", timeout=10) as events:
        wait(lambda: armed(lab), 15)
        lab.enable("stage")
        waiting = threading.Thread(target=run)
        waiting.start()
        assert begun.wait(15)
        (runner,) = runners(pid)
        os.kill(runner, signal.SIGKILL)
        waiting.join(15)
        assert not waiting.is_alive()
        assert next(each for each in events if each.kind == "disabled")
    assert "its process died (status -9)" in str(errors[0])


def armed(lab: Lab) -> bool:
    try:
        lab.reset()
    except Interlocked:
        return False
    return True


def test_a_defect_in_a_protocol_is_told_like_any_failure(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(lab: Lab, report: Report) -> Result:
        raise ZeroDivisionError("a defect")

    monkeypatch.setitem(PROCEDURES, "stumble", stumble)
    plan = Plan(
        name="bench",
        lab_file=spine.folder,
        folder=spine.folder,
        state=spine.folder,
        sessions=spine.folder,
        service_pid=os.getpid(),
        hub=int(spine.address.rpartition(":")[2]),
        streams=0,
        guard_port=0,
        clock=spine.clock_file,
        addresses={},
        guard=GuardSettings(simulated=True),
    )
    with Lab(spine.address, timeout=3) as lab, lab.events("run.stumble", timeout=3) as events:
        assert run_protocol(plan, "r1", "stumble", {}) == DEFECT
        said = [next(events) for _ in range(2)]
    assert [each.kind for each in said] == ["begun", "failed"]
    assert said[1].text == "ZeroDivisionError: a defect"
