"""Which driver speaks to which model: ours, and those of plug-ins a laboratory trusts."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

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
    other is loaded. A plug-in that cannot be loaded, for whatever reason, is a `ConfigurationError`
    that says which and why.
    """
    if model in MODELS:
        module, name = MODELS[model].split(":")
        found: type[Driver] = getattr(import_module(f"coldframe.drivers.{module}"), name)
        return found
    known = set(MODELS)
    for entry in entry_points(group="coldframe.drivers"):
        if entry.name in plugins:
            plugin = _load(entry)
            if model in plugin.models:
                return plugin
            known |= set(plugin.models)
    raise UnknownName(f"no driver of {model!r}; there are {', '.join(sorted(known))}")


def _load(entry: EntryPoint) -> type[Driver]:
    """A stranger's module may do anything while it is imported; it does not end this process."""
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:
        why = f"{type(error).__name__}: {error}"
        raise ConfigurationError(f"plug-in {entry.name!r} cannot be loaded: {why}") from error
    if not (isinstance(plugin, type) and issubclass(plugin, Driver)):
        raise ConfigurationError(f"plug-in {entry.name!r}: {entry.value} is no Driver")
    return plugin
