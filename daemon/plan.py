"""What the service decides once and every process of it is told: folders, sockets, addresses.

Written as JSON into the run folder before the first process starts. It holds what the guard needs,
so the guard reads nothing else and imports neither drivers nor simulators.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from coldframe.daemon.rules import GuardSettings

FILE = "plan.json"


class Plan(BaseModel):
    """Frozen for the life of the service."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str  # of the laboratory
    lab_file: Path
    folder: Path  # the run folder: sockets, lock, clock
    state: Path  # journals
    sessions: Path  # session files
    service_pid: int
    hub: int  # ports on loopback
    streams: int
    guard_port: int
    clock: Path | None = None  # the shared triple of a simulated laboratory
    addresses: dict[str, str]  # of every device, `sim://` resolved
    guard: GuardSettings

    def inner(self, name: str) -> str:
        """The inner socket of guard, hub or recorder."""
        return f"ipc://{self.folder}/{name}"

    def tcp(self, port: int) -> str:
        """A socket for clients, on loopback."""
        return f"tcp://127.0.0.1:{port}"

    def write(self) -> Path:
        """Into the run folder, whole or not at all, for this user only."""
        scratch = self.folder / f"{FILE}.{os.getpid()}"
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1))
        os.replace(scratch, self.folder / FILE)
        return self.folder / FILE

    @classmethod
    def read(cls, path: Path) -> Plan:
        return cls.model_validate_json(path.read_text(encoding="utf-8"))
