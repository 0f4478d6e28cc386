"""Is this command one the device understands, and how dangerous is it? Asked before it is sent."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from coldframe.errors import BadRequest, OutOfRange, ReadOnly, UnknownName, near
from coldframe.messages import ArgumentInfo, Command, CommandInfo, DeviceInfo, Hazard, ParameterInfo
from coldframe.units import show

_KINDS: dict[str, type] = {"float": float, "int": int, "bool": bool, "str": str}


class Verdict(NamedTuple):
    """How a command is classed, and the output it puts on or off."""

    hazard: Hazard
    output: str | None


def check(info: DeviceInfo, command: Command) -> Verdict:
    """Name, type and range of a `get`, `set` or `call`, against what the device registered.

    Raises `UnknownName`, `ReadOnly`, `BadRequest` or `OutOfRange`; the text names the parameter,
    the value, the limit, and what would have been right.
    """
    _, _, member = command.name.partition(".")
    if command.do == "call":
        return _check_call(info, member, command.args)
    parameter = info.named().get(command.name)
    if parameter is None:
        names = [each.name for each in info.parameters]
        raise UnknownName(f"{info.device} has no parameter {member!r}; {near(member, names)}")
    if command.do == "get":
        return Verdict("neutral", None)
    return _check_set(parameter, command.value, command.name)


def _check_set(parameter: ParameterInfo, value: Any, where: str) -> Verdict:
    if not parameter.writable:
        raise ReadOnly(f"{where} can be read, not set")
    value = _typed(parameter.kind, value, where)
    _in_range(parameter, value, where)
    if parameter.choices is not None and value not in parameter.choices:
        raise OutOfRange(f"{where}: {value!r} is none of {', '.join(map(str, parameter.choices))}")
    if any(type(safe) is type(value) and safe == value for safe in parameter.safe_values):
        return Verdict("safe", parameter.output)
    return Verdict(parameter.hazard, parameter.output)


def _check_call(info: DeviceInfo, member: str, given: dict[str, Any]) -> Verdict:
    spec: CommandInfo | None = next((each for each in info.commands if each.name == member), None)
    if spec is None:
        names = [each.name for each in info.commands]
        raise UnknownName(f"{info.device} has no command {member!r}; {near(member, names)}")
    where = f"{info.device}.{member}"
    for name, value in given.items():
        if name not in spec.arguments:
            takes = near(name, spec.arguments)
            raise BadRequest(f"{where}: unknown argument {name!r}; {takes}")
        argument = spec.arguments[name]
        _in_range(argument, _typed(argument.kind, value, f"{where}({name})"), f"{where}({name})")
    for name, argument in spec.arguments.items():
        if argument.required and name not in given:
            raise BadRequest(f"{where}: argument {name!r} is missing")
    return Verdict(spec.hazard, spec.output)


def _in_range(declared: ParameterInfo | ArgumentInfo, value: Any, where: str) -> None:
    low, high = declared.minimum, declared.maximum
    below, above = low is not None and value < low, high is not None and value > high
    if below or above:
        limits = " … ".join(
            "" if each is None else show(each, declared.unit) for each in (low, high)
        )
        raise OutOfRange(
            f"{where}: {show(value, declared.unit)} is outside {limits}; choose a value inside"
        )


def _typed(kind: str, value: Any, where: str) -> Any:
    """`value` as `kind`; an int serves as a float, nothing else is converted."""
    wanted: Any = _KINDS[kind]
    if wanted is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise BadRequest(f"{where}: the number is too large") from None
    if type(value) is not wanted:
        raise BadRequest(f"{where}: {_brief(value)} is not a {kind}")
    if wanted is float and not math.isfinite(value):
        raise BadRequest(f"{where}: {value!r} is not a finite number")
    return value


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
