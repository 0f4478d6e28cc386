"""Cool the stage and wait until it is stable; warm it under vacuum, on explicit command only.

Numbers: docs/explanation/sources.md, "Cool-down" (setpoint -185 °C; stable = within 2 K and 0.2
K/min for 10 min, which opens 90–105 min after a start at room temperature and uses about 5 L of
nitrogen).
"""

from __future__ import annotations

from collections import deque

from coldframe.client import Lab
from coldframe.errors import NotReady
from coldframe.protocols.procedure import Report, Result, procedure
from coldframe.units import show

BAND = 2.0  # K
RATE = 0.2  # K/min
HOLD = 600.0  # s
WARM_RATE = 1.0  # K/min
COOLANT, HEATER_RANGE = "coolant", "heater_range"  # where a controller has them
SLOPE_WINDOW = 120.0  # s over which the rate is judged


class StabilityGate:
    """Opens when the temperature has stayed in the band, and nearly still, for the whole hold.

    Fed with (lab seconds, K). Unknown temperatures close it: what was not seen was not stable.
    """

    def __init__(
        self,
        setpoint: float,
        band: float = BAND,
        rate: float = RATE,
        hold: float = HOLD,
        window: float = SLOPE_WINDOW,
    ):
        self.setpoint, self.band, self.rate, self.hold = setpoint, band, rate, hold
        self.window = window
        self.stable_for = 0.0
        self._since: float | None = None
        self._recent: deque[tuple[float, float]] = deque()

    def add(self, t: float, temperature: float | None) -> bool:
        """One reading; True when the gate is open."""
        if temperature is None:
            self._since = None
            self._recent.clear()
            return False
        self._recent.append((t, temperature))
        while len(self._recent) > 2 and t - self._recent[1][0] >= self.window:
            self._recent.popleft()
        first_t, first = self._recent[0]
        still = len(self._recent) > 1 and (
            abs(temperature - first) <= self.rate / 60 * max(t - first_t, 1e-9)
        )
        if not (still and abs(temperature - self.setpoint) <= self.band):
            self._since = None
        elif self._since is None:
            self._since = t
        self.stable_for = 0.0 if self._since is None else t - self._since
        return self._since is not None and self.stable_for >= self.hold


@procedure
def cool_down(
    lab: Lab,
    report: Report,
    *,
    stage: str = "stage",
    setpoint_K: float = 88.15,
    hold_s: float = HOLD,
    limit_h: float = 3.0,
) -> Result:
    """Set the stage to `setpoint_K` and return when it is stable there (P1).

    Raises `NotReady` when it is not stable within `limit_h` hours of lab time.
    """
    known = {parameter["name"] for parameter in lab.describe(stage)["parameters"]}
    for name, value in ((COOLANT, True), (HEATER_RANGE, 3)):  # cold gas; a loop that can hold
        if name in known:
            lab.set(f"{stage}.{name}", value)
    lab.set(f"{stage}.setpoint", setpoint_K)
    return _settle(lab, report, stage, StabilityGate(setpoint_K, hold=hold_s), limit_h)


@procedure
def warm_up(
    lab: Lab,
    report: Report,
    *,
    stage: str = "stage",
    setpoint_K: float = 293.15,
    hold_s: float = 30.0,
    limit_h: float = 3.0,
) -> Result:
    """Warm the stage under vacuum; only ever on a person's explicit command.

    Ambient needs no ten minutes of stillness: within 2 K and below 1 K/min for `hold_s` will do.
    """
    lab.set(f"{stage}.setpoint", setpoint_K)
    gate = StabilityGate(setpoint_K, rate=WARM_RATE, hold=hold_s, window=hold_s)
    return _settle(lab, report, stage, gate, limit_h)


def _settle(lab: Lab, report: Report, stage: str, gate: StabilityGate, limit_h: float) -> Result:
    start: float | None = None
    first: float | None = None
    for reading in lab.watch(f"{stage}.temperature"):
        t = int(reading.t_ns) / 1e9
        value = reading.value if isinstance(reading.value, float) else None
        start = t if start is None else start
        minutes = (t - start) / 60
        opened = gate.add(t, value)
        if value is not None:
            first = value if first is None else first
            span = max(abs(first - gate.setpoint) - gate.band, 1e-6)
            way = 1 - max(abs(value - gate.setpoint) - gate.band, 0) / span
            fraction = 0.85 * min(max(way, 0), 1) + 0.15 * min(gate.stable_for / gate.hold, 1)
            report(fraction, f"{show(value, 'K')}, {minutes:.0f} min")
        if opened:
            return {"minutes": minutes, "temperature_K": value}
        if minutes > 60 * limit_h:
            break
    raise NotReady(
        f"{stage}.temperature: not within {gate.band:g} K of {show(gate.setpoint, 'K')} and below "
        f"{gate.rate:g} K/min for {gate.hold / 60:g} min after {limit_h:g} h: look at nitrogen, "
        "heater and sensor"
    )
