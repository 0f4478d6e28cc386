"""Quantities as people type them, and the few conversions this field needs.

Inside, everything is SI (K, A, V, s, m, Ω, C) except the dose units the field speaks: e⁻/Å² and
e⁻/Å²/s. Outside, a person types `-185 degC`, `88.15 K`, `150 nA`. A bare number for a temperature
is refused where people type it, because -185 and 88.15 have both been meant.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

from coldframe.errors import BadRequest

ELECTRON_CHARGE = 1.602176634e-19  # C, exact (SI 2019)
ZERO_CELSIUS = 273.15  # K
ELECTRONS_PER_COULOMB = 1.0 / ELECTRON_CHARGE

_PREFIXES = {
    "": 0, "f": -15, "p": -12, "n": -9, "u": -6, "µ": -6, "μ": -6, "m": -3, "k": 3, "M": 6, "G": 9,
}  # fmt: skip
_PREFIXED = ("K", "A", "V", "s", "m", "Ohm", "C", "W", "Hz", "Pa", "eV")
_SPELLINGS = {
    "ohm": "Ohm", "°C": "degC", "celsius": "degC", "kelvin": "K",
    "e/A^2": "e/Å^2", "e-/Å²": "e/Å^2", "e-/A^2": "e/Å^2", "e/A2": "e/Å^2",
    "e/A^2/s": "e/Å^2/s", "e-/Å²/s": "e/Å^2/s", "e-/A^2/s": "e/Å^2/s", "e/A2/s": "e/Å^2/s",
    "l": "L", "litre": "L", "percent": "%",
}  # fmt: skip
_QUANTITY = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S.*?)?\s*")


def parse(text: str, unit: str) -> float:
    """The number in `unit` that `text` says, e.g. ``parse("-185 degC", "K") == 88.15``.

    Raises `BadRequest` when the text is no quantity, is not finite, or cannot be that unit; and for
    a bare number where a temperature is meant.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise BadRequest(f"{text!r} is not a quantity: write a number and a unit, e.g. 10 {unit}")
    value, given = Decimal(match[1]), match[2]  # decimal: 150 nA is 1.5e-07, to the last bit
    if given is None:
        if unit == "K":
            raise BadRequest(f"{text!r}: say degC or K, e.g. {text.strip()}degC")
        given = unit
    given = _SPELLINGS.get(given, given).replace("Ω", "Ohm").replace("\u2126", "Ohm")
    number = float(_convert(value, given, unit))
    if not math.isfinite(number):
        raise BadRequest(f"{text!r} is not a finite number")
    return number


def _convert(value: Decimal, given: str, unit: str) -> Decimal:
    if given == unit:
        return value
    if unit == "K" and given == "degC":
        return value + Decimal("273.15")
    (power, base), (target_power, target) = _split(given), _split(unit)
    if base is None or base != target:
        raise BadRequest(f"{given!r} is not a unit of {unit!r}")
    return value.scaleb(power - target_power)


def _split(unit: str) -> tuple[int, str | None]:
    for base in _PREFIXED:
        if unit.endswith(base) and unit[: -len(base)] in _PREFIXES:
            return _PREFIXES[unit[: -len(base)]], base
    return 0, None


def show(value: float | int | bool | str | None, unit: str) -> str:
    """`value` as people read it: temperatures in both scales, small currents with a prefix."""
    if value is None:
        return "unknown"
    if isinstance(value, bool | str):
        return str(value)
    if unit == "K":
        return f"{value - ZERO_CELSIUS:.2f} °C ({value:.2f} K)"
    if unit in ("A", "V", "s", "m", "Ohm", "C", "W") and value != 0 and math.isfinite(value):
        for prefix in ("G", "M", "k", "", "m", "µ", "n", "p", "f"):
            scale = 10.0 ** _PREFIXES[prefix]
            if abs(value) >= scale or prefix == "f":
                return f"{value / scale:.4g} {prefix}{unit}"
    return f"{value:g} {unit}".rstrip()


def dose_rate(current: float, diameter: float) -> float:
    """e⁻/Å²/s under a uniform disc of `diameter` (m) carrying `current` (A).

    Source: docs/explanation/sources.md, "Dose".
    """
    area = math.pi * (diameter * 1e10 / 2) ** 2  # Å²
    return current * ELECTRONS_PER_COULOMB / area
