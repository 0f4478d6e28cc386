"""`coldframe demo`: a simulated cryo-TEM biasing experiment, start to finish, through real sockets.

A service of its own is started on free ports, in a run folder of its own; nothing else on the
machine is touched. This module plays the *person*: it enables, acknowledges, changes the specimen,
and makes one hazard real. What is measured comes from the instruments; what is true comes from the
world, and is only printed beside it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import coldframe
from coldframe.client import Lab
from coldframe.daemon.children import Child, end_all
from coldframe.daemon.configuration import CONFIG
from coldframe.daemon.picture import draw
from coldframe.daemon.plan import FILE, Plan
from coldframe.daemon.show import Out, Sheet
from coldframe.daemon.simulation import TruthPort
from coldframe.errors import ColdframeError, Interlocked, NotReady
from coldframe.units import show

COLD, TRIP, AMBIENT = 350.0, 5.0, 4.0  # lab seconds in a second: cooling, the fault, act two
EXPECTED = {"particle_5nm": 2.0, "particle_10nm": 1.2}  # A/A0: docs/explanation/sources.md
PERSON = "the demonstration"
ATTEMPTS = 3
OUTPUTS = ("stage", "beam", "needle", "bias")


def run_demo(out: Path, speed: float, show_to: Out) -> int:
    """Run it all; files go to `out`. Ctrl-C at any moment ends with outputs safe, file closed."""
    out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, _as_interrupt)
    with tempfile.TemporaryDirectory(prefix="coldframe-demo-") as run_folder:
        lab_file = _lab_file(out)
        environment = {"RUNTIME_DIRECTORY": run_folder, "STATE_DIRECTORY": str(out)}
        arguments = ["serve", str(lab_file), "--json"]
        service = Child("service", arguments, environment, out / "service.log")
        try:
            plan = _wait_for(Path(run_folder), service, show_to)
            with coldframe.connect(plan.tcp(plan.hub)) as lab, TruthPort(plan.folder) as truth:
                story = Story(lab, truth, show_to, speed)
                story.act_one()
                story.act_two()
                session = story.finish()
        except KeyboardInterrupt:
            show_to.say("\nInterrupted: everything goes to its safe state, the file is closed.")
            return 1
        finally:
            end_all([service], 40.0)
    picture = draw(session, session.with_suffix(".png"))
    _summary(show_to, story, session, picture, time.monotonic() - began)
    return 0


class Story:
    """The person at the microscope, and what they note down."""

    def __init__(self, lab: Lab, truth: TruthPort, out: Out, speed: float):
        self.lab, self.truth, self.out, self._scale = lab, truth, out, speed
        self.refused = ""
        self.blanked_after: float | None = None
        self.measured: dict[str, dict[str, Any]] = {}
        self.dose: dict[str, float] = {}
        self.true: dict[str, dict[str, float]] = {}  # only printed beside what was measured
        self._session = Path()

    # act one: cold ----------------------------------------------------------------------

    def act_one(self) -> None:
        """Cool, calibrate, look at a lamella, be refused a cold bias, trip, recover."""
        lab = self.lab
        self.out.say("Act one, cold.")
        self._session = Path(lab.record_start("demonstration")["file"])
        lab.reset()  # a service starts with every rule in INIT: a person arms it
        for device in OUTPUTS:
            lab.enable(device)
        self._speed(COLD)
        self._run("cool down to -185 °C", "cool_down")
        self._speed(1)
        self._specimen_mode("none")  # the cup, no specimen in the beam yet
        self._run("calibrate the dose", "calibrate_dose")
        self._load("lamella")
        self._specimen_mode("cryo")
        self._look_at_lamella()
        self._cold_bias()
        self._excursion()

    def _look_at_lamella(self) -> None:
        """A dozen frames at 1 e⁻/Å²/s, and one EDS spectrum."""
        lab = self.lab
        lab.set("beam.spot", 6)
        lab.set("camera.exposure", 0.25)
        lab.set("camera.frames", 0)  # until it is stopped
        lab.set("eds.acquisition_time", 2.0)
        lab.call("beam.unblank")
        lab.call("camera.start")
        lab.call("eds.start")
        with self.out.progress("low-dose frames, cold") as bar:
            for number, (_, header) in enumerate(lab.frames("camera"), 1):
                rate = lab.get("beam.dose_rate")
                bar(number / 16, f"frame {header.seq}, {show(rate, 'e/Å^2/s')}")
                if number == 16:
                    break
        lab.call("eds.stop")
        self._note_dose("lamella")

    def _cold_bias(self) -> None:
        """Ask for 50 nA through the cold electrolyte; the guard must refuse, and says why."""
        self.lab.set("bias.current_limit", 50e-9)
        self.lab.set("bias.level", -2.0)
        try:
            self.lab.call("bias.output_on")
        except Interlocked as error:
            self.refused = str(error)
            self.out.say(f"A bias on the cold cell is refused: {self.refused}")
            return
        raise ColdframeError("the bias on the cold cell was not refused: do not trust this lab")

    def _excursion(self) -> None:
        """The nitrogen fails and the stage warms: the beam must go off, and stay off."""
        lab, truth = self.lab, self.truth
        self._speed(TRIP)
        begun = truth.now()
        truth.ask(do="inject", hazard="stage_warms", watts=40.0)
        with self.out.progress("the stage warms (a fault)") as bar:
            for reading in lab.watch("stage.temperature"):
                value = reading.value if isinstance(reading.value, float) else 0.0
                bar((value - 88.15) / 16.0, show(value, "K"))
                if not truth.ask(do="truth")["blanked"]:
                    continue
                events = [event for event in truth.events() if event[0] >= begun]
                warm = [t for t, name, _ in events if name == "stage above -170 degC"]
                if warm:
                    bar(1.0, f"{show(value, 'K')}: beam blanked")
                    break
                self._arm_again()  # not planned: a machine too busy to answer in time
                lab.call("beam.unblank")
        blanked = next(t for t, name, _ in events if name == "beam blanked" and t >= warm[0])
        self.blanked_after = (blanked - warm[0]) / (TRIP * self._scale)
        truth.ask(do="inject", hazard="stage_recovers")
        lab.call("camera.stop")
        self._speed(COLD)
        self._run("cold again", "cool_down", hold_s=60.0)
        self._arm_again()
        self._speed(1)

    # act two: ambient -------------------------------------------------------------------

    def act_two(self) -> None:
        """Warm under vacuum, then bias a particle of each coating until it stops growing."""
        self.out.say("Act two, ambient.")
        self._specimen_mode("ambient")
        self._warm()
        for specimen in EXPECTED:
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    self._particle(specimen)
                    break
                except ColdframeError as error:
                    if attempt == ATTEMPTS:
                        raise
                    self._recover(specimen, error)

    def _recover(self, specimen: str, error: ColdframeError) -> None:
        """On a busy machine an answer comes too late: what is not known counts as unsafe."""
        tripped = ", ".join(self._tripped()) or "nothing"
        self.out.say(f"Not planned ({tripped} tripped): {error}. Once more, with a new particle.")
        for _ in _turns(30.0):
            try:
                self.lab.call("beam.blank")
                self.lab.call("camera.stop")
                self._load(specimen)
                self._arm_again()
                self._warm()
                return
            except ColdframeError as again:
                error = again
        raise error

    def _warm(self) -> None:
        self._speed(AMBIENT)
        self._run("warm to +20 °C under vacuum", "warm_up", hold_s=15.0)

    def _particle(self, specimen: str) -> None:
        lab = self.lab
        self._load(specimen)
        name = f"{specimen[9:-2]} nm coating"
        lab.set("camera.exposure", 0.5)
        lab.set("beam.spot", 6)  # a search dose
        lab.call("beam.unblank")
        lab.call("camera.start")
        self._run(f"approach, {name}", "approach", operator=PERSON)
        lab.set("beam.spot", 4)  # 10 e⁻/Å²/s
        found = self._run(f"-2 V, {name}", "operando_biasing")
        lab.call("beam.blank")
        lab.call("camera.stop")
        self.measured[specimen] = found
        self._note_dose(specimen)

    def finish(self) -> Path:
        """Everything off, the file closed."""
        self.lab.record_stop()
        return self._session

    # ------------------------------------------------------------------------------------

    def _run(self, title: str, protocol: str, **arguments: Any) -> dict[str, Any]:
        with self.out.progress(title) as bar:
            result: dict[str, Any] = self.lab.run(protocol, report=bar, **arguments)
            bar(1.0, "done")
        return result

    def _load(self, specimen: str) -> None:
        """A person changes the specimen, and says so."""
        self.truth.ask(do="load", specimen=specimen)
        self.lab.call("guard.new_specimen", id=specimen)

    def _note_dose(self, specimen: str) -> None:
        self.dose[specimen] = float(self.lab.get("beam.dose"))
        self.true[specimen] = self.truth.ask(do="truth")

    def _tripped(self) -> list[str]:
        """The rules that have tripped, by the guard's own readings: guard.il_03 is IL-03."""
        readings = self.lab.snapshot("guard")["readings"]
        return [
            name.removeprefix("guard.").upper().replace("_", "-")
            for name, reading in readings.items()
            if str(reading["value"]).upper() == "TRIPPED"
        ]

    def _arm_again(self) -> None:
        """What a person does after a trip: acknowledge, arm, allow."""
        for rule in self._tripped():
            self.lab.ack(rule)
        self.lab.reset()
        for device in OUTPUTS:
            self.lab.enable(device)

    def _specimen_mode(self, mode: str) -> None:
        """A person says what is in; the rules that now apply are armed."""
        self.lab.call("guard.specimen_mode", mode=mode)
        self.lab.reset()

    def _speed(self, speed: float) -> None:
        self.lab.set("clock.speed", speed * self._scale)


def _lab_file(out: Path) -> Path:
    """The shipped laboratory, on free ports and with its sessions in `out`."""
    text = (CONFIG / "simulated.toml").read_text(encoding="utf-8")
    text = re.sub(r"^#:schema.*\n", "", text)
    ports = "[service]\nhub = 0\nstreams = 0\nguard = 0\n"
    record = f"[record]\nfolder = {json.dumps(str(out.resolve()))}\nreserve_mb = 200\n"
    path = out / "simulated.toml"
    path.write_text(f"{text}\n{ports}\n{record}", encoding="utf-8")
    return path


def _wait_for(run_folder: Path, service: Child, out: Out) -> Plan:
    """The plan of the service, once it serves."""
    with out.progress("start the laboratory") as bar:
        for turn in _turns(90.0):
            bar(min(turn / 20.0, 0.95), "simulators, guard, hosts")
            if not service.alive():
                raise NotReady("the service did not start: see service.log beside the session")
            if (run_folder / FILE).exists():
                plan = Plan.read(run_folder / FILE)
                if _serves(plan):
                    bar(1.0, f"serving at {plan.tcp(plan.hub)}")
                    return plan
    raise NotReady("the service did not become ready in 90 s")


def _serves(plan: Plan) -> bool:
    try:
        with coldframe.connect(plan.tcp(plan.hub), timeout=1.0) as lab:
            found = lab.command("describe")
            there = {device["device"] for device in lab.describe()}
            lab.command("record", "status")  # NotReady until there is a recorder
            return set(found["expected"]) <= there
    except ColdframeError:
        return False


def _turns(seconds: float) -> Iterator[float]:
    start = time.monotonic()
    while (elapsed := time.monotonic() - start) < seconds:
        yield elapsed
        time.sleep(0.1)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _summary(out: Out, story: Story, session: Path, picture: Path, seconds: float) -> None:
    rows = []
    for specimen, found in story.measured.items():
        rows.append(
            [
                f"areal expansion A/A0, {specimen[9:-2]} nm coating",
                f"{found['area_ratio']:.3f} ± {found['area_ratio_sigma']:.3f}",
                f"{story.true[specimen]['area_ratio']:.3f}",
                f"{EXPECTED[specimen]:.1f}",
            ]
        )
    for specimen, dose in story.dose.items():
        true = f"{story.true[specimen]['fluence']:.0f}"
        rows.append([f"dose, {specimen} (e⁻/Å², upper bound)", f"{dose:.0f}", true, ""])
    if story.blanked_after is not None:
        took = f"{1000 * story.blanked_after:.0f} ms"
        rows.append(["-170 °C crossed → beam blanked", "", took, ""])
    rows.append(["the demonstration took", f"{seconds:.0f} s", "", ""])
    heads = ["quantity", "measured", "true, in the simulated world", "published"]
    out.tables([Sheet("What came out", heads, rows)])
    out.say(f"\nsession  {session}\npicture  {picture}\n\nTry next:")
    activate = Path(sys.executable).with_name("activate")
    if shutil.which("coldframe") is None and activate.exists():
        out.say(f"  . {os.path.relpath(activate)}")
    for command in ("info", "verify", "replay"):
        out.say(f"  coldframe {command} {os.path.relpath(session)}")
    out.say("  coldframe check config/simulated.toml")
    out.say("  coldframe serve config/simulated.toml    and, elsewhere:  coldframe status")
