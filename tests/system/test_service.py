"""The service as processes: what is refused, what is restarted, and that outputs are safe first.

The instruments run outside the service, so that what happened to them is told by a survivor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldframe.daemon.session_reader import info, verify
from coldframe.errors import Interlocked
from tests.system.running import RunningLab, alive, frozen, wait_for

BOUND = 2.0  # s: generous, for a loaded machine; the order of things is what is asserted


@pytest.fixture(scope="module")
def outside() -> Iterator[RunningLab]:
    with RunningLab(outside=True) as lab:
        yield lab


@pytest.fixture
def lab(outside: RunningLab) -> RunningLab:
    """It serves; whatever the last test left is gone."""
    if outside.process is None or outside.process.poll() is not None:
        outside.sweep()
        outside.start()
    return outside


def blanked(lab: RunningLab) -> bool:
    return bool(lab.truth()["blanked"])


def session(lab: RunningLab, title: str) -> Path:
    """Begin one, and wait until frames of it are on the disk."""
    with lab.client() as client:
        client.call("camera.stop")
        path = Path(client.record_start(title)["file"])
        client.set("camera.exposure", 0.05)
        client.set("camera.frames", 0)
        client.call("camera.start")
        received = lambda: client.get("recorder.backlog") is not None  # noqa: E731
        wait_for(received, 15, "the recorder reports")
        wait_for(lambda: frames_in(path) > 3, 15, "frames are on the disk")
    return path


def frames_in(path: Path) -> int:
    """As a reader beside the recorder counts them."""
    found = [s["count"] for s in info(path)["streams"] if s["name"] == "camera"]
    return int(found[0]) if found else 0


def end_session(lab: RunningLab) -> None:
    with lab.client() as client:
        client.call("camera.stop")
        client.record_stop()


def events_since(lab: RunningLab, begin: float) -> list[str]:
    return [event["name"] for event in lab.truth()["events"] if event["t"] >= begin]


# ---- what is refused at the start --------------------------------------------------------------


def test_a_second_service_is_refused_with_the_process_that_holds_the_lab(lab: RunningLab) -> None:
    assert lab.process is not None

    second = lab.run("serve", str(lab.lab_file))

    assert second.returncode == 75, second.stderr
    assert str(lab.process.pid) in second.stderr
    with lab.client() as client:
        assert client.get("stage.temperature") > 0


def test_a_wrong_key_is_refused_with_file_and_line(lab: RunningLab, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    text = lab.lab_file.read_text()
    bad.write_text(text.replace("[device.cup]\n", "[device.cup]\nvoltage = 3\n"))
    bad.chmod(0o644)
    line = bad.read_text().splitlines().index("voltage = 3") + 1

    done = lab.run("serve", str(bad))

    assert done.returncode == 78, done.stderr
    assert f"bad.toml:{line}" in done.stderr and "voltage" in done.stderr


# ---- what is restarted -------------------------------------------------------------------------


def test_a_killed_hub_is_started_again_and_guard_and_hosts_do_not_notice(lab: RunningLab) -> None:
    lab.beam_on()
    before = lab.pids()
    writes = lab.truth(do="writes", device="beam")

    os.kill(before["hub"], signal.SIGKILL)

    wait_for(lambda: lab.pids().get("hub", before["hub"]) != before["hub"], 20, "a new hub")
    with lab.client() as client:
        known = set(before) - {"hub", "guard", "recorder", "lasthand"}
        wait_for(lambda: known <= {each["device"] for each in client.describe()}, 20, "its hosts")
        assert wait_for(lambda: client.get("stage.temperature"), 10) > 0
    assert {**lab.pids(), "hub": 0} == {**before, "hub": 0}
    assert not blanked(lab)  # nobody was disturbed
    assert lab.truth(do="writes", device="beam") == writes


def test_a_killed_recorder_is_started_again_and_its_file_can_be_read(lab: RunningLab) -> None:
    before = lab.pids()
    path = session(lab, "killed")
    seen = frames_in(path)

    os.kill(before["recorder"], signal.SIGKILL)

    def anew() -> bool:
        return lab.pids().get("recorder", before["recorder"]) != before["recorder"]

    wait_for(anew, 20, "a new recorder")
    assert {**lab.pids(), "recorder": 0} == {**before, "recorder": 0}
    found = info(path)
    assert found["state"] == "live or interrupted"
    assert frames_in(path) >= seen
    (problem,) = verify(path)  # every chunk is whole, every number there
    assert "not closed" in problem.text
    with lab.client() as client:
        wait_for(lambda: client.command("record", "status") is not None, 10, "it answers")
        client.call("camera.stop")
    again = session(lab, "after")
    end_session(lab)
    assert info(again)["state"] == "closed"


# ---- hosts -------------------------------------------------------------------------------------


def test_a_killed_hosts_beam_is_blanked_and_stays_so_until_a_person_allows_it(
    lab: RunningLab,
) -> None:
    lab.beam_on()
    host = lab.pids()["beam"]

    os.kill(host, signal.SIGKILL)

    wait_for(lambda: blanked(lab), BOUND, "the last hand blanks the beam")
    wait_for(lambda: lab.pids().get("beam", host) != host, 20, "a new host")
    stays_off_until_enabled(lab)


def test_a_hosts_loop_that_hangs_is_ended_and_its_beam_blanked(lab: RunningLab) -> None:
    lab.beam_on()
    host = lab.pids()["beam"]

    with frozen(host):
        wait_for(lambda: blanked(lab), BOUND, "the last hand blanks the beam")
        wait_for(lambda: not alive(host), 5, "it was killed, for it held the port")

    wait_for(lambda: lab.pids().get("beam", host) != host, 20, "a new host")
    stays_off_until_enabled(lab)


def stays_off_until_enabled(lab: RunningLab) -> None:
    with lab.client() as client:
        wait_for(lambda: client.get("beam.blanked", fresh=True), 15, "the new host answers")
        with pytest.raises(Interlocked, match="enable"):
            client.call("beam.unblank")
        assert blanked(lab)
        client.enable("beam")
        assert blanked(lab)  # enabling turns nothing on
        wait_for(lambda: client.call("beam.unblank") is None, 10, "the beam may be used again")
    wait_for(lambda: not blanked(lab), 5, "and is on")


# ---- the guard ---------------------------------------------------------------------------------


def test_when_the_guard_is_killed_the_beam_is_blanked_and_the_service_ends(lab: RunningLab) -> None:
    lab.beam_on()

    os.kill(lab.pids()["guard"], signal.SIGKILL)

    wait_for(lambda: blanked(lab), BOUND, "no permit, no beam")
    assert lab.wait() == 1  # so that systemd starts it again, in INIT
    lab.start()
    assert blanked(lab)
    with lab.client() as client, pytest.raises(Interlocked):
        client.call("beam.unblank")


def test_when_the_guard_hangs_the_beam_is_blanked(lab: RunningLab) -> None:
    lab.beam_on()

    with frozen(lab.pids()["guard"]):
        wait_for(lambda: blanked(lab), BOUND, "no permit, no beam")


# ---- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_it_makes_safe_then_closes_the_file(
    lab: RunningLab, number: signal.Signals
) -> None:
    lab.beam_on()
    path = session(lab, f"ended by {number.name}")
    assert lab.process is not None
    begin = lab.truth()["now"]

    lab.process.send_signal(number)

    wait_for(lambda: blanked(lab), 10, "the beam is blanked")
    assert info(path)["state"] != "closed"  # first safe, then tidy
    assert lab.wait() == 0, lab.tail()
    assert "beam blanked" in events_since(lab, begin)
    found = info(path)
    assert found["state"] == "closed"
    assert frames_in(path) > 3
    assert not verify(path)


def test_when_the_service_is_killed_all_is_made_safe_and_nothing_is_left_running(
    lab: RunningLab,
) -> None:
    lab.beam_on()
    path = session(lab, "orphaned")

    left = lab.kill()

    assert len(left) > 8
    wait_for(lambda: blanked(lab), BOUND, "the beam is blanked")
    wait_for(lambda: not [pid for pid in left if alive(pid)], 15, "its processes end by themselves")
    assert info(path)["state"] == "closed"
    assert not verify(path)


def test_after_a_sudden_death_it_can_be_started_again_at_once(lab: RunningLab) -> None:
    left = lab.kill()

    lab.start()  # it waits for what was left to make safe and to end

    assert not [pid for pid in left if alive(pid)]
    with lab.client() as client:
        assert {each["device"] for each in client.describe()} >= {"stage", "beam", "camera"}


def test_simulators_that_the_service_started_end_with_it() -> None:
    with RunningLab() as own:
        own.start()
        left = own.kill()

        assert any("simulators" in name for name in _commands(left))
        wait_for(lambda: not [pid for pid in left if alive(pid)], 20, "its processes end")


def _commands(pids: set[int]) -> list[str]:
    found: list[str] = []
    for pid in pids:
        try:
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " "))
        except OSError:
            continue
    return found


# ---- the latch ---------------------------------------------------------------------------------


def test_a_latch_outlives_the_service_and_takes_three_commands_to_open(lab: RunningLab) -> None:
    lab.arm("stage", "beam")
    lab.fault("stage", "nan")
    wait_for(lambda: "IL-22" in lab.tripped(), 10, "a thermometer without a value trips IL-22")
    lab.fault("stage", "nan", None)

    lab.kill()
    lab.start()

    assert "IL-22" in lab.tripped()
    with lab.client() as client:
        wait_for(lambda: client.get("stage.temperature", fresh=True), 10, "the stage is back")
        with pytest.raises(Interlocked, match="IL-22"):
            client.set("stage.setpoint", 290.0)
        with pytest.raises(Interlocked, match="IL-22"):
            client.reset()
        client.ack("IL-22")
        with pytest.raises(Interlocked):
            client.set("stage.setpoint", 290.0)
        wait_for(lambda: client.reset() is not None, 10, "reset")
        with pytest.raises(Interlocked, match="enable"):
            client.set("stage.setpoint", 290.0)
        client.enable("stage")
        assert wait_for(lambda: client.set("stage.setpoint", 290.0), 10) == 290.0


# ---- a cut cable -------------------------------------------------------------------------------


def test_a_cut_cable_trips_and_afterwards_nothing_is_sent_again(lab: RunningLab) -> None:
    lab.arm("stage", "beam")
    with lab.client() as client:
        identity = client.describe("stage")["identity"]
        boot = client.describe("stage")["boot"]
        client.set("stage.setpoint", 291.0)
        with client.watch("stage.temperature", timeout=10) as readings:
            lab.fault("stage", "drop")
            lost = next(each for each in readings if each.value is None)
        assert lost.quality == "bad"
        wait_for(lambda: "IL-22" in lab.tripped(), 10, "a silent thermometer trips")
        with pytest.raises(Exception, match="stage") as refused:
            client.set("stage.ramp_rate", 7.5)
        assert refused.type.__module__ == "coldframe.errors"

        lab.fault("stage", "drop", None)

        wait_for(lambda: client.get("stage.temperature", fresh=True), 15, "the stage is back")
        after = client.describe("stage")
    assert (after["identity"], after["boot"]) == (identity, boot)
    writes = lab.truth(do="writes", device="stage")
    assert len([each for each in writes if "291" in each]) == 1
    assert not [each for each in writes if "7.5" in each]
