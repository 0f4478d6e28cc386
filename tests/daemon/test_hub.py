"""The hub on its real sockets, spoken to with bare ones."""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from coldframe.clock import ManualClock
from coldframe.daemon.lanes import dealer
from coldframe.daemon.switchboard import REMEMBERED, Expected, Switchboard
from coldframe.errors import BadRequest, Busy, NotReady, ReadOnly, near
from coldframe.messages import (
    Answer,
    Command,
    DeviceInfo,
    ParameterInfo,
    Reading,
    Register,
    Relay,
    Reply,
    control,
    topic,
)
from tests.spine import Lamp, LampSimulator, Spine, wait


class Client:
    """A bare DEALER, or whatever a stranger uses."""

    def __init__(self, spine: Spine, kind: int = zmq.DEALER):
        self.socket = spine.context.socket(kind)
        self.socket.linger = 0
        self.socket.rcvtimeo = 3000
        self.socket.connect(spine.address)

    def ask(self, **fields: Any) -> dict[str, Any]:
        self.socket.send(json.dumps({"v": 1, **fields}).encode())
        return dict(json.loads(self.socket.recv()))

    def raw(self, *frames: bytes) -> dict[str, Any]:
        self.socket.send_multipart(frames)
        return dict(json.loads(self.socket.recv()))


@pytest.fixture
def client(spine: Spine) -> Iterator[Client]:
    made = Client(spine)
    yield made
    made.socket.close()


def _info(**changed: Any) -> DeviceInfo:
    parameters = [
        ParameterInfo(name="level", kind="float", unit="W", writable=True, minimum=0, maximum=10),
        ParameterInfo(name="lit", kind="bool", poll=0.1),
    ]
    fields: dict[str, Any] = {
        "device": "lamp",
        "model": "lamp",
        "role": "Lamp",
        "identity": "x",
        "simulated": True,
        "boot": "b1",
        "pid": 1,
        "parameters": parameters,
    }
    return DeviceInfo(**{**fields, **changed})


class Host:
    """A host reduced to its socket: registers, answers when told."""

    def __init__(self, spine: Spine, name: str = "lamp", **changed: Any):
        self.socket = dealer(spine.context, name, f"ipc://{spine.folder}/hub")
        self.socket.rcvtimeo = 3000
        self.socket.send(Register(info=_info(**changed)).encode())
        self.registered = json.loads(self.socket.recv())

    def take(self) -> Command:
        relay = control(self.socket.recv(), Relay)
        assert isinstance(relay, Relay)
        return relay.command

    def answer(self, command: Command, value: Any = None) -> None:
        self.socket.send(Answer(reply=Reply(id=command.id, value=value)).encode())

    def say(self, value: Any, seq: int = 0, name: str = "lamp.lit") -> list[bytes]:
        quality = "bad" if value is None else "good"
        reading = Reading(name=name, seq=seq, t_ns="1", mono_ns="1", quality=quality, value=value)
        frames = [topic("reading", name), reading.encode()]
        self.socket.send_multipart(frames)
        return frames


@pytest.fixture
def lone(spine: Spine) -> Iterator[Host]:
    made = Host(spine)
    yield made
    made.socket.close()


def test_describe_tells_who_listens_where_and_what_there_is(client: Client, lone: Host) -> None:
    told = client.ask(id="1", do="describe")["value"]
    assert told["lab"] == "bench"
    assert set(told["addresses"]) == {"commands", "streams", "guard"}
    assert [each["device"] for each in told["devices"]] == ["clock", "guard", "lamp"]
    assert client.ask(id="2", do="describe", name="lamp.level")["value"]["maximum"] == 10.0
    assert client.ask(id="3", do="describe", name="lamp.levle")["error"]["class"] == "UnknownName"


def test_a_device_that_is_not_as_configured_is_not_taken_in(client: Client, spine: Spine) -> None:
    for changed, reason in (
        ({"device": "toaster"}, "a host speaks for its own device"),
        ({"model": "lampe"}, "the configuration has lamp (Lamp), the host has lampe (Lamp)"),
    ):
        host = Host(spine, **changed)
        host.socket.close()
        assert reason in host.registered["error"]
    stranger = Host(spine, "lmap", device="lmap")
    stranger.socket.close()
    assert stranger.registered["error"] == (
        "no device 'lmap' in the configuration; did you mean lamp?"
    )
    devices = client.ask(id="1", do="describe")["value"]["devices"]
    assert [each["device"] for each in devices] == ["clock", "guard"]


def test_a_name_that_is_not_there_is_answered_with_those_a_person_may_have_meant() -> None:
    known = [f"{device}.value_{n}" for device in ("beam", "cup", "stage") for n in range(9)]

    assert near("cup.value_33", known).startswith("did you mean cup.value_3")
    assert near("cup", known).startswith("there is cup.value_0, cup.value_1")
    assert near("nosuch.thing", known) == "there is beam, cup, stage"
    assert near("nosuch", ["bias", "needle"]) == "there is bias, needle"


def test_get_is_answered_from_memory_while_it_is_fresh(client: Client, lone: Host) -> None:
    lone.say(True)
    wait(
        lambda: client.ask(id=str(random.random()), do="snapshot")["value"]["readings"].get(
            "lamp.lit"
        )
    )
    assert client.ask(id="g", do="get", name="lamp.lit")["value"] is True
    time.sleep(0.25)  # two polling periods: now the instrument must be asked
    client.socket.send(json.dumps({"id": "h", "do": "get", "name": "lamp.lit"}).encode())
    command = lone.take()
    lone.answer(command, False)
    assert json.loads(client.socket.recv()) == {"v": 1, "id": "h", "value": False, "error": None}
    lone.say(None, 1)
    wait(
        lambda: (
            client.ask(id=str(random.random()), do="snapshot")["value"]["readings"]["lamp.lit"][
                "quality"
            ]
            == "bad"
        )
    )
    unknown = client.ask(id="i", do="get", name="lamp.lit")["error"]
    assert (unknown["class"], unknown["retryable"]) == ("NotReady", True)


def test_a_hazardous_set_goes_to_the_guard_and_who_asked_is_written_by_the_hub(
    client: Client, lone: Host, spine: Spine
) -> None:
    assert spine.guard is not None
    fields = {"id": "1", "do": "set", "name": "lamp.level", "value": 2, "by": "the director"}
    client.socket.send(json.dumps(fields).encode())
    command = wait(lambda: spine.guard.commands if spine.guard else None)[0]
    assert command.by == "local"
    assert command.value == 2


def test_the_same_id_is_carried_out_once(client: Client, lone: Host, spine: Spine) -> None:
    ask = json.dumps({"id": "1", "do": "get", "name": "lamp.level"}).encode()
    client.socket.send(ask)
    client.socket.send(ask)
    lone.answer(lone.take(), 1.0)
    first = client.socket.recv()
    client.socket.send(ask)
    assert client.socket.recv() == first
    assert not lone.socket.poll(100)
    other = Client(spine)  # another client may call its command "1" as well
    other.socket.send(ask)
    lone.answer(lone.take(), 2.0)
    assert json.loads(other.socket.recv())["value"] == 2.0
    other.socket.close()


def test_an_id_used_for_something_else_is_refused_not_answered_with_the_old(
    client: Client, lone: Host
) -> None:
    client.socket.send(b'{"id":"1","do":"get","name":"lamp.level"}')
    under_way = lone.take()
    error = client.ask(id="1", do="get", name="lamp.lit")["error"]
    assert (error["class"], error["text"]) == (
        "BadRequest", "id '1' was used for get lamp.level: take another",
    )  # fmt: skip
    lone.answer(under_way, 1.0)
    assert json.loads(client.socket.recv())["value"] == 1.0
    assert client.ask(id="1", do="reset")["error"]["class"] == "BadRequest"
    assert client.ask(id="1", do="abort")["value"] == "abort"  # never refused for its id


def test_no_answer_in_time_is_too_late_and_a_later_one_is_dropped(
    client: Client, lone: Host
) -> None:
    begin = time.monotonic()
    late = client.ask(id="1", do="get", name="lamp.level", deadline_ms=50)["error"]
    assert late["class"] == "TooLate"
    assert "no answer from lamp in time" in late["text"]
    assert time.monotonic() - begin < 1.0
    lone.answer(lone.take(), 1.0)
    assert client.ask(id="2", do="describe", name="lamp.lit")["id"] == "2"


def test_what_a_host_had_when_it_died_is_answered_as_soon_as_there_is_a_new_one(
    client: Client, spine: Spine, lone: Host
) -> None:
    client.socket.send(b'{"v":1,"id":"1","do":"get","name":"lamp.level"}')
    lone.take()
    new = Host(spine, boot="another")

    lost = json.loads(client.socket.recv())["error"]

    assert lost["class"] == "TooLate"
    assert "the host that had it is gone" in lost["text"]
    new.socket.close()


def test_a_host_that_is_not_there_is_not_ready(client: Client, spine: Spine) -> None:
    assert client.ask(id="1", do="get", name="ghost.level")["error"]["class"] == "NotReady"
    host = Host(spine)
    host.socket.close()
    gone = wait(
        lambda: (
            (
                e := client.ask(
                    id=str(random.random()), do="get", name="lamp.level", deadline_ms=20
                )["error"]
            )["class"]
            == "NotReady"
            and e
        )
    )
    assert "'lamp' is not there" in gone["text"]


def test_a_req_socket_is_answered_in_its_own_envelope(spine: Spine) -> None:
    client = Client(spine, zmq.REQ)
    assert client.ask(id="1", do="snapshot")["id"] == "1"
    client.socket.close()


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"x"], "not JSON|Invalid JSON"),
        ([b"\xff\xfe"], "Command"),
        ([b"[]"], "Command"),
        ([b"{}"], "id: Field required"),
        ([b'{"id":"7","do":"dance"}'], "do: "),
        ([b'{"id":"7","do":"get","name":"lamp.lit","extra":1}'], "extra"),
        ([b'{"id":"7","do":"set","name":"lamp.level","value":1e999}'], "finite"),
        ([b'{"id":"7","do":"set","name":"lamp.level","value":NaN}'], "finite|JSON"),
        ([b'{"id":"7","do":"set","name":"lamp.level","value":"2"}'], "'2' is not a float"),
        ([b'{"id":"7","do":"set","name":"lamp.level","value":11}'], "11 W is outside 0 W … 10 W"),
        ([b'{"id":"7","do":"set","name":"lamp","value":11}'], "write DEVICE.NAME"),
        ([b'{"id":"7","do":"register"}'], "not for clients"),
        ([b"{", b"}"], "2 frames: a command is one frame"),
        ([b"[" * 100_000], "Command"),
    ],
)
def test_what_is_malformed_gets_a_typed_error(
    client: Client, lone: Host, frames: list[bytes], words: str
) -> None:
    import re

    reply = client.raw(*frames)
    assert reply["error"]["class"] in ("BadRequest", "OutOfRange"), reply
    assert re.search(words, reply["error"]["text"]), reply
    assert reply["id"] == ("7" if b'"7"' in frames[0] else "")
    assert not lone.socket.poll(20)


def test_mutated_commands_never_stop_the_hub(client: Client, lone: Host) -> None:
    dice = random.Random(2)
    seeds = [
        b'{"v":1,"id":"7","do":"set","name":"lamp.level","value":3.0,"deadline_ms":20}',
        b'{"v":1,"id":"8","do":"get","name":"lamp.lit","args":{"fresh":true},"deadline_ms":20}',
        b'{"v":1,"id":"9","do":"snapshot","name":"lamp"}',
    ]
    client.socket.sndhwm = 0
    for _number in range(3000):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randint(1, 4)):
            where = dice.randrange(len(data))
            data[where : where + dice.randint(0, 3)] = bytes(
                dice.choice(b'{}[]":,.0123456789eE-+ \\u\x00\xff')
                for _ in range(dice.randint(0, 3))
            )
        client.socket.send(bytes(data))
        while client.socket.poll(0):
            answer = json.loads(client.socket.recv())
            assert answer["error"] is None or answer["error"]["class"] != "ColdframeError"
    client.socket.send(b'{"id":"last","do":"snapshot"}')
    wait(lambda: json.loads(client.socket.recv())["id"] == "last", 30)


def test_a_message_too_large_costs_its_sender_the_connection_and_nobody_else(
    client: Client, spine: Spine
) -> None:
    other = Client(spine)
    other.socket.send(b"x" * (2 << 20))
    assert client.ask(id="1", do="snapshot")["id"] == "1"
    assert not other.socket.poll(100)
    other.socket.close()


def test_bytes_that_are_not_zeromq_do_not_disturb(client: Client, spine: Spine) -> None:
    host, port = spine.address.removeprefix("tcp://").split(":")
    for number in range(50):
        with socket.create_connection((host, int(port))) as raw:
            raw.sendall(random.Random(number).randbytes(200))
    assert client.ask(id="1", do="snapshot")["id"] == "1"


def test_a_host_may_not_speak_for_another(client: Client, lone: Host, spine: Spine) -> None:
    watcher = spine.context.socket(zmq.SUB)
    watcher.connect(spine.hub.addresses["streams"])
    watcher.subscribe(b"reading ")
    watcher.subscribe(b"sync x ")
    assert watcher.recv_multipart() == [b"sync x ", b"{}"]
    lone.say(1.0, name="stage.temperature")
    lone.socket.send_multipart([b"reading lamp.lit ", b"{}"])
    lone.socket.send_multipart([b"gossip lamp.lit ", b"{}"])
    lone.socket.send(b"not json")
    frames = lone.say(True)
    assert watcher.recv_multipart() == frames
    watcher.close()


def test_a_host_that_was_refused_is_not_heard(client: Client, spine: Spine) -> None:
    host = Host(spine, model="lampe")
    host.say(True)
    assert "register first" in json.loads(host.socket.recv())["error"]
    assert client.ask(id="1", do="snapshot")["value"]["readings"].keys() == {"clock.speed"}
    host.socket.close()


def test_arrays_reach_watchers_as_often_as_eyes_can_follow(spine: Spine, lone: Host) -> None:
    watcher = spine.context.socket(zmq.SUB)
    watcher.connect(spine.hub.addresses["streams"])
    watcher.subscribe(b"frame ")
    watcher.subscribe(b"sync x ")
    assert watcher.recv_multipart()[0] == b"sync x "
    header = b'{"v":1,"name":"lamp","seq":0,"t_ns":"1","mono_ns":"1","dtype":"|u1","shape":[4]}'
    for _ in range(200):
        lone.socket.send_multipart([b"frame lamp ", header, b"abcd"])
    assert watcher.recv_multipart() == [b"frame lamp ", header, b"abcd"]
    time.sleep(0.1)
    seen = 1
    while watcher.poll(50):
        watcher.recv_multipart()
        seen += 1
    assert seen <= 5
    watcher.close()


def test_a_restarted_hub_knows_its_hosts_again(bench: Any, spine: Spine) -> None:
    _, address = bench.serve(LampSimulator)
    spine.host("lamp", Lamp, address)
    client = Client(spine)
    wait(
        lambda: client.ask(id=str(random.random()), do="snapshot")["value"]["readings"].get(
            "lamp.lit"
        )
    )
    client.socket.close()
    spine.restart_hub()
    client = Client(spine)
    wait(lambda: len(client.ask(id=str(random.random()), do="describe")["value"]["devices"]) >= 2)
    wait(
        lambda: client.ask(id=str(random.random()), do="snapshot")["value"]["readings"].get(
            "lamp.lit"
        )
    )
    client.socket.close()


# ---- the switchboard alone ------------------------------------------------------------------


def test_answers_are_remembered_for_10_000_ids_and_no_more() -> None:
    clock = ManualClock()
    board = Switchboard({}, clock.mono_ns)
    for number in range(REMEMBERED + 5):
        reply = Reply(id=str(number), value=number)
        board.answered((b"c",), Command(id=str(number), do="snapshot"), reply)
    assert board.seen((b"c",), Command(id="4", do="snapshot")) is False
    assert board.seen((b"c",), Command(id="5", do="snapshot")) == Reply(id="5", value=5)


def test_nobody_answers_for_another() -> None:
    clock = ManualClock()
    board = Switchboard({}, clock.mono_ns)
    unblank = Command(id="1", do="call", name="beam.unblank")
    inner = board.begin((b"c",), unblank, "guard")
    with pytest.raises(BadRequest, match="stage answers what guard was asked"):
        board.finish(Reply(id=inner.id), "stage")
    assert board.finish(Reply(id=inner.id), "beam") == ((b"c",), Reply(id="1"))
    assert board.finish(Reply(id=inner.id), "beam") is None  # told again: nobody waits


def test_what_the_guard_works_out_is_known_by_its_own_name() -> None:
    clock = ManualClock()
    board = Switchboard(
        {"guard": Expected("guard"), "lamp": Expected("lamp", "Lamp")}, clock.mono_ns
    )
    board.register("lamp", _info())
    rate = ParameterInfo(name="lamp.dose_rate", kind="float", unit="e/Å^2/s", poll=0.1)
    guard = _info(device="guard", model="guard", role="guard", parameters=[rate], boot="g")
    assert board.register("guard", guard) is None
    assert board.describe("lamp.dose_rate")["unit"] == "e/Å^2/s"
    assert "lamp.dose_rate" in board.names()
    assert "guard.lamp.dose_rate" not in board.names()
    get = Command(id="1", do="get", name="lamp.dose_rate")
    with pytest.raises(NotReady, match="not been said yet"):
        board.latest(get)
    assert board.snapshot("lamp.dose_rate")["readings"] == {}
    stamps = {"name": "lamp.dose_rate", "seq": 0, "t_ns": "1", "mono_ns": "1"}
    board.note(Reading(**stamps, unit="e/Å^2/s", value=3.0))
    assert board.latest(get) == 3.0
    with pytest.raises(ReadOnly, match=r"lamp\.dose_rate can be read, not set"):
        board.check(Command(id="2", do="set", name="lamp.dose_rate", value=1.0))


def test_more_than_a_thousand_commands_under_way_are_refused() -> None:
    clock = ManualClock()
    board = Switchboard({"lamp": Expected("lamp", "Lamp")}, clock.mono_ns)
    for number in range(1000):
        board.begin((b"c",), Command(id=str(number), do="get", name="lamp.lit"), "lamp")
    with pytest.raises(Busy, match="1000 commands are under way"):
        board.begin((b"c",), Command(id="x", do="get", name="lamp.lit"), "lamp")
    clock.advance(61)
    for reply in board.overdue():
        assert board.finish(reply) is not None
    assert board.overdue() == []
    board.begin((b"c",), Command(id="x", do="get", name="lamp.lit"), "lamp")
