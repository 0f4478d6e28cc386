"""A device whose host a person starts: it dials in, and no instrument ever has two hosts."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from coldframe.daemon.configuration import CONFIG
from coldframe.errors import ColdframeError
from tests.system.running import ROOT, RunningLab, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[RunningLab]:
    file = tmp_path / "elsewhere.toml"
    text = (CONFIG / "simulated.toml").read_text()
    file.write_text(text.replace("[device.beam]\n", '[device.beam]\nhost = "elsewhere"\n'))
    with RunningLab(str(file)) as made:
        yield made


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_host_that_a_person_starts_dials_in_and_ends_with_its_output_safe(
    lab: RunningLab, end: signal.Signals
) -> None:
    lab.start()
    assert {"stage", "bias"} <= set(lab.pids()) and "beam" not in lab.pids()
    with lab.client() as client:
        with pytest.raises(ColdframeError, match="beam"):
            client.get("beam.blanked")

        host = subprocess.Popen(
            lab.command("host", str(lab.lab_file), "beam"),
            env=lab.environment, cwd=ROOT, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: client.get("beam.blanked"), 20, "it has dialled in")
        assert client.describe("beam")["pid"] == host.pid
        lab.beam_on()
        host.send_signal(end)

        assert host.wait(20) == (0 if end == signal.SIGTERM else -end)
        wait_for(lambda: lab.truth()["blanked"], 5, "by itself, or by the last hand")


def test_an_instrument_that_the_service_hosts_gets_no_second_host(lab: RunningLab) -> None:
    refused = lab.run("host", str(lab.lab_file), "beam", "stage")

    assert refused.returncode == 78
    assert "the service itself hosts stage" in refused.stderr
    assert 'host = "elsewhere"' in refused.stderr


def test_without_a_service_there_is_nothing_to_dial_in_to(lab: RunningLab) -> None:
    refused = lab.run("host", str(lab.lab_file), "beam")

    assert refused.returncode == 1
    assert "coldframe serve" in refused.stderr
