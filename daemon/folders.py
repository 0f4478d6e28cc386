"""Where things live: sockets and lock while it runs, journals and sessions for longer."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from coldframe.errors import ConfigurationError


def run_folder(lab_name: str) -> Path:
    """Where this laboratory's sockets, lock and clock live: private to the user."""
    if given := os.environ.get("RUNTIME_DIRECTORY"):
        folder = Path(given.split(":")[0])
    elif given := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(given) / "coldframe" / lab_name
    else:
        folder = Path(tempfile.gettempdir()) / f"coldframe-{os.getuid()}" / lab_name
    for each in (folder.parent, folder):  # mkdir's mode holds for the last part only
        each.mkdir(parents=True, exist_ok=True, mode=0o700)
        if each.name.startswith("coldframe") and each.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{each} belongs to somebody else")
    return folder


def state_folder() -> Path:
    """Where journals live and outlast a reboot."""
    given = os.environ.get("STATE_DIRECTORY")
    folder = Path(given.split(":")[0]) if given else Path.home() / "coldframe"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def session_folder(given: str) -> Path:
    """Where session files go: the laboratory's `[record] folder`, or the default."""
    folder = Path(given).expanduser() if given else state_folder() / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
