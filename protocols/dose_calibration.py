"""Measure the beam current in the Faraday cup, spot by spot, and give it to the dose meter.

The cup's meter is zeroed with the beam blanked; then the beam goes into the cup. A dose rate needs
the illuminated disc as well, which the column's alignment states.
"""

from __future__ import annotations

import statistics

from coldframe.client import Lab
from coldframe.errors import NotReady
from coldframe.protocols.procedure import Report, Result, procedure
from coldframe.units import dose_rate, show


@procedure
def calibrate_dose(
    lab: Lab,
    report: Report,
    *,
    beam: str = "beam",
    cup: str = "cup",
    spots: str = "4 6",
    diameter_m: float = 1e-6,
    readings: int = 5,
) -> Result:
    """Zero the picoammeter, then measure the current of each spot; ends with the beam blanked."""
    lab.call(f"{beam}.blank")
    lab.call(f"{cup}.zero")
    lab.call(f"{beam}.lower_screen")
    kv = float(lab.get(f"{beam}.high_voltage"))
    magnification = float(lab.get(f"{beam}.magnification"))
    found: Result = {}
    numbers = [int(spot) for spot in spots.split()]
    try:
        for count, spot in enumerate(numbers):
            lab.set(f"{beam}.spot", spot)
            lab.call(f"{beam}.unblank")
            samples = _settled(lab, f"{cup}.current", readings)
            lab.call(f"{beam}.blank")
            current = abs(statistics.fmean(samples))  # electrons are a negative one
            sigma = statistics.stdev(samples) / len(samples) ** 0.5
            lab.call(
                "guard.calibrate_dose",
                high_voltage=kv,
                spot=spot,
                magnification=magnification,
                current=current,
                sigma=max(sigma, 0.01 * current),
                diameter=diameter_m,
            )
            rate = dose_rate(current, diameter_m)
            found[f"spot_{spot}_A"] = current
            found[f"spot_{spot}_dose_rate"] = rate
            words = f"spot {spot}: {show(current, 'A')}, {rate:.2f} e⁻/Å²/s"
            report((count + 1) / len(numbers), words)
    finally:
        lab.call(f"{beam}.blank")
        lab.call(f"{beam}.raise_screen")
    return found


def _settled(lab: Lab, name: str, count: int) -> list[float]:
    """`count` readings after the first two, which may still have seen the blanked beam."""
    samples: list[float] = []
    for seen, reading in enumerate(lab.watch(name), 1):
        if seen > 3 and isinstance(reading.value, float):
            samples.append(reading.value)
        if len(samples) == count:
            return samples
        if seen > 10 * count + 20:
            break
    raise NotReady(f"{name}: no {count} good readings: look at the picoammeter")
