"""One service to a laboratory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coldframe.daemon.lock import Lock
from coldframe.errors import AlreadyRunning

HOLD = """
import sys
from pathlib import Path
from coldframe.daemon.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_second_holder_is_refused_and_told_whose_lock_it_is(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as process:
        with pytest.raises(AlreadyRunning, match=str(process.pid)):
            Lock(path)
        process.kill()


def test_a_killed_holder_leaves_no_stale_lock(tmp_path):
    path = tmp_path / "lock"
    with holder(path) as process:
        process.kill()
        process.wait(5)

    lock = Lock(path)

    assert path.read_text().strip() == str(os.getpid())
    lock.release()


LEAVE = """
import subprocess, sys
from pathlib import Path
from coldframe.daemon.lock import Lock
lock = Lock(Path(sys.argv[1]))
left = subprocess.Popen(["sleep", sys.argv[2]], pass_fds=[lock.descriptor], stdout=2)
print(left.pid, flush=True)
"""


def left_behind(path: Path, seconds: float) -> int:
    """A holder that is gone; what it started still lives, for so long. Returns its number."""
    command = [sys.executable, "-c", LEAVE, str(path), str(seconds)]
    return int(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=20).stdout)


def test_what_a_dead_holder_left_is_waited_for(tmp_path):
    path = tmp_path / "lock"
    pid = left_behind(path, 0.5)

    lock = Lock(path)

    assert not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text()
    lock.release()


def test_what_a_dead_holder_left_and_never_ends_is_said_in_words(tmp_path):
    path = tmp_path / "lock"
    pid = left_behind(path, 30)

    with pytest.raises(AlreadyRunning, match="died, but what it started runs on"):
        Lock(path, patience=0.1)

    os.kill(pid, signal.SIGKILL)
