"""Frames from one process to another as a device host sends them, against a copy in memory.

DEALER to ROUTER over ipc, `[topic] [header] [pixels]`, a header made for each frame: the path a
frame takes to the recorder while it travels inside the message.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from benchmarks.measuring import ROUNDS, Result, compare, rate
from coldframe.messages import Array, topic

SIDES = (256, 1024)  # pixels of two bytes
BYTES = 1 << 28  # sent for one measurement
PATIENCE = 30_000  # ms


def measure() -> list[Result]:
    """MB/s for a small and a large frame."""
    results = []
    for side in SIDES:
        frame = np.random.default_rng(0).poisson(2.0, (side, side)).astype("<u2")
        found = compare(
            partial(_transfer, side, frame.nbytes), partial(_copied, frame), ROUNDS // 2
        )
        results.append(
            Result(
                f"frames of {side}x{side} to another process",
                f"{found.ours:,.0f} MB/s",
                f"{found.reference:,.0f} MB/s of one copy in memory",
                found.ratio,
            )
        )
    return results


def _copied(frame: np.ndarray[Any, np.dtype[np.uint16]]) -> float:
    """MB/s of copying frames from one place to another, both too large for the caches."""
    count = BYTES // 2 // frame.nbytes
    source = np.stack([frame] * count)
    target = np.zeros_like(source)

    def copy() -> None:
        for one, other in zip(target, source, strict=True):
            np.copyto(one, other)

    return rate(copy, 1) * source.nbytes / 1e6


def _transfer(side: int, nbytes: int) -> float:
    """MB/s from the first frame's arrival to the last one's."""
    count = BYTES // nbytes
    with tempfile.TemporaryDirectory(prefix="coldframe-") as folder:
        address = f"ipc://{Path(folder) / 'lane'}"
        with zmq.Context() as context, context.socket(zmq.ROUTER) as lane:
            lane.bind(address)
            sender = subprocess.Popen([sys.executable, "-m", __name__, address, str(side)])
            try:
                began = 0.0
                for number in range(count):
                    if not lane.poll(PATIENCE):
                        raise TimeoutError(f"frame {number} of {count} did not come")
                    _, _, _, pixels = lane.recv_multipart(copy=False)
                    assert len(pixels) == nbytes
                    began = began or time.perf_counter()
                seconds = time.perf_counter() - began
            finally:
                sender.wait(PATIENCE / 1000)
    return (count - 1) * nbytes / 1e6 / seconds


def _send(address: str, side: int) -> None:
    frame = np.random.default_rng(0).poisson(2.0, (side, side)).astype("<u2")
    with zmq.Context() as context, context.socket(zmq.DEALER) as lane:
        lane.connect(address)
        for number in range(BYTES // frame.nbytes):
            header = Array(
                name="camera",
                seq=number,
                t_ns=str(time.monotonic_ns()),
                mono_ns=str(time.monotonic_ns()),
                unit="counts",
                dtype="<u2",
                shape=frame.shape,
            )
            lane.send_multipart([topic("frame", "camera"), header.encode(), frame.data], copy=False)


if __name__ == "__main__":
    _send(sys.argv[1], int(sys.argv[2]))
