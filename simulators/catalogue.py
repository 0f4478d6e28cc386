"""Which simulator stands in for which model; imported only when asked for."""

from __future__ import annotations

from importlib import import_module

from coldframe.errors import UnknownName
from coldframe.simulators.ports import Instrument

_FAMILIES = {
    "lakeshore:LakeshoreSimulator": ("lakeshore335", "lakeshore336", "lakeshore350"),
    "keithley6485:Keithley6485Simulator": ("keithley6485",),
    "remcon32:RemCon32Simulator": ("remcon32",),
    "pyjem:PyJemSimulator": ("pyjem",),
    "sharksem:SharkSemSimulator": ("sharksem",),
    "keithley2450:Keithley2450Simulator": ("keithley2450",),
    "anc300:Anc300Simulator": ("anc300",),
    "emstat:EmStatSimulator": ("emstat",),
    "merlin:MerlinSimulator": ("merlin",),
    "dp5:Dp5Simulator": ("dp5",),
}
MODELS = {model: where for where, models in _FAMILIES.items() for model in models}


def simulator(model: str) -> type[Instrument]:
    """The class that imitates `model`; `UnknownName` lists the models there are."""
    if model not in MODELS:
        raise UnknownName(f"no simulator of {model!r}; there are {', '.join(sorted(MODELS))}")
    module, name = MODELS[model].split(":")
    found: type[Instrument] = getattr(import_module(f"coldframe.simulators.{module}"), name)
    return found
