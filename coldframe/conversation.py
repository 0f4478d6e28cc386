"""What both clients say and understand, without a socket: requests out, values and errors back.

A request is written once, as a generator: it yields an `Ask`, is sent the `Reply`, and returns the
value. `Lab` runs it at once, `AsyncLab` awaits it.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import urlsplit

import numpy as np

from coldframe.errors import BadRequest, ColdframeError, NotReady, UnknownName, near
from coldframe.messages import (
    GUARD_PORT,
    HUB_PORT,
    STREAM_PORT,
    Command,
    CommandInfo,
    DeviceInfo,
    ParameterInfo,
    Reading,
    Reply,
    Verb,
    decode,
    new_id,
)
from coldframe.status import Severity
from coldframe.units import parse

Lane = Literal["hub", "guard"]
_PARTS = ("guard", "recorder", "clock")  # of the service, with readings of their own
_SWITCH = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}
_QUICK = 0.5  # s; an abort does not wait longer than this to learn the guard's port


class Ask(NamedTuple):
    """A command, and where it goes; `timeout` in seconds, None for the client's own."""

    lane: Lane
    command: Command
    timeout: float | None = None


Request: TypeAlias = Generator[Ask, Reply, Any]


class Addresses(NamedTuple):
    """Where a laboratory listens."""

    hub: str
    streams: str
    guard: str

    @classmethod
    def beside(cls, hub: str, streams: str | None = None, guard: str | None = None) -> Addresses:
        """The usual ports beside the hub's, until the hub says otherwise."""
        host, port = _host_and_port(hub)

        def neighbour(usual: int) -> str:
            return f"tcp://{host}:{port + usual - HUB_PORT}"

        return cls(hub, streams or neighbour(STREAM_PORT), guard or neighbour(GUARD_PORT))


class Conversation:
    """The requests of a client, and what it knows of the laboratory."""

    def __init__(self, address: str, streams: str | None, guard: str | None, timeout: float):
        self.addresses = Addresses.beside(address, streams, guard)
        self.timeout = timeout
        self.devices: dict[str, DeviceInfo] = {}
        self.lab: dict[str, Any] = {}
        self._told = {"streams": streams is not None, "guard": guard is not None}

    def ask(
        self,
        do: Verb,
        name: str = "",
        value: Any = None,
        args: Mapping[str, Any] | None = None,
        lane: Lane = "hub",
    ) -> Request:
        """Any command: its value is returned, its error raised."""
        timed = do in ("set", "call")  # what nobody waits for any more is not to be begun
        fields = {
            "id": new_id(),
            "do": do,
            "name": name,
            "value": _bare(value),
            "args": {key: _bare(each) for key, each in (args or {}).items()},
            "deadline_ms": max(1, round(self.timeout * 1000)) if timed else None,
        }
        try:
            command = decode(Command, json.dumps(fields, allow_nan=False).encode())
        except ValueError:
            raise BadRequest(f"{do} {name}: not finite: {value!r}") from None
        except TypeError as error:
            raise BadRequest(f"{do} {name}: {error}") from None
        reply = yield Ask(lane, command)
        return _value(reply)

    def silent(self, lane: Lane, timeout: float) -> NotReady:
        """The error for an answer that did not come."""
        address = getattr(self.addresses, lane)
        return NotReady(
            f"{address} (the {lane}) did not answer within {timeout:g} s: is `coldframe serve` "
            "running, and is this its address?"
        )

    # what there is -----------------------------------------------------------------------

    def learn(self) -> Request:
        """Ask what the laboratory has, and remember it."""
        self.lab = yield from self.ask("describe")
        described = self.lab["devices"]
        known = [decode(DeviceInfo, json.dumps(each).encode()) for each in described]
        self.devices = {each.device: each for each in known}
        self._take_addresses(self.lab.get("addresses", {}))
        return described

    def _take_addresses(self, said: Mapping[str, str]) -> None:
        """The hub knows its neighbours' ports, we know how its machine is reached."""
        host, _ = _host_and_port(self.addresses.hub)
        for lane, told in self._told.items():
            port = urlsplit(said.get(lane, "")).port
            if port and not told:
                self.addresses = self.addresses._replace(**{lane: f"tcp://{host}:{port}"})

    def describe(self, name: str) -> Request:
        """All devices as a list, or one device, parameter or command."""
        if name:
            return (yield from self.ask("describe", name))
        return (yield from self.learn())

    def member(self, name: str) -> Generator[Ask, Reply, ParameterInfo | CommandInfo]:
        """The parameter or command called `device.name`; `UnknownName` with the near ones."""
        device, _, member = name.partition(".")
        if device not in self.devices:
            yield from self.learn()
        if device not in self.devices:
            raise UnknownName(f"no device {device!r}; {near(device, self.devices)}")
        return self.known_member(device, member)

    def known_member(self, device: str, member: str) -> ParameterInfo | CommandInfo:
        """The same of a device already known, without asking."""
        members = self.members(device)
        if member not in members:
            raise UnknownName(f"{device} has no {member!r}; {near(member, members)}")
        return members[member]

    def members(self, device: str) -> dict[str, ParameterInfo | CommandInfo]:
        """What is called `device.…`, whoever works it out: the beam's dose rate, too."""
        found: dict[str, ParameterInfo | CommandInfo] = {}
        for info in self.devices.values():
            for name, parameter in info.named().items():
                if name.startswith(f"{device}."):
                    found[name.partition(".")[2]] = parameter
        return found | {each.name: each for each in self.devices[device].commands}

    def no_device(self, name: str) -> str:
        return f"this laboratory has no {name!r}; {near(name, self.devices)}"

    def unit(self, name: str) -> Request:
        """The unit of a value; what is no parameter of a device is looked up in its reading."""
        device, _, member = name.partition(".")
        if device not in self.devices:
            yield from self.learn()
        found = self.members(device).get(member) if device in self.devices else None
        if isinstance(found, ParameterInfo):
            return found.unit
        snapshot = yield from self.ask("snapshot", name)
        return snapshot["readings"].get(name, {}).get("unit", "")

    def status(self) -> Request:
        """How everything is, in words: the laboratory, and each part that reports a status."""
        yield from self.learn()
        snapshot = yield from self.ask("snapshot")
        silent = [name for name in self.lab["expected"] if name not in self.devices]
        words = dict.fromkeys(silent, "not registered: its host is not running")
        for name, report in snapshot["status"].items():
            severity = Severity(report["severity"] // 100 * 100).name.lower()
            words[name] = f"{severity}: {report['words']}"
        about = {
            key: value for key, value in self.lab.items() if key not in ("devices", "expected")
        }
        parts: dict[str, dict[str, Any]] = {}
        for name, reading in snapshot["readings"].items():
            part, _, member = name.partition(".")
            if part in _PARTS:  # interlocks and specimen mode, the session file, the speed of time
                parts.setdefault(part, {})[member] = reading["value"]
        return {**about, "status": dict(sorted(words.items())), **parts}

    # values and verbs --------------------------------------------------------------------

    def get(self, name: str, fresh: bool) -> Request:
        return (yield from self.ask("get", name, args={"fresh": True} if fresh else {}))

    def set(self, name: str, value: Any) -> Request:
        if isinstance(value, str):
            found = yield from self.member(name)
            if isinstance(found, ParameterInfo):
                value = converted(found.kind, value, found.unit, name)
        return (yield from self.ask("set", name, value))

    def call(self, name: str, given: tuple[Any, ...], args: Mapping[str, Any]) -> Request:
        named = dict(args)
        if given or any(isinstance(each, str) for each in named.values()):
            spec = yield from self.member(name)
            if isinstance(spec, ParameterInfo):
                raise BadRequest(f"{name} is a parameter: get it or set it")
            if len(given) > len(spec.arguments):
                raise BadRequest(f"{name} takes {len(spec.arguments)} arguments, not {len(given)}")
            named = dict(zip(spec.arguments, given, strict=False)) | named
            for key, value in named.items():
                if isinstance(value, str) and key in spec.arguments:
                    declared = spec.arguments[key]
                    where = f"{name}({key})"
                    named[key] = converted(declared.kind, value, declared.unit, where)
        return (yield from self.ask("call", name, args=named))

    def abort(self, reason: str) -> Request:
        """By the guard's own port, whatever the hub is doing."""
        if not self.lab and not self._told["guard"]:
            try:
                command = Command(id=new_id(), do="describe")
                self._take_addresses(_value((yield Ask("hub", command, _QUICK)))["addresses"])
            except (ColdframeError, KeyError, TypeError):
                pass  # the hub does not matter now: the usual port it is
        return (yield from self.ask("abort", args={"reason": reason}, lane="guard"))

    def snapshots(self, names: Iterable[str]) -> Request:
        """The latest readings of what is watched; `UnknownName` for what does not exist."""
        found: list[Reading] = []
        for name in tuple(names) or ("",):
            snapshot = yield from self.ask("snapshot", name)
            readings = snapshot["readings"].values()
            found += [decode(Reading, json.dumps(each).encode()) for each in readings]
        return found

    def sends(self, name: str, kind: str) -> Request:
        """Check that device `name` sends frames or spectra."""
        if name not in self.devices:
            yield from self.learn()
        senders = [
            each.device
            for each in self.devices.values()
            if each.stream is not None and each.stream.kind == kind
        ]
        if name not in senders:
            raise UnknownName(f"{name!r} sends no {kind}; {near(name, senders)}")


def converted(kind: str, text: str, unit: str, where: str) -> Any:
    """Text as a value of `kind`: `-185 degC` for a temperature, `on` for a switch."""
    if kind == "str":
        return text
    if kind == "float":
        try:
            return parse(text, unit)
        except BadRequest as error:
            words = str(error) if unit else f"{text!r} is not a float: write a number alone"
            raise BadRequest(f"{where}: {words}") from None
    if kind == "bool" and text.strip().lower() in _SWITCH:
        return _SWITCH[text.strip().lower()]
    if (
        kind == "int"
        and text.strip().lstrip("+-").isascii()
        and text.strip().lstrip("+-").isdigit()
    ):
        return int(text)
    raise BadRequest(f"{where}: {text!r} is not a {kind}")


def _value(reply: Reply) -> Any:
    if reply.error is not None:
        raise reply.error.exception()
    return reply.value


def _bare(value: Any) -> Any:
    """NumPy's numbers as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _host_and_port(address: str) -> tuple[str, int]:
    try:
        parts = urlsplit(address)
        if parts.scheme == "tcp" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:
        pass
    raise BadRequest(f"{address!r} is not an address: write tcp://HOST:PORT")
