"""Other people's readers see the numbers, units and axes that were recorded."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coldframe.daemon.session_file import About, SessionFile
from coldframe.messages import (
    Array,
    DeviceInfo,
    Event,
    Header,
    ParameterInfo,
    Reading,
    StreamInfo,
    topic,
)

START = 1_700_000_000_000_000_000
FRAMES, SPECTRA = 12, 5
Y, X, CHANNELS = 24, 16, 128


def images() -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(3).poisson(2, (FRAMES, Y, X)).astype("<u2")


def spectra() -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.random.default_rng(4).poisson(50, (SPECTRA, CHANNELS)).astype("<u4")


def device(name: str, stream: StreamInfo | None = None, **kinds: Any) -> DeviceInfo:
    return DeviceInfo(
        device=name,
        model="model",
        role="",
        identity=name,
        simulated=True,
        boot="b",
        pid=1,
        parameters=[ParameterInfo(name=n, kind=kind, unit="K") for n, kind in kinds.items()],
        stream=stream,
    )


class Writing:
    """A session with a camera, spectra, a temperature, words and a note."""

    def __init__(self, path: Path):
        camera = StreamInfo(
            kind="frame", dtype="<u2", shape=[Y, X], axes={"y_nm": 0.25, "x_nm": 0.25}
        )
        eds = StreamInfo(kind="spectrum", dtype="<u4", shape=[CHANNELS], axes={"energy_eV": 10.0})
        devices = [
            device("camera", camera),
            device("eds", eds),
            device("stage", temperature="float", words="str", never="float"),
        ]
        about = About("s1", "Cold lamella", START, True, "0.1", "simulated", "[lab]\n")
        self.file = SessionFile(path, about, devices)
        self._arrival = 0

    def put(
        self, sort: Any, model: type[Header], payload: bytes | None = None, **fields: Any
    ) -> None:
        self._arrival += 1
        at = START + fields["seq"] * 100_000_000
        header = model(session="s1", t_ns=str(at), mono_ns=str(self._arrival), **fields)
        stream = topic(sort, header.name)
        self.file.append(self._arrival, stream, header, header.encode(), payload)

    def frame(self, seq: int, data: np.ndarray[Any, Any]) -> None:
        kind = "frame" if data.ndim == 2 else "spectrum"
        name = "camera" if data.ndim == 2 else "eds"
        self.put(
            kind, Array, data.tobytes(), name=name, seq=seq, unit="counts", dtype=data.dtype.str,
            shape=data.shape, details={"exposure_s": 0.1, "number": seq},
        )  # fmt: skip

    def temperature(self, seq: int) -> None:
        self.put(
            "reading", Reading, name="stage.temperature", seq=seq, unit="K", value=88 + seq / 8
        )


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    path = tmp_path / "session.nxs"
    writing = Writing(path)
    for seq, image in enumerate(images()):
        writing.frame(seq, image)
        writing.temperature(seq)
        writing.put("reading", Reading, name="stage.words", seq=seq, unit="K", value=f"kühl {seq}")
    for seq, spectrum in enumerate(spectra()):
        writing.frame(seq, spectrum)
    writing.put("event", Event, name="recorder", seq=0, kind="note", text="touched Å")
    writing.put("event", Event, name="recorder", seq=1, kind="note", text="let go")
    writing.file.finalise(START + 60 * 10**9, {"sample": {"id": "LiPON-7"}})
    return path


def test_hyperspy_libertem_nexusformat_and_h5py_see_the_same(
    finished: Path, there: Callable[..., Any]
) -> None:
    hyperspy, libertem, nexus, plain = there("session_readers.py", finished)

    assert hyperspy["default"] == "camera"
    assert hyperspy["images"] == ["camera"]
    np.testing.assert_array_equal(hyperspy["camera"], images())
    time, y, x = hyperspy["camera_axes"]
    assert (time["name"], time["units"], time["size"]) == ("time", "s", FRAMES)
    assert time["scale"] == pytest.approx(0.1)
    assert (y["name"], y["units"], y["scale"], y["size"]) == ("y", "nm", 0.25, Y)
    assert (x["name"], x["units"], x["scale"], x["size"]) == ("x", "nm", 0.25, X)
    np.testing.assert_array_equal(hyperspy["eds"], spectra())
    energy = hyperspy["eds_signal_axis"]
    assert (energy["name"], energy["units"], energy["scale"]) == ("energy", "eV", 10.0)
    assert hyperspy["temperature_unit"] == "K"

    for found in libertem.values():
        assert found["shape"] == [FRAMES, Y, X]
        np.testing.assert_array_equal(found["sum"], images().sum(axis=0))

    assert (nexus["default"], nexus["definition"]) == ("camera", "NXem")
    np.testing.assert_array_equal(nexus["signal"], images())
    assert nexus["axes"] == ["time", "y", "x"]
    assert nexus["axis_units"] == ["s", "nm", "nm"]
    assert nexus["log_class"] == "NXlog"
    assert nexus["log"] == [88 + seq / 8 for seq in range(FRAMES)]

    np.testing.assert_array_equal(plain["camera"], images())
    assert plain["time"] == pytest.approx([seq / 10 for seq in range(FRAMES)])
    assert plain["log"] == nexus["log"]
    assert plain["log_unit"] == "K"
    assert plain["words"][3] == "kühl 3"
    assert plain["notes"] == ["touched Å", "let go"]


def test_nexus_own_validator_finds_no_error(finished: Path, interop_python: Path) -> None:
    done = subprocess.run(
        [interop_python.parent / "nxvalidate", "-w", finished],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Application Definition: NXem" in said
    assert "Total number of errors: 0" in said


def test_plain_h5py_reads_along_while_the_session_is_written(
    tmp_path: Path, interop_python: Path
) -> None:
    path = tmp_path / "session.nxs"
    writing = Writing(path)
    writing.frame(0, images()[0])
    writing.temperature(0)
    writing.file.flush()
    script = Path(__file__).parent / "scripts" / "session_live.py"
    with subprocess.Popen(
        [interop_python, "-I", script, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as reader:
        assert reader.stdin is not None and reader.stdout is not None
        for seq in range(1, FRAMES):
            writing.frame(seq, images()[seq])
            writing.temperature(seq)
            writing.file.flush()
            reader.stdin.write("\n")
            reader.stdin.flush()
            seen = json.loads(reader.stdout.readline())
            assert seen == [seq + 1, int(images()[seq].sum()), 88 + seq / 8]
        writing.file.finalise(START, {})
        reader.stdin.close()
        assert reader.wait(20) == 0
