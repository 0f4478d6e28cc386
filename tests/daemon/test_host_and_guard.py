"""Hub, host and the real guard: a lamp that may not shine too bright, a stage on a cable."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from coldframe.client import Lab
from coldframe.daemon.lanes import dealer
from coldframe.daemon.rules import DoseSettings, GuardSettings, Rule
from coldframe.drivers.base import Driver, Parameter
from coldframe.drivers.lakeshore import Lakeshore
from coldframe.errors import Disconnected, Interlocked, NotReady, ReadOnly, TooLate, UnknownName
from coldframe.messages import Left, Takeover, Watch, Watching, control
from coldframe.simulators.lakeshore import LakeshoreSimulator
from tests.cable import Cable
from tests.spine import Lamp, LampSimulator, Spine, wait

ROOT = Path(__file__).resolve().parents[2]
BRIGHT = Rule(
    id="IL-90",
    signal="lamp.brightness",
    unit="W",
    above=5.0,
    reset=4.0,
    max_age_s=0.5,
    trips=("lamp.light",),
    guidance="Turn the dimmer down before anything else.",
    source="test",
)
RULES = GuardSettings(
    simulated=True,
    specimen="none",
    devices={"lamp": "lamp", "stage": "lakeshore336"},
    rules=(BRIGHT,),
    dose=DoseSettings(column="lamp", output="light"),
)


class Table:
    """Lamp and real guard, armed."""

    def __init__(self, spine: Spine, bench: Any):
        self.spine, self.bench = spine, bench
        assert spine.real_guard is not None
        self.guard = spine.real_guard
        self.lamp, self.address = bench.serve(LampSimulator)
        self.lab = Lab(spine.address, timeout=3)

    def arm(self) -> None:
        wait(lambda: self.value("lamp.lit") is not None)
        wait(self.armed)

    def value(self, name: str) -> Any:
        try:
            return self.lab.get(name)
        except (NotReady, UnknownName, Disconnected):
            return None

    def armed(self) -> bool:
        try:
            self.lab.reset()
        except (Interlocked, NotReady):
            return False
        self.lab.enable("lamp.light")
        return True

    def shine(self) -> None:
        self.lab.lamp.turn_on()  # enabled a moment ago: the host waits for its permit
        wait(lambda: self.lamp.on)


@pytest.fixture
def table(bench: Any) -> Iterator[Table]:
    with TemporaryDirectory(prefix="cf-") as folder:
        spine = Spine(Path(folder), rules=RULES)
        made = Table(spine, bench)
        spine.host("lamp", Lamp, made.address)
        made.arm()
        yield made
        made.lab.close()
        spine.close()


def test_a_limit_exceeded_makes_the_lamp_dark_and_it_takes_three_commands_to_shine_again(
    table: Table,
) -> None:
    lab = table.lab
    table.shine()
    events = lab.events("guard", timeout=3)
    lab.lamp.level.set(7.0)
    wait(lambda: not table.lamp.on)
    assert next(each for each in events if each.kind == "secured").details["device"] == "lamp"
    with pytest.raises(Interlocked, match="IL-90"):
        lab.lamp.turn_on()
    with pytest.raises(Interlocked):
        lab.reset()
    lab.lamp.level.set(2.0)
    lab.ack("IL-90")
    wait(table.armed)
    assert not table.lamp.on  # none of the three turned anything on
    table.shine()


def test_what_the_guard_works_out_of_a_device_is_watched_like_its_own_readings(
    table: Table,
) -> None:
    lab = table.lab
    with lab.watch("lamp.lit", "lamp.dose_rate", timeout=3) as watching:
        names = {next(watching).name for _ in range(20)}
    assert names == {"lamp.lit", "lamp.dose_rate"}
    assert lab.describe("lamp.dose_rate")["unit"] == lab.unit("lamp.dose_rate") == "e/Å^2/s"
    assert lab.lamp.dose.info.unit == "e/Å^2"
    assert {"dose", "dose_rate", "level", "turn_on"} <= set(dir(lab.lamp))
    assert "il_90" in dir(lab.guard) and "lamp.dose" not in dir(lab.guard)
    with pytest.raises(NotReady, match=r"lamp\.dose_rate is not known now"):
        lab.lamp.dose_rate.get()  # no column's read-backs come from a lamp
    with pytest.raises(ReadOnly, match=r"lamp\.dose_rate can be read, not set"):
        lab.lamp.dose_rate.set(1.0)


class SlowLamp(Lamp):
    """A lamp on a wire so slow that taking it in lasts longer than a host may be silent."""

    def adopt(self) -> None:
        Driver.adopt(self)
        self.ask("ON?")

    def read_unstable(self) -> float:
        time.sleep(0.4)
        return 0.0

    def read_secret(self) -> int:
        time.sleep(0.4)
        return 0

    def read_lit(self) -> bool:
        time.sleep(0.4)
        return self.ask("ON?") == "1"

    lit = Parameter(bool)


def test_a_host_on_a_slow_wire_is_not_taken_for_hung_while_it_reconnects(bench: Any) -> None:
    with TemporaryDirectory(prefix="cf-") as folder:
        spine = Spine(Path(folder), rules=RULES)
        table = Table(spine, bench)
        cable = Cable(table.address)
        hand = dealer(spine.context, "lasthand", f"ipc://{folder}/guard")
        told = []
        try:
            hand.send(Watching().encode())
            spine.host("lamp", SlowLamp, cable.address)
            wait(lambda: table.value("lamp.lit") is not None)
            cable.cut()
            wait(lambda: table.value("lamp.lit") is None)
            cable.mend()
            wait(lambda: table.value("lamp.lit") is not None)
            while hand.poll(100):
                told.append(control(hand.recv(), Watch, Takeover, Left))
        finally:
            hand.close()
            table.lab.close()
            spine.close()
            cable.cut()
    assert {type(each) for each in told} == {Watch}


def test_a_guard_that_dies_leaves_no_output_on(table: Table) -> None:
    table.shine()
    stopped = time.monotonic()
    table.guard.it.judge.granting = True
    # no farewell: as a killed process, its sockets simply fall silent
    table.guard.it._leave = lambda poller: None  # type: ignore[method-assign]
    table.guard.stop()
    wait(lambda: not table.lamp.on)
    assert time.monotonic() - stopped < 0.5 + 0.25 + 0.2  # permit, one exchange, this machine
    with Lab(table.spine.address, timeout=0.3) as lab, pytest.raises((NotReady, TooLate)):
        lab.lamp.turn_on()
    assert "ON" not in table.lamp.writes[table.lamp.writes.index("OFF") :]


def test_a_loop_that_hung_makes_safe_before_it_does_anything_else(table: Table) -> None:
    table.shine()
    table.lamp.writes.clear()
    slow, quick = Lab(table.spine.address, timeout=3), Lab(table.spine.address, timeout=3)
    hung = threading.Thread(target=lambda: slow.call("lamp.nap", seconds=0.8))
    hung.start()
    time.sleep(0.1)
    late = threading.Thread(target=lambda: quick.set("lamp.level", 3.0))
    late.start()
    hung.join(5)
    late.join(5)
    slow.close()
    quick.close()
    assert table.lamp.writes[0] == "OFF"
    assert not table.lamp.on


def test_abort_by_the_guards_own_port_is_verified(table: Table) -> None:
    table.shine()
    table.spine.hub.stop()  # nothing but the guard is needed
    with Lab(table.spine.address, guard=table.guard.it.clients, timeout=3) as lab:
        assert lab.abort("smoke") == {"verified": ["lamp"]}
    assert not table.lamp.on


def test_a_host_ends_on_sigterm_with_its_output_safe(bench: Any) -> None:
    with TemporaryDirectory(prefix="cf-") as folder:
        spine = Spine(Path(folder), rules=RULES)
        table = Table(spine, bench)
        program = (
            "from pathlib import Path\n"
            "from coldframe.daemon.host import HostSettings, run_hosts\n"
            "from tests.spine import Lamp\n"
            f"lane = 'ipc://{folder}/'\n"
            f"run = HostSettings('lamp', Lamp, '{table.address}', lane + 'guard', lane + 'hub',\n"
            f"    lane + 'recorder', simulated=True, clock=Path('{folder}/clock'))\n"
            "raise SystemExit(run_hosts([run]))\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) as host:
            try:
                table.arm()
                table.shine()
                host.terminate()
                assert host.wait(10) == 0
            finally:
                host.kill()
        assert not table.lamp.on
        table.lab.close()
        spine.close()


def test_a_real_stage_on_a_cut_cable_comes_back_as_itself_and_nothing_is_sent_again(
    bench: Any,
) -> None:
    with TemporaryDirectory(prefix="cf-") as folder:
        spine = Spine(Path(folder), rules=RULES)
        stage, address = bench.serve(LakeshoreSimulator, "lakeshore336")
        cable = Cable(address)
        spine.host("stage", Lakeshore, cable.address)
        with Lab(spine.address, timeout=3) as lab:

            def temperature() -> float | None:
                try:
                    return float(lab.get("stage.temperature"))
                except (NotReady, UnknownName, Disconnected):
                    return None

            assert wait(temperature) == pytest.approx(293.15, abs=1)
            cable.cut()
            wait(lambda: temperature() is None)
            events = lab.events("stage", timeout=5)
            before = len(stage.writes)
            cable.mend()
            back = next(each for each in events if each.kind == "reconnected")
            assert back.details["changed"] == {}
            assert wait(temperature) == pytest.approx(293.15, abs=1)
            assert stage.writes[before:] == []
        spine.close()
        cable.cut()
