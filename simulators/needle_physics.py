"""The needle of the biasing holder: inertial coarse steps, a fine piezo, no position to read."""

import math

import numpy as np

from coldframe.simulators.journal import Journal
from coldframe.simulators.particle import Particle
from coldframe.simulators.stage_physics import ColdStage
from coldframe.simulators.truth import NeedleTruth

APPROACH = 3


class Needle:
    """A needle on three axes; 1 and 2 lateral, 3 towards the particle when positive."""

    def __init__(
        self,
        truth: NeedleTruth,
        journal: Journal,
        stage: ColdStage,
        particle: Particle,
        random: np.random.Generator,
    ) -> None:
        self._truth = truth
        self._journal = journal
        self._stage = stage
        self._particle = particle
        self._random = random
        self._volts = {1: 0.0, 2: 0.0, 3: 0.0}
        self._coarse = {1: truth.miss[0], 2: truth.miss[1], 3: -truth.gap}
        self.contact = False

    @property
    def gap(self) -> float:
        """Distance to the particle in m along the approach; negative when pressed into it."""
        return -self._at(APPROACH)

    @property
    def miss(self) -> float:
        """Lateral distance of the needle's axis from the particle's centre in m."""
        return math.hypot(self._at(1), self._at(2))

    @property
    def lateral(self) -> tuple[float, float]:
        """Where the needle's axis is beside the particle's centre in m."""
        return self._at(1), self._at(2)

    def reload(self, particle: Particle) -> None:
        """A person put in another specimen: the needle starts far away, its voltages as set."""
        if self.contact:
            self._journal.note("contact lost", "specimen removed")
        self.contact = False
        self._particle = particle
        wanted = {1: self._truth.miss[0], 2: self._truth.miss[1], 3: -self._truth.gap}
        self._coarse = {axis: wanted[axis] - self._fine(axis) for axis in wanted}

    def step(self, axis: int, n: int, volts: float) -> None:
        """Make `n` inertial steps (negative: back) of `volts` V on `axis`."""
        self._check(axis)
        length = self._truth.step * max(volts - self._truth.threshold, 0.0) * self._cold()
        if n == 0 or length == 0:
            return
        length *= 1 + math.copysign(self._truth.asymmetry, n)
        scatter = self._truth.scatter * length * math.sqrt(abs(n))
        self._coarse[axis] += n * length + scatter * float(self._random.standard_normal())
        self.settle()

    def set_offset(self, axis: int, volts: float) -> None:
        """Set the fine piezo of `axis` to `volts` V."""
        self._check(axis)
        self._volts[axis] = min(max(volts, 0.0), self._truth.fine_limit)
        self.settle()

    def slip(self, metres: float) -> None:
        """The needle jumps back by itself."""
        self._coarse[APPROACH] -= metres
        self.settle()

    def _check(self, axis: int) -> None:
        if axis not in self._coarse:
            raise ValueError(f"axis {axis}: the needle has 1, 2 (lateral) and 3 (approach)")

    def _cold(self) -> float:
        """Piezo strain falls to about a quarter between ambient and liquid nitrogen."""
        share = (self._stage.temperature - 77.36) / (293.15 - 77.36)
        return 0.25 + 0.75 * min(max(share, 0.0), 1.2)

    def _fine(self, axis: int) -> float:
        return self._truth.fine * self._volts[axis] * self._cold()

    def _at(self, axis: int) -> float:
        return self._coarse[axis] + self._fine(axis)

    def settle(self) -> None:
        """Touch or let go, where the needle now is."""
        aligned = self._particle.present and self.miss < self._particle.radius
        if aligned and self.gap < -self._truth.bend:
            self._coarse[APPROACH] -= -self.gap - self._truth.bend
            self._journal.note("needle bent")
        reach = self._truth.adhesion if self.contact else 0.0
        touching = aligned and self.gap <= reach
        if touching != self.contact:
            self.contact = touching
            self._journal.note("contact" if touching else "contact lost")
