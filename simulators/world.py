"""The one physical world that all simulated instruments of a lab share.

It has no clock of its own: `step(dt)` moves it, with exact cut-offs for the blanker and substeps
where something is fast, and the same seed and the same steps give the same world.  Instruments
read and set its parts as their wires would let them; `truth()` counts what no instrument can read.
"""

from typing import Any

import numpy as np

from coldframe.simulators.beam_physics import ElectronBeam, FaradayCup, IonBeam
from coldframe.simulators.camera_physics import Camera
from coldframe.simulators.cell import LiponCell
from coldframe.simulators.circuit import BiasCircuit
from coldframe.simulators.hazards import Hazards
from coldframe.simulators.journal import Event, Journal
from coldframe.simulators.needle_physics import Needle
from coldframe.simulators.particle import Particle
from coldframe.simulators.stage_physics import ColdStage
from coldframe.simulators.truth import ParticleTruth, Truth
from coldframe.simulators.xray_physics import XrayDetector
from coldframe.units import ELECTRONS_PER_COULOMB

SPECIMENS = ("empty", "lamella", "particle_5nm", "particle_10nm")
LONGEST_STEP = 10.0  # s, while beam, bias and kinetics see a temperature that moves
REACTING_STEP = 1.0  # s, while lithium may move

__all__ = ["Event", "Truth", "World"]


class World:
    """A stage, two beams, a needle, two electrochemical circuits, a camera and a detector."""

    def __init__(self, truth: Truth | None = None, *, seed: int = 0) -> None:
        self._truth = truth or Truth()
        self._journal = Journal()
        randoms = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(9)]
        self.specimen = "empty"
        self.particle = self._new_particle("empty")
        self.stage = ColdStage(self._truth.stage, self._journal, randoms[0])
        self.beam = ElectronBeam(self._truth.beam, self._journal, randoms[1])
        self.ion = IonBeam(self._truth.ion, self._journal, randoms[2])
        self.cup = FaradayCup(self._truth.cup, self.beam, self.ion, randoms[3])
        self.needle = Needle(
            self._truth.needle, self._journal, self.stage, self.particle, randoms[4]
        )
        self.circuit = BiasCircuit(
            self._truth.circuit,
            self._journal,
            self.stage,
            self.needle,
            self.particle,
            randoms[5],
        )
        self.cell = LiponCell(self._truth.cell, self._journal, self.stage, randoms[6])
        self.camera = Camera(
            self._truth.camera, self._journal, self.beam, self.needle, self.particle, randoms[7]
        )
        self.xray = XrayDetector(self._truth.xray, self.beam, randoms[8])
        self._hazards = Hazards(
            self._journal, self.stage, self.beam, self.ion, self.needle, self.circuit
        )
        self.fluence = 0.0
        self.electrons = 0.0
        self.beam_seconds = 0.0
        self.warm_beam_seconds = 0.0

    @property
    def now(self) -> float:
        """Lab seconds since the world began."""
        return self._journal.now

    @property
    def events(self) -> list[Event]:
        """What happened, in the order in which it was found."""
        return self._journal.events

    def load(self, specimen: str) -> None:
        """A person changes the specimen; particle, needle and dose counters begin anew."""
        if specimen not in SPECIMENS:
            raise ValueError(f"specimen {specimen!r}: known are {', '.join(SPECIMENS)}")
        self.specimen = specimen
        self.particle = self._new_particle(specimen)
        self.needle.reload(self.particle)
        self.circuit.reload(self.particle)
        self.camera.reload(specimen, self.particle)
        self.xray.specimen = specimen
        self.fluence = self.electrons = self.beam_seconds = self.warm_beam_seconds = 0.0
        self.ion.ions = self.ion.removed_volume = 0.0
        self.stage.ice = 0.0
        self.stage.forget_peak()
        self._journal.note("specimen loaded", specimen)

    def step(self, dt: float) -> None:
        """Move the world on by `dt` seconds."""
        if dt < 0:
            raise ValueError(f"step of {dt} s: time does not run back")
        end = self.now + dt
        self.beam.apply_changes()
        while self.now < end:
            until = min(end, self.now + self._longest())
            change = self.beam.next_change()
            if change is not None:
                until = min(until, max(change, self.now))
            self._advance(until)
            self.beam.apply_changes()

    def truth(self) -> dict[str, Any]:
        """The world's own counters, as JSON would carry them."""
        return {
            "now": self.now,
            "specimen": self.specimen,
            "fluence": self.fluence,  # e/A2 on the specimen
            "electrons": self.electrons,  # that fell on the specimen's side of the beam
            "dose_rate": self.beam.dose_rate,
            "blanked": self.beam.blanked_now,
            "beam_current": self.beam.current,
            "beam_seconds": self.beam_seconds,
            "warm_beam_seconds": self.warm_beam_seconds,  # beam on specimen above the warm limit
            "ions": self.ion.ions,
            "removed_volume": self.ion.removed_volume,
            "temperature": self.stage.temperature,
            "peak_temperature": self.stage.peak_temperature,
            "ln2_litres": self.stage.ln2_litres,
            "ln2_used": self.stage.ln2_used,
            "ice": self.stage.ice,
            "gap": self.needle.gap,
            "contact": self.needle.contact,
            "circuit_voltage": self.circuit.voltage,
            "circuit_charge": self.circuit.charge,
            "particle_charge": self.particle.charge,
            "area_ratio": self.particle.area_ratio,
            "core_ratio": self.particle.core_ratio,
            "broken": self.particle.broken,
            "broke_at": self.particle.broke_at,
            "cell_charge": self.cell.charge,
            "cell_resistance": self.cell.resistance,
            "events": [{"t": e.t, "name": e.name, "detail": e.detail} for e in self.events],
        }

    def inject(self, hazard: str, **values: float) -> None:
        """Let something go wrong; an unknown hazard value is a ValueError that lists them."""
        self._hazards.inject(hazard, values)

    def _new_particle(self, specimen: str) -> Particle:
        kinds: dict[str, ParticleTruth] = {"particle_10nm": self._truth.particle_10nm}
        kind = kinds.get(specimen, self._truth.particle_5nm)
        return Particle(kind, self._journal, present=specimen.startswith("particle"))

    def _longest(self) -> float:
        """The longest substep that the present state allows."""
        if self.needle.contact:
            return REACTING_STEP
        if self.beam.beam_out or self.ion.scanning or self.cell.mode != "open":
            return LONGEST_STEP
        return 600.0

    def _advance(self, until: float) -> None:
        h = until - self.now
        if h <= 0:
            self._journal.now = until
            return
        loaded = self.specimen != "empty"
        if self.beam.beam_out and loaded:
            middle = self.now + h / 2
            self.fluence += self.beam.dose_rate_at(middle) * h
            self.electrons += self.beam.current_at(middle) * ELECTRONS_PER_COULOMB * h
            self.beam_seconds += h
            if self.stage.temperature > self._truth.stage.warm_limit:
                self.warm_beam_seconds += h
        self.circuit.beam_current = self.beam.current if self.beam.beam_out and loaded else 0.0
        self.ion.step(h, loaded)
        self.needle.settle()
        self.circuit.step(h)
        self.cell.step(h)
        self.stage.step(h)
        self._journal.now = until
