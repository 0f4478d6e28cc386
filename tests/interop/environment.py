"""The environment of other people's software: made once, kept outside the clone.

It lives in `$XDG_CACHE_HOME/coldframe` (or `~/.cache/coldframe`), under a name that carries the
hash of requirements.txt and the version of Python, so that a change makes a new one. Run as a
script it makes the environment ahead of the tests and prints its interpreter::

    python tests/interop/environment.py
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
INSTALL_SECONDS = 600


class Unavailable(Exception):
    """The environment cannot be made here; the text says why."""


def folder() -> Path:
    """Where the environment is, or will be."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    told = hashlib.sha256(f"{python}\n".encode() + REQUIREMENTS.read_bytes())
    return cache / "coldframe" / f"interop-{told.hexdigest()[:12]}"


def interpreter() -> Path:
    """The environment's Python, made if need be; `Unavailable` when it cannot be."""
    home = folder()
    python, ready = home / "bin" / "python", home / "ready"
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with open(home.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs do not build it twice
            if not ready.exists():
                shutil.rmtree(home, ignore_errors=True)  # an earlier attempt broke off
                _make(home, python)
                ready.touch()
    except OSError as error:
        raise Unavailable(f"{home}: {error}") from None
    return python


def _make(home: Path, python: Path) -> None:
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([sys.executable, "-m", "venv", home])
    _run([*pip, "--retries", "1", "--no-input", "-r", REQUIREMENTS])


def _run(command: list[str | Path]) -> None:
    """Run `command`; what it complained of last is the reason when it fails."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        try:
            code = subprocess.run(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                timeout=INSTALL_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise Unavailable(f"not installed within {INSTALL_SECONDS} s") from None
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()] or ["no reason given"]
    if code != 0:
        said = [line for line in lines if line.startswith("ERROR")] or lines
        raise Unavailable(f"{command[2]} failed: {said[-1][:300]}")


if __name__ == "__main__":
    try:
        print(interpreter())
    except Unavailable as reason:
        sys.exit(str(reason))
