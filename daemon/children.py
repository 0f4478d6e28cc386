"""A process of the service: started, watched, told to end, and killed by its own handle only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

log = structlog.get_logger()


class Child:
    """One process. What it says goes where ours goes, or to `log_file`."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: dict[str, str],
        log_file: Path | None = None,
        holds: Sequence[int] = (),
    ):
        self.name, self._arguments, self._environment = name, list(arguments), environment
        self._log_file, self._holds = log_file, tuple(holds)  # descriptors it inherits
        self.start()

    def start(self) -> None:
        """Start it, again if need be; a fresh interpreter, never a fork of this one."""
        command = [sys.executable, "-m", "coldframe.daemon", *self._arguments]
        with contextlib.ExitStack() as stack:
            log_file = None
            if self._log_file is not None:
                log_file = stack.enter_context(open(self._log_file, "ab"))
            self._process = subprocess.Popen(  # a new group: Ctrl-C is ours to pass on, in order
                command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env={**os.environ, **self._environment},
                start_new_session=True,
                pass_fds=self._holds,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        return self._process.poll()

    def end(self) -> None:
        """Ask it to end: SIGTERM."""
        if self.alive():
            self._process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float) -> bool:
        """True when it has ended within `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self) -> None:
        """The last resort: SIGKILL to this process."""
        if self.alive():
            log.error("killed", process=self.name, pid=self.pid)
            self._process.kill()
            self._process.wait(5)


def end_all(children: Sequence[Child], seconds: float) -> None:
    """End them together, and kill what has not ended in time."""
    deadline = time.monotonic() + seconds
    for child in children:
        child.end()
    for child in children:
        if not child.wait(max(0.0, deadline - time.monotonic())):
            child.kill()
