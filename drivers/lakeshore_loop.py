"""A Lake Shore's heater loop as one line of answers describes it, and whether it stays cold."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

from coldframe.drivers.base import parse
from coldframe.errors import Garbled, InstrumentError
from coldframe.units import ZERO_CELSIUS

KELVIN, CELSIUS = "1", "2"  # preferred units, INTYPE's fifth field
CLOSED_LOOP = (1, 2)  # OUTMODE: PID, zone
STEP = 0.002  # K; SETP is sent with three decimals
INPUTS = "ABCD"
FLAT_READINGS = 10  # as many equal ones at least, before a sensor counts as frozen

_READING_FAULTS = {1: "invalid", 16: "temperature under range", 32: "temperature over range",
                   64: "sensor units zero", 128: "sensor units over range"}  # fmt: skip


class Loop(NamedTuple):
    """What RANGE, SETP, OUTMODE, MOUT, RAMP, RAMPST and INTYPE say."""

    range: int
    setpoint: float  # K; NaN while it is in sensor units
    mode: int
    input: int
    manual: float  # %
    ramp: bool
    rate: float  # K/min
    ramping: bool
    units: str

    def holdable(self, sensor: str) -> bool:
        """Whether the loop, as it is set up, holds the stage by the stage's own sensor."""
        by_sensor = self.mode in CLOSED_LOOP and self.input == number_of(sensor)
        return by_sensor and self.manual == 0 and self.units in (KELVIN, CELSIUS)

    def cold(self, sensor: str, cold_setpoint: float) -> bool:
        """Off, or holding at or below the cold setpoint. A ramp is neither: where it goes cannot
        be asked."""
        if self.range == 0:
            return True
        below = self.setpoint <= cold_setpoint + STEP
        return below and not self.ramping and self.holdable(sensor)


class Flatness:
    """For how long a sensor has shown one and the same value, to the last digit."""

    def __init__(self) -> None:
        self._value, self._since, self._count = math.nan, 0.0, 0

    def see(self, value: float) -> None:
        """One more reading."""
        self._count += 1
        if value != self._value:
            self._value, self._since, self._count = value, time.monotonic(), 1

    def too_long(self, limit: float) -> float | None:
        """Seconds, when they are more than `limit` and the readings enough; else None."""
        flat = time.monotonic() - self._since
        return flat if self._count >= FLAT_READINGS and flat > limit else None


def questions(loop: int, sensor: str) -> list[str]:
    """What to ask for `read_loop`."""
    heads = ("RANGE", "SETP", "OUTMODE", "MOUT", "RAMP", "RAMPST")
    return [*[f"{head}? {loop}" for head in heads], f"INTYPE? {sensor}"]


def read_loop(answers: list[str], where: str) -> Loop:
    """The loop that the answers to `questions` describe; `Garbled` if they do not."""
    level, setpoint, outmode, manual, ramp, ramping, intype = (a.split(",") for a in answers)
    if (len(outmode), len(ramp)) != (3, 2) or len(intype) < 5:
        raise Garbled(f"{where}: {';'.join(answers)!r} describes no loop")
    units = intype[4].strip()
    shift = {KELVIN: 0.0, CELSIUS: ZERO_CELSIUS}.get(units, math.nan)
    return Loop(
        parse(int, level[0], where),
        round(parse(float, setpoint[0], where) + shift, 6),
        parse(int, outmode[0], where),
        parse(int, outmode[1], where),
        parse(float, manual[0], where),
        parse(int, ramp[0], where) == 1,
        parse(float, ramp[1], where),
        parse(int, ramping[0], where) == 1,
        units,
    )


def setpoint_order(loop: int, kelvin: float, units: str, where: str) -> str:
    """The order that sets `kelvin`, in the units the input prefers."""
    if units not in (KELVIN, CELSIUS):
        raise InstrumentError(
            f"{where}: the loop is controlled in sensor units; set its input's units to kelvin"
        )
    value = kelvin - ZERO_CELSIUS if units == CELSIUS else kelvin
    return f"SETP {loop},{value:.3f}"


def reading_faults(status: int) -> str:
    """The words of an RDGST? sum; empty when the reading is good."""
    return ", ".join(words for bit, words in _READING_FAULTS.items() if status & bit)


def number_of(sensor: str) -> int:
    """OUTMODE's number of an input."""
    return INPUTS.index(sensor) + 1
