"""MethodSCRIPT as the host sees it: numbers in scripts, packages in replies, the scripts we send.

A package is `P<variable>;<variable>…`, a variable two letters of type, seven hexadecimal digits
offset by 2^27, an SI prefix, and metadata after commas: `1s` status bits, `2rr` range index, others
that are ignored (MethodSCRIPT manual, "Measurement data package variables").
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from coldframe.errors import Garbled

OFFSET = 1 << 27
PREFIXES = {
    "a": -18, "f": -15, "p": -12, "n": -9, "u": -6, "m": -3, " ": 0, "i": 0,
    "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
TIMING, OVERLOAD = 1, 2  # bits of the status

# what a running script says besides packages and errors: loops, scans, text, its end
PROGRESS = re.compile(r"M[0-9A-F]{4}|\*|L|\+|-|C\d{4}|T.*|")

_VARIABLE = re.compile(
    r"([a-z]{2})(?:([0-9A-Fa-f]{7})([afpnumkMGTPEi ])|     nan)((?:,[0-9A-Fa-f]+)*)"
)
_ERROR = re.compile(r"([a-zA-Z]?)!([0-9A-Fa-f]{4})(?:: Line (\d+)(?:, Col (\d+))?)?")
MEANINGS = {  # those a person is likely to see
    0x0003: "the command is not known",
    0x0006: "not possible now",
    0x000F: "the potential is out of range",
    0x0014: "the cell is on and should be off",
    0x4001: "the script's command is not known",
    0x4004: "an argument is not as it should be",
    0x420B: "a variable was not declared",
}


class Variable(NamedTuple):
    """One value of a package; NaN where the instrument says so."""

    kind: str  # da applied potential, ab measured potential, ba current, eb time
    value: float
    status: int = 0
    range_index: int | None = None


class Point(NamedTuple):
    """One point of a technique; a current in overload is NaN, for it is not known."""

    seconds: float
    voltage: float
    current: float
    overload: bool
    late: bool  # the instrument could not keep the interval
    range_index: int | None


class Refusal(NamedTuple):
    """`!XXXX: Line n, Col m`, after the letter of the command it answers, if any."""

    command: str
    code: int
    line: int | None

    def __str__(self) -> str:
        where = f", line {self.line}" if self.line is not None else ""
        return f"!{self.code:04X}: {MEANINGS.get(self.code, 'see the manual')}{where}"


def parse_variable(text: str) -> Variable:
    """One variable; `Garbled` when it is not exactly one."""
    match = _VARIABLE.fullmatch(text)
    if match is None:
        raise Garbled(f"{text!r} is not a MethodSCRIPT variable")
    kind, digits, prefix, metadata = match.groups()
    value = math.nan
    if digits is not None:
        value = float(f"{int(digits, 16) - OFFSET}e{PREFIXES[prefix]}")  # exact to the last bit
    status, range_index = 0, None
    for entry in metadata.split(",")[1:]:
        if entry[0] == "1" and len(entry) == 2:
            status = int(entry[1], 16)
        elif entry[0] == "2" and len(entry) == 3:
            range_index = int(entry[1:], 16)
    return Variable(kind, value, status, range_index)


def parse_package(line: str) -> list[Variable]:
    """The variables of a line that begins with P; `Garbled` when one of them is not whole."""
    if not line.startswith("P"):
        raise Garbled(f"{line!r} is not a MethodSCRIPT package")
    return [parse_variable(part) for part in line[1:].split(";")]


def parse_point(line: str) -> Point | None:
    """The point in a package with a current, or None when it carries none."""
    values = {variable.kind: variable for variable in parse_package(line)}
    if (current := values.get("ba")) is None:
        return None
    voltage, seconds = values.get("da", values.get("ab")), values.get("eb")
    overload = bool(current.status & OVERLOAD)
    return Point(
        math.nan if seconds is None else seconds.value,
        math.nan if voltage is None else voltage.value,
        math.nan if overload else current.value,
        overload,
        bool(current.status & TIMING),
        current.range_index,
    )


def parse_refusal(line: str) -> Refusal | None:
    """The error in a line, if it is one."""
    match = _ERROR.fullmatch(line)
    if match is None:
        return None
    return Refusal(match[1], int(match[2], 16), int(match[3]) if match[3] else None)


def literal(value: float) -> str:
    """A number as scripts write it: an integer and an SI prefix, `-0.5` as `-500m`.

    Exact where 28 bits can be, else to half a step of the finest prefix that fits.
    """
    if not math.isfinite(value):
        raise ValueError(f"{value!r} cannot be said in a script")
    exact, best = Decimal(repr(value)), "0"
    for prefix in ("", "m", "u", "n", "p", "f", "a"):
        scaled = exact.scaleb(-PREFIXES[prefix or " "])
        whole = int(scaled.to_integral_value(ROUND_HALF_EVEN))
        if abs(whole) >= OFFSET:
            break
        best = f"{whole}{prefix}"
        if scaled == whole:
            break
    return best


def ocp_script(interval: float, seconds: float) -> str:
    """Measure the open-circuit potential. The instrument refuses it unless the cell is off, so a
    run that ends well proves that it is."""
    return _script(
        "var p",
        "set_pgstat_chan 0",
        "set_pgstat_mode 3",
        "set_max_bandwidth 60",
        "cell_off",
        f"meas_loop_ocp p {literal(interval)} {literal(seconds)}",
        "pck_start",
        "pck_add p",
        "pck_end",
        "endloop",
        "on_finished:",
        "cell_off",
    )


def ca_script(voltage: float, interval: float, seconds: float, limit: float) -> str:
    """Hold a potential and report time, potential and current; beyond the current limit the
    instrument ends it by itself. The cell goes off at the end and on an abort."""
    volts, amps = literal(voltage), literal(limit)
    return _script(
        "var p",
        "var c",
        "var t",
        "set_pgstat_chan 0",
        "set_pgstat_mode 3",
        "set_max_bandwidth 60",
        f"set_range_minmax da {volts} {volts}",
        f"set_range ba {amps}",
        f"set_autoranging ba {literal(min(limit, 100e-9))} {amps}",
        f"set_e {volts}",
        "cell_on",
        "timer_start",
        f"meas_loop_ca p c {volts} {literal(interval)} {literal(seconds)}",
        "timer_get t",
        "pck_start",
        "pck_add t",
        "pck_add p",
        "pck_add c",
        "pck_end",
        f"if c > {amps}",
        "breakloop",
        "endif",
        f"if c < {literal(-limit)}",
        "breakloop",
        "endif",
        "endloop",
        "on_finished:",
        "cell_off",
    )


def _script(*lines: str) -> str:
    return "\n".join(("e", *lines, "", ""))
