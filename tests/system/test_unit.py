"""The systemd unit: what it promises, and what systemd itself thinks of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "config" / "coldframe.service"
INSTALLED = "/opt/coldframe/bin/coldframe"


def directives() -> dict[tuple[str, str], list[str]]:
    """(section, key) → every value given, in order."""
    found: dict[tuple[str, str], list[str]] = {}
    section = ""
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault((section, key), []).append(value)
    return found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),  # READY is said, not guessed
        ("NotifyAccess", "main"),
        ("KillMode", "control-group"),  # no child outlives the service
        ("OOMPolicy", "continue"),  # one process killed is no reason to kill the guard
        ("TimeoutStopSec", "30"),  # every output safe first
        ("WatchdogSignal", "SIGABRT"),
        ("Restart", "on-failure"),
        ("User", "coldframe"),
        ("RuntimeDirectory", "coldframe"),
        ("StateDirectory", "coldframe"),
        ("NoNewPrivileges", "yes"),
        ("ProtectSystem", "strict"),
        ("DevicePolicy", "closed"),
        ("IPAddressDeny", "any"),
        ("IPAddressAllow", "localhost"),
    ],
)
def test_the_unit_says(key: str, value: str) -> None:
    assert directives()["Service", key] == [value]


def test_a_watchdog_is_armed() -> None:
    (seconds,) = directives()["Service", "WatchdogSec"]

    assert 0 < float(seconds) <= 30


def test_what_a_person_must_mend_is_not_restarted() -> None:
    (statuses,) = directives()["Service", "RestartPreventExitStatus"]

    assert set(statuses.split()) == {"64", "75", "78"}  # usage, already running, configuration


def test_each_key_that_is_no_list_is_said_once() -> None:
    lists = {"DeviceAllow", "SystemCallFilter", "IPAddressAllow"}

    assert not [k for k, values in directives().items() if len(values) > 1 and k[1] not in lists]


# ---- what systemd thinks ---------------------------------------------------------------------


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed here")
    return found


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    """The unit as it would stand on this machine, started by the interpreter of this test."""
    text = UNIT.read_text(encoding="utf-8")
    assert INSTALLED in text
    unit = tmp_path / "coldframe.service"
    unit.write_text(
        text.replace(INSTALLED, f"{sys.executable} -m coldframe.daemon"), encoding="utf-8"
    )
    return unit


def test_systemd_finds_no_fault_in_it(analyze: str, rendered: Path) -> None:
    command = [analyze, "verify", "--recursive-errors=yes", "--man=no", str(rendered)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert str(rendered) not in done.stderr  # no warning about it, whatever other units do


def test_systemd_finds_a_fault_where_there_is_one(analyze: str, rendered: Path) -> None:
    rendered.write_text(rendered.read_text().replace("KillMode=control-group", "KillMode=softly"))
    command = [analyze, "verify", "--recursive-errors=yes", "--man=no", str(rendered)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "softly" in done.stderr


def test_its_exposure_is_two_or_less(analyze: str, rendered: Path) -> None:
    command = [analyze, "security", "--offline=true", "--threshold=20", "--no-pager", str(rendered)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-2000:] + done.stderr


def test_the_libraries_work_where_memory_is_never_writable_and_executable() -> None:
    # given MemoryDenyWriteExecute=yes, which the kernel offers as prctl(PR_SET_MDWE = 65, 1)
    assert directives()["Service", "MemoryDenyWriteExecute"] == ["yes"]
    script = (
        "import ctypes, sys\n"
        "if ctypes.CDLL(None).prctl(65, 1, 0, 0, 0): sys.exit(77)\n"
        "import h5py, hdf5plugin, isal.igzip, matplotlib, numpy, pydantic, serial, structlog, zmq\n"
        "numpy.linalg.svd(numpy.eye(9)); zmq.Context().term()\n"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    if done.returncode == 77:
        pytest.skip("this kernel has no PR_SET_MDWE (Linux 6.3)")

    assert done.returncode == 0, done.stderr.decode()
