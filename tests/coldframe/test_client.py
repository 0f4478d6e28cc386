"""The clients, against the real hub and a real host."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import numpy as np
import pytest

import coldframe
from coldframe.client import AsyncLab, Lab
from coldframe.errors import (
    BadRequest,
    InstrumentError,
    Interlocked,
    NotReady,
    OutOfRange,
    ReadOnly,
    UnknownName,
)
from tests.spine import Eye, Lamp, LampSimulator, Spine, wait


def _ready(lab: Lab, name: str) -> None:
    def known() -> bool:
        try:
            return lab.get(name) is not None
        except (NotReady, UnknownName):
            return False

    wait(known)


@pytest.fixture
def lamp(spine: Spine, bench: Any) -> LampSimulator:
    instrument, address = bench.serve(LampSimulator)
    spine.host("lamp", Lamp, address, limits={"level": (None, 8)})
    with Lab(spine.address) as lab:
        _ready(lab, "lamp.lit")
    return instrument


def test_a_parameter_is_an_attribute_that_can_be_read_and_set(
    spine: Spine, lamp: LampSimulator
) -> None:
    with coldframe.connect(spine.address) as lab:
        assert lab.lamp.level.get() == 1.0
        assert lab.lamp.level.set(2.5) == 2.5
        assert lab.lamp.level.get() == 2.5
    assert lamp.level == 2.5


def test_text_is_a_quantity_in_the_unit_of_the_parameter(spine: Spine, lamp: LampSimulator) -> None:
    with Lab(spine.address) as lab:
        assert lab.lamp.level.set("1500 mW") == 1.5
        assert lab.set("lamp.level", "2") == 2.0
        with pytest.raises(BadRequest, match=r"lamp\.level: 'K' is not a unit of 'W'"):
            lab.lamp.level.set("3 K")


def test_a_command_is_a_method(spine: Spine, lamp: LampSimulator) -> None:
    with Lab(spine.address) as lab:
        assert lab.lamp.nap(seconds=0.0, note="x") == {"slept": 0.0, "note": "x"}
        assert lab.lamp.nap(0, "y") == {"slept": 0.0, "note": "y"}
        assert lab.call("lamp.turn_on") is None
        wait(lambda: lamp.on)
        lab.lamp.turn_off()
        assert not lamp.on


def test_each_error_comes_back_as_its_class_and_says_what_to_do(
    spine: Spine, lamp: LampSimulator
) -> None:
    with Lab(spine.address) as lab:
        with pytest.raises(OutOfRange, match=r"lamp\.level: 9 W is outside 0 W … 8 W"):
            lab.lamp.level.set(9.0)
        with pytest.raises(ReadOnly, match=r"lamp\.lit can be read"):
            lab.lamp.lit.set(True)
        with pytest.raises(UnknownName, match=r"did you mean level\?"):
            lab.set("lamp.levle", 1.0)
        with pytest.raises(UnknownName, match=r"did you mean lamp\?"):
            lab.get("lmap.level")
        with pytest.raises(AttributeError, match=r"did you mean brightness\?"):
            lab.lamp.brightnes  # noqa: B018
        with pytest.raises(AttributeError, match=r"did you mean lamp\?"):
            lab.lmap  # noqa: B018
        with pytest.raises(BadRequest, match="not finite: nan"):
            lab.lamp.level.set(float("nan"))
        with pytest.raises(BadRequest, match=r"lamp\.nap: argument 'seconds' is missing"):
            lab.lamp.nap()
        with pytest.raises(BadRequest, match=r"lamp\.nap\(seconds\): 'soon' is not a float"):
            lab.lamp.nap("soon")
        with pytest.raises(BadRequest, match=r"lamp\.nap\(seconds\): '2 V' is not a float"):
            lab.call("lamp.nap", seconds="2 V")
        with pytest.raises(BadRequest, match=r"lamp\.nap\(note\): 7 is not a str"):
            lab.lamp.nap(seconds=1.0, note=7)
        with pytest.raises(BadRequest, match=r"unknown argument 'secnds'; did you mean seconds"):
            lab.lamp.nap(secnds=1.0)
        with pytest.raises(InstrumentError, match="-230, data stale"):
            lab.get("lamp.unstable")
        with pytest.raises(BadRequest, match=r"lamp\.secret can be set, not read"):
            lab.get("lamp.secret")
        assert lab.set("lamp.secret", "42") == 42
        with pytest.raises(NotReady, match="ghost: its host has not registered"):
            lab.get("ghost.level")
        assert spine.guard is not None
        spine.guard.grants = False
        with pytest.raises(Interlocked, match="IL-00 is tripped"):
            lab.lamp.turn_on()
    assert "LEVEL 9" not in lamp.writes


def test_a_service_that_is_not_there_is_named_and_nothing_is_sent_later(spine: Spine) -> None:
    with Lab("tcp://127.0.0.1:9", timeout=0.1) as lab, pytest.raises(NotReady) as caught:
        lab.set("lamp.level", 1.0)
    assert "tcp://127.0.0.1:9 (the hub) did not answer within 0.1 s" in str(caught.value)
    with pytest.raises(BadRequest, match="write tcp://HOST:PORT"):
        Lab("127.0.0.1:5750")


def test_watch_begins_with_what_is_known_and_goes_on_without_a_gap(
    spine: Spine, lamp: LampSimulator
) -> None:
    with Lab(spine.address) as lab:
        watching = lab.watch("lamp.brightness", timeout=2)
        seen = [next(watching) for _ in range(10)]
        assert [each.seq for each in seen] == list(range(seen[0].seq, seen[0].seq + 10))
        assert {each.name for each in seen} == {"lamp.brightness"}
        assert {each.quality for each in seen} == {"simulated"}

        lab.lamp.level.set(3.0)  # has no poll: only the snapshot can know it
        assert next(lab.watch("lamp.level", timeout=2)).value == 3.0

        for reading in lab.watch("lamp", timeout=2):
            if reading.name == "lamp.lit":
                break
        with pytest.raises(UnknownName, match=r"did you mean lamp\.level"):
            lab.watch("lamp.levl")


def test_a_loop_that_ends_ends_its_subscription(spine: Spine, lamp: LampSimulator) -> None:
    with Lab(spine.address) as lab:
        for _ in lab.watch("lamp", timeout=2):
            break
        assert not lab._open


def test_frames_are_arrays_with_their_header(spine: Spine) -> None:
    spine.host("eye", Eye, "")
    with Lab(spine.address) as lab:
        _ready(lab, "eye.acquiring")
        with lab.frames("eye", timeout=2) as frames:
            lab.eye.start()
            first, second = next(frames), next(frames)
        assert first.data.dtype == "<u2"
        assert first.data.shape == (4, 3)
        assert np.all(first.data == first.header.details["number"])
        assert second.header.seq > first.header.seq
        with pytest.raises(UnknownName, match="'lamp' sends no spectrum"):
            lab.spectra("lamp")


def test_events_tell_what_was_done(spine: Spine, lamp: LampSimulator) -> None:
    with Lab(spine.address) as lab:
        events = lab.events("lamp", timeout=2)
        lab.lamp.level.set(4.0)
        done = next(events)
        assert (done.kind, done.text) == ("done", "lamp.level = 4.0")
        assert done.details["by"] == "local"


def test_verbs_of_the_guard_reach_it(spine: Spine) -> None:
    assert spine.guard is not None
    with Lab(spine.address) as lab:
        assert lab.ack("IL-03") == "ack"
        assert lab.reset() == "reset"
        assert lab.enable("lamp") == "enable"
        with pytest.raises(NotReady, match="'service' is not there"):
            lab.command("run", "cooldown")
    assert [(c.do, c.name) for c in spine.guard.commands] == [
        ("ack", "IL-03"),
        ("reset", ""),
        ("enable", "lamp"),
    ]


def test_abort_goes_to_the_guards_own_port_while_the_hub_is_gone() -> None:
    import json
    import threading

    import zmq

    with zmq.Context() as context:
        guard = context.socket(zmq.ROUTER)
        port = guard.bind_to_random_port("tcp://127.0.0.1")

        def answer() -> None:
            identity, data = guard.recv_multipart()
            command = json.loads(data)
            assert (command["do"], command["args"]) == ("abort", {"reason": "smoke"})
            reply = {"v": 1, "id": command["id"], "value": "aborted", "error": None}
            guard.send_multipart([identity, json.dumps(reply).encode()])

        thread = threading.Thread(target=answer)
        thread.start()
        with Lab("tcp://127.0.0.1:9", guard=f"tcp://127.0.0.1:{port}", timeout=2) as lab:
            assert lab.abort("smoke") == "aborted"
        thread.join(5)
        guard.close()


def test_status_is_words(spine: Spine, lamp: LampSimulator) -> None:
    with Lab(spine.address) as lab:
        wait(lambda: "lamp" in lab.snapshot()["status"])
        status = lab.status()
    assert status["lab"] == "bench"
    assert status["role"] == "admin"
    assert status["status"]["lamp"] == "idle: dark"
    assert status["clock"] == {"speed": 1.0}
    assert status["status"]["ghost"] == "not registered: its host is not running"


def test_a_simulated_laboratory_has_a_clock_to_set(spine: Spine) -> None:
    with Lab(spine.address) as lab:
        assert lab.clock.speed.get() == 1.0
        events = lab.events("clock", timeout=2)
        assert lab.clock.speed.set(600) == 600.0
        assert lab.get("clock.speed") == 600.0
        assert next(events).details["speed"] == 600.0
        with pytest.raises(OutOfRange, match=r"clock\.speed"):
            lab.set("clock.speed", 0.0)


def test_asyncio_has_the_same_names(spine: Spine, lamp: LampSimulator) -> None:
    async def script() -> None:
        async with AsyncLab(spine.address) as lab:
            assert await lab.lamp.level.set("1500 mW") == 1.5
            assert await lab.lamp.level.get() == 1.5
            with pytest.raises(OutOfRange):
                await lab.lamp.level.set(9.0)
            seen = []
            async for reading in lab.watch("lamp.brightness", timeout=2):
                seen.append(reading.seq)
                if len(seen) == 5:
                    break
            assert seen == list(range(seen[0], seen[0] + 5))

            # answers find who waits: a slow command does not hold up what the hub knows
            nap = asyncio.create_task(lab.lamp.nap(seconds=0.2))
            begin = time.monotonic()
            assert (await lab.describe("lamp"))["model"] == "lamp"
            assert time.monotonic() - begin < 0.15
            assert (await nap)["slept"] == 0.2
        with pytest.raises(NotReady, match=r"tcp://127\.0\.0\.1:9"):
            async with AsyncLab("tcp://127.0.0.1:9", timeout=0.1):
                pass

    asyncio.run(script())


def test_both_clients_have_the_same_names() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(Lab) == public(AsyncLab)


def test_connect_goes_where_the_environment_says(monkeypatch):
    monkeypatch.setenv("COLDFRAME_ADDRESS", "tcp://127.0.0.1:1")
    with coldframe.connect(timeout=0.2) as lab, pytest.raises(NotReady, match=r"127\.0\.0\.1:1 "):
        lab.describe()
