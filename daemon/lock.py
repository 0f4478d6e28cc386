"""One service to a laboratory: a lock the kernel drops at death, so that none is ever stale."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from coldframe.errors import AlreadyRunning


class Lock:
    """Held from construction until `release` or death; the file says by whom."""

    def __init__(self, path: Path):
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise AlreadyRunning(
                f"{path.parent.name}: a service runs already, process {holder}: "
                "stop it, or talk to it"
            ) from None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.close(self._descriptor)
