"""Finds every driver and every simulator there is, so that no contract can be forgotten."""

from __future__ import annotations

import inspect
import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TypeVar

import coldframe.drivers
import coldframe.simulators
from coldframe.drivers.base import Driver
from coldframe.simulators.ports import Instrument

K = TypeVar("K")


def _classes(room: ModuleType, kind: type[K]) -> list[type[K]]:
    found = []
    for info in pkgutil.iter_modules(room.__path__):
        module = import_module(f"{room.__name__}.{info.name}")
        for member in vars(module).values():
            ours = inspect.isclass(member) and member.__module__ == module.__name__
            if ours and issubclass(member, kind) and member is not kind:
                found.append(member)
    return found


def drivers(role: str = "") -> list[type[Driver]]:
    """Every driver of the room, or those of one role; a class without a model is only a part."""
    found = [kind for kind in _classes(coldframe.drivers, Driver) if kind.models]
    return [kind for kind in found if role in ("", kind.role)]


def simulators() -> list[type[Instrument]]:
    """Every simulated instrument of the room."""
    return _classes(coldframe.simulators, Instrument)


def simulator_of(model: str) -> type[Instrument]:
    """The simulator that stands in for `model`."""
    return next(kind for kind in simulators() if model in kind.models)


def models(role: str) -> list[tuple[type[Driver], str]]:
    """Each model of a role, with its driver."""
    return [(kind, model) for kind in drivers(role) for model in kind.models]
