"""What a Lake Shore 335, 336 or 350 remembers: each setting's fields, limits, format, first value.

From the manuals' command chapters (335 and 336 chapter 6, 350 chapter 6). A setting is asked for
with the same head and `?`. A field left empty in an order stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from coldframe.simulators.heater_loop import FULL


class BadCommand(Exception):
    """The instrument cannot interpret it: command error."""


class CannotExecute(Exception):
    """Understood, and out of range: execution error."""


Field = Callable[[str], str]  # text as sent → text as answered


def whole(low: int, high: int, width: int = 1) -> Field:
    """An integer, answered with leading zeros to `width`."""

    def read(text: str) -> str:
        number = _number(text)
        if number != int(number) or not low <= number <= high:
            raise CannotExecute(f"{text!r} is not {low} to {high}")
        return f"{int(number):0{width}d}"

    return read


def real(low: float, high: float, form: str = "+.3f") -> Field:
    """A decimal number, answered in `form`."""

    def read(text: str) -> str:
        number = _number(text)
        if not low <= number <= high:
            raise CannotExecute(f"{text!r} is not {low:g} to {high:g}")
        return format(number, form)

    return read


def words(longest: int) -> Field:
    """A string, with or without quotes, answered in its full width."""
    return lambda text: text.strip('"')[:longest].ljust(longest)


def plain(text: str) -> str:
    """Any text, quotes taken off."""
    return text.strip('"')


def one_of(*names: str) -> Field:
    """One of a few words."""

    def read(text: str) -> str:
        if text.upper() not in names:
            raise CannotExecute(f"{text!r} is none of {', '.join(names)}")
        return text.upper()

    return read


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise BadCommand(f"{text!r} is not a number") from None
    if number != number or abs(number) == float("inf"):
        raise BadCommand(f"{text!r} is not a number")
    return number


class Setting(NamedTuple):
    """Fields of a head, and what they are after leaving the factory."""

    fields: tuple[Field, ...]
    first: str
    chosen_by: str = ""  # "input", "output", "relay", "curve" …: the first argument


class Family(NamedTuple):
    """What differs between the models."""

    name: str
    inputs: str
    outputs: int
    ranges: int  # the highest RANGE of a heater output
    range_step: float  # power of a range over the power of the next lower one
    slowest_ramp: float  # K/min
    usb: int  # product id


FAMILIES = {
    "lakeshore335": Family("MODEL335", "AB", 2, 3, 10.0, 0.1, 0x0300),
    "lakeshore336": Family("MODEL336", "ABCD", 4, 3, 10.0, 0.1, 0x0301),
    "lakeshore350": Family("MODEL350", "ABCD", 4, 5, 10.0, 0.001, 0x0302),
}

_flag = whole(0, 1)
_level = real(-1e6, 1e6, "+.4f")


def settings(family: Family) -> dict[str, Setting]:
    """The settings of one model by head."""
    sensor = one_of(*family.inputs)
    number = whole(0, len(family.inputs))
    heater: tuple[Field, ...] = (
        whole(1, 2),
        whole(0, 4),
        real(0, 2, "+.3f"),
        whole(1, 2),
    )  # 50 Ohm, 1 A: 50 W
    intype: tuple[Field, ...] = (whole(0, 5), _flag, whole(0, 8), _flag, whole(1, 3))
    first_intype = "1,0,0,0,1"
    if family.name == "MODEL335":
        heater = (_flag, *heater)
    if family.name == "MODEL350":
        intype, first_intype = (*intype, _flag), "1,0,0,0,1,0"
    table = {
        "SETP": Setting((real(-273.15, 1500, "+.4f"),), "293.15", "output"),
        "PID": Setting(
            (real(0.1, 1000, "+07.1f"), real(0.1, 1000, "+07.1f"), real(0, 200, "+06.1f")),
            "50,20,0",
            "output",
        ),
        "RAMP": Setting((_flag, real(0, 100, "+.3f")), "0,0", "output"),
        "RANGE": Setting((whole(0, family.ranges),), "0", "output"),
        "MOUT": Setting((real(0, FULL, "+.2f"),), "0", "output"),
        "OUTMODE": Setting((whole(0, 6), number, _flag), "0,0,0", "output"),
        "HTRSET": Setting(heater, "0,2,2,0,1" if len(heater) == 5 else "2,2,0,1", "output"),
        "ANALOG": Setting((number, whole(1, 3), _level, _level, _flag), "0,1,0,0,0", "output"),
        "WARMUP": Setting((_flag, real(0, FULL, "+.2f")), "0,0", "output"),
        "ZONE": Setting(
            (
                real(0, 1000, "+.3f"), real(0.1, 1000, "+.1f"), real(0.1, 1000, "+.1f"),
                real(0, 200, "+.1f"), real(0, FULL, "+.2f"), whole(0, family.ranges), number,
                real(0, 100, "+.3f"),
            ),
            "0,50,20,0,0,0,0,0.1",
            "zone",
        ),
        "INTYPE": Setting(intype, first_intype, "input"),
        "INNAME": Setting((words(15),), "", "input"),
        "INCRV": Setting((whole(0, 59, 2),), "2", "input"),  # 2: DT-670
        "TLIMIT": Setting((real(0, 1500, "+.4f"),), "0", "input"),
        "FILTER": Setting((_flag, whole(2, 64, 2), whole(1, 10, 2)), "0,8,10", "input"),
        "DIOCUR": Setting((_flag,), "0", "input"),
        "ALARM": Setting((_flag, _level, _level, _level, _flag, _flag, _flag),
                         "0,1000,0,0,0,0,0", "input"),
        "RELAY": Setting((whole(0, 2), sensor, whole(0, 2)), f"0,{family.inputs[0]},0", "relay"),
        "DISPFLD": Setting((number, whole(1, 7)), "1,1", "field"),
        "DISPLAY": Setting((whole(0, 8), whole(0, 2), whole(1, 4)), "0,0,1"),
        "LOCK": Setting((_flag, whole(0, 999, 3)), "0,123"),
        "MODE": Setting((whole(0, 2),), "0"),
        "BRIGT": Setting((whole(0, 32, 2),), "25"),
        "LEDS": Setting((_flag,), "1"),
        "INTSEL": Setting((whole(0, 2),), "1"),
        "EMUL": Setting((_flag, _flag), "0,0"),
        "WEBLOG": Setting((words(15), words(15)), ","),
        "IEEE": Setting((whole(1, 30, 2),), "12"),
        "NET": Setting((_flag, _flag, *[plain] * 8), "1,1,,,,,,,,"),
        "*ESE": Setting((whole(0, 255, 3),), "0"),
        "*SRE": Setting((whole(0, 255, 3),), "0"),
        "OPSTE": Setting((whole(0, 255, 3),), "0"),
        "CRVHDR": Setting(
            (words(15), words(10), whole(1, 4), real(0, 1500, "+.3f"), whole(1, 2)),
            ",,2,475,1",
            "curve",
        ),
        "CRVPT": Setting((_level, _level), "0,0", "point"),
    }  # fmt: skip
    if family.name == "MODEL335":
        table["DISPLAY"] = Setting((whole(0, 8),), "0")
    return table


VOLATILE = ("RANGE", "MODE")  # not kept over a power cycle; RANGE unless its power-up bit is set
