"""One service to a laboratory: a lock the kernel drops at death, so that none is ever stale.

The processes of a service inherit it. A service that was killed leaves it with them until the last
has made safe and ended, so that its successor never meets them at an instrument.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from coldframe.errors import AlreadyRunning

PATIENCE = 15.0  # s for the processes of a service that was killed to end
LOOK = 0.05  # s between two tries


class Lock:
    """Held from construction until `release` or death; the file says by whom."""

    def __init__(self, path: Path, patience: float = PATIENCE):
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + patience
        while not self._take():
            holder = os.pread(self.descriptor, 32, 0).decode("ascii", "replace").strip()
            if _alive(holder) or time.monotonic() >= deadline:
                os.close(self.descriptor)
                raise AlreadyRunning(f"{path.parent.name}: {_words(holder)}")
            time.sleep(LOOK)
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)

    def _take(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go."""
        os.close(self.descriptor)


def _alive(holder: str) -> bool:
    """Whether that process lives; one that has not written its number yet does."""
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        pass
    return True


def _words(holder: str) -> str:
    if _alive(holder):
        return f"a service runs already, process {holder or 'unknown'}: stop it, or talk to it"
    return f"the service, process {holder}, died, but what it started runs on: see `ps` and end it"
