"""Bad input to a whole laboratory: a typed error that says what and where; nothing else stops."""

from __future__ import annotations

import json
import math
import random
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from coldframe.client import Lab
from coldframe.errors import ColdframeError, OutOfRange, StorageError, UnknownName
from tests.system.running import RunningLab, wait_for

FLOOD = 2000  # malformed messages to each socket
TOO_MUCH = 1e9  # MB of reserve that no disk has


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with RunningLab("simulated.toml", reserve_mb=TOO_MUCH) as made:
        yield made.start()


@pytest.fixture
def client(lab: RunningLab) -> Iterator[Lab]:
    with lab.client(timeout=30) as made:
        yield made


# ---- messages ------------------------------------------------------------------------------------


def malformed(seed: int) -> Iterator[list[bytes]]:
    """Good commands with something wrong in each, and bytes that never were any."""
    chance = random.Random(seed)
    good = {"v": 1, "id": "x", "do": "set", "name": "stage.setpoint", "value": 90.0}
    while True:
        kind = chance.randrange(7)
        if kind == 0:
            yield [chance.randbytes(chance.randrange(1, 400))]
        elif kind == 1:
            cut = json.dumps(good).encode()
            yield [cut[: chance.randrange(len(cut))]]
        elif kind == 2:
            key = chance.choice(list(good))
            yield [json.dumps({**good, key: chance.choice([[], {}, -1, "\x00" * 90])}).encode()]
        elif kind == 3:
            yield [json.dumps({**good, "surplus": 1}).encode()]
        elif kind == 4:
            yield [json.dumps({**good, "value": math.nan}).encode()]
        elif kind == 5:
            yield [b"[" * 5000]
        else:
            yield [b"reading stage.temperature ", b'{"v":1,"value":1.0}', chance.randbytes(9)]


class Flood:
    """A sender in a thread of its own; counts what it was answered."""

    def __init__(self, address: str, seed: int):
        self.answers: list[bytes] = []
        self._thread = threading.Thread(target=self._send, args=[address, seed])
        self._thread.start()

    def _send(self, address: str, seed: int) -> None:
        messages = malformed(seed)
        with zmq.Context() as context, context.socket(zmq.DEALER) as bare:
            bare.linger = 0
            bare.connect(address)
            for _ in range(FLOOD):
                bare.send_multipart(next(messages))
                while bare.poll(0):
                    self.answers.append(bare.recv_multipart()[-1])
            while bare.poll(500):
                self.answers.append(bare.recv_multipart()[-1])

    def wait(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_a_flood_of_malformed_messages_delays_no_trip(lab: RunningLab, client: Lab) -> None:
    lab.arm("beam")
    lab.calibrate()
    client.set("beam.spot", 6)
    client.call("guard.specimen_mode", mode="ambient")
    wait_for(lambda: client.reset() is not None, 10, "the rules are armed")
    client.call("beam.unblank")
    wait_for(lambda: not lab.truth()["blanked"], 5, "the beam is on")
    before = lab.pids()
    plan = lab.plan
    addresses = [plan.tcp(plan.hub), plan.tcp(plan.guard_port)]
    addresses += [plan.inner(name) for name in ("hub", "guard", "recorder")]

    floods = [Flood(address, seed) for seed, address in enumerate(addresses)]
    lab.turn_spot(3)  # 32 e⁻/Å²/s

    wait_for(lambda: lab.truth()["blanked"], 5, "the beam is blanked, as the world sees it")
    for flood in floods:
        flood.wait()
    wait_for(lambda: "IL-01" in lab.tripped(), 10, "IL-01 is latched")
    for flood in floods[:2]:  # people are told what was wrong
        assert len(flood.answers) > FLOOD * 0.9
        kinds = {json.loads(answer)["error"]["class"] for answer in flood.answers}
        assert "BadRequest" in kinds
        assert kinds <= {"BadRequest", "UnknownName", "OutOfRange", "Interlocked", "NotReady"}
    assert lab.pids() == before  # nobody fell
    assert client.get("stage.temperature", fresh=True) > 0
    client.call("guard.specimen_mode", mode="none")


def test_bytes_that_are_no_zeromq_at_all_stop_nobody(lab: RunningLab, client: Lab) -> None:
    before = lab.pids()

    for port in (lab.plan.hub, lab.plan.streams, lab.plan.guard_port):
        for seed in range(20):
            with socket.create_connection(("127.0.0.1", port), 5) as bare:
                bare.sendall(random.Random(seed).randbytes(4000))

    assert client.get("stage.temperature", fresh=True) > 0
    assert lab.pids() == before


# ---- commands ------------------------------------------------------------------------------------


def test_a_limit_exceeded_is_refused_by_name_and_never_reaches_the_wire(
    lab: RunningLab, client: Lab
) -> None:
    lab.arm("stage")
    writes = lab.truth(do="writes", device="stage")

    with pytest.raises(OutOfRange, match=r"stage\.setpoint.*400.*313\.15"):
        client.set("stage.setpoint", 400.0)
    done = lab.run("set", "stage.setpoint", "+200degC")

    assert done.returncode == 1
    assert "stage.setpoint" in done.stderr and "40" in done.stderr and "°C" in done.stderr
    assert lab.truth(do="writes", device="stage") == writes


def test_a_bare_temperature_is_refused_on_the_command_line(lab: RunningLab) -> None:
    done = lab.run("set", "stage.setpoint", "100")

    assert done.returncode == 1
    assert "degC" in done.stderr or "K" in done.stderr


def test_unknown_names_are_refused_with_the_near_ones(lab: RunningLab, client: Lab) -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        client.set("stage.setpiont", "100 K")
    with pytest.raises(UnknownName, match="heater_off"):
        client.call("stage.explode")
    done = lab.run("get", "stag.temperature")

    assert done.returncode == 1
    assert "stage" in done.stderr


def test_an_instrument_nobody_knows_is_refused_with_file_and_line(
    lab: RunningLab, tmp_path: Path
) -> None:
    bad = tmp_path / "unknown.toml"
    bad.write_text(lab.lab_file.read_text().replace('"lakeshore336"', '"lakeshore999"'))
    bad.chmod(0o644)
    line = bad.read_text().splitlines().index('model = "lakeshore999"') + 1

    done = lab.run("serve", str(bad))

    assert done.returncode == 78
    assert f"unknown.toml:{line}" in done.stderr and "lakeshore336" in done.stderr


# ---- the disk ------------------------------------------------------------------------------------


def test_without_room_on_the_disk_no_session_begins_and_all_else_goes_on(
    lab: RunningLab, client: Lab
) -> None:
    with pytest.raises(StorageError, match="free"):
        client.record_start("no room")

    assert not list(lab.plan.sessions.glob("*"))
    assert client.command("record", "status")["recording"] is False
    assert client.get("stage.temperature", fresh=True) > 0


# ---- replies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "value"),
    [("half", 0.5), ("garbage", 1), ("echo", 1), ("late", 1), ("silence", 1), ("nan", 1)],
)
def test_a_bad_reply_is_null_and_never_a_wrong_value(
    lab: RunningLab, client: Lab, fault: str, value: float
) -> None:
    with client.watch("stage.temperature", timeout=10) as readings:
        lab.fault("stage", fault, value)
        heard = [next(readings)]
        while heard[-1].value is not None:
            heard.append(next(readings))
        with pytest.raises(ColdframeError) as refused:
            client.get("stage.temperature", fresh=True)
        lab.fault("stage", fault, None)
        while heard[-1].value is None:
            heard.append(next(readings))

    assert "stage" in str(refused.value)
    truth = lab.truth()["temperature"]
    for reading in heard:
        assert reading.value == pytest.approx(truth, abs=0.5) if reading.value else True
        assert (reading.value is None) == (reading.quality == "bad")
