"""The user's card, phrase by phrase: each is one test on a real wire of a whole laboratory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import pytest
import zmq

from coldframe.client import Lab
from coldframe.daemon.configuration import load
from coldframe.daemon.plan import FILE
from coldframe.daemon.replay import Replay
from coldframe.daemon.session import Session
from coldframe.daemon.simulation import addresses
from coldframe.errors import Interlocked
from tests.system.running import ROOT, RunningLab, wait_for

EVERYTHING = (b"reading ", b"frame ", b"spectrum ", b"event ", b"status ")


@pytest.fixture(scope="module")
def tem() -> Iterator[RunningLab]:
    """The cryo-TEM with a biasing holder; nothing is in the column."""
    with RunningLab("simulated.toml") as lab:
        lab.start()
        lab.arm("stage", "beam", "needle", "bias")
        yield lab


@pytest.fixture(scope="module")
def fib() -> Iterator[RunningLab]:
    """The cryo-FIB with a potentiostat; its serial instruments are ptys."""
    with RunningLab("simulated-fib.toml") as lab:
        lab.start()
        with lab.client() as client:
            client.call("guard.specimen_mode", mode="none")
        lab.arm("stage", "sem", "ion", "potentiostat")
        yield lab


@pytest.fixture
def client(tem: RunningLab) -> Iterator[Lab]:
    with tem.client() as made:
        yield made


@contextmanager
def mode(lab: RunningLab, specimen: str) -> Iterator[None]:
    """What is in, as a person says it; the rules for it are armed."""
    with lab.client() as client:
        client.call("guard.specimen_mode", mode=specimen)
        wait_for(lambda: client.reset() is not None, 10, "the rules are armed")
        try:
            yield
        finally:
            client.call("guard.specimen_mode", mode="none")
            lab.arm("stage", "beam", "needle", "bias")


@contextmanager
def faster(client: Lab, speed: float) -> Iterator[None]:
    """Lab time runs fast meanwhile."""
    client.set("clock.speed", speed)
    try:
        yield
    finally:
        client.set("clock.speed", 1.0)


@contextmanager
def subscriber(lab: RunningLab, *topics: bytes) -> Iterator[zmq.Socket[bytes]]:
    """A bare SUB socket, as any language has one; in force when this returns."""
    with zmq.Context() as context, context.socket(zmq.SUB) as bare:
        bare.linger, bare.rcvtimeo = 0, 10_000
        bare.connect(lab.plan.tcp(lab.plan.streams))
        for topic in (*topics, b"sync card "):
            bare.subscribe(topic)
        held: list[list[bytes]] = []
        while not held or held[-1][0] != b"sync card ":
            held.append(bare.recv_multipart())
        yield bare


# ---- instruments ---------------------------------------------------------------------------------


def test_cryo_stage_temperature_controller(tem: RunningLab, client: Lab) -> None:
    assert client.describe("stage")["identity"].startswith("LSCI,MODEL336,")
    assert client.get("stage.temperature", fresh=True) == pytest.approx(
        tem.truth()["temperature"], abs=0.1
    )
    assert client.set("stage.setpoint", "-10 degC") == pytest.approx(263.15)
    client.set("stage.coolant", True)

    with faster(client, 100):
        wait_for(lambda: tem.truth()["temperature"] < 290, 20, "the world's stage cools")
        wait_for(lambda: client.get("stage.temperature") < 290, 5, "and the controller says so")


def test_in_situ_biasing_holder(tem: RunningLab, client: Lab) -> None:
    tem.truth(do="load", specimen="particle_5nm")
    client.set("stage.setpoint", 293.15)
    client.set("stage.coolant", False)
    gap = tem.truth()["gap"]
    client.call("needle.step", axis=3, steps=1)
    wait_for(lambda: tem.truth()["gap"] < gap, 5, "the needle moves towards the particle")

    def touches() -> bool:
        if not tem.truth()["contact"]:
            client.call("needle.step", axis=3, steps=1)
        return bool(tem.truth()["contact"])

    wait_for(touches, 30, "the needle touches")
    client.set("bias.current_limit", 50e-9)
    client.set("bias.level", -2.0)
    with pytest.raises(Interlocked, match="IL-11"):  # nobody has vouched for the contact
        client.call("bias.output_on")
    vouch = {"evidence": "contrast -8 %", "person": "who sits at the microscope"}
    wait_for(lambda: client.call("guard.confirm_contact", **vouch) or True, 10, "it stands still")
    client.call("bias.output_on")
    wait_for(
        lambda: tem.truth()["circuit_voltage"] == pytest.approx(-2.0, abs=0.01),
        10,
        "the particle is biased, as the world sees it",
    )
    wait_for(lambda: client.get("bias.voltage") == pytest.approx(-2.0, abs=0.01), 5, "read back")

    client.call("bias.output_off")

    assert client.get("bias.off_state", fresh=True) == "HIMP"  # open circuit, never 0 V
    assert tem.truth()["circuit_voltage"] < -1.0  # nobody shorted the cell


def test_fib_beam_current(fib: RunningLab) -> None:
    with fib.client() as client:
        client.call("guard.set_step", step="clean")
        with pytest.raises(Interlocked, match=r"IL-05.*3 nA.*'clean'"):
            client.set("ion.preset", "30 kV; 3 nA")
        client.set("ion.preset", "30 kV; 0.1 nA")
        with faster(client, 20):
            client.call("ion.turn_on")
            wait_for(lambda: client.get("ion.beam_state") == "on", 20, "ions come")
        assert client.get("ion.current", fresh=True) == pytest.approx(0.1e-9, rel=0.05)
        assert fib.truth()["events"][-1]["name"] == "ion beam on"

        client.call("guard.set_step", step="mill")
        client.set("ion.preset", "30 kV; 3 nA")
        assert not fib.tripped()
        with faster(client, 20):
            client.call("guard.set_step", step="clean")  # 3 nA is thirty times what this allows
            wait_for(lambda: "IL-05" in fib.tripped(), 5, "IL-05 trips")
            wait_for(lambda: fib.truth()["events"][-1]["name"] == "ion beam off", 20, "ions go")
        with pytest.raises(Interlocked, match="IL-05"):
            client.call("ion.turn_on")


def test_potentiostat(fib: RunningLab) -> None:
    address = fib.plan.addresses["potentiostat"]
    assert os.path.realpath(address.removeprefix("serial://")).startswith("/dev/pts/")
    with fib.client() as client:
        assert client.call("potentiostat.measure_ocv") == pytest.approx(2.8, abs=0.01)
        client.call(
            "potentiostat.chronoamperometry",
            voltage=2.85, seconds=60, interval=0.1, current_limit=1e-6,
        )  # fmt: skip
        wait_for(
            lambda: client.get("potentiostat.voltage") == pytest.approx(2.85, abs=0.02), 10, "held"
        )
        assert wait_for(lambda: client.get("potentiostat.current"), 5) > 0  # oxidation
        client.call("potentiostat.open_circuit")
        assert fib.truth()["events"][-1]["detail"] == "open"


def test_simulated_devices(tem: RunningLab, client: Lab) -> None:
    assert client.status()["simulated"] is True
    host, port = tem.plan.addresses["stage"].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), 5) as wire:  # not ours: anybody's
        wire.sendall(b"*IDN?\r\n")
        assert wire.recv(100).startswith(b"LSCI,MODEL336,")
    with client.watch("stage.temperature", timeout=10) as readings:
        assert next(readings).quality == "simulated"


def test_no_process_of_the_service_is_told_where_the_truth_is(tem: RunningLab) -> None:
    secret = addresses(tem.run_folder)["truth"]

    assert "truth" not in tem.plan.addresses and secret not in tem.plan.addresses.values()
    assert secret.removeprefix("tcp://") not in (tem.run_folder / FILE).read_text()


# ---- interlocks ----------------------------------------------------------------------------------


def test_dose_rate_interlock(tem: RunningLab, client: Lab) -> None:
    tem.calibrate()
    tem.truth(do="load", specimen="lamella")
    client.call("guard.new_specimen", id="card")
    client.set("beam.spot", 6)
    with mode(tem, "ambient"):
        client.call("beam.unblank")
        wait_for(lambda: client.get("beam.dose_rate") == pytest.approx(1.0, rel=0.1), 10, "1 e/Å²s")
        with pytest.raises(Interlocked, match=r"IL-01.*31\.6.*limit 11"):
            client.set("beam.spot", 3)
        assert not tem.truth()["blanked"]

        tem.turn_spot(3)

        wait_for(lambda: tem.truth()["blanked"], 5, "the beam is blanked, as the world sees it")
        wait_for(lambda: "IL-01" in tem.tripped(), 5, "IL-01 is latched")
    client.set("beam.spot", 6)


def test_temperature_interlock(tem: RunningLab, client: Lab) -> None:
    tem.calibrate()
    client.set("stage.coolant", True)
    client.set("stage.heater_range", 3)
    client.set("stage.setpoint", "-185 degC")
    for _ in range(36):  # the world cools while nobody waits, in steps its wires do not notice
        tem.truth(do="step", seconds=150)
    wait_for(lambda: client.get("stage.temperature") < 95, 10, "the stage is cold")
    client.set("beam.spot", 6)
    with mode(tem, "cryo"):
        client.call("beam.unblank")
        wait_for(lambda: not tem.truth()["blanked"], 5, "beam on the cold specimen")

        with faster(client, 20):
            tem.truth(do="inject", hazard="stage_warms", watts=50)
            wait_for(
                lambda: tem.truth()["blanked"], 30, "the beam is blanked, as the world sees it"
            )
        wait_for(lambda: "IL-03" in tem.tripped(), 5, "IL-03 is latched")
        with pytest.raises(Interlocked, match="IL-03"):
            client.call("beam.unblank")
        events = tem.truth()["events"]
        assert "stage above -170 degC" in [event["name"] for event in events]
        tem.truth(do="inject", hazard="stage_recovers")


# ---- data ----------------------------------------------------------------------------------------


def test_frames(client: Lab) -> None:
    client.set("camera.exposure", 0.05)
    client.set("camera.frames", 0)
    with client.frames("camera", timeout=10) as frames:
        client.call("camera.start")
        image, header = next(frames)
    client.call("camera.stop")

    assert image.shape == (256, 256) and image.dtype == np.uint16
    assert header.quality == "simulated" and int(header.t_ns) > 0


def test_spectra(client: Lab) -> None:
    client.set("eds.acquisition_time", 0.2)
    with client.spectra("eds", timeout=10) as spectra:
        client.call("eds.start")
        counts, header = next(spectra)
    client.call("eds.stop")

    assert counts.shape == (2048,) and counts.dtype == np.uint32
    assert header.name == "eds"


def test_zeromq(tem: RunningLab) -> None:
    with subscriber(tem, b"reading stage.temperature ") as bare:
        topic, header = bare.recv_multipart()

    said = json.loads(header)
    assert topic == b"reading stage.temperature "
    assert said["unit"] == "K" and 60 < said["value"] < 320


class Recorded(NamedTuple):
    """A session that is finished."""

    path: Path
    live: list[list[bytes]]  # what a bare subscriber heard of it while it was recorded
    seen: list[int]  # frames that a reader beside the recorder saw, look by look


@pytest.fixture(scope="module")
def recorded(tem: RunningLab) -> Recorded:
    with tem.client() as client, subscriber(tem, *EVERYTHING) as bare:
        client.set("camera.exposure", 0.05)
        client.set("camera.frames", 0)
        client.set("eds.acquisition_time", 0.2)
        path = Path(client.record_start("card")["file"])
        client.call("eds.start")
        client.call("camera.start")
        client.note("what a person saw: Å")
        live = heard_until(bare, b"spectrum eds ", 4)
        seen = read_along(path)
        client.call("camera.stop")
        client.call("eds.stop")
        client.record_stop()
        bare.subscribe(b"sync end ")
        live += heard_until(bare, b"sync end ", 1)
    said = [message for message in live if message[0].split()[0] != b"sync"]
    sessions = {json.loads(message[1])["session"] for message in said} - {None}
    (session,) = sessions  # nothing of another one
    return Recorded(path, [m for m in said if json.loads(m[1])["session"] == session], seen)


def heard_until(bare: zmq.Socket[bytes], topic: bytes, count: int) -> list[list[bytes]]:
    """Whatever comes, up to so many messages of one topic."""
    heard: list[list[bytes]] = []
    while sum(message[0] == topic for message in heard) < count:
        heard.append(bare.recv_multipart())
    return heard


def read_along(path: Path) -> list[int]:
    """The number of frames, as plain h5py sees it grow in a file that is being written."""
    with h5py.File(path, "r", swmr=True) as file:
        data = file["entry/camera/data"]

        def frames() -> int:
            data.refresh()
            return len(data)

        first = wait_for(frames, 10, "frames are in the file")
        return [first, wait_for(lambda: (n := frames()) > first and n, 10, "and more of them")]


def test_hdf5(recorded: Recorded) -> None:
    shapes: list[tuple[int, ...]] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            shapes.append(item.shape)

    with h5py.File(recorded.path) as file:  # by a library that is not ours
        assert file.attrs["default"] == "entry"
        file.visititems(look)
        first, later = recorded.seen  # while it was written
        assert 0 < first < later <= len(file["entry/camera/data"])
    assert any(len(shape) == 3 and shape[1:] == (256, 256) for shape in shapes)


def test_a_session_holds_every_parameter_of_every_device(
    tem: RunningLab, recorded: Recorded
) -> None:
    drivers = load(tem.lab_file).lab.drivers()

    with h5py.File(recorded.path) as file:
        logs = set(file["entry/logs"])

    assert {f"{name}.{each}" for name, kind in drivers.items() for each in kind.parameters} <= logs


@pytest.mark.parametrize("speed", [1, 10, 0])
def test_replay(recorded: Recorded, speed: float) -> None:
    live, again = by_topic(recorded.live), by_topic(replayed(recorded.path, speed))

    sorts = {topic.split()[0] for topic in live}
    assert sorts == {b"reading", b"frame", b"spectrum", b"event", b"status"}
    for topic, messages in live.items():  # byte for byte, in order
        if topic.startswith((b"frame ", b"spectrum ")):  # eyes get as many as they can follow
            assert [message for message in again[topic] if message in messages] == messages
        else:
            assert again[topic][: len(messages)] == messages


def by_topic(messages: list[list[bytes]]) -> dict[bytes, list[list[bytes]]]:
    found: dict[bytes, list[list[bytes]]] = {}
    for message in messages:
        found.setdefault(message[0], []).append(message)
    return found


def replayed(path: Path, speed: float) -> list[list[bytes]]:
    """What a bare subscriber hears of a session that is replayed."""
    with Session(path) as session, zmq.Context() as context:
        anywhere = "tcp://127.0.0.1:0"
        replay = Replay(session, context, speed=speed, commands=anywhere, streams=anywhere)
        thread = threading.Thread(target=replay.run)
        with context.socket(zmq.SUB) as bare:
            bare.linger = 0
            bare.connect(replay.addresses["streams"])
            for topic in EVERYTHING:
                bare.subscribe(topic)
            thread.start()
            heard = []
            while bare.poll(200) or thread.is_alive():
                while bare.poll(0):
                    heard.append(bare.recv_multipart())
        thread.join(20)
    return heard


def test_everything_listens_on_loopback_alone(tem: RunningLab) -> None:
    assert tem.process is not None
    held = set()
    for pid in {tem.process.pid, *tem.pids().values()}:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                held.add(os.readlink(entry))
    rows = [
        row.split()
        for kind in ("tcp", "tcp6", "udp", "udp6")
        for row in Path(f"/proc/net/{kind}").read_text().splitlines()[1:]
    ]
    ours = [row[1] for row in rows if row[3] in ("0A", "07") and f"socket:[{row[9]}]" in held]

    assert len(ours) >= 3 + 7  # the service's, and those of the instruments
    assert [address for address in ours if not address.startswith("0100007F:")] == []


# ---- people --------------------------------------------------------------------------------------


def test_service(tem: RunningLab) -> None:
    done = tem.run("status", "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["lab"] == "simulated" and set(tem.plan.addresses) <= set(said["status"])


SCRIPT = """
import sys
import coldframe
with coldframe.connect(sys.argv[1]) as lab:
    lab.stage.setpoint.set("-184 degC")
    print(lab.stage.setpoint.get(fresh=True))
"""


def test_script(tem: RunningLab) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tem.address],
        capture_output=True, text=True, timeout=60, cwd=ROOT,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(89.15)
    assert [write for write in tem.truth(do="writes", device="stage") if "89.15" in write]
