"""A silicon particle in a TiO2 shell, which takes up lithium and swells.

The outline's area grows linearly in time at a given overpotential, as published: 2.0 in 120 s under
5 nm of shell, 1.2 in 144 s under 10 nm, whose shell breaks at 120 s.  The shell keeps its volume,
so the core grows more than the outline: 2.28 when the outline reaches 2.0.
"""

import math

from coldframe.simulators.journal import Journal
from coldframe.simulators.truth import ParticleTruth

BOLTZMANN = 8.617333e-5  # eV/K


class Particle:
    """The particle under the needle; `present` is false when the holder carries none."""

    def __init__(self, truth: ParticleTruth, journal: Journal, *, present: bool) -> None:
        self._truth = truth
        self._journal = journal
        self.present = present
        self.area_ratio = 1.0
        self.broken = False
        self.broke_at: float | None = None

    @property
    def radius(self) -> float:
        """Radius of the outline (core and shell) in m."""
        return self._outline * math.sqrt(self.area_ratio)

    @property
    def core_radius(self) -> float:
        """Radius of the silicon core in m, from the shell's constant volume."""
        shell = self._outline**3 - self._truth.core_radius**3
        return math.cbrt(self.radius**3 - shell)

    @property
    def core_ratio(self) -> float:
        """Area of the core over its first area."""
        return (self.core_radius / self._truth.core_radius) ** 2

    @property
    def charge(self) -> float:
        """Lithium taken up so far, in C (positive)."""
        return self._charge(self.area_ratio)

    @property
    def rest_potential(self) -> float:
        """Open-circuit potential of the particle against lithium in V."""
        return self._truth.rest_potential

    @property
    def onset_potential(self) -> float:
        """Potential in V above which no lithium goes in."""
        return self._truth.rest_potential - self._truth.onset

    def rate(self, volts: float, kelvin: float) -> float:
        """Growth of the area ratio in 1/s at `volts` (Si against Li), if it is touched."""
        if not self.present or self.area_ratio >= self._truth.plateau:
            return 0.0
        drive = self._truth.rest_potential - volts - self._truth.onset
        if drive <= 0:
            return 0.0
        share = drive / (self._truth.full - self._truth.onset)
        return self._truth.rate * share * self._arrhenius(kelvin)

    def current(self, volts: float, kelvin: float) -> float:
        """Lithium current into the particle in A at `volts`, if it is touched (positive)."""
        slope = 1.5 * math.sqrt(self.area_ratio) / (2**1.5 - 1) * self._truth.capacity
        return slope * self.rate(volts, kelvin)

    def grow(self, volts: float, kelvin: float, dt: float, at: float) -> float:
        """Take up lithium for `dt` seconds from lab time `at`; return the charge in C."""
        rate = self.rate(volts, kelvin)
        if rate == 0:
            return 0.0
        before = self.area_ratio
        self.area_ratio = min(before + rate * dt, self._truth.plateau)
        crack = self._truth.breaks_at
        if crack is not None and not self.broken and self.area_ratio >= crack:
            self.broken = True
            self.broke_at = at + max(crack - before, 0.0) / rate
            self._journal.note("coating broke", f"area ratio {crack:.3f}", at=self.broke_at)
        if self.area_ratio >= self._truth.plateau:
            when = at + (self._truth.plateau - before) / rate
            self._journal.note("plateau", f"area ratio {self.area_ratio:.3f}", at=when)
        return self._charge(self.area_ratio) - self._charge(before)

    @property
    def _outline(self) -> float:
        return self._truth.core_radius + self._truth.coating

    def _charge(self, area_ratio: float) -> float:
        return self._truth.capacity * (area_ratio * math.sqrt(area_ratio) - 1) / (2**1.5 - 1)

    def _arrhenius(self, kelvin: float) -> float:
        span = 1 / self._truth.reference_temperature - 1 / max(kelvin, 1.0)
        return math.exp(self._truth.activation / BOLTZMANN * span)
