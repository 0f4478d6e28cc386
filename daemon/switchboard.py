"""What the hub knows and decides, without its sockets: who is there, what was said, who asked."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from coldframe.clock import NS
from coldframe.daemon.checks import check
from coldframe.daemon.reception import Asker
from coldframe.errors import BadRequest, Busy, NotReady, TooLate, UnknownName, near
from coldframe.messages import (
    Command,
    CommandInfo,
    DeviceInfo,
    Event,
    Header,
    ParameterInfo,
    Reading,
    Reply,
    StatusReport,
    failure,
    new_id,
)

REMEMBERED = 10_000  # answers kept for commands that are asked again
EVENTS_KEPT = 100
ROOM = 1000  # commands under way at one time
PATIENCE = 60.0  # s for an answer when the command gives no deadline
MARGIN = 0.5  # s past a deadline: the order may have begun just before it
FRESH = 2.0  # polling periods a reading may be old and still answer `get`

Key = tuple[Asker, str]


class Expected(NamedTuple):
    """A device of the configuration: only such a one may register. Without a role, any role."""

    model: str
    role: str = ""


class Pending(NamedTuple):
    """A command under way."""

    command: Command
    to: str  # the inner peer that will answer
    asker: Asker
    until_ns: int
    boot: str  # of the host it is meant for; "" when it is for no device


class Latest(NamedTuple):
    """The last header of a stream, and when it came."""

    header: Header
    raw: dict[str, Any]
    received_ns: int


class Switchboard:
    """State of the hub. It is told what arrives and says what to do; it never waits."""

    def __init__(self, expected: Mapping[str, Expected], mono: Callable[[], int]):
        self.expected = expected
        self.devices: dict[str, DeviceInfo] = {}
        self.readings: dict[str, Latest] = {}
        self.statuses: dict[str, Latest] = {}
        self.events: deque[Latest] = deque(maxlen=EVENTS_KEPT)
        self._mono = mono
        self._pending: dict[str, Pending] = {}  # by the id the hub gives inside
        self._under_way: dict[Key, Command] = {}
        self._answered: OrderedDict[Key, tuple[Command, Reply]] = OrderedDict()
        self._boot, self._count = new_id(), 0

    # registration ----------------------------------------------------------------------

    def register(self, peer: str, info: DeviceInfo) -> str | None:
        """Take in a device that agrees with the configuration; otherwise the reason why not."""
        wanted = self.expected.get(info.device)
        if info.device != peer:
            return f"{peer!r} registers as {info.device!r}: a host speaks for its own device"
        if wanted is None:
            return f"no device {info.device!r} in the configuration; {near(peer, self.expected)}"
        if info.model != wanted.model or wanted.role not in ("", info.role):
            return (
                f"{info.device}: the configuration has {wanted.model} ({wanted.role}), "
                f"the host has {info.model} ({info.role})"
            )
        self.devices[info.device] = info
        return None

    # what was said ---------------------------------------------------------------------

    def note(self, header: Header) -> None:
        """Keep the latest of a stream."""
        latest = Latest(header, header.model_dump(mode="json"), self._mono())
        if isinstance(header, Reading):
            self.readings[header.name] = latest
        elif isinstance(header, StatusReport):
            self.statuses[header.name] = latest
        elif isinstance(header, Event):
            self.events.append(latest)

    def snapshot(self, name: str) -> dict[str, Any]:
        """The latest readings and statuses of everything, one device or one parameter."""

        def chosen(each: str) -> bool:
            return not name or each == name or each.startswith(f"{name}.")

        readings = {key: last.raw for key, last in self.readings.items() if chosen(key)}
        statuses = {key: last.raw for key, last in self.statuses.items() if chosen(key)}
        if name and not readings and not statuses:
            known = [*self.names(), *self.devices]
            waited_for = set(self.expected) - set(self.devices)
            if name not in known and name.partition(".")[0] not in waited_for:
                raise UnknownName(f"nothing is called {name!r}; {near(name, known)}")
        events = [each.raw for each in self.events if chosen(each.header.name)]
        return {"readings": readings, "status": statuses, "events": events}

    def names(self) -> list[str]:
        """Everything that has a value."""
        declared = [name for info in self.devices.values() for name in info.named()]
        return sorted({*declared, *self.readings})

    def device(self, name: str) -> DeviceInfo:
        """The device that `name` (`stage` or `stage.setpoint`) belongs to."""
        for info in self.devices.values():
            if name in info.named():
                return info
        device = name.partition(".")[0]
        if device in self.devices:
            return self.devices[device]
        if device in self.expected:
            raise NotReady(f"{device}: its host has not registered yet; ask again, or see `status`")
        raise UnknownName(f"no device {device!r}; {near(device, self.expected)}")

    def describe(self, name: str) -> dict[str, Any]:
        """One device, parameter or command, as its host registered it."""
        info = self.device(name)
        member = name.partition(".")[2]
        if not member:
            return info.model_dump(mode="json")
        if (parameter := info.named().get(name)) is not None:
            return parameter.model_dump(mode="json")
        both: list[ParameterInfo | CommandInfo] = [*info.commands, *info.parameters]
        members = {each.name: each for each in both}
        if member not in members:
            raise UnknownName(f"{info.device} has no {member!r}; {near(member, members)}")
        return members[member].model_dump(mode="json")

    def latest(self, command: Command) -> Any:
        """The value that answers this `get` from memory; None when the device must be asked."""
        last = self.readings.get(command.name)
        info = self.devices.get(command.name.partition(".")[0])
        declared = None if info is None else info.named().get(command.name)
        if declared is None:  # worked out by guard or hub: a dose, the speed of the clock
            if last is None:
                self.device(command.name)
                if command.name in self.names():
                    raise NotReady(f"{command.name} has not been said yet; ask again")
                raise UnknownName(f"no value {command.name!r}; {near(command.name, self.names())}")
        elif last is None or command.args.get("fresh") or self._old(last, declared.poll):
            return None
        assert isinstance(last.header, Reading)
        if last.header.value is None:
            raise NotReady(f"{command.name} is not known now (quality {last.header.quality})")
        return last.header.value

    def _old(self, last: Latest, poll: float | None) -> bool:
        return poll is None or self._mono() - last.received_ns > FRESH * poll * NS

    def check(self, command: Command) -> str:
        """The hazard of a `get`, `set` or `call` on a device, when it is well-formed."""
        if "." not in command.name:
            raise BadRequest(f"{command.name!r}: write DEVICE.NAME, for example stage.setpoint")
        return check(self.device(command.name), command).hazard

    # who asked -------------------------------------------------------------------------

    def seen(self, asker: Asker, command: Command) -> Reply | bool:
        """For a command this asker has sent before: its answer, or True while that is under way.
        An id used for something else is refused; an abort is carried out whatever its id."""
        if command.do == "abort":
            return False
        key = (asker, command.id)
        first, reply = self._answered.get(key, (self._under_way.get(key), None))
        if first is None:
            return False
        if first != command:
            raise BadRequest(
                f"id {command.id!r} was used for {first.do} {first.name}: take another"
            )
        return True if reply is None else reply

    def begin(self, asker: Asker, command: Command, to: str) -> Command:
        """Note who waits for the answer; returns the command with the id it has inside."""
        if len(self._pending) >= ROOM:
            raise Busy(f"{ROOM} commands are under way; ask again")
        self._count += 1
        inner = f"{self._boot}-{self._count}"
        wait = PATIENCE if command.deadline_ms is None else command.deadline_ms / 1000 + MARGIN
        until = self._mono() + round(wait * NS)
        self._pending[inner] = Pending(command, to, asker, until, self._boot_of(command))
        self._under_way[(asker, command.id)] = command
        return command.model_copy(update={"id": inner})

    def finish(self, reply: Reply, peer: str | None = None) -> tuple[Asker, Reply] | None:
        """Whose answer this is, under the id they gave it; None when nobody waits any more.

        Who was asked may answer, or the device the guard has passed it on to; nobody else.
        """
        pending = self._pending.get(reply.id)
        if pending is None:
            return None
        if peer not in (None, pending.to, pending.command.name.partition(".")[0]):
            raise BadRequest(f"{peer} answers what {pending.to} was asked")
        del self._pending[reply.id]
        asker = pending.asker
        self._under_way.pop((asker, pending.command.id), None)
        own = reply.model_copy(update={"id": pending.command.id})
        self.answered(asker, pending.command, own)
        return asker, own

    def answered(self, asker: Asker, command: Command, reply: Reply) -> None:
        """Remember an answer, so that the same id is never carried out twice."""
        self._answered[(asker, command.id)] = (command, reply)
        if len(self._answered) > REMEMBERED:
            self._answered.popitem(last=False)

    def overdue(self) -> list[Reply]:
        """`TooLate` for each command whose answer has not come in time, or will not come, because
        the host that had it is gone and another is in its place."""
        now, pending = self._mono(), list(self._pending.items())
        late = [failure(inner, _too_late(each)) for inner, each in pending if each.until_ns < now]
        lost = [
            failure(inner, _died(each))
            for inner, each in pending
            if each.until_ns >= now and each.boot != self._boot_of(each.command)
        ]
        return late + lost

    def _boot_of(self, command: Command) -> str:
        info = self.devices.get(command.name.partition(".")[0])
        return "" if info is None else info.boot


def _died(pending: Pending) -> TooLate:
    command = pending.command
    return TooLate(
        f"{command.do} {command.name}: the host that had it is gone, a new one is in its place. It "
        "is not run again, but it may have begun: read back before you ask again"
    )


def _too_late(pending: Pending) -> TooLate:
    command = pending.command
    return TooLate(
        f"{command.do} {command.name}: no answer from {pending.to} in time. It is not run late, "
        "but it may have begun: read back before you ask again"
    )
