"""The commands that talk to a service that runs: each is one call of the client."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from typing import Annotated, Any

import typer

import coldframe
from coldframe.daemon.show import Out, Sheet
from coldframe.errors import BadRequest
from coldframe.units import show

Json = Annotated[bool, typer.Option("--json", help="print JSON for programs")]
Address = Annotated[
    str, typer.Option("--address", envvar="COLDFRAME_ADDRESS", help="the service's command socket")
]
Name = Annotated[str, typer.Argument(metavar="DEVICE.PARAMETER")]
UNITS = ("K", "V", "A", "s", "m")  # as the names of arguments and results of procedures end
HERE = "tcp://127.0.0.1:5750"


def add_to(app: typer.Typer) -> None:
    """Register every command of this module."""
    plain: tuple[Callable[..., None], ...] = (
        status, describe, get, watch, abort, ack, reset, enable, note,
    )  # fmt: skip
    for function in plain:
        app.command()(function)
    # values and arguments may begin with a minus sign: -185degC is no option
    minus = {"ignore_unknown_options": True}
    app.command("set", context_settings=minus)(set_)
    app.command("call", context_settings=minus)(call)
    app.command("run", context_settings=minus)(run)
    record = typer.Typer(help="Begin and end a session file.", no_args_is_help=True)
    record.command("start")(record_start)
    record.command("stop")(record_stop)
    app.add_typer(record, name="record")


def status(address: Address = HERE, json: Json = False) -> None:
    """How everything is: devices, interlocks, recording, clocks."""
    with coldframe.connect(address) as lab:
        found = lab.status()
    Out(json).tree(found)


def describe(
    name: Annotated[str, typer.Argument(metavar="[DEVICE[.NAME]]")] = "",
    address: Address = HERE,
    json: Json = False,
) -> None:
    """The devices, their parameters, commands, outputs and streams."""
    out = Out(json)
    with coldframe.connect(address) as lab:
        if "." in name:
            out.tree(lab.describe(name))
            return
        devices = lab.describe()
    chosen = [d for d in devices if not name or d["device"] == name]
    if not chosen:
        raise BadRequest(f"no device {name!r}; there are {', '.join(d['device'] for d in devices)}")
    if json:
        out.value(chosen)
        return
    out.tables([_sheet(device) for device in chosen])


def _sheet(device: dict[str, Any]) -> Sheet:
    rows = [
        [
            p["name"],
            p["unit"],
            "set" if p["writable"] else "read",
            p["hazard"] if p["writable"] else "",
            p["doc"],
        ]
        for p in device["parameters"]
    ]
    rows += [
        [
            c["name"] + "(" + ", ".join(c["arguments"]) + ")",
            "",
            "call",
            c["hazard"],
            c["doc"].split("\n")[0],
        ]
        for c in device["commands"]
    ]
    title = f"{device['device']}: {device['model']} ({device['identity']})"
    return Sheet(title, ["name", "unit", "how", "class", "what it is"], rows)


def get(name: Name, address: Address = HERE, json: Json = False) -> None:
    """Read one parameter."""
    with coldframe.connect(address) as lab:
        value, unit = lab.get(name), lab.unit(name)
    Out(json).value({"name": name, "value": value, "unit": unit}, show(value, unit))


def set_(
    name: Name,
    value: Annotated[
        str, typer.Argument(help="with its unit: -185degC, 150nA; temperatures need one")
    ],
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Set one parameter. Refused with a reason, never clipped."""
    with coldframe.connect(address) as lab:
        result = lab.set(name, value)
        unit = lab.unit(name)
    Out(json).value({"name": name, "value": result, "unit": unit}, f"{name} = {show(result, unit)}")


def call(
    name: Annotated[str, typer.Argument(metavar="DEVICE.COMMAND")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[k=v …]")] = None,
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Run one command of a device."""
    with coldframe.connect(address) as lab:
        result = lab.call(name, **pairs(arguments))
    Out(json).value(result, "done" if result is None else None)


def run(
    protocol: Annotated[str, typer.Argument(metavar="PROTOCOL")],
    arguments: Annotated[list[str] | None, typer.Argument(metavar="[k=v …]")] = None,
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Run an experiment procedure in the service, with progress."""
    out, given = Out(json), wanted(protocol, arguments)
    with coldframe.connect(address) as lab, out.progress(protocol) as bar:
        result = lab.run(protocol, report=bar, **given)
    if json:
        out.value(result)
        return
    shown = {
        name: show(value, unit) if (unit := unit_of(name)) else value
        for name, value in result.items()
    }
    out.tree(shown)


def watch(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME …]")] = None,
    count: Annotated[int, typer.Option(help="stop after so many readings; 0: never")] = 0,
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Print readings as they come."""
    out = Out(json)
    with coldframe.connect(address) as lab:
        for number, reading in enumerate(lab.watch(*(names or ())), 1):
            shown = f"{reading.name} = {show(reading.value, reading.unit)} [{reading.quality}]"
            out.value(jsonlib.loads(reading.encode()), shown)
            if number == count:
                return


def abort(
    reason: Annotated[
        str, typer.Option(help="why, for the journal")
    ] = "abort from the command line",
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Everything to its safe state, now, by the guard's own port. Anybody may."""
    with coldframe.connect(address) as lab:
        result = lab.abort(reason)
    Out(json).value(result, "aborted: every output is commanded to its safe state")


def ack(
    rule: Annotated[str, typer.Argument(metavar="ID")], address: Address = HERE, json: Json = False
) -> None:
    """I have seen this trip. Turns nothing on, allows nothing yet."""
    with coldframe.connect(address) as lab:
        result = lab.ack(rule)
    Out(json).value(result, f"{rule} acknowledged")


def reset(address: Address = HERE, json: Json = False) -> None:
    """Arm again, where every rule is healthy and acknowledged. Turns nothing on."""
    with coldframe.connect(address) as lab:
        result = lab.reset()
    Out(json).value(result, "armed")


def enable(
    name: Annotated[str, typer.Argument(metavar="DEVICE")],
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Allow a device's outputs to be commanded on. Turns nothing on."""
    with coldframe.connect(address) as lab:
        result = lab.enable(name)
    Out(json).value(result, f"{name} enabled")


def record_start(
    title: Annotated[str, typer.Option(help="goes into the file's name")] = "session",
    address: Address = HERE,
    json: Json = False,
) -> None:
    """Begin a session file."""
    with coldframe.connect(address) as lab:
        result = lab.record_start(title)
    Out(json).value(result, f"recording {result['file']}")


def record_stop(address: Address = HERE, json: Json = False) -> None:
    """End the session: everything under way is written, the file is finished and closed."""
    with coldframe.connect(address) as lab:
        result = lab.record_stop()
    said = f"{result['file']}: closed, {result['messages']} messages, {result['gaps']} gaps"
    Out(json).value(result, said)


def note(text: str, address: Address = HERE, json: Json = False) -> None:
    """Write a line into the session."""
    with coldframe.connect(address) as lab:
        result = lab.note(text)
    Out(json).value(result, "noted")


def pairs(arguments: list[str] | None) -> dict[str, str]:
    """`k=v` as text; what it means says the command's declaration."""
    found: dict[str, str] = {}
    for item in arguments or []:
        key, equals, text = item.partition("=")
        if not equals or not key.isidentifier():
            raise BadRequest(f"{item!r}: write arguments as name=value")
        found[key] = text
    return found


def wanted(protocol: str, arguments: list[str] | None) -> dict[str, Any]:
    """`k=v` as the procedure declares it: `spots=6` is text, `steps=6` a number, and
    `setpoint_K=-185degC` a temperature, which needs its unit here as everywhere."""
    from coldframe.conversation import converted
    from coldframe.protocols.catalogue import find, signature

    declared = signature(find(protocol))
    found: dict[str, Any] = {}
    for key, text in pairs(arguments).items():
        if key in declared:  # the service refuses others by name
            kind, where = str(declared[key]["kind"]), f"{protocol}({key})"
            found[key] = converted(kind, text, unit_of(key), where)
        else:
            found[key] = text
    return found


def unit_of(name: str) -> str:
    """The unit a procedure's argument or result has by its name: `setpoint_K`."""
    return next((unit for unit in UNITS if name.endswith(f"_{unit}")), "")
