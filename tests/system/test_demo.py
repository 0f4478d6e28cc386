"""The demonstration, as a stranger runs it: the whole of it, and one cut short."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from coldframe.daemon import session_reader
from coldframe.daemon.session_data import SessionData

pytestmark = pytest.mark.timeout(700)


def test_it_ends_with_a_table_a_session_and_a_picture(demo):
    assert demo.status == 0, demo.said
    assert demo.session.exists() and demo.picture.stat().st_size > 100_000
    for words in ("is refused", "IL-13", "Act two", "What came out", "coldframe replay"):
        assert words in demo.said


def test_both_expansions_come_out_within_what_is_stated(demo):
    with SessionData(demo.session) as session:
        events = [
            json.loads(message.header)
            for message in session.messages(payloads=False)
            if message.topic.startswith(b"event ")
        ]
    results = [
        event["details"]["result"] for event in events if event["text"] == "done: operando_biasing"
    ]
    thin, thick = (result["area_ratio"] for result in results)
    assert thin == pytest.approx(2.0, abs=0.06)
    assert thick == pytest.approx(1.2, abs=0.03)


def test_the_stage_was_stable_after_ninety_to_a_hundred_and_five_minutes(demo):
    with SessionData(demo.session) as session:
        notes = [
            json.loads(message.header)
            for message in session.messages(payloads=False)
            if message.topic.startswith(b"event ") and b'"done: cool_down"' in message.header
        ]
    assert 90 <= notes[0]["details"]["result"]["minutes"] <= 105


def test_the_cold_bias_was_refused_with_its_predicted_voltage(demo):
    refusal = next(line for line in demo.said.splitlines() if "is refused" in line)
    assert re.search(r"IL-13: cold bias: predicted [\d.e+]+ V", refusal)


def test_the_beam_was_blanked_soon_after_the_stage_warmed(demo):
    with SessionData(demo.session) as session:
        t, kelvin = session.log("stage.temperature")
        blanked_t, blanked = session.log("beam.blanked")
    begin = next(
        t[k] for k in range(1, len(t)) if kelvin[k] > 103.15 >= kelvin[k - 1] and t[k] > t[0] + 3000
    )
    first = blanked_t[(blanked_t > begin) & (blanked == 1.0)][0]
    assert first - begin < 15.0  # lab time at speed 5: a bound of order, not a measurement
    until_enabled = blanked[(blanked_t >= first) & (blanked_t < first + 600)]
    assert until_enabled.min() == 1.0


def test_the_file_is_whole_and_without_gaps(demo):
    assert session_reader.verify(demo.session) == []
    about = session_reader.info(demo.session)
    assert about["state"] == "closed" and about["gaps"] == []


def test_plain_h5py_sees_frames_spectra_and_logs_with_units(demo):
    with h5py.File(demo.session) as file:
        camera = file["entry/camera"]
        assert camera["data"].shape[1:] == (256, 256) and len(camera["data"]) > 300
        assert len(camera["data"]) == len(camera["time"])
        assert file["entry/eds/data"].shape[1] == 2048
        log = file["entry/logs/stage.temperature/value"]
        assert log.attrs["units"] == "K"
        assert 85 < np.nanmin(log[()]) < 90


def test_interrupted_it_leaves_everything_safe_and_the_file_closed(tmp_path, demo_command):
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [*demo_command, "--out", str(out), "--speed", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_until_unblanked(out, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait(5)

    (session,) = out.glob("*.nxs")
    assert session_reader.info(session)["state"] == "closed"
    assert session_reader.verify(session) == []
    with SessionData(session) as data:
        _, blanked = data.log("beam.blanked")
    assert blanked[-1] == 1.0
    log = (out / "service.log").read_text()
    for device in ("beam", "bias", "needle", "stage"):
        assert re.search(rf'"device": "{device}".*"verified": true', log)


def _wait_until_unblanked(out: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the guard has passed the first unblanking, by its journal."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None
        journal = out / "simulated.guard.journal"
        if journal.exists() and "call beam.unblank" in journal.read_text(errors="replace"):
            return
        time.sleep(0.05)
    raise AssertionError("the beam was never unblanked")
