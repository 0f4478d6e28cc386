"""The bias circuit: a source-measure unit, its cable, a needle, and the particle at its tip.

Sign: voltage is that of the silicon against the lithium needle, positive current is oxidation of
the silicon.  Lithiation is therefore a negative current, and the source's 2 V are -2 V here.

What the world makes of it, all from resistances and capacitances in `CircuitTruth`:

* The particle takes 10.3 pC in all, at most about 0.1 pA at a time; whatever pulls its potential
  below 1.5 V lithiates it, at 0 V with 0.43 of the rate of -2 V (2.2 pC in the first minute).
* A sensing meter of 10 Gohm would pass 2.5 V / 10 Gohm = 0.25 nC/s from a cell that could give
  it. This one cannot: it falls to below 1 mV and lithiates as if at 0 V. So does a discharged
  cable of 100 pF, which 10.3 pC lift by 0.1 V only. No electrical contact test is harmless.
* Open means a relay at the holder: 0.1 pF and 1 Pohm stay on the needle, less than 0.5 pC pass,
  and the needle finds the rest potential. Set `open_farads` to the cable's for a lab without it.
"""

import math
from typing import Literal, get_args

import numpy as np

from coldframe.simulators.journal import Journal
from coldframe.simulators.needle_physics import Needle
from coldframe.simulators.particle import Particle
from coldframe.simulators.stage_physics import ColdStage
from coldframe.simulators.truth import CircuitTruth

Mode = Literal["open", "voltage", "current", "off_normal"]
FINE_STEP = 0.02  # s, while a potential moves
NEAR = 0.01  # V from the onset at which lithium has all but stopped
SMALLEST_LIMIT = 1e-15  # A


class BiasCircuit:
    """What the source-measure unit is connected to."""

    def __init__(
        self,
        truth: CircuitTruth,
        journal: Journal,
        stage: ColdStage,
        needle: Needle,
        particle: Particle,
        noise: np.random.Generator,
    ) -> None:
        self._truth = truth
        self._journal = journal
        self._stage = stage
        self._needle = needle
        self._particle = particle
        self._noise = noise
        self.mode: Mode = "off_normal"
        self.voltage = 0.0
        self.current = 0.0
        self.charge = 0.0
        self.in_compliance = False
        self.beam_current = 0.0
        self.short_ohms = math.inf
        self._value = 0.0
        self._limit = SMALLEST_LIMIT

    def reload(self, particle: Particle) -> None:
        """A person put in another specimen."""
        self._particle = particle
        self.charge = 0.0

    def drive(self, mode: Mode, value: float = 0.0, limit: float | None = None) -> None:
        """Connect the instrument.

        "open": relay open. "voltage": `value` V, at most `limit` A. "current": `value` A, at
        most `limit` V. "off_normal": 0 V at low impedance, how an SMU is off unless told otherwise.
        Without a limit it is what a 2450 wakes with: 105 uA, 2 V.
        """
        if mode not in get_args(Mode):
            raise ValueError(f"circuit mode {mode!r}: {', '.join(get_args(Mode))}")
        if mode == "off_normal":
            value, limit = 0.0, 1.05e-4
        if limit is None:
            limit = 2.0 if mode == "current" else 1.05e-4
        if (mode, value) != (self.mode, self._value):
            word = "circuit open" if mode == "open" else "circuit driven"
            unit = {"voltage": f" {value:g} V", "current": f" {value:g} A"}.get(mode, "")
            self._journal.note(word, f"{mode}{unit}")
        self.mode, self._value, self._limit = mode, value, max(limit, SMALLEST_LIMIT)
        self.in_compliance = False
        if mode == "open":
            self.current = 0.0

    def read(self) -> tuple[float, float]:
        """What the instrument measures now: volts and amperes, noise and stray beam included.

        While open, the volts are those an electrometer of no leakage would find on the needle.
        """
        volts = self.voltage + self._truth.voltage_noise * float(self._noise.standard_normal())
        amps = self.current + self._truth.current_noise * float(self._noise.standard_normal())
        if self.mode == "open":
            return volts, amps - self.current
        return volts, amps + self._truth.beam_pickup * self.beam_current

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds, in fine steps only while the potential moves."""
        done = 0.0
        while done < dt - 1e-12:
            h = dt - done if self._settled() else min(self._fine_step(), dt - done)
            self._advance(h, self._journal.now + done)
            done += h

    def _target(self) -> float:
        """The potential at which the present state comes to rest."""
        lithium = self._lithium(self.voltage)
        if self.mode in ("voltage", "off_normal"):
            reachable = self._limit * self.short_ohms if self._touched() else math.inf
            return math.copysign(min(abs(self._value), reachable), self._value)
        if self.mode == "current":
            # In the circuit's sign a lithiating particle is a source that lifts the potential.
            wanted = (self._value + lithium) * self._meter_ohms()
            return math.copysign(min(abs(wanted), self._limit), wanted)
        if not self._touched():
            return 0.0
        if self.short_ohms < math.inf:
            return 0.0
        return self._particle.rest_potential

    def _settled(self) -> bool:
        if self.mode == "open" and not self._touched():
            return True
        return abs(self.voltage - self._target()) < 1e-4

    def _fine_step(self) -> float:
        if self.mode != "open":
            return FINE_STEP
        # A hundredth of the time in which lithium, 2.5e-14 A/V, moves the open needle.
        return min(max(self._truth.open_farads / 2.5e-12, FINE_STEP), 1.0)

    def _advance(self, h: float, at: float) -> None:
        before = self.voltage
        target = self._target()
        taken = 0.0
        if self._touched():
            taken = self._particle.grow(before, self._stage.temperature, h, at)
        if self.mode in ("voltage", "off_normal"):
            slew = self._limit * h / self._truth.cable_farads
            self.voltage = before + min(max(target - before, -slew), slew)
            leak = self.voltage / self._truth.open_ohms
            if self._touched():
                leak += self.voltage / self.short_ohms
            slewing = abs(self.voltage - target) > 1e-9
            self.in_compliance = slewing or abs(target) < abs(self._value)
            filling = self._truth.cable_farads * (self.voltage - before)
            passed = filling + leak * h - taken
            # Filling the cable is over in a fraction of a reading: shown while it lasts.
            self.current = passed / h if slewing else leak - taken / h
        elif self.mode == "current":
            ohms = self._meter_ohms()
            rest = (self._value + taken / h) * ohms
            share = -math.expm1(-h / (ohms * self._truth.cable_farads))
            moved = before + (rest - before) * share
            self.voltage = math.copysign(min(abs(moved), self._limit), moved)
            self.in_compliance = abs(rest) > self._limit and abs(self.voltage) >= self._limit
            limited = self.voltage / ohms - taken / h
            self.current = limited if self.in_compliance else self._value
            passed = self.current * h
        else:
            self.voltage = self._drift_open(before, target, taken, h)
            self.current = 0.0
            passed = 0.0
        self.charge += passed

    def _drift_open(self, volts: float, target: float, taken: float, h: float) -> float:
        """An open needle: lithiation lifts it to its onset, the surface then to rest."""
        if not self._touched():
            decay = self._truth.open_ohms * self._truth.open_farads
            return volts * math.exp(-h / decay)
        if self.short_ohms < math.inf:
            return 0.0
        onset = self._particle.onset_potential
        if taken > 0 and volts < onset - NEAR:
            # The lithium current falls linearly to nil at the onset: exponential in time.
            return onset - (onset - volts) * math.exp(
                -taken / (self._truth.open_farads * (onset - volts))
            )
        return target + (volts - target) * math.exp(
            -h * self._truth.rest_siemens / self._truth.open_farads
        )

    def _touched(self) -> bool:
        return self._needle.contact

    def _meter_ohms(self) -> float:
        meter = self._truth.meter_ohms
        if self._touched() and self.short_ohms < math.inf:
            return meter * self.short_ohms / (meter + self.short_ohms)
        return meter

    def _lithium(self, volts: float) -> float:
        if not self._touched():
            return 0.0
        return self._particle.current(volts, self._stage.temperature)
