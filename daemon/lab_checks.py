"""What no single key of a laboratory's file can know: whether its parts fit one another."""

from __future__ import annotations

from pydantic import ValidationError

from coldframe.daemon.lab_models import DeviceSettings, Lab
from coldframe.daemon.rules import (
    DERIVED_POLL_S,
    GuardSettings,
    Rule,
    derived_signals,
    for_devices,
)
from coldframe.drivers.base import Driver
from coldframe.drivers.catalogue import driver
from coldframe.errors import ColdframeError, ConfigurationError, OutOfRange
from coldframe.simulators.laboratory import TRUTH
from coldframe.units import parse

NOT_FOR_DEVICES = (TRUTH, "pid")  # what else stands in the simulators' address file
Problem = tuple[list[str | int], str]


def cross_checks(lab: Lab) -> list[Problem]:
    """What no single field can know."""
    problems: list[Problem] = []
    classes: dict[str, type[Driver]] = {}
    for name, device in lab.device.items():
        where: list[str | int] = ["device", name]
        try:
            classes[name] = driver(device.model, lab.lab.plugins)
        except ColdframeError as error:
            problems.append(([*where, "model"], str(error)))
            continue
        problems += _check_device(where, device, classes[name])
        simulated = device.address.startswith("sim://")
        if device.address.removeprefix("sim://").partition("?")[0] in NOT_FOR_DEVICES:
            problems.append(([*where, "address"], "this is no instrument: choose another name"))
        if simulated and not lab.lab.simulated:
            problems.append(([*where, "address"], "sim:// belongs in a lab with simulated = true"))
        if lab.lab.simulated and not simulated:
            problems.append(
                (
                    [*where, "address"],
                    f"in a simulated lab every address is sim://NAME: sim://{name}",
                )
            )
    if len(classes) == len(lab.device):
        problems += _check_rules(lab, classes)
    return problems


def _check_device(
    where: list[str | int], device: DeviceSettings, kind: type[Driver]
) -> list[Problem]:
    problems: list[Problem] = []
    try:
        kind.Options.model_validate(device.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = [str(part) for part in first["loc"]]
        known = ", ".join(kind.Options.model_fields) or "none"
        problems.append(
            ([*where, "options", *key], f"{first['msg']} ({device.model} takes {known})")
        )
    for table, names in (("limits", device.limits), ("poll", device.poll)):
        for name in names:
            if name not in kind.parameters:
                known = ", ".join(kind.parameters)
                problems.append(([*where, table, name], f"no such parameter; there are {known}"))
    for name, seconds in device.poll.items():
        if not 0.01 <= seconds <= 3600:
            problems.append(([*where, "poll", name], f"{seconds:g} s is outside 0.01 … 3600 s"))
    try:
        lab_limits(device, kind)
    except ColdframeError as error:
        problems.append(([*where, "limits"], str(error)))
    return problems


def lab_limits(device: DeviceSettings, kind: type[Driver]) -> dict[str, tuple[float, float]]:
    """The laboratory's limits in the parameters' units; `OutOfRange` if wider than the
    instrument's, or the wrong way round."""
    found = {}
    for name, pair in device.limits.items():
        parameter = kind.parameters.get(name)
        if parameter is None:
            continue
        low, high = (parse(v, parameter.unit) if isinstance(v, str) else float(v) for v in pair)
        if low > high:
            raise OutOfRange(f"{name}: {low:g} is above {high:g}")
        if parameter.limits and not (parameter.limits[0] <= low and high <= parameter.limits[1]):
            first, last = parameter.limits
            raise OutOfRange(
                f"{name}: {low:g} … {high:g} is wider than the instrument's {first:g} … {last:g}"
            )
        found[name] = (low, high)
    return found


def _check_rules(lab: Lab, classes: dict[str, type[Driver]]) -> list[Problem]:
    """Each rule must watch something that is polled and trip something that exists, and nothing
    hazardous may stand without a rule."""
    problems: list[Problem] = []
    outputs = {f"{n}.{o.name}" for n, kind in classes.items() for o in kind.outputs}
    try:
        guard = guard_settings(lab)
    except (ColdframeError, ValidationError) as error:
        return [(["rule"], _first_line(error))]
    numbers: dict[str, dict[str, int]] = {
        "rule": {rule.id: number for number, rule in enumerate(lab.rule)},
        "check": {check.id: number for number, check in enumerate(lab.check)},
    }
    for kind, entries in (("rule", guard.rules), ("check", guard.checks)):
        for entry in entries:
            named = entry.trips if isinstance(entry, Rule) else entry.refuses
            where: list[str | int] = [kind, numbers[kind][entry.id]]
            for output in sorted(set(named) - outputs):
                known = ", ".join(sorted(outputs)) or "none"
                problems.append((where, f"{entry.id}: no output {output}; there are {known}"))
            if isinstance(entry, Rule):
                try:
                    entry.check_signal(*signal_of(lab, classes, entry.signal))
                except ColdframeError as error:
                    problems.append((where, _first_line(error)))
    tripped = {output for rule in guard.rules for output in rule.trips}
    for output in sorted(outputs - tripped):
        device = output.split(".")[0]
        problems.append(
            (["device", device], f"no rule trips {output}: a hazardous output needs an interlock")
        )
    return problems


def signal_of(lab: Lab, classes: dict[str, type[Driver]], name: str) -> tuple[str, float | None]:
    """Unit and poll period of a signal: a device's parameter, or one the guard works out."""
    device, _, parameter = name.partition(".")
    derived = derived_signals(lab.dose, lab.cell, lab.ion)
    if name in derived:
        return derived[name], DERIVED_POLL_S
    if device not in classes:
        raise ConfigurationError(f"{name}: no device {device!r}; there are {', '.join(classes)}")
    declared = classes[device].parameters.get(parameter)
    if declared is None:
        known = ", ".join(classes[device].parameters)
        raise ConfigurationError(f"{name}: {device} has no such parameter; it has {known}")
    return declared.unit, lab.device[device].poll.get(parameter, declared.poll)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return str(error.errors(include_url=False)[0]["msg"])
    return str(error)


def guard_settings(lab: Lab, configuration_hash: str = "") -> GuardSettings:
    """What the guard is told of this laboratory."""
    rules, checks = for_devices(lab.rule, lab.check, set(lab.device))
    return GuardSettings(
        simulated=lab.lab.simulated,
        specimen=lab.lab.specimen,
        devices={name: device.model for name, device in lab.device.items()},
        rules=rules,
        checks=checks,
        dose=lab.dose,
        cell=lab.cell,
        contact=lab.contact,
        ion=lab.ion,
        configuration_hash=configuration_hash,
    )
