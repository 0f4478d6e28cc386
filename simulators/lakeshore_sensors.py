"""The sensor inputs of a Lake Shore controller: what they read, and how a number is printed."""

from __future__ import annotations

import numpy as np

from coldframe.simulators.faults import Faults
from coldframe.simulators.stage_physics import ColdStage

WIRED = ("A", "B")  # inputs with a sensor on them: the stage, the gas line
INVALID, UNITS_OVER = 1, 128  # reading status; a broken wire reads as units over range

# DT-670 silicon diode: volts at kelvin, a few points of the standard curve
_DT670_K = (1.4, 10.0, 20.0, 30.0, 50.0, 77.35, 100.0, 200.0, 300.0, 400.0, 500.0)
_DT670_V = (1.644, 1.384, 1.198, 1.106, 1.069, 1.020, 0.976, 0.759, 0.560, 0.340, 0.091)


class Sensors:
    """Readings in kelvin by input; None where there is no sensor or its wire is broken."""

    def __init__(self, stage: ColdStage, inputs: str, faults: Faults):
        self._stage, self._faults = stage, faults
        self.readings: dict[str, float | None] = dict.fromkeys(inputs)
        self.extremes: dict[str, tuple[float, float]] = {}
        self.sample()

    def sample(self) -> None:
        """Look at each sensor. A frozen one shows what it showed before."""
        for name in self.readings:
            if name not in WIRED or self._faults.on("nan"):
                self.readings[name] = None
                continue
            old = self.readings[name]
            value = self._stage.sensor(name)
            if self._faults.on("frozen") and old is not None:
                value = old
            low, high = self.extremes.get(name, (value, value))
            self.readings[name] = value
            self.extremes[name] = min(low, value), max(high, value)

    def forget_extremes(self) -> None:
        """Lowest and highest begin anew."""
        self.extremes.clear()
        self.sample()

    def status(self, name: str) -> int:
        """The sum of the reading's fault bits, 0 when it is good."""
        if self.readings[name] is not None:
            return 0
        return INVALID | (UNITS_OVER if name in WIRED else 0)


def volts(kelvin: float) -> float:
    """What the diode shows at a temperature."""
    return float(np.interp(kelvin, _DT670_K, _DT670_V))


def six(value: float) -> str:
    """Sign, six digits and a point: +88.1500, +293.150."""
    return f"{value:+.{max(0, 6 - len(str(int(abs(value)))))}f}"
