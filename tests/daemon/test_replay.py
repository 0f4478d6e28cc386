"""A replay is the session again: the same messages, the same order, the same bytes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import coldframe
from coldframe.daemon.replay import Replay
from coldframe.daemon.session_file import About, SessionFile
from coldframe.daemon.session_reader import Session
from coldframe.errors import AlreadyRunning, BadRequest, NotPermitted
from coldframe.messages import (
    Array,
    Command,
    DeviceInfo,
    Event,
    Header,
    ParameterInfo,
    Reading,
    Reply,
    StreamInfo,
    decode,
    new_id,
    topic,
)

START = 1_700_000_000_000_000_000
SECOND = 1_000_000_000
DEVICES = [
    DeviceInfo(
        device="stage",
        model="lakeshore336",
        role="Thermostat",
        identity="LSCI,MODEL336,1,1.0",
        simulated=True,
        boot="b",
        pid=1,
        parameters=[
            ParameterInfo(name="temperature", kind="float", unit="K"),
            ParameterInfo(name="setpoint", kind="float", unit="K", writable=True),
        ],
    ),
    DeviceInfo(
        device="camera",
        model="merlin",
        role="FrameSource",
        identity="MERLIN",
        simulated=True,
        boot="b",
        pid=1,
        stream=StreamInfo(kind="frame", dtype="<u2", shape=[16, 16]),
    ),
]


class Recorded:
    """A session written a moment ago, and the frames that went into it."""

    def __init__(self, path: Path):
        self.path = path
        about = About("s1", "replayed", START, True, "0.1", "simulated", "")
        self.file = SessionFile(path, about, DEVICES)
        self.sent: list[list[bytes]] = []
        self._seq: dict[bytes, int] = {}

    def put(
        self, sort: Any, model: type[Header], payload: bytes | None = None, **fields: Any
    ) -> None:
        at = fields.pop("at", len(self.sent) / 100)
        stream = topic(sort, fields["name"])
        seq = self._seq[stream] = self._seq.get(stream, -1) + 1 + fields.pop("skip", 0)
        t_ns = START + round(at * SECOND)
        stamps = {"seq": seq, "session": "s1", "t_ns": str(t_ns), "mono_ns": str(t_ns - START)}
        header = model(**stamps, **fields)
        data = header.encode()
        self.file.append(
            10 * SECOND + round(at * SECOND) + len(self.sent), stream, header, data, payload
        )
        self.sent.append([stream, data] if payload is None else [stream, data, payload])

    def reading(self, value: Any, name: str = "stage.temperature", **more: Any) -> None:
        self.put("reading", Reading, name=name, unit="K", value=value, **more)

    def frame(self, seed: int, **more: Any) -> None:
        data = np.random.default_rng(seed).poisson(2, (16, 16)).astype("<u2")
        self.put(
            "frame",
            Array,
            data.tobytes(),
            name="camera",
            unit="",
            dtype="<u2",
            shape=(16, 16),
            **more,
        )

    def finish(self) -> Path:
        self.file.finalise(START + 60 * SECOND, {})
        return self.path


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path / "s.nxs")


class Playing:
    """A replay in a thread, and a client beside it."""

    def __init__(self, path: Path, **options: Any):
        self.context: zmq.Context[Any] = zmq.Context()
        self._session = Session(path)
        where = {"commands": "tcp://127.0.0.1:*", "streams": "tcp://127.0.0.1:*"}
        self.replay = Replay(self._session, self.context, **(where | options))
        self.subscriber = self.context.socket(zmq.SUB)
        self.subscriber.rcvhwm = 10
        self.subscriber.connect(self.replay.addresses["streams"])
        self.asking = self.context.socket(zmq.REQ)
        self.asking.connect(self.replay.addresses["commands"])
        self._thread = threading.Thread(target=self.replay.run, name="replay")
        self._thread.start()

    def collect(self, count: int, *topics: bytes) -> list[list[bytes]]:
        for each in topics or (b"",):
            self.subscriber.subscribe(each)
        return [self.next() for _ in range(count)]

    def next(self) -> list[bytes]:
        assert self.subscriber.poll(10_000), "no message"
        frames: list[bytes] = self.subscriber.recv_multipart()
        return frames

    def ask(self, do: str, name: str = "", value: Any = None) -> Any:
        command = Command(id=new_id(), do=do, name=name, value=value)  # type: ignore[arg-type]
        self.asking.send(command.encode())
        assert self.asking.poll(10_000), "no answer"
        reply = decode(Reply, self.asking.recv())
        assert reply.id == command.id
        if reply.error is not None:
            raise reply.error.exception()
        return reply.value

    def close(self) -> None:
        self.replay.stop()
        self._thread.join(20)
        for each in (self.subscriber, self.asking):
            each.close(linger=0)
        self.context.term()
        self._session.close()


@pytest.fixture
def play() -> Iterator[Callable[..., Playing]]:
    made: list[Playing] = []

    def start(path: Path, **options: Any) -> Playing:
        made.append(Playing(path, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


def test_every_message_comes_again_byte_for_byte(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    for seed in range(300):
        recorded.reading(88.0 + seed)
        recorded.frame(seed)
    recorded.put(
        "event", Event, name="guard", kind="tripped", text="IL-03", details={"a": [1, None]}
    )
    path = recorded.finish()

    playing = play(path, speed=0)

    assert playing.collect(len(recorded.sent)) == recorded.sent


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=150),
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["stage.temperature", "stage.setpoint", "guard.word"]),
            values,
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=40,
    )
)
def test_whatever_was_said_is_said_again(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, Any, int]]
) -> None:
    recorded = Recorded(tmp_path_factory.mktemp("any") / "s.nxs")
    for index, (name, value, skip) in enumerate(said):
        recorded.reading(value, name, skip=skip)
        if index % 7 == 3:
            recorded.frame(index, details={"n": index, "word": str(value)})
            recorded.file.flush()
    playing = Playing(recorded.finish(), speed=0)

    try:
        assert playing.collect(len(recorded.sent)) == recorded.sent
    finally:
        playing.close()


def test_a_subscriber_gets_the_topics_it_asked_for(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    for seed in range(20):
        recorded.reading(float(seed))
        recorded.frame(seed)
    playing = play(recorded.finish(), speed=0)

    got = playing.collect(20, b"reading stage.temperature ")
    assert got == [frames for frames in recorded.sent if len(frames) == 2]


@pytest.mark.parametrize(("speed", "recorded_s", "at_most"), [(1, 0.3, 10.0), (10, 3.0, 2.9)])
def test_the_pace_is_that_of_the_session_times_the_speed(
    recorded: Recorded,
    play: Callable[..., Playing],
    speed: float,
    recorded_s: float,
    at_most: float,
) -> None:
    for at in (0.0, recorded_s / 2, recorded_s):
        recorded.reading(at, at=at)
    playing = play(recorded.finish(), speed=speed)

    begin = time.monotonic()
    playing.collect(3)
    assert recorded_s / speed <= time.monotonic() - begin < at_most


def test_a_slow_subscriber_misses_nothing(recorded: Recorded, play: Callable[..., Playing]) -> None:
    for seed in range(2000):
        recorded.reading(float(seed))
    playing = play(recorded.finish(), speed=0)

    playing.subscriber.subscribe(b"")
    playing.next()
    assert playing.ask("replay", "status")["sent"] <= 2000
    assert [playing.next() for _ in range(1999)] == recorded.sent[1:]


def test_it_answers_as_the_hub_would_and_changes_nothing(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    recorded.reading(88.15)
    recorded.reading(None, "stage.setpoint")
    recorded.reading(99.0, at=30.0)
    playing = play(recorded.finish(), speed=1)
    with pytest.raises(Exception, match="has not come yet"):
        playing.ask("get", "stage.temperature")
    playing.collect(2)

    described = playing.ask("describe")
    assert described["lab"] == "simulated"
    identities = {each["device"]: each["identity"] for each in described["devices"]}
    assert identities["stage"] == "LSCI,MODEL336,1,1.0"
    assert playing.ask("describe", "stage.setpoint")["writable"] is True
    assert playing.ask("get", "stage.temperature") == 88.15
    assert playing.ask("snapshot")["readings"]["stage.temperature"]["value"] == 88.15
    with pytest.raises(Exception, match="is not known now"):
        playing.ask("get", "stage.setpoint")
    with pytest.raises(Exception, match=r"no value 'stage\.colour'"):
        playing.ask("get", "stage.colour")
    for do, name in (
        ("set", "stage.setpoint"),
        ("call", "beam.blank"),
        ("abort", ""),
        ("run", "x"),
    ):
        with pytest.raises(Exception, match=r"replay of s\.nxs.*changes nothing"):
            playing.ask(do, name)


def test_the_client_of_the_live_laboratory_watches_a_replay(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    for seed in range(20):
        recorded.reading(80.0 + seed, at=seed / 100)
    recorded.reading(100.0, at=60.0)  # it goes on while the client asks
    playing = play(recorded.finish(), speed=1)

    with coldframe.connect(playing.replay.addresses["commands"]) as lab:
        seen = []
        for reading in lab.watch("stage.temperature", timeout=5):
            seen.append(reading.value)
            if len(seen) == 20:
                break
        assert seen == [80.0 + seed for seed in range(20)]
        with pytest.raises(NotPermitted, match="changes nothing"):
            lab.stage.setpoint.set("90 K")


def test_a_malformed_command_is_answered_and_the_replay_goes_on(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    recorded.reading(1.0)
    playing = play(recorded.finish(), speed=0)

    for data in (b"", b"\xff", b'{"id":"7","do":"fly"}', b"[" * 5000):
        playing.asking.send(data)
        reply = json.loads(playing.asking.recv())
        assert reply["error"]["class"] == "BadRequest"
    assert playing.collect(1) == recorded.sent


def test_it_can_be_paused_hurried_and_stopped(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    for at in (0.0, 100.0, 200.0, 300.0):
        recorded.reading(at, at=at)
    playing = play(recorded.finish(), speed=1)
    playing.collect(1)

    assert playing.ask("replay", "pause")["state"] == "paused"
    playing.ask("replay", "speed", 0)
    assert not playing.subscriber.poll(50)
    assert playing.ask("replay", "resume")["state"] == "playing"
    assert [playing.next() for _ in range(3)] == recorded.sent[1:]
    for wrong in (-1, True, "fast", None):
        with pytest.raises(BadRequest, match="replay speed"):
            Replay(playing._session, playing.context, speed=wrong)  # type: ignore[arg-type]


def test_a_subscription_is_confirmed_as_the_hub_confirms_it(
    recorded: Recorded, play: Callable[..., Playing]
) -> None:
    recorded.reading(1.0)
    playing = play(recorded.finish(), speed=0)

    assert playing.collect(2, b"reading ", b"sync 42 ")[0] == [b"sync 42 ", b"{}"]


def test_memory_does_not_grow_with_the_session(recorded: Recorded) -> None:
    import tracemalloc

    for seed in range(3000):
        recorded.frame(seed % 5)
    with Session(recorded.finish()) as session:
        tracemalloc.start()
        count = sum(1 for _ in session.messages())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert count == 3000
    assert peak < 1_000_000  # bytes; the frames alone are 1.5 MB


def test_a_taken_port_is_said_in_words(recorded: Recorded) -> None:
    recorded.reading(1.0)
    with socket.socket() as other, zmq.Context() as context, Session(recorded.finish()) as session:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(AlreadyRunning, match="another replay is running"):
            Replay(session, context, commands="tcp://127.0.0.1:*", streams=taken)


PROCESS = """
import sys
from pathlib import Path
from coldframe.daemon.replay import run_replay
from coldframe.daemon.show import Out
out = Out(False)
sys.exit(run_replay(Path(sys.argv[1]), 1.0, out, commands="tcp://127.0.0.1:*", streams="tcp://127.0.0.1:*"))
"""


def test_sigterm_ends_a_replay_that_still_waits(recorded: Recorded) -> None:
    recorded.reading(1.0)
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", PROCESS, str(recorded.finish())], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert b"waiting for a subscriber" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 0
