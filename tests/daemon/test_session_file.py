"""A session file gives back, byte for byte, what was put into it; and stock readers open it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldframe.clock import ManualClock
from coldframe.daemon.metadata import FIELDS
from coldframe.daemon.session_file import About, SessionFile
from coldframe.daemon.session_reader import Message, Session, info, verify
from coldframe.errors import BadRequest, StorageError
from coldframe.messages import (
    Array,
    DeviceInfo,
    Event,
    Header,
    ParameterInfo,
    Reading,
    StreamInfo,
    header_of,
    topic,
)

START = 1_700_000_000_000_000_000
SESSION = "0123456789abcdef"


def about(**changes: Any) -> About:
    given: dict[str, Any] = {
        "session": SESSION,
        "title": "Lithiation of Si, 5 nm Å",
        "start_ns": START,
        "simulated": True,
        "software": "0.1.0",
        "lab": "simulated",
        "configuration": '[lab]\nname = "simulated"\n',
    }
    return About(**(given | changes))


def device(name: str, stream: StreamInfo | None = None, **kinds: str) -> DeviceInfo:
    return DeviceInfo(
        device=name,
        model="model",
        role="Role",
        identity=f"{name},0815",
        simulated=True,
        boot="b0",
        pid=1,
        parameters=[ParameterInfo(name=n, kind=kind, unit="K") for n, kind in kinds.items()],  # type: ignore[arg-type]
        stream=stream,
    )


STAGE = device("stage", temperature="float", sensor="int", heater="bool", words="str")
CAMERA = device(
    "camera", StreamInfo(kind="frame", dtype="<u2", shape=[16, 8], axes={"y_nm": 0.5, "x_nm": 0.5})
)
EDS = device("eds", StreamInfo(kind="spectrum", dtype="<u4", shape=[64], axes={"energy_eV": 10.0}))


class Writer:
    """A session file, and what was put into it."""

    def __init__(self, path: Path, *devices: DeviceInfo, **options: Any):
        self.path = path
        self.file = SessionFile(path, about(), devices or (STAGE, CAMERA, EDS), **options)
        self.sent: list[Message] = []

    def put(
        self, kind: Any, header: Header, payload: bytes | None = None, data: bytes = b""
    ) -> None:
        data = data or header.encode()
        message = Message(1000 + len(self.sent), topic(kind, header.name), data, payload)
        parsed = header_of(message.topic, data)
        self.file.append(message.arrival, message.topic, parsed, data, payload)
        self.sent.append(message)

    def finish(self) -> None:
        self.file.finalise(START + 60_000_000_000, {})


def stamped(name: str, seq: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "seq": seq,
        "session": SESSION,
        "t_ns": str(START + seq * 1_000_000_007),
        "mono_ns": str(5_000_000_000 + seq),
        "quality": "simulated",
    } | more


def reading(name: str, seq: int, value: Any, **more: Any) -> Reading:
    return Reading(**stamped(name, seq, unit="K", **more), value=value)


def frame(name: str, seq: int, data: np.ndarray[Any, Any], **more: Any) -> tuple[Array, bytes]:
    fields = stamped(name, seq, unit="counts") | more
    header = Array(**fields, dtype=data.dtype.str, shape=data.shape)
    return header, data.tobytes()


def some_frame(seq: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seq).poisson(2, (16, 8)).astype("<u2")


def fill(writer: Writer, count: int = 20) -> None:
    for seq in range(count):
        writer.put("reading", reading("stage.temperature", seq, 88.15 + seq / 7))
        writer.put("reading", reading("stage.sensor", seq, seq - 3))
        writer.put("reading", reading("stage.heater", seq, seq % 2 == 0))
        writer.put("reading", reading("stage.words", seq, f"hält {seq} Å"))
        writer.put("frame", *frame("camera", seq, some_frame(seq), details={"exposure_s": 0.1}))
        if seq % 5 == 0:
            spectrum = np.arange(64, dtype="<u4") * seq
            writer.put("spectrum", *frame("eds", seq // 5, spectrum))
    writer.put("event", Event(**stamped("guard", 0), kind="tripped", text="IL-03: zu warm"))
    writer.put("event", Event(**stamped("recorder", 0), kind="note", text="the needle touched"))


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path / "session.nxs")


@pytest.mark.parametrize("compression", ["portable", "none"])
def test_every_message_comes_back_byte_for_byte_in_its_order(
    tmp_path: Path, compression: str
) -> None:
    writer = Writer(tmp_path / "session.nxs", compression=compression)
    fill(writer)
    writer.finish()

    with Session(writer.path) as session:
        assert list(session.messages()) == writer.sent
    assert verify(writer.path) == []


def test_plain_h5py_sees_numbers_units_and_axes(writer: Writer) -> None:
    fill(writer)
    writer.finish()

    with h5py.File(writer.path) as file:
        entry = file[file.attrs["default"]]
        assert entry.attrs["NX_class"] == "NXentry"
        assert entry["definition"][()] == b"NXem"
        assert entry["start_time"][()].decode() == "2023-11-14T22:13:20.000000+00:00"
        camera = entry[entry.attrs["default"]]
        assert camera.attrs["signal"] == "data"
        assert list(camera.attrs["axes"]) == ["time", "y", "x"]
        assert camera["data"].chunks == (1, 16, 8)
        assert camera["data"].shuffle and camera["data"].compression == "gzip"
        np.testing.assert_array_equal(camera["data"][7], some_frame(7))
        np.testing.assert_allclose(camera["x"][:], np.arange(8) * 0.5)
        assert camera["x"].attrs["units"] == "nm"
        assert camera["time"][1] == pytest.approx(1.000000007)
        assert len(camera["crc"]) == len(camera["data"]) == len(camera["time"]) == 20
        log = entry["logs/stage.temperature"]
        assert log.attrs["NX_class"] == "NXlog"
        assert log["value"].attrs["units"] == "K"
        np.testing.assert_allclose(log["value"][:], 88.15 + np.arange(20) / 7)
        assert entry["logs/stage.words"]["value"].asstr()[3] == "hält 3 Å"
        assert entry["eds/energy"].attrs["units"] == "eV"
        assert entry["sampleID"].attrs["NX_class"] == "NXsample"
        events = entry["control/events"]
        assert list(events["kind"].asstr()) == ["tripped", "note"]


# ---- anything at all -------------------------------------------------------------------------

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=200),
    st.text(alphabet="é☃\0 ", max_size=160),
)
names = st.sampled_from(["temperature", "sensor", "heater", "words", "undeclared"])
headers = st.fixed_dictionaries(
    {
        "name": names.map("stage.{}".format),
        "seq": st.one_of(st.integers(0, 10), st.integers(-(2**65), 2**65)),
        "session": st.sampled_from([SESSION, None]),
        "t_ns": st.one_of(
            st.integers(-(10**19), 10**19).map(str), st.sampled_from(["-0", "007", str(START)])
        ),
        "mono_ns": st.integers(0, 2**62).map(str),
        "unit": st.sampled_from(["K", "K", "", "Å"]),
        "quality": st.sampled_from(["good", "stale", "bad", "simulated"]),
        "value": scalars,
    }
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(headers, st.booleans(), st.booleans()), max_size=25))
def test_any_reading_comes_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[dict[str, Any], bool, bool]]
) -> None:
    writer = Writer(tmp_path_factory.mktemp("any") / "session.nxs")
    for fields, pretty, flush in rows:
        header = Reading(**fields)
        data = header.encode()
        if pretty:  # not as we would write it, and over several lines
            data = json.dumps(json.loads(data), indent=1).encode()
        writer.put("reading", header, None, data)
        if flush:
            writer.file.flush()
    writer.finish()

    with Session(writer.path) as session:
        assert list(session.messages()) == writer.sent


details = st.dictionaries(st.text(max_size=20), scalars, max_size=8)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(details, st.integers(0, 3), st.booleans()), max_size=12))
def test_any_frame_comes_back_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[dict[str, Any], int, bool]]
) -> None:
    writer = Writer(tmp_path_factory.mktemp("any") / "session.nxs", threads=1)
    shapes = [((16, 8), "<u2"), ((16, 8), "<f4"), ((4, 4), "<u2"), ((2, 3, 5), "|u1")]
    for seq, (more, which, noisy) in enumerate(frames):
        shape, dtype = shapes[which]
        data = np.random.default_rng(seq).integers(0, 256 if noisy else 2, shape).astype(dtype)
        writer.put("frame", *frame("camera", seq, data, details=more))
    writer.finish()

    with Session(writer.path) as session:
        assert list(session.messages()) == writer.sent
    assert not [p for p in verify(writer.path) if "lost" not in p.text]


# ---- shape and life --------------------------------------------------------------------------


def test_streams_nobody_used_are_pruned_and_no_dataset_is_empty(writer: Writer) -> None:
    writer.put("reading", reading("stage.temperature", 0, 88.15))
    writer.finish()

    empty: list[str] = []
    with h5py.File(writer.path) as file:

        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and (item.shape is None or 0 in item.shape):
                empty.append(name)

        file.visititems(look)
        assert list(file["entry/logs"]) == ["stage.temperature"]
        assert "camera" not in file["entry"] and "default" not in file["entry"].attrs
    assert empty == []


def test_a_session_in_which_nothing_happened_is_a_file_all_the_same(writer: Writer) -> None:
    writer.finish()

    assert verify(writer.path) == []
    assert info(writer.path)["streams"] == []


def test_a_reader_that_asks_for_one_thing_is_shown_the_images(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "session.nxs", STAGE, EDS, CAMERA)
    fill(writer)
    writer.finish()

    with h5py.File(writer.path) as file:
        assert file["entry"].attrs["default"] == "camera"


def test_mandatory_metadata_is_a_value_or_says_unknown(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "session.nxs")
    writer.file.finalise(START, {"sample": {"id": "LiPON-7", "electrode_area": "4 mm2"}})

    with Session(writer.path) as session:
        metadata = session.metadata()
    assert metadata["sample"]["id"] == "LiPON-7"
    assert metadata["ion_beam"]["species"] == "unknown: not given"
    assert {s: set(FIELDS[s]) <= set(metadata[s]) for s in FIELDS} == dict.fromkeys(FIELDS, True)


def test_one_stream_name_never_begins_another_in_the_file(tmp_path: Path) -> None:
    shape = StreamInfo(kind="frame", dtype="<u2", shape=[4, 4])
    twins = [device("camera", shape), device("camera2", shape), device("logs", shape)]
    writer = Writer(tmp_path / "session.nxs", *twins)
    for each in twins:
        writer.put("frame", *frame(each.device, 0, np.zeros((4, 4), "<u2")))
    writer.finish()

    with h5py.File(writer.path) as file:
        stacks = [n for n, g in file["entry"].items() if g.attrs.get("NX_class") == "NXdata"]
    assert len(stacks) == 3
    assert not [(a, b) for a in stacks for b in stacks if a != b and b.startswith(a)]
    with Session(writer.path) as session:
        assert list(session.messages()) == writer.sent


def test_a_stream_that_turns_up_later_is_recorded_with_a_reader_attached(
    writer: Writer, ask_reader: Callable[[Path], Callable[[], Any]]
) -> None:
    fill(writer, 3)
    writer.file.flush()
    ask = ask_reader(writer.path)
    assert ask()[0]["stage.temperature"] == 3

    writer.file.add(device("cup", current="float"))
    writer.put("reading", reading("cup.current", 0, 1e-9))
    writer.put("reading", reading("stage.temperature", 3, 90.5))
    writer.put("frame", *frame("late", 0, np.ones((3, 3), "<i4")))
    writer.put("reading", reading("guess.work", 0, 7))
    writer.file.flush()
    writer.put("reading", reading("guess.work", 1, 8))
    writer.file.flush()

    seen, last, _, _ = ask()
    assert (seen["stage.temperature"], last) == (4, 90.5)
    newcomer = ask_reader(writer.path)()[0]
    assert newcomer["cup.current"] == newcomer["late"] == newcomer["guess.work"] == 1
    writer.finish()
    with Session(writer.path) as session:
        assert list(session.messages()) == writer.sent


@pytest.mark.parametrize(
    ("change", "payload", "said"),
    [
        ({}, b"\0" * 255, "255 bytes"),
        ({"dtype": "O"}, b"", "no type of numbers|say a type"),
        ({"dtype": "nonsense"}, b"", "no type of numbers"),
        ({"shape": (0, 8)}, b"", "cannot be recorded"),
        ({"shape": (2**20, 2**20)}, b"", "larger than a chunk"),
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_refused(
    writer: Writer, change: dict[str, Any], payload: bytes, said: str
) -> None:
    header, _ = frame("camera", 0, some_frame(0))
    with pytest.raises(BadRequest, match=said):
        writer.put("frame", header.model_copy(update=change), payload)
    writer.finish()


# ---- live ------------------------------------------------------------------------------------

READER = """
import json, sys
from coldframe.daemon.session_reader import Session
with Session(sys.argv[1]) as session:
    for _ in sys.stdin:
        session.refresh()
        seen = {stream.name: len(stream) for stream in session.streams()}
        stage = next(s for s in session.streams() if s.name == "stage.temperature")
        last = stage.group["value"][len(stage) - 1]
        frame = next(s for s in session.streams() if s.kind == "frame")
        sums = int(frame.group["data"][seen["camera"] - 1].sum())
        print(json.dumps([seen, last, sums, session.closed]), flush=True)
"""


def test_another_process_reads_along_while_the_file_grows(
    writer: Writer, ask_reader: Callable[[Path], Callable[[], Any]]
) -> None:
    fill(writer, 3)
    writer.file.flush()
    ask = ask_reader(writer.path)

    for seq in range(3, 30):
        writer.put("reading", reading("stage.temperature", seq, float(seq)))
        writer.put("frame", *frame("camera", seq, some_frame(seq)))
        writer.file.flush()
        if seq % 9 == 0:
            seen, last, total, closed = ask()
            assert seen["stage.temperature"] == seen["camera"] == seq + 1
            assert (last, total, closed) == (seq, int(some_frame(seq).sum()), False)
    writer.finish()


@pytest.fixture
def ask_reader() -> Any:
    running: list[subprocess.Popen[str]] = []

    def start(path: Path) -> Callable[[], Any]:
        process = subprocess.Popen(
            [sys.executable, "-c", READER, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)

        def ask() -> Any:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        return ask

    yield start
    for process in running:
        process.communicate(timeout=20)


# ---- what is wrong, and where ----------------------------------------------------------------


def test_a_flipped_byte_in_a_frame_is_found_and_named(writer: Writer) -> None:
    fill(writer)
    writer.finish()
    with h5py.File(writer.path) as file:
        data = file["entry/camera/data"]
        where = data.id.get_chunk_info_by_coord((7, 0, 0))
    flip(writer.path, where.byte_offset + where.size // 2)

    problems = verify(writer.path)

    assert [(p.where, "CRC" in p.text) for p in problems] == [("entry/camera/data[7]", True)]
    with Session(writer.path) as session, pytest.raises(StorageError, match=r"camera/data\[7\]"):
        list(session.messages())


def test_a_flipped_byte_in_a_column_is_found_and_named(writer: Writer) -> None:
    fill(writer)
    writer.finish()
    with h5py.File(writer.path) as file:
        where = file["entry/logs/stage.temperature/value"].id.get_chunk_info(0)
    flip(writer.path, where.byte_offset + 12)

    assert [p.where for p in verify(writer.path)] == ["entry/logs/stage.temperature/value"]


def test_any_flipped_byte_of_what_was_recorded_is_reported(writer: Writer) -> None:
    fill(writer)
    writer.finish()
    chance = np.random.default_rng(36)
    places: list[int] = []
    with h5py.File(writer.path) as file:

        def note(name: str, item: Any) -> None:
            if (
                not isinstance(item, h5py.Dataset)
                or "arrival" not in item.parent
                or not item.chunks
            ):
                return
            for index in range(item.id.get_num_chunks()):
                chunk = item.id.get_chunk_info(index)
                used = len(item) * item.dtype.itemsize if item.ndim == 1 else chunk.size
                places.extend(chunk.byte_offset + chance.integers(0, min(used, chunk.size), 4))

        file.visititems(note)
    whole = writer.path.read_bytes()
    chosen = chance.permutation(places)[:50]

    missed = []
    for place in chosen:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(chance.integers(8))
        writer.path.write_bytes(flipped)
        if not verify(writer.path):
            missed.append(int(place))
    assert len(chosen) == 50
    assert missed == []


def test_a_changed_journal_line_is_found(writer: Writer) -> None:
    fill(writer)
    writer.finish()
    with h5py.File(writer.path, "r+") as file:
        journal = file["entry/control/events/journal"]
        journal[0] = journal.asstr()[0].replace("zu warm", "zu kalt")

    assert "CRC" in next(p.text for p in verify(writer.path) if "journal" in p.where)


def test_a_missing_number_without_a_recorded_gap_is_found(writer: Writer) -> None:
    for seq in (0, 1, 4, 5):
        writer.put("reading", reading("stage.temperature", seq, 1.0))
    writer.finish()

    (problem,) = verify(writer.path)
    assert "2 messages from seq 2" in problem.text


def test_a_recorded_gap_is_no_problem(writer: Writer) -> None:
    writer.put("reading", reading("stage.temperature", 1, 1.0))
    gap = {"stream": "reading stage.temperature", "first": 2, "count": 2, "reason": "x"}
    writer.file.record(1000, "gap", **gap)
    writer.put("reading", reading("stage.temperature", 4, 1.0))
    writer.finish()

    assert verify(writer.path) == []
    assert info(writer.path)["gaps"][0]["count"] == 2
    with h5py.File(writer.path) as file:
        assert file["entry/control/gaps/first"][0] == 2


def test_what_is_no_session_is_refused_with_its_name(tmp_path: Path) -> None:
    text, other = tmp_path / "text.nxs", tmp_path / "other.nxs"
    text.write_text("not HDF5")
    with h5py.File(other, "w") as file:
        file["x"] = 1

    for path in (text, other, tmp_path / "absent.nxs"):
        with pytest.raises(StorageError, match=path.name):
            Session(path)


def flip(path: Path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))


def test_clock_pairs_are_kept(writer: Writer) -> None:
    clock = ManualClock(START, 7, speed=30.0)
    writer.file.tell_time(clock, START)
    clock.advance(10)
    writer.file.tell_time(clock, START + 10_000_000_000)
    writer.finish()

    with h5py.File(writer.path) as file:
        pairs = file["entry/control/clock"]
        assert list(pairs["lab_ns"]) == [START, START + 300_000_000_000]
        assert list(pairs["speed"]) == [30.0, 30.0]
