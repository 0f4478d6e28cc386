"""Which driver speaks to which model: ours, and those of plug-ins a laboratory trusts."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points

from coldframe.drivers.base import Driver
from coldframe.errors import ConfigurationError, UnknownName

_FAMILIES = {
    "lakeshore:Lakeshore": ("lakeshore335", "lakeshore336", "lakeshore350"),
    "keithley6485:Keithley6485": ("keithley6485",),
    "remcon32:RemCon32": ("remcon32",),
    "pyjem:PyJem": ("pyjem",),
    "sharksem:SharkSem": ("sharksem",),
    "keithley2450:Keithley2450": ("keithley2450",),
    "anc300:Anc300": ("anc300",),
    "emstat:EmStat": ("emstat",),
    "merlin:Merlin": ("merlin",),
    "dp5:Dp5": ("dp5",),
}
MODELS = {model: where for where, models in _FAMILIES.items() for model in models}


def driver(model: str, plugins: Iterable[str] = ()) -> type[Driver]:
    """The class that speaks to `model`; `UnknownName` lists the models there are.

    `plugins` names the entry points of the group `coldframe.drivers` the laboratory trusts; no
    other is loaded. A plug-in that cannot be loaded is a `ConfigurationError` that says why.
    """
    if model in MODELS:
        module, name = MODELS[model].split(":")
        found: type[Driver] = getattr(import_module(f"coldframe.drivers.{module}"), name)
        return found
    for entry in entry_points(group="coldframe.drivers"):
        if entry.name not in plugins:
            continue
        try:
            plugin = entry.load()
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"plug-in {entry.name!r} cannot be loaded: {error}") from error
        if model in plugin.models:
            return plugin  # type: ignore[no-any-return]
    raise UnknownName(f"no driver of {model!r}; there are {', '.join(sorted(MODELS))}")
