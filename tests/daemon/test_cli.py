"""The command line: its exit statuses, its errors, and the simulators it starts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
import typer

from coldframe.daemon.cli import app
from coldframe.daemon.configuration import CONFIG
from coldframe.drivers.catalogue import driver
from coldframe.drivers.pyjem import PyJem
from coldframe.simulators import pyjem_calls
from coldframe.simulators.catalogue import MODELS, simulator

ROOT = Path(__file__).resolve().parents[2]
COLDFRAME = (sys.executable, "-m", "coldframe.daemon")
COMMANDS = (
    "abort", "ack", "call", "check", "demo", "describe", "enable", "get", "host", "info", "note",
    "record", "replay", "reset", "run", "serve", "set", "simulate", "status", "verify", "version",
    "watch",
)  # fmt: skip
WIRES = {model: simulator(model).transports for model in sorted(MODELS)}


def coldframe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COLDFRAME, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        check=False,
    )


@contextmanager
def simulating(*arguments: str) -> Iterator[list[str]]:
    """`coldframe simulate …` until the block ends; yields the words of its `ready` line."""
    process = subprocess.Popen(
        [*COLDFRAME, "simulate", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()


def test_help_lists_what_exists_and_promises_no_personnel_safety():
    said = coldframe("--help")
    assert said.returncode == 0
    assert "no personnel-safety function" in re.sub(r"\s+", " ", said.stdout.replace("│", " "))
    for command in COMMANDS:
        assert re.search(rf"\b{command}\b", said.stdout)
    # what does not exist yet is not promised
    for command in ("whatif", "recover", "export", "ship", "keys", "doctor", "install", "bypass"):
        assert not re.search(rf"\b{command}\b", said.stdout)


def test_every_command_takes_json():
    def leaves(name, command):
        if not hasattr(command, "commands"):
            return [(name, command)]
        inside = command.commands.items()
        return [leaf for below, each in inside for leaf in leaves(f"{name} {below}", each)]

    every = leaves("", typer.main.get_command(app))

    assert {name.split()[0] for name, _ in every} == set(COMMANDS)
    takes = {name for name, each in every for param in each.params if "--json" in param.opts}
    assert {name for name, _ in every} == takes


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("serve",),
        ("simulate", "lakeshore336"),
        ("simulate", "lakeshore336", "--tcp", "0", "--serial", "tty"),
        ("simulate", "config/simulated.toml", "--fault", "silence"),
        ("set", "stage.setpoint"),
    ],
)
def test_wrong_usage_is_64(arguments):
    assert coldframe(*arguments).returncode == 64


def test_a_refused_configuration_is_78_and_names_file_line_and_key(tmp_path):
    lab = tmp_path / "lab.toml"
    lab.write_text('[lab]\nname = "x"\ncolour = 1\n')
    lab.chmod(0o644)
    for command in ("check", "serve"):
        said = coldframe(command, str(lab))
        assert said.returncode == 78
        assert f"{lab}:3: lab.colour: unknown key" in said.stderr.replace("\n", "")


def test_an_error_is_json_where_json_was_asked_for(tmp_path):
    said = coldframe("check", str(tmp_path / "absent.toml"), "--json")
    assert said.returncode == 78
    assert json.loads(said.stdout)["error"]["class"] == "ConfigurationError"


def test_without_a_service_the_error_says_what_to_do():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{nobody.getsockname()[1]}"
        said = coldframe("get", "stage.temperature", "--address", address)
    assert said.returncode == 1
    assert address in said.stderr and "coldframe serve" in said.stderr


@pytest.mark.parametrize("name", sorted(p.name for p in CONFIG.glob("*.toml")))
def test_check_prints_for_each_rule_whether_it_is_enforced_and_its_worst_case(name):
    said = coldframe("check", str(CONFIG / name), "--json")
    assert said.returncode == 0, said.stderr
    tables = json.loads(said.stdout)
    rules = next(rows for title, rows in tables.items() if title.startswith("Rules"))
    for row in rules:
        parts = re.fullmatch(r"([\d.]+) s = (.+)", row["worst case"])
        assert parts is not None
        added = sum(float(part.split()[-1]) for part in parts[2].split(" + "))
        assert float(parts[1]) == pytest.approx(added, abs=0.011)
        assert row["standing"] in ("enforced", "observed only")
        if "temperature" in row["when"]:
            assert re.search(r"[<>] -?[\d.]+ °C \([\d.]+ K\)|rate", row["when"])
    for row in tables["Outputs"]:
        assert row["dead-man"] in ("lease", "instrument", "NONE")


def test_check_says_that_a_column_has_no_fast_blanker():
    said = coldframe("check", str(CONFIG / "cryo-fib.toml"))
    assert "FAST BLANK: NONE" in said.stdout


def test_simulate_puts_an_instrument_behind_a_tcp_port():
    with simulating("lakeshore336", "--tcp", "0") as (ready, model, address):
        assert (ready, model) == ("ready", "lakeshore336")
        host, port = address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 5) as link:
            link.sendall(b"*IDN?\n")
            link.settimeout(5)
            assert link.recv(200).startswith(b"LSCI,MODEL336,")


@pytest.mark.parametrize("model", WIRES)
def test_each_model_alone_is_known_by_its_driver_on_each_wire_it_has(model, tmp_path, monkeypatch):
    monkeypatch.setattr(PyJem, "calls", staticmethod(pyjem_calls.tem3))
    said = set()
    for transport in WIRES[model]:
        where = str(tmp_path / "tty") if transport == "serial" else "0"
        with simulating(model, f"--{transport}", where) as (ready, name, address):
            assert (ready, name) == ("ready", model)
            assert address.startswith(f"{transport}://")
            instrument = driver(model)("alone", address, model)
            instrument.open()
            said.add(instrument.identify())
            instrument.adopt()
            for parameter in instrument.parameters.values():
                if parameter.poll is not None:
                    instrument.get(parameter.name)
            instrument.close()
    assert len(said) == 1  # the same instrument speaks the same dialect on all its wires


def test_an_instrument_is_not_put_behind_a_wire_it_does_not_have():
    said = coldframe("simulate", "emstat", "--udp", "0")
    assert said.returncode == 1
    assert "emstat has no udp port; it has serial" in said.stderr


def test_simulate_makes_a_link_to_a_pty(tmp_path):
    link = tmp_path / "ttyRemCon"
    with simulating("remcon32", "--serial", str(link)) as (_, _, address):
        assert address == f"serial://{link}"
        with serial.Serial(str(link), 9600, timeout=5) as port:
            port.write(b"PROB 5E-11\r\n")
            assert port.read_until(b">\r\n") == b"@\r\n>\r\n"
    assert not link.exists()


def test_simulate_with_a_fault_has_it_from_the_start():
    with simulating("lakeshore336", "--tcp", "0", "--fault", "silence") as (_, _, address):
        host, port = address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port)), 5) as link:
            link.sendall(b"*IDN?\n")
            link.settimeout(0.5)
            with pytest.raises(TimeoutError):
                link.recv(200)


def test_simulate_an_unknown_model_names_those_there_are():
    said = coldframe("simulate", "lakeshore999", "--tcp", "0")
    assert said.returncode == 1
    assert "lakeshore336" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tcp", "0", "--fault", "tired"), "fault 'tired': known are silence, late"),
        (("--tcp", "{taken}"), "lakeshore336 cannot listen on tcp {taken}"),
        (("--tcp", "70000"), "lakeshore336 cannot listen on tcp 70000"),
    ],
)
def test_simulate_says_in_a_line_what_it_cannot_do(arguments, words):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        said = coldframe("simulate", "lakeshore336", *(a.format(taken=taken) for a in arguments))
    assert said.returncode == 1
    assert said.stderr.startswith(f"BadRequest: {words.format(taken=taken)}")
    assert said.stderr.count("\n") == 1


def test_simulate_a_laboratory_serves_every_instrument_in_one_process(tmp_path):
    folder = tmp_path / "r"
    folder.mkdir(mode=0o700)
    process = subprocess.Popen(
        [*COLDFRAME, "simulate", str(CONFIG / "simulated.toml"), "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "RUNTIME_DIRECTORY": str(folder)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        ready = [json.loads(process.stdout.readline())["ready"] for _ in range(7)]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
    assert sorted(ready) == [
        "anc300", "dp5", "keithley2450", "keithley6485", "lakeshore336", "merlin", "pyjem",
    ]  # fmt: skip
