"""A lamp on a real wire behind the real hub and host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.spine import Spine


@pytest.fixture
def spine(bench: object) -> Iterator[Spine]:
    # the bench is asked for so that it ends last: hosts make safe through its ports
    with TemporaryDirectory(prefix="cf-") as folder:  # short: ipc paths end at 107 bytes
        made = Spine(Path(folder))
        yield made
        made.close()
