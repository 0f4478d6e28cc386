"""Coldframe: cold, dose-limited, biased experiments, with the specimen kept safe and on record."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldframe.client import Lab

try:
    __version__ = version("coldframe")
except PackageNotFoundError:  # read from a checkout that is not installed
    __version__ = "0+checkout"

__all__ = ["__version__", "connect"]


def connect(address: str | None = None, **options: Any) -> Lab:
    """A client of the service at `address`; use it in a `with` block.

    Without one, $COLDFRAME_ADDRESS says where, as on the command line, else tcp://127.0.0.1:5750.
    The client is imported here, not above: the guard imports this package and must stay small.
    """
    from coldframe.client import Lab

    usual = os.environ.get("COLDFRAME_ADDRESS", "tcp://127.0.0.1:5750")
    return Lab(address or usual, **options)
