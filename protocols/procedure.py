"""A procedure is a plain function; its signature is the request's schema.

It takes the laboratory (a client) and a `report`, then keyword-only arguments with defaults in the
units their names state. It returns what it measured. It holds no clock: time is read off the
readings, so the same procedure runs fast in a simulated laboratory and in real time in a real one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Protocol, get_type_hints

from coldframe.errors import BadRequest, UnknownName
from coldframe.messages import Scalar

Result = dict[str, Any]  # what a procedure measured; JSON when it travels
Procedure = Callable[..., Result]
PROCEDURES: dict[str, Procedure] = {}


class Report(Protocol):
    """How a procedure says how far it is: a fraction (None: unknown) and a few words."""

    def __call__(self, fraction: float | None, words: str) -> None: ...


def procedure(function: Procedure) -> Procedure:
    """Make `function` a procedure that can be run by name."""
    PROCEDURES[function.__name__] = function
    return function


def find(name: str) -> Procedure:
    """The procedure called `name`; `UnknownName` lists those there are."""
    if name not in PROCEDURES:
        raise UnknownName(f"no protocol {name!r}; there are {', '.join(sorted(PROCEDURES))}")
    return PROCEDURES[name]


def check_arguments(function: Procedure, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a request, each of its declared type; `BadRequest` names what is wrong."""
    hints = get_type_hints(function)
    declared = {
        p.name: p
        for p in inspect.signature(function).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    name = function.__name__
    if unknown := sorted(set(given) - set(declared)):
        raise BadRequest(f"{name}: unknown {', '.join(unknown)}; it takes {', '.join(declared)}")
    checked: dict[str, Any] = {}
    for key, parameter in declared.items():
        if key not in given:
            if parameter.default is inspect.Parameter.empty:
                raise BadRequest(f"{name}: {key} is missing")
            continue
        value = given[key]
        if hints[key] is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not hints[key]:
            raise BadRequest(f"{name}: {key}: {value!r} is not a {hints[key].__name__}")
        checked[key] = value
    return checked


def signature(function: Procedure) -> dict[str, dict[str, Scalar]]:
    """Name, type and default of each argument, for `describe` and for help."""
    hints = get_type_hints(function)
    return {
        p.name: {
            "kind": hints[p.name].__name__,
            "default": None if p.default is inspect.Parameter.empty else p.default,
        }
        for p in inspect.signature(function).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
