"""The cold stage: copper on a nitrogen gas line, exact between two changes of its inputs."""

import math

import numpy as np

from coldframe.simulators.journal import Journal
from coldframe.simulators.truth import StageTruth
from coldframe.units import ZERO_CELSIUS


class ColdStage:
    """A stage that nitrogen gas cools and a heater warms.

    Sensor A is on the stage, sensor B on the gas line (the cold finger). `cooling` is what the
    valve was told; gas flows only while there is nitrogen and no fault holds it back.
    """

    def __init__(self, truth: StageTruth, journal: Journal, noise: np.random.Generator) -> None:
        self._truth = truth
        self._journal = journal
        self._noise = noise
        self.temperature = truth.ambient
        self.gas = truth.ambient
        self.cooling = False
        self.ln2_litres = truth.dewar
        self.ln2_used = 0.0
        self.peak_temperature = truth.ambient
        self.ice = 0.0
        self.leak_watts = 0.0
        self.flow_lost = False
        self._heater = 0.0
        self._been_cold = False

    @property
    def heater_watts(self) -> float:
        """What the thermostat's output stage delivers, 0 to the heater's limit."""
        return self._heater

    @heater_watts.setter
    def heater_watts(self, watts: float) -> None:
        self._heater = min(max(watts, 0.0), self._truth.heater_limit)

    @property
    def flowing(self) -> bool:
        """Whether cold gas really flows."""
        return self.cooling and self.ln2_litres > 0 and not self.flow_lost

    def sensor(self, name: str) -> float:
        """What sensor "A" (stage) or "B" (cold finger) reads, in kelvin."""
        noise = self._truth.sensor_noise * float(self._noise.standard_normal())
        if name.upper() == "A":
            return self.temperature + self._truth.sensor_offset_a + noise
        if name.upper() == "B":
            return self.gas + self._truth.sensor_offset_b + noise
        raise ValueError(f"no sensor {name!r}: the stage has A and B")

    def refill(self, litres: float | None = None) -> None:
        """The dewar holds `litres` from now on; without a number it is full."""
        self.ln2_litres = self._truth.dewar if litres is None else litres
        name = "dewar refilled" if self.ln2_litres > 0 else "dewar empty"
        self._journal.note(name, f"{self.ln2_litres:.2f} L")

    def forget_peak(self) -> None:
        """Start the record of the highest temperature anew, once the stage is cold."""
        self._been_cold = self.temperature <= self._truth.warm_limit
        self.peak_temperature = self.temperature

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds, in two parts when the dewar runs dry on the way."""
        draining = self.ln2_litres > 0
        per_second = (self._truth.flow if self.flowing else self._truth.evaporation) / 3600
        if draining and per_second > 0 and self.ln2_litres <= per_second * dt:
            first = self.ln2_litres / per_second
            self._advance(first, 0.0)
            self.ln2_used += self.ln2_litres
            self.ln2_litres = 0.0
            self._journal.note("dewar empty", at=self._journal.now + first)
            self._advance(dt - first, first)
            return
        if draining:
            self.ln2_litres -= per_second * dt
            self.ln2_used += per_second * dt
        self._advance(dt, 0.0)

    def _advance(self, dt: float, since: float) -> None:
        before = self.temperature
        source, constant = (
            (self._truth.cold_gas, self._truth.gas_on_time)
            if self.flowing
            else (self._truth.ambient, self._truth.gas_off_time)
        )
        curve = _Relaxation(
            before,
            self.gas,
            source,
            constant,
            self._truth.time_constant,
            (self._heater + self.leak_watts) / self._truth.heat_capacity,
        )
        self.temperature, self.gas = curve.at(dt)
        self.peak_temperature = max(self.peak_temperature, self.temperature)
        limit = self._truth.warm_limit
        if (before <= limit) != (self.temperature <= limit):
            when = self._journal.now + since + curve.crossing(limit, dt)
            word = "above" if self.temperature > limit else "below"
            self._journal.note(f"stage {word} {limit - ZERO_CELSIUS:.0f} degC", at=when)
            if not self._been_cold:
                self._been_cold = True
                self.peak_temperature = self.temperature
        if self.temperature < self._truth.ice_below:
            self.ice += self._truth.ice_rate * dt
        else:
            self.ice = 0.0


class _Relaxation:
    """T' = -(T - S)/tau + p, S' = -(S - S_end)/tau_s, solved in closed form."""

    def __init__(
        self, start: float, gas: float, gas_end: float, gas_tau: float, tau: float, heating: float
    ) -> None:
        if math.isclose(gas_tau, tau, rel_tol=1e-6):
            gas_tau *= 1.0001
        self._gas_end, self._gas_tau, self._tau = gas_end, gas_tau, tau
        self._gas_step = gas - gas_end
        self._end = gas_end + heating * tau
        self._mixed = self._gas_step / (1 - tau / gas_tau)
        self._own = start - self._end - self._mixed

    def at(self, dt: float) -> tuple[float, float]:
        slow = math.exp(-dt / self._tau)
        fast = math.exp(-dt / self._gas_tau)
        return (
            self._end + self._mixed * fast + self._own * slow,
            self._gas_end + self._gas_step * fast,
        )

    def crossing(self, level: float, dt: float) -> float:
        low, high = 0.0, dt
        side = self.at(0.0)[0] <= level
        for _ in range(40):
            middle = (low + high) / 2
            if (self.at(middle)[0] <= level) == side:
                low = middle
            else:
                high = middle
        return high
