"""A thin-film lithium cell with LiPON electrolyte, whose resistance explodes in the cold.

R(T) = t / (sigma(T) A), sigma T = const exp(-Ea / kT).  -50 nA through 3.7 um and 4 mm2 cost
0.19 mV at +25 C, 0.18 V at -50 C and 13.6 V at -80 C.  Sign: positive current is oxidation of the
working electrode and raises its potential.
"""

import math

import numpy as np

from coldframe.simulators.circuit import SMALLEST_LIMIT, Mode
from coldframe.simulators.journal import Journal
from coldframe.simulators.particle import BOLTZMANN
from coldframe.simulators.stage_physics import ColdStage
from coldframe.simulators.truth import CellTruth

REFERENCE = 298.15  # K
FINE_STEP = 1e-3  # s, just after the drive changed
COARSE_STEP = 5.0  # s, long after
GROWTH = 1.3


class LiponCell:
    """The cell at the potentiostat's leads; it sits on the stage and has its temperature."""

    def __init__(
        self, truth: CellTruth, journal: Journal, stage: ColdStage, noise: np.random.Generator
    ) -> None:
        self._truth = truth
        self._journal = journal
        self._stage = stage
        self._noise = noise
        self.mode: Mode = "open"
        self.voltage = truth.open_circuit
        self.current = 0.0
        self.charge = 0.0
        self.in_compliance = False
        self._eta = 0.0
        self._value = 0.0
        self._limit = 1e-3
        self._substep = FINE_STEP

    @property
    def resistance(self) -> float:
        """Ionic resistance in ohm at the stage's temperature."""
        kelvin = max(self._stage.temperature, 20.0)
        span = 1 / kelvin - 1 / REFERENCE
        sigma = self._truth.conductivity * REFERENCE / kelvin
        sigma *= math.exp(-self._truth.activation / BOLTZMANN * span)
        return self._truth.thickness / (sigma * self._truth.area)

    @property
    def open_circuit(self) -> float:
        """Equilibrium voltage in V at the present state of charge."""
        return self._truth.open_circuit + self._truth.swing * self.charge / self._truth.capacity

    def drive(self, mode: Mode, value: float = 0.0, limit: float | None = None) -> None:
        """Connect the instrument; modes as `BiasCircuit.drive`; no limit means 1 mA, 5 V."""
        if mode not in ("open", "voltage", "current", "off_normal"):
            raise ValueError(f"cell mode {mode!r}: open, voltage, current, off_normal")
        if mode == "off_normal":
            value, limit = 0.0, 1e-3
        if limit is None:
            limit = 5.0 if mode == "current" else 1e-3
        if (mode, value) != (self.mode, self._value):
            word = "cell open" if mode == "open" else "cell driven"
            self._journal.note(word, mode if mode == "open" else f"{mode} {value:g}")
        self.mode, self._value, self._limit = mode, value, max(limit, SMALLEST_LIMIT)
        self._substep = FINE_STEP
        self._observe(self._current_at(self._eta, self.resistance))

    def read(self) -> tuple[float, float]:
        """What the instrument measures now: volts and amperes with noise."""
        volts = self.voltage + self._truth.voltage_noise * float(self._noise.standard_normal())
        amps = self.current + self._truth.current_noise * float(self._noise.standard_normal())
        return volts, amps

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds: at rest in one step, finely just after the drive changed."""
        if self.mode == "open" and abs(self._eta) < 1e-6:
            self._observe(0.0)
            return
        done = 0.0
        while done < dt - 1e-12:
            h = min(self._substep, dt - done)
            self._advance(h)
            self._substep = min(self._substep * GROWTH, COARSE_STEP)
            done += h

    def _advance(self, h: float) -> None:
        """One implicit step of the double layer: C d(eta)/dt = I - I0 sinh(eta / slope)."""
        stiffness = self._truth.double_layer / h
        start, ohms = self._eta, self.resistance
        span = 60.0 * self._truth.slope
        low, high, eta = -span, span, start
        for _ in range(100):
            # Rises with eta, so that its root is single and bracketed.
            excess = stiffness * (eta - start) + self._faradaic(eta) - self._current_at(eta, ohms)
            low, high = (low, eta) if excess > 0 else (eta, high)
            steepness = stiffness + self._steepness(eta) + self._feedback(ohms)
            guess = eta - excess / steepness
            guess = guess if low < guess < high else (low + high) / 2
            if abs(guess - eta) < 1e-12:
                break
            eta = guess
        self._eta = eta
        self._observe(self._current_at(eta, ohms))
        self.charge += self.current * h

    def _faradaic(self, eta: float) -> float:
        return self._truth.exchange * math.sinh(eta / self._truth.slope)

    def _steepness(self, eta: float) -> float:
        return self._truth.exchange / self._truth.slope * math.cosh(eta / self._truth.slope)

    def _feedback(self, ohms: float) -> float:
        return 1 / ohms if self.mode in ("voltage", "off_normal") else 0.0

    def _current_at(self, eta: float, ohms: float) -> float:
        rest = self.open_circuit + eta
        if self.mode == "open":
            return 0.0
        if self.mode == "current":
            least, most = (-self._limit - rest) / ohms, (self._limit - rest) / ohms
            return min(max(self._value, least), most)
        return min(max((self._value - rest) / ohms, -self._limit), self._limit)

    def _observe(self, current: float) -> None:
        self.current = current
        self.voltage = self.open_circuit + self._eta + current * self.resistance
        if self.mode == "current":
            self.in_compliance = not math.isclose(current, self._value, rel_tol=1e-9, abs_tol=1e-18)
        elif self.mode == "open":
            self.in_compliance = False
        else:
            self.in_compliance = abs(current) >= self._limit
