"""What a Keithley 6485 can be set to: the headers of its settings, their values, the first ones.

From the instruction manual (6485-901-01, chapters 13 to 16).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from coldframe.simulators.command_tree import Refused


class Choice(NamedTuple):
    """A setting that is asked with its own header: its values as they are stored."""

    header: str
    read: Callable[[str], str]
    first: str


def switch(text: str) -> str:
    words = {"ON": "1", "1": "1", "OFF": "0", "0": "0"}
    if text.upper() not in words:
        raise Refused(-224, "Illegal parameter value")
    return words[text.upper()]


def number_in(low: float, high: float, form: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        named = {"MIN": low, "MAX": high, "MINIMUM": low, "MAXIMUM": high}
        number = named.get(text.upper())
        if number is None:
            try:
                number = float(text)
            except ValueError:
                raise Refused(-104, "Data type error") from None
        if not low <= number <= high:
            raise Refused(-222, "Parameter data out of range")
        return format(round(number) if form == "d" else number, form)

    return read


def word_of(*names: str) -> Callable[[str], str]:
    """One of a few words in short (capital) or long form; stored short."""

    def read(text: str) -> str:
        for name in names:
            short = "".join(c for c in name if not c.islower())
            if text.upper() in (short, name.upper()):
                return short
        raise Refused(-224, "Illegal parameter value")

    return read


SENSE = "[:SENSe[1]]"
CURRENT = f"{SENSE}[:CURRent[:DC]]"
CHOICES = {
    "nplc": Choice(f"{CURRENT}:NPLCycles", number_in(0.01, 60, ".2f"), "5.00"),
    "average": Choice(f"{SENSE}:AVERage[:STATe]", switch, "0"),
    "count": Choice(f"{SENSE}:AVERage:COUNt", number_in(2, 100, "d"), "10"),
    "tcontrol": Choice(f"{SENSE}:AVERage:TCONtrol", word_of("REPeat", "MOVing"), "MOV"),
    "median": Choice(f"{SENSE}:MEDian[:STATe]", switch, "0"),
    "rank": Choice(f"{SENSE}:MEDian:RANK", number_in(1, 5, "d"), "1"),
    "upper": Choice(f"{CURRENT}:RANGe:AUTO:ULIMit", number_in(2e-9, 2.1e-2, ".6E"), "2.000000E-02"),
    "lower": Choice(f"{CURRENT}:RANGe:AUTO:LLIMit", number_in(2e-9, 2.1e-2, ".6E"), "2.000000E-09"),
    "zcheck": Choice(":SYSTem:ZCHeck[:STATe]", switch, "1"),
    "zcorrect": Choice(":SYSTem:ZCORrect[:STATe]", switch, "0"),
    "azero": Choice(":SYSTem:AZERo[:STATe]", switch, "1"),
    "line": Choice(":SYSTem:LFRequency", word_of("50", "60"), "50"),
    "line_auto": Choice(":SYSTem:LFRequency:AUTO", switch, "1"),
    "null": Choice(":CALCulate2:NULL:STATe", switch, "0"),
    "offset": Choice(":CALCulate2:NULL:OFFSet", number_in(-9.999999e20, 9.999999e20, "+.6E"), "0"),
    "trigger_count": Choice(":TRIGger[:SEQuence[1]]:COUNt", number_in(1, 2500, "d"), "1"),
    "trigger_delay": Choice(
        ":TRIGger[:SEQuence[1]]:DELay", number_in(0, 999.9998, ".4f"), "0.0000"
    ),
    "arm_count": Choice(":ARM[:SEQuence[1]][:LAYer[1]]:COUNt", number_in(1, 2500, "d"), "1"),
    "data": Choice(":FORMat[:DATA]", word_of("ASCii"), "ASC"),  # RS-232 has no other
    "border": Choice(":FORMat:BORDer", word_of("NORMal", "SWAPped"), "SWAP"),
    "digits": Choice(":DISPlay:DIGits", number_in(4, 7, "d"), "6"),
    "display": Choice(":DISPlay:ENABle", switch, "1"),
    "ese": Choice("*ESE", number_in(0, 255, "d"), "0"),
    "sre": Choice("*SRE", number_in(0, 255, "d"), "0"),
}
KEPT = ("line", "line_auto", "ese", "sre")  # *RST leaves them
