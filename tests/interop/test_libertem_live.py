"""LiberTEM-live streams into our Merlin driver, reads our frames, and takes our simulator's."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from coldframe.drivers.merlin import Merlin
from coldframe.simulators.merlin import SETTINGS, MerlinSimulator
from coldframe.simulators.merlin_frames import acquisition_header, frame

SCRIPTS = Path(__file__).parent / "scripts"
FRAMES = 12


def recording(folder: Path, depth: int) -> Path:
    """A .hdr and a .mib file of random frames, as a Merlin writes them."""
    settings = {name: setting.default for name, setting in SETTINGS.items()}
    settings |= {"COUNTERDEPTH": depth, "NUMFRAMESTOACQUIRE": FRAMES, "NUMFRAMESPERTRIGGER": 4}
    random = np.random.default_rng(depth)
    images = random.integers(0, 1 << min(depth, 16), (FRAMES, 256, 256)).astype(np.uint16)
    (folder / "scan.hdr").write_bytes(acquisition_header(settings, 1, 0.0))
    bodies = (frame(image, n, settings, 1, n * 0.01) for n, image in enumerate(images, 1))
    (folder / "scan.mib").write_bytes(b"".join(bodies))
    return folder / "scan.hdr"


@contextmanager
def replayed(python: Path, *arguments: object) -> Iterator[tuple[int, int]]:
    """Their simulator, running; yields its control and data ports."""
    command = [python, "-I", SCRIPTS / "libertem_merlin_sim.py", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"it ended with {process.wait(10)}"
            control, data = json.loads(line)
            yield control, data
        finally:
            process.kill()


def take(driver: Merlin, count: int) -> list[np.ndarray]:
    """`count` frames in the order of their numbers."""
    samples = []
    deadline = time.monotonic() + 60
    while len(samples) < count and time.monotonic() < deadline:
        samples += driver.take()
    assert [sample.details["number"] for sample in samples] == list(range(1, count + 1))
    return [sample.data for sample in samples]


def sha(image: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


@pytest.mark.parametrize(("depth", "junk"), [(6, ""), (12, ""), (12, "garbage"), (24, "")])
def test_frames_received_equal_the_frames_their_simulator_sent(
    tmp_path, interop_python, there, depth, junk
):
    path = recording(tmp_path, depth)
    wide = depth == 24
    sent = there("libertem_read.py", path, "<u4" if wide else "<u2")
    assert len(set(sent)) == FRAMES

    with replayed(interop_python, path, depth, junk or "clean") as (control, data):
        options = Merlin.Options(data_port=data, timeout=10, wide=wide)
        driver = Merlin("camera", f"tcp://127.0.0.1:{control}", options=options)
        driver.open()
        try:
            assert "software 0.67.0.9" in driver.identify()
            assert driver.counter_depth.get() == depth
            for _ in range(2):
                driver.start()
                driver.trigger()
                assert [sha(image) for image in take(driver, FRAMES)] == sent
            assert driver.lost.get() == 0
            assert (driver.garbled.get() > 0) == (junk == "garbage")
        finally:
            driver.close()


def test_libertem_live_takes_the_frames_of_our_simulator(bench, there):
    _, address = bench.serve(MerlinSimulator)
    bench.do(lambda: bench.world.load("particle_10nm"))
    bench.world.beam.blanked = False
    bench.step(1)
    drawn: list[str] = []
    expose = bench.world.camera.expose

    def remember(*arguments):
        image = expose(*arguments)
        drawn.append(sha(np.minimum(image, 4095)))
        return image

    bench.world.camera.expose = remember
    port = int(address.rsplit(":", 1)[1])
    with ThreadPoolExecutor(1) as pool:
        got = pool.submit(there, "libertem_live_client.py", port, port + 1, FRAMES)
        while not got.done():
            bench.step(0.005)
        assert got.result() == drawn[:FRAMES]
    assert len(drawn) == FRAMES
