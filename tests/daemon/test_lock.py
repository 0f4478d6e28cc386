"""One service to a laboratory."""

from __future__ import annotations

import os
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
