"""The script and the commands of the README, against the laboratory it names."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldframe.daemon.session_reader import info, verify
from tests.system.running import ROOT, RunningLab


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with RunningLab() as running:
        yield running.start()


@pytest.fixture
def script() -> str:
    (found,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(found)


def test_the_script_cools_the_simulated_stage_records_it_and_ends(
    script: str, lab: RunningLab, tmp_path: Path
) -> None:
    faster = script.replace("connect()", f"connect({lab.address!r})").replace("150", "1500")
    assert faster.count(lab.address) == faster.count("speed.set(1500)") == 1
    first_look = tmp_path / "first_look.py"
    first_look.write_text(faster)

    done = subprocess.run(
        [sys.executable, first_look],
        capture_output=True,
        text=True,
        timeout=60,
        env={**lab.environment, "PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0, done.stderr
    first, *_, last = done.stdout.splitlines()
    assert float(first) == pytest.approx(293.15, abs=0.5)
    name, value, unit, quality = last.split()
    assert (name, unit, quality) == ("stage.temperature", "K", "simulated")
    assert 80 < float(value) < 90
    (session,) = lab.state.rglob("*-first-look.nxs")
    assert info(session)["title"] == "first look" and info(session)["state"] == "closed"
    assert verify(session) == []
    with lab.client() as client:
        assert client.get("clock.speed") == 1


def test_a_session_recorded_by_hand_says_where_it_is_and_what_it_holds(lab: RunningLab) -> None:
    began = lab.run("record", "start", "--title", "by hand")
    (session,) = lab.state.rglob("*-by-hand.nxs")
    noted = lab.run("note", "grid 3, square B2")
    ended = lab.run("record", "stop")

    assert began.stdout == f"recording {session}\n"
    assert noted.stdout == "noted\n"
    assert re.fullmatch(rf"{session}: closed, \d+ messages, 0 gaps\n", ended.stdout)
