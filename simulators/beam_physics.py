"""The electron column, the ion column and the Faraday cup they fall into."""

import math
from typing import Literal

import numpy as np

from coldframe.simulators.journal import Journal
from coldframe.simulators.truth import BeamTruth, CupTruth, IonTruth
from coldframe.units import ELECTRONS_PER_COULOMB


def dose_rate(current: float, diameter: float) -> float:
    """Electrons per square angstrom and second of `current` A in a disc of `diameter` m."""
    radius = diameter / 2 * 1e10
    return current * ELECTRONS_PER_COULOMB / (math.pi * radius * radius)


class SlowDrift:
    """A smooth wander between -1 and 1 that depends on time alone, not on how it was stepped."""

    def __init__(self, period: float, random: np.random.Generator) -> None:
        self._rates = 2 * math.pi / (period * np.array([1.0, 0.43, 0.17]))
        self._phases = random.uniform(0, 2 * math.pi, 3)
        self._weights = np.array([0.6, 0.3, 0.1])

    def at(self, t: float) -> float:
        """The wander at lab time `t`."""
        return float(np.dot(self._weights, np.sin(self._rates * t + self._phases)))


class Column:
    """What both columns are: a voltage, on or off, and a current that drifts."""

    name = "beam"

    def __init__(
        self, truth: BeamTruth | IonTruth, journal: Journal, random: np.random.Generator, on: bool
    ) -> None:
        self._journal = journal
        self._drift = SlowDrift(truth.drift_period, random)
        self.kv = truth.kv
        self.factor = 1.0
        self._on = on

    @property
    def on(self) -> bool:
        """Whether the high voltage and the source are on."""
        return self._on

    @on.setter
    def on(self, on: bool) -> None:
        if on != self._on:
            self._journal.note(f"{self.name} on" if on else f"{self.name} off")
        self._on = on


class ElectronBeam(Column):
    """An electron column whose blanker acts a little later than it was told."""

    def __init__(self, truth: BeamTruth, journal: Journal, random: np.random.Generator) -> None:
        super().__init__(truth, journal, random, truth.on)
        self._truth = truth
        self.magnification = truth.magnification
        self.blanker_latency = truth.blanker_latency
        self.screen_down = False
        self.stuck = False
        self._spot = truth.spot
        self._set_current: float | None = None
        self._commanded = True
        self._blanked_now = True
        self._pending: list[tuple[float, bool]] = []

    @property
    def spot(self) -> int:
        """Spot number 1 (brightest) to 8; choosing one gives up a directly set current."""
        return self._spot

    @spot.setter
    def spot(self, number: int) -> None:
        if not 1 <= number <= len(self._truth.currents):
            raise ValueError(f"spot {number}: the column has 1 to {len(self._truth.currents)}")
        self._spot = number
        self._set_current = None

    def set_current(self, amperes: float) -> None:
        """Set the probe current itself, as a scanning column does."""
        if not 0 <= amperes <= 1e-6:
            raise ValueError(f"probe current {amperes} A: 0 to 1e-6 A")
        self._set_current = amperes

    @property
    def current(self) -> float:
        """The true probe current in A, before the blanker; 0 when the column is off."""
        return self.current_at(self._journal.now)

    def current_at(self, t: float) -> float:
        """The true probe current at lab time `t`, slow drift included."""
        if not self.on:
            return 0.0
        if self._set_current is None:
            scale = self.kv / self._truth.reference_kv
            nominal = self._truth.currents[self._spot - 1] * scale
        else:
            nominal = self._set_current
        return nominal * self.factor * (1 + self._truth.drift * self._drift.at(t))

    @property
    def diameter(self) -> float:
        """Diameter of the illuminated disc in m."""
        scale = self._truth.reference_magnification / self.magnification
        return self._truth.reference_diameter * scale

    @property
    def zoom(self) -> float:
        """Magnification in units of the reference magnification."""
        return self.magnification / self._truth.reference_magnification

    @property
    def blanked(self) -> bool:
        """What the blanker was last told; the beam follows after the latency."""
        return self._commanded

    @blanked.setter
    def blanked(self, blank: bool) -> None:
        if blank == self._commanded:
            return
        self._commanded = blank
        self._pending.append((self._journal.now + self.blanker_latency, blank))

    @property
    def blanked_now(self) -> bool:
        """Where the beam really is."""
        return self._blanked_now

    @property
    def beam_out(self) -> bool:
        """Whether electrons leave the column."""
        return self.on and not self._blanked_now

    @property
    def dose_rate(self) -> float:
        """True dose rate in e/A2/s where the beam lands; 0 when blanked or off."""
        return self.dose_rate_at(self._journal.now)

    def dose_rate_at(self, t: float) -> float:
        """True dose rate at lab time `t` in the present state."""
        return dose_rate(self.current_at(t), self.diameter) if self.beam_out else 0.0

    def next_change(self) -> float | None:
        """Lab time at which the blanker acts next."""
        return self._pending[0][0] if self._pending else None

    def apply_changes(self) -> None:
        """Let the blanker act if its time has come."""
        while self._pending and self._pending[0][0] <= self._journal.now:
            when, blank = self._pending.pop(0)
            if self.stuck or blank == self._blanked_now:
                continue
            self._blanked_now = blank
            self._journal.note("beam blanked" if blank else "beam unblanked", at=when)

    def stick_blanker(self) -> None:
        """Begin the fault of a stuck blanker."""
        self.stuck = True

    def free_blanker(self) -> None:
        """End the fault of a stuck blanker; it goes where it was last told."""
        self.stuck = False
        if self._blanked_now != self._commanded and not self._pending:
            self._pending.append((self._journal.now + self.blanker_latency, self._commanded))


class IonBeam(Column):
    """An ion column. While it scans it mills the specimen; parked, it falls into the cup."""

    name = "ion beam"

    def __init__(self, truth: IonTruth, journal: Journal, random: np.random.Generator) -> None:
        super().__init__(truth, journal, random, False)
        self._truth = truth
        self.species = truth.species
        self.presets = dict(truth.presets)
        self._preset = truth.preset
        self._scanning = False
        self.ions = 0.0
        self.removed_volume = 0.0

    @property
    def preset(self) -> str:
        """The name of the chosen preset."""
        return self._preset

    @preset.setter
    def preset(self, name: str) -> None:
        if name not in self.presets:
            raise ValueError(f"ion preset {name!r}: known are {', '.join(self.presets)}")
        self._preset = name

    @property
    def scanning(self) -> bool:
        """Whether the beam moves over the specimen."""
        return self._scanning

    @scanning.setter
    def scanning(self, scanning: bool) -> None:
        if scanning != self._scanning:
            self._journal.note("ion scan started" if scanning else "ion scan stopped")
        self._scanning = scanning

    @property
    def current(self) -> float:
        """True ion current in A; 0 when the column is off."""
        if not self.on:
            return 0.0
        drift = self._truth.drift * self._drift.at(self._journal.now)
        return self.presets[self._preset] * self.factor * (1 + drift)

    def step(self, dt: float, loaded: bool) -> None:
        """Count ions and removed volume of `dt` seconds on a loaded specimen."""
        if self._scanning and loaded:
            charge = self.current * dt
            self.ions += charge * ELECTRONS_PER_COULOMB
            self.removed_volume += charge * self._truth.removal


class FaradayCup:
    """The cup at the picoammeter: under the screen of the TEM, or where the ion beam parks."""

    def __init__(
        self, truth: CupTruth, beam: ElectronBeam, ion: IonBeam, noise: np.random.Generator
    ) -> None:
        self._truth = truth
        self._beam = beam
        self._ion = ion
        self._noise = noise
        self.source: Literal["electron", "ion"] = "electron"

    def current(self) -> float:
        """The current into the picoammeter in A, with the offset and noise of cable and cup.

        Current is counted as positive charge: electrons that fall in are a negative one, ions a
        positive one.
        """
        caught = 0.0
        if self.source == "ion":
            if self._ion.on and not self._ion.scanning:
                caught = self._ion.current
        elif self._beam.beam_out and self._beam.screen_down:
            caught = -self._beam.current * self._truth.efficiency
        noise = self._truth.noise * float(self._noise.standard_normal())
        return caught + self._truth.offset + noise
