"""What the guard decides, without sockets: the dose across restarts, ion steps, a full disk."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

from coldframe.clock import ManualClock
from coldframe.daemon.journal import Journal, read
from coldframe.daemon.judge import Judge
from coldframe.daemon.petitions import Petitions
from coldframe.daemon.rules import Check, DoseSettings, GuardSettings, IonStepSettings, Rule
from coldframe.daemon.vetting import as_number
from coldframe.errors import BadRequest, Interlocked, StorageError
from coldframe.messages import (
    Ask,
    Command,
    CommandInfo,
    DeviceInfo,
    OutputInfo,
    ParameterInfo,
    Reading,
    Safe,
)

GUIDANCE = "Look at it before you do anything else."
DOSE = Rule(id="IL-02", signal="beam.dose", unit="e/Å^2", warn=80.0, above=100.0, max_age_s=1,
            specimen=("ambient", "cryo"), trips=("beam.beam",), guidance=GUIDANCE,
            source="test")  # fmt: skip
STEP = Rule(id="IL-05", signal="ion.step_excess", above=1.0, max_age_s=1, trips=("ion.ion_beam",),
            guidance=GUIDANCE, source="test")  # fmt: skip
ION = Check(id="IL-05", check="ion_step", refuses=("ion.ion_beam",), guidance=GUIDANCE,
            source="test")  # fmt: skip
PRESETS = {"30 kV; 10 pA": 10e-12, "30 kV; 0.1 nA": 1e-10, "30 kV; 3 nA": 3e-9}
BEAM = {"high_voltage": (200.0, "kV"), "spot": (3, ""), "magnification": (5e4, "")}


def info(device: str, boot: str = "b") -> DeviceInfo:
    output = {"beam": "beam", "ion": "ion_beam"}[device]
    return DeviceInfo(
        device=device, model=device, role="", identity="1", simulated=False, boot=boot, pid=1,
        parameters=[ParameterInfo(name="preset", kind="str", writable=True, output="ion_beam")],
        commands=[
            CommandInfo(name="turn_on", hazard="hazardous", output="ion_beam"),
            CommandInfo(name="unblank", hazard="hazardous", output="beam"),
        ],
        outputs=[OutputInfo(name=output, safe_state="off", seconds=0.1)],
    )  # fmt: skip


class Bench:
    """A judge whose time and instruments the test moves."""

    def __init__(self, folder: Path, rule: Rule, **settings: Any):
        self.folder, self.clock = folder, ManualClock()
        self.settings = GuardSettings(
            devices={"beam": "beam", "ion": "ion"}, specimen="cryo", rules=(rule,), **settings
        )
        self.seq: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        self.journal = Journal(self.folder / "journal")
        self.judge = Judge(self.settings, self.clock, self.journal)
        self.petitions = Petitions(self.judge, "boot")
        for device in ("beam", "ion"):
            assert self.judge.register(device, info(device)) is None

    def say(self, name: str, value: Any, unit: str = "") -> None:
        seq = self.seq[name] = self.seq.get(name, -1) + 1
        mono, lab = str(self.clock.mono_ns()), str(self.clock.lab_ns())
        quality = "bad" if value is None else "good"
        self.judge.reading(
            name.partition(".")[0],
            Reading(name=name, seq=seq, t_ns=lab, mono_ns=mono, unit=unit, value=value,
                    quality=quality),  # type: ignore[arg-type]
        )  # fmt: skip

    def run(self, seconds: float, **values: tuple[Any, str]) -> list[str]:
        """Time passes, everything is read; the devices that were ordered safe."""
        for _ in range(round(seconds / 0.1)):
            self.clock.advance(0.1)
            for name, (value, unit) in values.items():
                self.say(name.replace("__", "."), value, unit)
            self.judge.tick()
            self.judge.settle()
        ordered = [d for d, m in self.judge.out.to_hosts if isinstance(m, Safe)]
        self.judge.out.to_hosts.clear()
        return ordered

    def beam(self, seconds: float, blanked: bool) -> list[str]:
        values = {f"beam__{name}": value for name, value in BEAM.items()}
        return self.run(seconds, **values, beam__blanked=(blanked, ""))

    def ask(self, do: str, name: str = "", value: Any = None, **args: Any) -> Any:
        command = Command(id="1", do=do, name=name, value=value, args=args)  # type: ignore[arg-type]
        if do in ("set", "call") and not name.startswith("guard."):
            return self.petitions.forward(command)
        return self.petitions.answer(command)

    def arm(self) -> None:
        self.ask("reset")
        for device in ("beam", "ion"):
            self.ask("enable", device)

    def calibrate(self) -> None:
        self.ask("call", "guard.calibrate_dose", high_voltage=200.0, spot=3, magnification=5e4,
                 current=125.8e-12, diameter=1e-6)  # fmt: skip

    @property
    def dose(self) -> float:
        assert self.judge.meter is not None and self.judge.meter.dose is not None
        return self.judge.meter.dose


@pytest.fixture
def column(tmp_path: Path) -> Any:
    made = Bench(tmp_path, DOSE, dose=DoseSettings(max_rate=20))
    yield made
    made.journal.close()


def test_the_budget_warns_then_trips_and_only_a_new_specimen_begins_anew(column: Bench) -> None:
    column.calibrate()
    column.ask("call", "guard.new_specimen", id="S-1")
    column.beam(0.3, blanked=True)
    column.arm()
    assert column.beam(8.3, blanked=False) == []
    assert "warned" in [kind for kind, _, _ in column.judge.out.events]
    assert set(column.beam(3.0, blanked=False)) == {"beam"}  # again and again, until verified
    assert column.dose >= 100

    column.beam(1.0, blanked=True)
    column.ask("ack", "IL-02")
    with pytest.raises(Interlocked, match=r"beam\.dose 1\d\d"):
        column.ask("reset")
    column.ask("call", "guard.new_specimen", id="S-2")
    column.beam(0.2, blanked=True)
    column.ask("reset")
    column.ask("enable", "beam.beam")
    assert column.judge.engine.permitted("beam.beam") and column.dose == 0


@pytest.mark.parametrize("seconds", [0.4, 2.0, 5.5])
def test_after_a_sudden_death_the_dose_is_not_less_than_it_was(
    column: Bench, seconds: float
) -> None:
    column.calibrate()
    column.ask("call", "guard.new_specimen", id="S-1")
    column.beam(0.3, blanked=True)
    column.beam(seconds, blanked=False)
    had = column.dose
    column.journal.close()  # as after kill -9: nothing more is written

    column.start()
    assert column.judge.meter is not None and column.judge.meter.specimen == "S-1"
    assert had + 9 < column.dose < had + 13  # what a beam does in a second, and 1 % of the budget
    assert column.judge.meter.table


def test_after_an_orderly_end_the_dose_is_exactly_what_it_was(column: Bench) -> None:
    column.calibrate()
    column.beam(0.3, blanked=True)
    column.beam(2.0, blanked=False)
    had = column.dose
    column.judge.leave()
    column.journal.close()
    column.start()
    assert column.dose == pytest.approx(had)


def test_a_wall_clock_that_jumps_changes_no_dose(column: Bench) -> None:
    column.calibrate()
    column.beam(0.3, blanked=True)
    column.beam(1.0, blanked=False)
    had = column.dose
    column.clock._lab += 3600 * 10**9
    column.beam(1.0, blanked=False)
    assert column.dose == pytest.approx(had + 10, rel=0.1)


def test_without_a_journal_nothing_hazardous_is_passed_on(column: Bench) -> None:
    column.beam(0.3, blanked=True)
    column.arm()
    column.ask("call", "beam.unblank")
    real = os.dup(column.journal._file)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, column.journal._file)
    try:
        with pytest.raises(Interlocked, match="journal cannot be written"):
            column.ask("call", "beam.unblank")
        with pytest.raises(StorageError):
            column.ask("call", "guard.specimen_mode", mode="none")
    finally:
        os.dup2(real, column.journal._file)
        os.close(full)
        os.close(real)
    column.ask("call", "beam.unblank")
    assert not read(column.folder / "journal").broken


def test_a_host_cannot_grow_an_output_that_nobody_enabled(column: Bench) -> None:
    column.beam(0.3, blanked=True)
    column.arm()
    grown = info("beam").model_copy(
        update={"outputs": [OutputInfo(name="laser", safe_state="off", seconds=0.1)]}
    )
    assert "do not change" in (column.judge.register("beam", grown) or "")
    grant = column.judge.ask(Ask(device="beam", boot="b", n=1, outputs=["beam", "laser"]))
    assert grant is not None and grant.granted == ["beam"]


def test_a_reading_in_another_unit_than_declared_is_bad(fib: Bench) -> None:
    declared = info("ion", "another").model_copy(
        update={"parameters": [ParameterInfo(name="current", kind="float", unit="A")]}
    )
    assert fib.judge.register("ion", declared) is None
    fib.say("ion.current", 1.0, "nA")
    fact = fib.judge.facts.last("ion.current")
    assert fact is not None and not fact.good and fact.words == "in nA, not A"


HUGE = 10**400


def test_a_number_no_float_can_hold_is_no_number(column: Bench) -> None:
    column.beam(0.3, blanked=False)
    column.say("beam.magnification", HUGE)
    column.say("beam.dose", HUGE)  # a rule watches this one
    column.judge.tick()
    known = column.judge.facts.last("beam.magnification")
    assert known is not None and as_number(known.value) is None


@pytest.mark.parametrize(
    ("current", "diameter"), [(1e-10, 1e-200), (1e308, 1e-6), (1e-10, 1e300), (1e-30, 1e-6)]
)
def test_what_cannot_be_a_dose_rate_is_no_calibration(
    column: Bench, current: float, diameter: float
) -> None:
    numbers = {"high_voltage": 200.0, "spot": 3, "magnification": 5e4}
    with pytest.raises(BadRequest):
        column.ask("call", "guard.calibrate_dose", current=current, diameter=diameter, **numbers)
    assert column.judge.meter is not None and column.judge.meter.table == []


@pytest.fixture
def fib(tmp_path: Path) -> Any:
    made = Bench(tmp_path, STEP, checks=(ION,), ion=IonStepSettings(presets=PRESETS))
    yield made
    made.journal.close()


def test_each_step_is_held_to_its_ion_current(fib: Bench) -> None:
    off = {"ion__beam_on": (False, ""), "ion__preset": ("30 kV; 3 nA", "")}
    fib.run(0.3, **off)
    fib.arm()
    with pytest.raises(Interlocked, match="no ion step is set"):
        fib.ask("call", "ion.turn_on")
    fib.ask("call", "guard.set_step", step="clean")
    with pytest.raises(Interlocked, match=r"IL-05: ion current 3 nA is above 120 pA .*'clean'"):
        fib.ask("call", "ion.turn_on")
    with pytest.raises(Interlocked, match="IL-05"):
        fib.ask("set", "ion.preset", "30 kV; 3 nA")
    with pytest.raises(Interlocked, match="not known"):
        fib.ask("set", "ion.preset", "30 kV; something")
    assert fib.ask("set", "ion.preset", "30 kV; 0.1 nA")[0] == "ion"

    fine = {"ion__preset": ("30 kV; 0.1 nA", ""), "ion__beam_on": (True, "")}
    assert fib.run(1.0, **fine) == []
    assert fib.run(0.2, **fine | {"ion__preset": ("30 kV; 3 nA", "")}) == ["ion"]
    assert any("3 nA" in text for kind, text, _ in fib.judge.out.events if kind == "tripped")


def test_an_ion_current_measured_at_another_preset_says_nothing(fib: Bench) -> None:
    mill = {"ion__beam_on": (False, ""), "ion__preset": ("30 kV; 3 nA", "")}
    fib.run(0.3, **mill, ion__current=(3e-9, "A"))
    fib.arm()
    fib.ask("call", "guard.set_step", step="image")
    with pytest.raises(Interlocked, match="ion current 3 nA"):
        fib.ask("call", "ion.turn_on")
    fib.run(0.2, **mill | {"ion__preset": ("30 kV; 10 pA", "")})
    fib.ask("call", "ion.turn_on")
    fib.run(0.1, ion__current=(0.2e-9, "A"))  # measured now: more than the preset is known for
    with pytest.raises(Interlocked, match="ion current 200 pA"):
        fib.ask("call", "ion.turn_on")


def test_the_largest_ion_current_there_can_be_is_told_as_a_number(fib: Bench) -> None:
    fib.run(0.3, ion__beam_on=(True, ""), ion__preset=("30 kV; 10 pA", ""))
    fib.ask("call", "guard.set_step", step="image")
    fib.run(0.1, ion__current=(1e308, "A"))
    assert math.isfinite(fib.ask("snapshot")["ion.step_excess"])


def test_an_ion_current_nobody_knows_trips_while_the_beam_is_on(fib: Bench) -> None:
    off = {"ion__beam_on": (False, ""), "ion__preset": ("30 kV; 10 pA", "")}
    fib.run(0.3, **off)
    fib.arm()
    fib.ask("call", "guard.set_step", step="image")
    assert fib.run(0.2, ion__beam_on=(True, ""), ion__preset=(None, "")) == ["ion"]
