"""A device host, with a lamp on a real wire and a guard that does as the test says."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import zmq

from coldframe.client import Lab
from coldframe.daemon.host import DeviceHost
from coldframe.drivers.keithley2450 import Keithley2450
from coldframe.drivers.sharksem import SharkSem
from coldframe.errors import (
    ConfigurationError,
    Disconnected,
    Interlocked,
    NotReady,
    NotSafe,
    OutOfRange,
    TooLate,
    UnknownName,
)
from coldframe.messages import Command, Relay, Safe, header_of
from coldframe.simulators.keithley2450 import Keithley2450Simulator
from coldframe.simulators.sharksem import SharkSemSimulator
from tests.cable import Cable
from tests.spine import Eye, Guard, Lamp, LampSimulator, Spine, wait


class Table:
    """What a test of a host needs at hand."""

    def __init__(self, spine: Spine, bench: Any):
        self.spine, self.bench = spine, bench
        assert spine.guard is not None
        self.guard: Guard = spine.guard
        self.lamp, address = bench.serve(LampSimulator)
        self.cable = Cable(address)
        self.host: DeviceHost = spine.host("lamp", Lamp, self.cable.address)
        self.lab = Lab(spine.address, timeout=3)
        wait(self.up)

    def up(self) -> bool:
        try:
            return self.lab.get("lamp.lit") is not None
        except (NotReady, UnknownName, Disconnected):
            return False

    def relay(self, do: Any, name: str, **fields: Any) -> None:
        """As the guard would pass it on."""
        self.guard.send("lamp", Relay(command=Command(id="t", do=do, name=name, **fields)))

    def close(self) -> None:
        self.lab.close()
        self.spine.close()
        self.cable.cut()


@pytest.fixture
def table(spine: Spine, bench: Any) -> Iterator[Table]:
    made = Table(spine, bench)
    yield made
    made.close()


def test_readings_reach_guard_recorder_and_hub_as_the_same_bytes(table: Table) -> None:
    subscriber = table.spine.context.socket(zmq.SUB)
    subscriber.connect(table.spine.hub.addresses["streams"])
    subscriber.subscribe(b"reading lamp.brightness ")
    at_the_hub = [subscriber.recv_multipart() for _ in range(5)]
    subscriber.close()
    recorder = table.spine.recorder
    wait(lambda: all(each in recorder.messages for each in at_the_hub))
    assert all(each in table.guard.readings for each in at_the_hub)
    numbers = [json.loads(each[1])["seq"] for each in at_the_hub]
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    assert json.loads(at_the_hub[0][1])["quality"] == "simulated"


def test_a_hazardous_command_needs_a_permit_and_the_guards_own_way(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    table.lab.lamp.turn_off()
    table.guard.answers = False  # no grant comes any more
    time.sleep(0.6)
    with pytest.raises(Interlocked, match="no permit for output 'light'"):
        table.lab.lamp.turn_on()
    table.guard.answers = True
    # straight from the hub it is refused, permit or not
    inner = Relay(command=Command(id="x", do="call", name="lamp.turn_on")).command
    (reply,) = table.host._orders.take(inner, from_guard=False)
    assert reply.error is not None
    assert "only the guard may pass it on" in reply.error.text
    assert table.lamp.writes.count("ON") == 1


def test_an_order_that_names_no_output_needs_them_all(table: Table) -> None:
    table.lab.lamp.surge()
    table.guard.answers = False
    time.sleep(0.6)
    with pytest.raises(Interlocked, match="no permit for output 'light'"):
        table.lab.lamp.surge()
    assert table.lamp.writes.count("LEVEL 10") == 1


def test_a_permit_that_lapses_makes_the_output_safe_and_says_so(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    stopped = time.monotonic()
    table.guard.answers = False
    wait(lambda: not table.lamp.on)
    assert time.monotonic() - stopped < 0.5 + 0.25 + 0.2  # permit, one exchange, this machine
    lapse = wait(lambda: table.guard.secured)[-1]
    assert lapse.verified
    assert lapse.words == "lamp dark"
    wait(lambda: any(b"no permit for light" in each[-1] for each in table.guard.readings))


def test_a_grant_refused_makes_the_output_safe_at_once(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    table.guard.grants = False
    stopped = time.monotonic()
    wait(lambda: not table.lamp.on)
    assert time.monotonic() - stopped < 0.45  # before the permit would have lapsed by itself


def test_an_output_somebody_else_turned_on_is_made_safe_without_a_permit(table: Table) -> None:
    table.guard.grants = False
    time.sleep(0.2)
    before = len(table.guard.secured)
    table.bench.do(lambda: setattr(table.lamp, "on", True))  # at the instrument's own panel
    wait(lambda: len(table.guard.secured) > before)
    assert not table.lamp.on


def test_safe_goes_before_what_waits_and_what_waits_is_refused(table: Table) -> None:
    replies: list[Any] = []
    lab = Lab(table.spine.address, timeout=3)

    def nap() -> None:
        replies.append(lab.call("lamp.nap", seconds=0.15))

    table.lab.lamp.turn_on()
    napper = threading.Thread(target=nap)
    napper.start()
    time.sleep(0.05)  # the loop is busy now: these two arrive behind it, in this order
    table.relay("call", "lamp.turn_on")
    table.guard.send("lamp", Safe(id="s1", why="IL-03"))
    table.guard.send("lamp", Safe(id="s2", why="IL-04"))
    wait(lambda: {"s1", "s2"} <= {each.id for each in table.guard.secured})
    napper.join(5)
    lab.close()
    assert all(each.verified for each in table.guard.secured)
    assert table.lamp.writes.count("ON") == 1
    assert not table.lamp.on


def test_a_safe_state_that_the_instrument_lies_about_is_reported_and_tried_again(
    table: Table,
) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    table.bench.do(lambda: table.lamp.faults.switch_on("lie"))
    table.guard.send("lamp", Safe(id="s1", why="IL-03"))
    first = wait(lambda: [each for each in table.guard.secured if each.id == "s1"])[0]
    assert not first.verified
    assert first.words.startswith("NOT SAFE: lamp: lamp dark not verified after 3 tries")
    table.bench.do(table.lamp.faults.switch_off)
    wait(lambda: table.guard.secured[-1].verified)
    assert not table.lamp.on


def test_a_command_whose_deadline_passed_is_refused_not_run_late(table: Table) -> None:
    late: list[BaseException] = []
    lab = Lab(table.spine.address, timeout=0.1)

    def set_level() -> None:
        try:
            lab.set("lamp.level", 7.0)
        except TooLate as error:
            late.append(error)

    busy = threading.Thread(target=lambda: table.lab.call("lamp.nap", seconds=0.3))
    busy.start()
    time.sleep(0.05)
    set_level()
    busy.join(5)
    lab.close()
    assert "100 ms had passed before its turn came: it was not run" in str(late[0])
    assert "LEVEL 7" not in table.lamp.writes


def test_a_cut_cable_is_null_once_then_the_same_instrument_is_taken_back(table: Table) -> None:
    table.lab.lamp.level.set(5.0)
    assert table.guard is not None
    table.cable.cut()
    with pytest.raises((Disconnected, NotReady)):
        while True:
            table.lab.get("lamp.level", fresh=True)
    with pytest.raises(Disconnected, match="no link to the instrument"):
        table.lab.set("lamp.level", 6.0)
    table.bench.do(lambda: setattr(table.lamp, "level", 4.0))  # somebody turned the knob meanwhile
    table.guard.readings.clear()
    time.sleep(0.1)
    assert not [each for each in table.guard.readings if each[0].startswith(b"reading")]

    orders = len(table.lamp.writes)
    events = table.lab.events("lamp", timeout=3)
    table.cable.mend()
    back = next(each for each in events if each.kind == "reconnected")
    assert back.details["changed"] == {"level": [5.0, 4.0]}
    assert "changed meanwhile: level" in back.text
    assert table.lab.get("lamp.level", fresh=True) == 4.0
    assert table.lamp.writes[orders:] in ([], ["OFF"])  # nothing was sent again
    bad = [
        json.loads(each[1])
        for each in table.spine.recorder.messages
        if each[0] == b"reading lamp.brightness " and b'"value":null' in each[1]
    ]
    assert len(bad) == 1
    assert bad[0]["quality"] == "bad"


def test_another_instrument_on_the_same_cable_is_not_written_to(table: Table) -> None:
    table.cable.cut()
    table.bench.do(lambda: setattr(LampSimulator, "serial", "9999"))
    try:
        orders = len(table.lamp.writes)
        events = table.lab.events("lamp", timeout=3)
        table.cable.mend()
        wrong = next(each for each in events if each.details.get("error") == "WrongInstrument")
        assert "'ACME,LAMP,9999,1.0' answers where 'ACME,LAMP,0001,1.0' was" in wrong.text
        with pytest.raises(Disconnected):
            table.lab.set("lamp.level", 3.0)
        table.guard.send("lamp", Safe(id="s1", why="IL-03"))
        refused = wait(lambda: [each for each in table.guard.secured if each.id == "s1"])[0]
        assert not refused.verified
        assert table.lamp.writes[orders:] == []
    finally:
        LampSimulator.serial = "0001"
    wait(table.up)


def test_a_safe_that_found_no_link_is_carried_out_when_the_link_is_back(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    table.cable.cut()
    table.guard.send("lamp", Safe(id="s1", why="IL-03"))
    owed = wait(lambda: [each for each in table.guard.secured if each.id == "s1"])[0]
    assert not owed.verified
    table.cable.mend()
    wait(lambda: not table.lamp.on)


@pytest.mark.parametrize("fault", ["silence", "garbage", "half", "nan"])
def test_a_faulty_answer_is_null_and_never_a_wrong_value(table: Table, fault: str) -> None:
    table.lab.lamp.level.set(2.0)
    table.lab.lamp.turn_on()
    subscription = table.lab.watch("lamp.brightness", timeout=3)
    table.bench.do(lambda: table.lamp.faults.switch_on(fault))
    if fault == "nan":
        table.bench.do(lambda: setattr(table.lamp, "level_reply", "NAN"))
    values = {next(each for each in subscription if each.value is None).quality}
    assert values == {"bad"}
    table.bench.do(table.lamp.faults.switch_off)
    table.bench.do(lambda: setattr(table.lamp, "level_reply", ""))
    known = (each.value for each in table.lab.watch("lamp.brightness", timeout=6))
    assert next(value for value in known if value is not None) in (0.0, 2.0)


def test_the_session_is_stamped_from_where_the_host_says(table: Table) -> None:
    recorder = table.spine.recorder
    recorder.mark("lamp", "s-1")
    marked = wait(lambda: recorder.marked)[0]
    assert (marked.device, marked.session) == ("lamp", "s-1")

    def stamped() -> list[dict[str, Any]]:
        found = [
            json.loads(m[1]) for m in recorder.messages if m[0].startswith(b"reading lamp.lit")
        ]
        return [each for each in found if each["session"] == "s-1"]

    assert wait(stamped)[0]["seq"] == marked.next["reading lamp.lit"]
    recorder.mark("lamp", None)
    end = wait(lambda: recorder.marked[1:])[0]
    last = stamped()[-1]["seq"]
    assert end.next["reading lamp.lit"] == last + 1


def test_a_session_holds_the_settings_that_nobody_touched(table: Table) -> None:
    recorder = table.spine.recorder

    def heard(name: bytes) -> int:
        return sum(message[0] == name for message in recorder.messages)

    polled = heard(b"reading lamp.brightness ")  # and whatever was due at the start is over
    wait(lambda: heard(b"reading lamp.brightness ") > polled + 5)
    recorder.mark("lamp", "s-1")

    def settings() -> list[Any]:
        heard = [json.loads(m[1]) for m in recorder.messages if m[0] == b"reading lamp.level "]
        return [each["value"] for each in heard if each["session"] == "s-1"]

    assert wait(settings)[0] == 1.0


def test_frames_of_a_session_wait_for_a_slow_recorder_and_arrive_whole(spine: Spine) -> None:
    spine.host("eye", Eye, "")
    with Lab(spine.address) as lab:
        wait(lambda: [d for d in lab.describe() if d["device"] == "eye"])
        spine.recorder.mark("eye", "s-1")
        wait(lambda: spine.recorder.marked)
        lab.call("eye.start")
        wait(lambda: len([m for m in spine.recorder.messages if m[0] == b"frame eye "]) >= 5)
    frames = [m for m in spine.recorder.messages if m[0] == b"frame eye "]
    headers = [header_of(each[0], each[1]) for each in frames]
    assert [each.seq for each in headers] == list(range(len(headers)))
    assert all(len(each[2]) == 24 for each in frames)


def test_stopping_makes_safe_first(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    table.host.stop()
    wait(lambda: not table.lamp.on)
    last = wait(lambda: table.guard.secured)[-1]
    assert last.verified


def test_a_defect_in_a_driver_ends_its_host_with_the_outputs_safe(table: Table) -> None:
    table.lab.lamp.turn_on()
    wait(lambda: table.lamp.on)
    with Lab(table.spine.address, timeout=0.3) as lab, pytest.raises(TooLate):
        lab.call("lamp.stumble")
    wait(lambda: table.spine.failures)
    assert not table.lamp.on


def test_off_means_open_before_anybody_has_used_the_source(spine: Spine, bench: Any) -> None:
    source, address = bench.serve(Keithley2450Simulator)
    source.writes.clear()
    assert source.off_state == {"VOLT": "NORM", "CURR": "NORM"}  # off is 0 V across the cell
    spine.host("bias", Keithley2450, address)
    wait(lambda: source.off_state == {"VOLT": "HIMP", "CURR": "HIMP"})


def test_an_instrument_that_cannot_be_prepared_is_there_and_says_so(
    spine: Spine, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lamp: Lamp) -> None:
        raise NotSafe(f"{lamp.name}: the switch does not read back")

    monkeypatch.setattr(Lamp, "prepare", refuse)
    _, address = bench.serve(LampSimulator)
    spine.host("lamp", Lamp, address)
    with Lab(spine.address, timeout=3) as lab:
        wait(lambda: "lamp.lit" in lab.snapshot()["readings"])
        said = [each for each in lab.snapshot("lamp")["events"] if each["kind"] == "not prepared"]
    assert [each["text"] for each in said] == ["lamp: the switch does not read back"]


def test_the_guard_hears_an_ion_current_that_is_read_on_demand(spine: Spine, bench: Any) -> None:
    _, address = bench.serve(SharkSemSimulator)
    spine.host("ion", SharkSem, address)
    guard = spine.guard
    assert guard is not None

    def heard(name: str) -> list[Any]:
        return [json.loads(m[1])["value"] for m in guard.readings if m[0] == name.encode()]

    wait(lambda: heard("reading ion.beam_on "))
    assert not heard("reading ion.current ")
    get = Command(id="1", do="get", name="ion.current", args={"fresh": True})
    guard.send("ion", Relay(command=get))
    wait(lambda: heard("reading ion.current "))
    choose = Command(id="2", do="set", name="ion.preset", value="30 kV; 3 nA")
    guard.send("ion", Relay(command=choose))
    wait(lambda: heard("reading ion.preset ")[-1] == "30 kV; 3 nA")


def test_a_host_that_never_finds_its_instrument_says_so_and_goes_on(spine: Spine) -> None:
    spine.host("lamp", Lamp, "tcp://127.0.0.1:9")
    with Lab(spine.address, timeout=3) as lab:
        events = lab.events("lamp", timeout=3)
        told = wait(lambda: [d for d in lab.describe() if d["device"] == "lamp"])
        assert told[0]["identity"] == ""
        status = wait(lambda: lab.snapshot("lamp")["status"].get("lamp"))
        assert "link lost: tcp://127.0.0.1:9" in status["words"]
        events.close()


def test_a_command_cannot_pass_the_limits_of_the_parameter_it_sets(
    spine: Spine, bench: Any
) -> None:
    lamp, address = bench.serve(LampSimulator)
    host = spine.host("lamp", Lamp, address, limits={"level": (0.0, 2.0)})
    with Lab(spine.address, timeout=3) as lab:
        wait(lambda: "lamp.lit" in lab.snapshot()["readings"])
        lab.lamp.dim(watts="1500 mW")
        with pytest.raises(OutOfRange, match=r"lamp.dim\(watts\): 3 W is outside 0 W … 2 W"):
            lab.lamp.dim(watts=3.0)
    again = Command(id="x", do="call", name="lamp.dim", args={"watts": 3.0})
    (reply,) = host._orders.take(again, from_guard=True)  # nor by way of the guard
    assert reply.error is not None and reply.error.kind == "OutOfRange"
    assert lamp.writes == ["LEVEL 1.5"]


def test_limits_of_a_parameter_the_driver_does_not_have_are_refused(spine: Spine) -> None:
    with pytest.raises(ConfigurationError, match="lamp has no parameter 'levl'"):
        spine.host("lamp", Lamp, "tcp://127.0.0.1:9", limits={"levl": (0, 1)})


def test_a_host_imports_nothing_that_only_posix_has() -> None:
    blocked = (
        "import sys\nfor name in ('fcntl','termios','resource','pwd'): sys.modules[name]=None\n"
    )
    program = blocked + "import coldframe.daemon.host; print('imported')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == "imported\n", done.stderr
