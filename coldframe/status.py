"""How a device is: a severity a program can compare, and words for a person at 3 a.m."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Severity(IntEnum):
    """Families by hundreds, so that a client may read only the first digit (after SECoP)."""

    IDLE = 100
    WARN = 200
    BUSY = 300
    ERROR = 400


class Status(NamedTuple):
    """A severity and the words that explain it."""

    severity: Severity
    words: str

    def __str__(self) -> str:
        return f"{self.severity.name.lower()}: {self.words}"
