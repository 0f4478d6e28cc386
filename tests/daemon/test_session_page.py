"""The page about the session file and a session file say the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from coldframe.clock import ManualClock
from coldframe.daemon.columns import QUALITIES, STAMPS
from coldframe.daemon.session_file import About, SessionFile
from coldframe.messages import (
    Array,
    DeviceInfo,
    Event,
    ParameterInfo,
    Reading,
    StreamInfo,
    header_of,
    topic,
)

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/session-file.md"
START = 1_700_000_000_000_000_000
CAMERA = DeviceInfo(
    device="camera",
    model="merlin",
    role="FrameSource",
    identity="camera,1",
    simulated=True,
    boot="b0",
    pid=1,
    parameters=[ParameterInfo(name="exposure", kind="float", unit="s")],
    stream=StreamInfo(kind="frame", dtype="<u2", shape=[4, 4]),
)


def written(path: Path) -> Path:
    """A closed session with a frame, a reading and an event."""
    about = About(
        session="s1",
        title="page",
        start_ns=START,
        simulated=True,
        software="0.1.0",
        lab="simulated",
        configuration="[lab]\n",
    )
    file = SessionFile(path, about, (CAMERA,))
    stamps: dict[str, Any] = {"seq": 0, "session": "s1", "t_ns": str(START), "mono_ns": "1"}
    pixels = np.ones((4, 4), "<u2")
    for kind, header, payload in (
        ("reading", Reading(name="camera.exposure", unit="s", value=0.1, **stamps), None),
        ("frame", Array(name="camera", dtype="<u2", shape=(4, 4), **stamps), pixels.tobytes()),
        ("event", Event(name="guard", kind="note", text="hello", **stamps), None),
    ):
        data, about_what = header.encode(), topic(kind, header.name)  # type: ignore[arg-type]
        file.append(1, about_what, header_of(about_what, data), data, payload)
    file.tell_time(ManualClock(START), START)
    file.finalise(START + 1, {})
    return path


def general(path: str) -> str:
    """The path of one thing in one file as the page has it, with its placeholders."""
    column = "|".join(STAMPS)
    for pattern, name in (
        (r"^entry/camera", "entry/STREAM"),
        (r"^entry/STREAM/[xy]$", "entry/STREAM/AXIS"),
        (r"^entry/logs/[^/]+", "entry/logs/PARAMETER"),
        (r"^entry/instrument/[^/]+", "entry/instrument/DEVICE"),
        (r"^entry/metadata/[^/]+/[^/]+$", "entry/metadata/SECTION/FIELD"),
        (r"^entry/metadata/[^/]+$", "entry/metadata/SECTION"),
        (rf"^(entry/STREAM|entry/logs/PARAMETER)/({column})$", r"\1/COLUMN"),
    ):
        path = re.sub(pattern, name, path)
    return path


def test_what_is_in_a_file_is_on_the_page_and_what_is_on_the_page_is_in_a_file(
    tmp_path: Path,
) -> None:
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(entry[\w/]*)` \|(.*)", page, re.MULTILINE)
    sometimes = {path for path, words in rows if "where it was given" in words}
    found: dict[str, str] = {}

    def visit(path: str, item: Any) -> None:
        found[general(path)] = item.attrs.get("NX_class", "")

    with h5py.File(written(tmp_path / "page.nxs")) as file:
        file.visititems(visit)
        root, entry = dict(file.attrs), dict(file["entry"].attrs)

    assert set(found) <= {path for path, _ in rows}
    assert {path for path, _ in rows} - sometimes <= set(found)
    for path, words in rows:
        if nx_class := re.match(r" (NX\w+) \|", words):
            assert found[path] == nx_class[1], path
    for name in {*root, *entry} - {"NX_class", "default"}:
        assert f"`{name}`" in page, name


def test_the_columns_of_a_stream_and_the_codes_of_quality_are_on_the_page() -> None:
    page = PAGE.read_text(encoding="utf-8").split("### Columns of a stream")[1].split("##")[0]

    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(STAMPS)
    assert ", ".join(f"{code} {word}" for code, word in enumerate(QUALITIES)) in page
