"""Every procedure Coldframe brings, by name: importing this module registers them."""

from __future__ import annotations

from coldframe.protocols import biasing, cooling, dose_calibration
from coldframe.protocols.procedure import PROCEDURES, check_arguments, find, signature

__all__ = [
    "PROCEDURES", "biasing", "check_arguments", "cooling", "dose_calibration", "find", "signature",
]  # fmt: skip
