"""The recorder as a process: nothing is lost silently, and no file is lost at all."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zmq

from coldframe.clock import SystemClock
from coldframe.daemon.session_reader import Message, Session, info, verify
from coldframe.daemon.stamps import Stamps
from coldframe.messages import (
    Answer,
    Command,
    DeviceInfo,
    ParameterInfo,
    Register,
    Registered,
    Relay,
    Reply,
    SessionMark,
    StreamInfo,
    control,
    new_id,
)

PROCESS = """
import json, sys
from pathlib import Path
from coldframe.daemon.recorder import RecorderSettings, run_recorder
given = json.loads(sys.argv[1])
given["folder"] = Path(given["folder"])
sys.exit(run_recorder(RecorderSettings(**given)))
"""
PATIENCE = 10.0  # s; nothing here takes that long
SHAPE = (32, 32)


class Host:
    """A device's side of the lane: numbers, stamps, marks."""

    def __init__(self, context: zmq.Context[Any], lane: str, name: str, *, boot: str = ""):
        self.name = name
        self.stamps = Stamps(name, SystemClock(), True)
        self.sent: list[Message] = []
        self.socket = context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.ROUTING_ID, name.encode())
        self.socket.linger = 0
        self.socket.connect(lane)
        info = DeviceInfo(
            device=name,
            model="m",
            role="",
            identity=f"{name},1",
            simulated=True,
            boot=boot or new_id(),
            pid=os.getpid(),
            parameters=[ParameterInfo(name="temperature", kind="float", unit="K")],
            stream=StreamInfo(kind="frame", dtype="<u2", shape=list(SHAPE)),
        )
        self.socket.send(Register(info=info).encode())

    def hear(self) -> None:
        """Do what the recorder says."""
        while self.socket.poll(0):
            message = control(self.socket.recv(), SessionMark, Registered)
            if isinstance(message, SessionMark):
                self.socket.send(self.stamps.mark(message.session).encode())

    def send(self, frames: list[bytes], *, lost: bool = False) -> None:
        if self.stamps.session is not None and not lost:
            self.sent.append(Message(0, frames[0], frames[1], *frames[2:]))
        if not lost:
            self.socket.send_multipart(frames)

    def reading(self, value: float, **how: Any) -> None:
        self.send(self.stamps.reading(f"{self.name}.temperature", value, "K"), **how)

    def frame(self, seed: int, high: int = 8, **how: Any) -> None:
        data = np.random.default_rng(seed).integers(0, high, SHAPE).astype("<u2")
        self.send(
            self.stamps.array("frame", data, time.monotonic_ns(), "counts", {"n": seed}), **how
        )


class Lab:
    """A recorder in a process of its own, with the test as hub and hosts."""

    def __init__(self, run: Path, folder: Path):
        self.run, self.folder = run, folder
        self.context: zmq.Context[Any] = zmq.Context()
        self.hub = self.context.socket(zmq.ROUTER)
        self.hub.linger = 0
        self.hub.bind(f"ipc://{run}/hub")
        self.lane = f"ipc://{run}/recorder"
        self.hosts: list[Host] = []
        self.published: list[list[bytes]] = []
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, prepare: Callable[[], None] | None = None, **settings: Any) -> None:
        given = {
            "lane": self.lane,
            "hub": f"ipc://{self.run}/hub",
            "folder": str(self.folder),
            "simulated": True,
            "configuration": "[lab]\n",
            "reserve_bytes": 0,
            "ballast_bytes": 1 << 20,
            "flush_seconds": 0.05,
            "handshake_seconds": 0.5,
        } | settings
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS, json.dumps(given)],
            preexec_fn=prepare,
            stderr=subprocess.PIPE,
        )
        self.until(lambda: bool(self.published))

    def host(self, name: str, **how: Any) -> Host:
        host = Host(self.context, self.lane, name, **how)
        self.hosts.append(host)
        assert host.socket.poll(PATIENCE * 1000)
        host.hear()
        return host

    def until(self, done: Callable[[], bool]) -> None:
        """Let everybody talk until `done`."""
        end = time.monotonic() + PATIENCE
        poller = zmq.Poller()
        for socket in [self.hub, *(host.socket for host in self.hosts)]:
            poller.register(socket, zmq.POLLIN)
        while not done():
            assert time.monotonic() < end, "nothing happened"
            poller.poll(50)
            self.pump()

    def pump(self) -> None:
        for host in self.hosts:
            host.hear()
        while self.hub.poll(0):
            _, *message = self.hub.recv_multipart()
            self.published.append(message)

    def ask(self, name: str, **args: Any) -> Any:
        """One record command through the hub; its value, or the error it raises."""
        command = Command(id=new_id(), do="record", name=name, args=args)
        self.hub.send_multipart([b"recorder", Relay(command=command).encode()])
        found: list[Reply] = []

        def answered() -> bool:
            for message in self.published:
                if len(message) == 1:
                    answer = control(message[0], Answer)
                    assert isinstance(answer, Answer)
                    if answer.reply.id == command.id:
                        found.append(answer.reply)
            return bool(found)

        self.until(answered)
        if found[0].error is not None:
            raise found[0].error.exception()
        return found[0].value

    def received(self, host: Host) -> None:
        """Wait until the recorder has everything `host` sent."""
        self.until(lambda: self.ask("status")["received"].get(host.name, 0) >= len(host.sent))

    def events(self) -> list[bytes]:
        return [m[1] for m in self.published if len(m) == 2 and m[0].startswith(b"event")]

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def end(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        self.until(lambda: self.process is not None and self.process.poll() is not None)
        self.process.communicate()
        return self.process.returncode

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        for host in self.hosts:
            host.socket.close()
        self.hub.close()
        self.context.term()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    run = Path(tempfile.mkdtemp(prefix="cf"))  # short: a socket's path has at most 107 bytes
    made = Lab(run, tmp_path / "sessions")
    yield made
    made.close()
    shutil.rmtree(run)


def of_device(path: Path, name: str) -> list[Message]:
    with Session(path) as session:
        return [
            m._replace(arrival=0)
            for m in session.messages()
            if m.topic.split()[1].split(b".")[0] == name.encode()
        ]


def test_a_session_holds_every_message_of_every_sender_byte_for_byte(lab: Lab) -> None:
    lab.start()
    stage, camera = lab.host("stage"), lab.host("camera")
    stage.reading(1.0)  # before the session: not in it
    began = lab.ask("start", title="Zelle 7, −185 °C", sample={"id": "LiPON-7"})
    for seed in range(50):
        stage.reading(88.0 + seed)
        camera.frame(seed)
        lab.pump()
    lab.ask("note", text="die Nadel berührt")
    ended = lab.ask("stop")
    stage.reading(2.0)  # after it

    path = Path(began["file"])
    assert began["unmarked"] == ended["unmarked"] == []
    assert path.name.endswith("Z-Zelle-7-185-C.nxs")
    assert verify(path) == []
    assert of_device(path, "stage") == stage.sent
    assert of_device(path, "camera") == camera.sent
    assert len(stage.sent) == len(camera.sent) == 50
    said = info(path)
    assert said["title"] == "Zelle 7, −185 °C"
    assert [note["text"] for note in said["notes"]] == ["die Nadel berührt"]
    assert said["metadata"]["sample"]["id"] == "LiPON-7"
    assert list(lab.folder.iterdir()) == [path]
    assert lab.end() == 0


def test_what_was_lost_on_the_way_is_written_as_a_gap(lab: Lab) -> None:
    lab.start()
    stage = lab.host("stage")
    began = lab.ask("start")
    stage.reading(1.0)
    stage.reading(2.0, lost=True)
    stage.reading(3.0, lost=True)
    stage.reading(4.0)
    stage.reading(5.0, lost=True)  # the last one: only the mark tells
    stage.frame(1, lost=True)
    ended = lab.ask("stop")

    path = Path(began["file"])
    gaps = [(g["stream"], g["first"], g["count"]) for g in info(path)["gaps"]]
    assert gaps[:2] == [("reading stage.temperature", 1, 2), ("reading stage.temperature", 4, 1)]
    assert ended["gaps"] >= 3
    assert verify(path) == []
    assert of_device(path, "stage") == stage.sent


def test_a_host_that_starts_again_goes_on_in_the_same_session(lab: Lab) -> None:
    lab.start()
    first = lab.host("stage")
    began = lab.ask("start")
    for value in range(5):
        first.reading(float(value))
    lab.received(first)
    first.socket.close()
    lab.hosts.clear()

    second = lab.host("stage")
    lab.until(lambda: second.stamps.session is not None)
    for value in range(3):
        second.reading(float(value))
    lab.ask("stop")

    path = Path(began["file"])
    assert verify(path) == []
    assert of_device(path, "stage") == first.sent + second.sent


def test_a_device_that_comes_later_is_recorded_too(lab: Lab) -> None:
    lab.start()
    began = lab.ask("start")
    camera = lab.host("camera")
    lab.until(lambda: camera.stamps.session is not None)
    camera.frame(1)
    camera.reading(3.0)
    lab.ask("stop")

    path = Path(began["file"])
    assert of_device(path, "camera") == camera.sent
    assert verify(path) == []


def test_a_sender_that_never_marks_is_recorded_as_it_is(lab: Lab) -> None:
    lab.start()
    guard = lab.context.socket(zmq.DEALER)
    guard.setsockopt(zmq.ROUTING_ID, b"guard")
    guard.linger = 0
    guard.connect(lab.lane)
    stamps = Stamps("guard", SystemClock(), True)
    guard.send_multipart(stamps.reading("beam.dose", 0.0))
    assert guard.poll(PATIENCE * 1000)  # the mark it will not answer: so it is known
    began = lab.ask("start")
    sent = [stamps.reading("beam.dose", value) for value in (1.0, 2, None)]
    sent.append(stamps.event("tripped", "IL-03", limit=3.0))
    for message in sent:
        guard.send_multipart(message)
    lab.ask("note", text="x")
    lab.ask("stop")
    guard.close()

    with Session(began["file"]) as session:
        seen = [m.frames for m in session.messages() if b" recorder" not in m.topic]
    assert began["unmarked"] == ["guard"]
    assert seen == sent
    assert verify(began["file"]) == []


def test_malformed_messages_are_kept_beside_the_reason_and_stop_nothing(lab: Lab) -> None:
    lab.start()
    stage = lab.host("stage")
    began = lab.ask("start")
    good = stage.stamps.reading("stage.temperature", 1.0, "K")
    for frames in (
        [b"nonsense", b"{}"],
        [good[0], b'{"v":1'],
        [b"reading stage.other ", good[1]],
        [*good, b"x", b"y"],
        [b"\xff\xfe ", b"\xff"],
        [b"not control"],
    ):
        stage.socket.send_multipart(frames)
    stage.send(good)
    data = np.zeros(SHAPE, "<u2")
    frames = stage.stamps.array("frame", data, time.monotonic_ns(), "counts", {})
    stage.socket.send_multipart([*frames[:2], frames[2][:-1]])
    lab.ask("stop")

    with Session(began["file"]) as session:
        refused = [line.record["why"] for line in session.records("refused")]
    assert len(refused) == 6
    assert "2047 bytes" in refused[-1]
    assert of_device(Path(began["file"]), "stage") == stage.sent
    assert verify(began["file"]) == []
    assert info(began["file"])["gaps"][0]["stream"] == "frame stage"


def test_commands_out_of_turn_are_refused_in_words(lab: Lab) -> None:
    lab.start()
    with pytest.raises(Exception, match="nothing is being recorded"):
        lab.ask("stop")
    with pytest.raises(Exception, match="no section 'smaple'"):
        lab.ask("start", smaple={"id": "x"})
    with pytest.raises(Exception, match="say start, stop, note or status"):
        lab.ask("begin")
    lab.ask("start")
    with pytest.raises(Exception, match="is being recorded"):
        lab.ask("start")
    with pytest.raises(Exception, match="say something"):
        lab.ask("note", text=" ")
    assert lab.ask("status")["recording"] is True


def test_sigterm_finishes_the_file(lab: Lab) -> None:
    lab.start()
    stage = lab.host("stage")
    began = lab.ask("start")
    stage.frame(1)

    assert lab.end() == 0
    assert verify(began["file"]) == []
    assert info(began["file"])["ended"] == "the service stopped"
    assert of_device(Path(began["file"]), "stage") == stage.sent


@pytest.mark.parametrize("seed", range(6))
def test_after_kill_minus_nine_the_file_opens_up_to_the_last_flush(lab: Lab, seed: int) -> None:
    lab.start()
    chance = random.Random(seed)
    stage = lab.host("stage")
    began = lab.ask("start", title=f"kill {seed}")
    flushed = 0
    for seed in range(chance.randrange(20, 200)):
        stage.reading(float(seed))
        stage.frame(seed)
        lab.pump()
        if chance.random() < 0.02:
            lab.received(stage)
            lab.ask("note", text="so far")  # answered after a flush
            flushed = len(stage.sent)
    lab.kill()

    path = Path(began["file"])
    with Session(path) as session:
        assert session.swmr and not session.closed
    kept = of_device(path, "stage")
    assert flushed <= len(kept)
    assert [m for m in kept if m.payload is None] == readings_of(stage.sent)[
        : len(readings_of(kept))
    ]
    assert [m for m in kept if m.payload] == arrays_of(stage.sent)[: len(arrays_of(kept))]
    problems = verify(path)
    assert [p.text for p in problems] == ["not closed: live, or left so by a crash"]
    assert info(path)["state"] == "live or interrupted"


def readings_of(messages: list[Message]) -> list[Message]:
    return [m for m in messages if m.payload is None]


def arrays_of(messages: list[Message]) -> list[Message]:
    return [m for m in messages if m.payload]


def test_the_next_recorder_says_what_the_last_one_left(lab: Lab) -> None:
    lab.start()
    stage = lab.host("stage")
    began = lab.ask("start", title="lost")
    lab.kill()
    lab.published.clear()
    lab.start()
    lab.until(lambda: any(b"interrupted" in event for event in lab.events()))
    lab.until(lambda: stage.stamps.session is None or stage.socket.poll(0) == 0)

    again = lab.ask("start", title="next")
    assert again["file"] != began["file"]
    lab.ask("stop")
    assert verify(again["file"]) == []


# ---- full disks ------------------------------------------------------------------------------


def test_no_session_begins_without_the_reserve(lab: Lab) -> None:
    lab.start(reserve_bytes=1 << 60)
    with pytest.raises(Exception, match="kept in reserve"):
        lab.ask("start")
    assert lab.ask("status")["recording"] is False
    assert not list(lab.folder.glob("*"))


def limited(nbytes: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, nbytes))


def fill_up(lab: Lab, host: Host) -> None:
    """Frames until the recorder ends the session by itself."""
    for seed in range(5000):
        if host.stamps.session is None:
            return
        for _ in range(10):
            host.frame(seed, high=65536)
        lab.pump()
    raise AssertionError("the session never ended")


def test_a_session_ends_cleanly_before_the_reserve_is_touched(lab: Lab) -> None:
    # the reserve must hold what is on its way when the session ends: 2000 frames of 2 KiB
    lab.start(limited(16 << 20), reserve_bytes=12 << 20, ballast_bytes=0)
    stage = lab.host("stage")
    began = lab.ask("start")
    fill_up(lab, stage)
    lab.until(lambda: not lab.ask("status")["recording"])

    path = Path(began["file"])
    assert "disk nearly full" in info(path)["ended"]
    assert verify(path) == []
    assert of_device(path, "stage") == stage.sent
    assert any(b"disk nearly full" in event for event in lab.events())
    assert lab.end() == 0


def small_disk(folder: Path, megabytes: int) -> bool:
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def fill_the_rest(folder: Path) -> None:
    """What somebody else's program does to a disk."""
    with (
        open(folder / "others", "wb", buffering=0) as other,
        pytest.raises(OSError, match="No space"),
    ):
        while True:
            other.write(b"x" * (1 << 16))


@pytest.fixture
def full_disk(lab: Lab) -> Iterator[Path]:
    if not small_disk(lab.folder, 12):
        pytest.skip("a small disk of its own can be mounted by root only")
    yield lab.folder
    lab.close()
    subprocess.run(["umount", str(lab.folder)], check=True)


def test_a_disk_that_somebody_else_fills_costs_the_ballast_and_no_message(
    lab: Lab, full_disk: Path
) -> None:
    lab.start(ballast_bytes=4 << 20, reserve_bytes=-(1 << 40))  # found out the hard way
    stage = lab.host("stage")
    began = lab.ask("start")
    fill_the_rest(full_disk)
    fill_up(lab, stage)
    lab.until(lambda: not lab.ask("status")["recording"])

    path = Path(began["file"])
    assert "the disk refused" in info(path)["ended"]
    assert verify(path) == []
    assert of_device(path, "stage") == stage.sent
    with h5py.File(path) as file:
        assert file["entry/stage/data"].shape[0] == len(stage.sent)


def test_a_file_that_cannot_be_finished_still_opens_up_to_its_last_flush(
    lab: Lab, full_disk: Path
) -> None:
    lab.start(ballast_bytes=0)
    stage = lab.host("stage")
    began = lab.ask("start")
    stage.frame(0)
    lab.received(stage)
    lab.ask("note", text="flushed")
    fill_the_rest(full_disk)
    for seed in range(1, 400):
        stage.frame(seed)
    lab.until(lambda: lab.process is not None and lab.process.poll() is not None)

    assert lab.process is not None and lab.process.returncode == 74
    kept = of_device(Path(began["file"]), "stage")
    assert kept and kept == stage.sent[: len(kept)]
