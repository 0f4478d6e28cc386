"""The file of the demonstration, opened by software nobody here wrote."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coldframe.daemon.session_data import SessionData


def test_hyperspy_and_libertem_see_the_frames_of_the_demonstration(
    demo: Any, there: Callable[..., Any]
) -> None:
    with SessionData(demo.session) as session:
        count = len(session.frame_times("camera"))
        sums = [int(session.frame("camera", k).sum()) for k in range(count)]

    seen = there("demo_file.py", demo.session, timeout=300)

    assert seen["shape"] == [count, 256, 256]
    assert (seen["first"], seen["last"]) == (sums[0], sums[-1])
    assert seen["libertem"] == pytest.approx(float(np.sum(sums)), rel=1e-6)  # it adds in float32
