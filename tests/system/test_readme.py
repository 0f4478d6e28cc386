"""The script and the commands of the README, against the laboratory it names."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coldframe.daemon.cli import run
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


def test_each_command_speaks_json_where_a_program_asks(
    lab: RunningLab, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object (or list, or value) a line, and nothing else, from every command there is."""

    def say(*words: str) -> Any:
        asks_service = words[0] not in ("info", "verify", "check", "version")
        where = ("--address", lab.address) if asks_service else ()
        assert run([*words, "--json", *where]) == 0, capsys.readouterr()
        said = capsys.readouterr()
        assert said.err == ""
        (line,) = said.out.splitlines()
        return json.loads(line)

    lab.arm("stage", "beam")
    assert say("status")["lab"] == "simulated"
    assert {each["device"] for each in say("describe")} >= {"stage", "beam", "camera"}
    assert say("describe", "stage.setpoint")["unit"] == "K"
    assert say("get", "stage.setpoint")["unit"] == "K"
    assert say("set", "stage.setpoint", "-180degC")["value"] == pytest.approx(93.15)
    assert say("call", "beam.blank") is None
    assert say("watch", "stage.temperature", "--count", "1")["name"] == "stage.temperature"
    session = say("record", "start", "--title", "for programs")["file"]
    say("note", "grid 3")
    assert say("record", "stop")["file"] == session
    assert say("info", session)["title"] == "for programs"
    assert say("verify", session) == {"file": session, "problems": []}
    assert say("check", str(lab.lab_file)) and say("version")["version"]
    say("abort")
    for rule in lab.tripped():
        say("ack", rule)
    say("reset")
    say("enable", "beam")
    say("enable", "cup")
    found = say("run", "calibrate_dose", "spots=6", "readings=2")
    assert found["spot_6_dose_rate"] == pytest.approx(1.0, rel=0.05)
    with lab.client() as client:
        assert client.get("beam.blanked", fresh=True)


def test_an_error_of_the_service_is_json_too(
    lab: RunningLab, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["set", "stage.setpoint", "100", "--json", "--address", lab.address]

    assert run(asked) == 1

    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["class"], error["retryable"]) == ("BadRequest", False)
    assert "degC" in error["text"]


def test_a_temperature_is_shown_in_both_scales_wherever_a_person_reads_it(
    lab: RunningLab, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.arm("stage")
    both = r"-180\.00 °C \(93\.15 K\)"
    for words in (
        ["set", "stage.setpoint", "-180degC"],
        ["get", "stage.setpoint"],
        ["watch", "stage.setpoint", "--count", "1"],
    ):
        assert run([*words, "--address", lab.address]) == 0
        assert re.search(both, capsys.readouterr().out), words
    assert run(["set", "stage.setpoint", "+200degC", "--address", lab.address]) == 1
    refused = capsys.readouterr().err
    assert re.search(r"200\.00 °C \(473\.15 K\) .*40\.00 °C \(313\.15 K\)", refused)
