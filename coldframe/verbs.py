"""The names both clients share: verbs as methods, devices and their members as attributes."""

from __future__ import annotations

from typing import Any

import zmq

from coldframe.conversation import Conversation, Lane, Request
from coldframe.errors import BadRequest, UnknownName
from coldframe.messages import DeviceInfo, ParameterInfo, Verb, new_id
from coldframe.subscription import Kind, Subscription

TIMEOUT = 10.0  # s


class Proxied:
    """One parameter or command of a device, as an attribute: `lab.stage.setpoint`."""

    def __init__(self, lab: Verbs, name: str, info: Any):
        self._lab, self._name, self.info = lab, name, info

    def __repr__(self) -> str:
        return f"<{self._name}>"


class Parameter(Proxied):
    """`get()`, and `set(value)` where it can be written; text is a quantity with its unit."""

    def get(self, *, fresh: bool = False) -> Any:
        """The latest value; `fresh` asks the instrument itself."""
        return self._lab.get(self._name, fresh=fresh)

    def set(self, value: Any) -> Any:
        """Set it and return what the instrument says it is now; refused with a reason."""
        return self._lab.set(self._name, value)


class Action(Proxied):
    """A command of a device; call it with the arguments its driver declares."""

    def __call__(self, *given: Any, **args: Any) -> Any:
        return self._lab._do(self._lab._talk.call(self._name, given, args))


class Device:
    """A device of the laboratory; its parameters and commands are attributes."""

    def __init__(self, lab: Verbs, info: DeviceInfo):
        self._lab, self.info = lab, info

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        device = self.info.device
        try:
            found = self._lab._talk.known_member(device, name)
        except UnknownName as error:
            raise AttributeError(str(error)) from None
        kind = Parameter if isinstance(found, ParameterInfo) else Action
        return kind(self._lab, f"{device}.{name}", found)

    def __dir__(self) -> list[str]:
        return [*self._lab._talk.members(self.info.device)]

    def __repr__(self) -> str:
        return f"<{self.info.device}: {self.info.model}>"


class Verbs:
    """The names both clients share. `_do` makes a request a value, or something to await."""

    def __init__(
        self,
        address: str = "tcp://127.0.0.1:5750",
        *,
        streams: str | None = None,
        guard: str | None = None,
        timeout: float = TIMEOUT,
    ):
        self._talk = Conversation(address, streams, guard, timeout)
        self._routing_id = f"client-{new_id()}".encode()

    def _do(self, request: Request) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Device:
        if name not in self._talk.devices:
            self._refresh()
        if name not in self._talk.devices:
            raise AttributeError(self._talk.no_device(name))
        return Device(self, self._talk.devices[name])

    def _refresh(self) -> None:
        """Learn what there is, where that can be done without waiting."""

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._talk.devices]

    def describe(self, name: str = "") -> Any:
        """Every device as a list, or one device, parameter or command, as the wire says it."""
        return self._do(self._talk.describe(name))

    def status(self) -> Any:
        """How everything is, in words."""
        return self._do(self._talk.status())

    def snapshot(self, name: str = "") -> Any:
        """The latest readings, statuses and events of everything, a device or a parameter."""
        return self._do(self._talk.ask("snapshot", name))

    def get(self, name: str, *, fresh: bool = False) -> Any:
        """The value of `name`; `NotReady` when it is not known now."""
        return self._do(self._talk.get(name, fresh))

    def unit(self, name: str) -> Any:
        """The unit of `name`."""
        return self._do(self._talk.unit(name))

    def set(self, name: str, value: Any) -> Any:
        """Set `name` and return what the instrument says it is now."""
        return self._do(self._talk.set(name, value))

    def call(self, name: str, /, **args: Any) -> Any:
        """Run the command `name`."""
        return self._do(self._talk.call(name, (), args))

    def command(self, do: Verb, name: str = "", value: Any = None, /, **args: Any) -> Any:
        """Any verb of the wire."""
        return self._do(self._talk.ask(do, name, value, args))

    def abort(self, reason: str = "abort") -> Any:
        """Everything safe, now: by the guard's own port, needing nothing else to be alive."""
        return self._do(self._talk.abort(reason))

    def ack(self, rule: str) -> Any:
        """I have seen this trip."""
        return self.command("ack", rule)

    def reset(self) -> Any:
        """Arm again; refused while anything is unhealthy or not acknowledged."""
        return self.command("reset")

    def enable(self, name: str) -> Any:
        """Allow a device's outputs to be commanded on; turns nothing on."""
        return self.command("enable", name)

    def record_start(self, title: str = "session", **about: Any) -> Any:
        """Begin a session file."""
        return self.command("record", "start", title=title, **about)

    def record_stop(self) -> Any:
        """End the session; the file is finished and closed."""
        return self.command("record", "stop")

    def note(self, text: str, **details: Any) -> Any:
        """Write a line into the session, with details for programs if there are any."""
        return self.command("record", "note", text=text, details=details)

    def watch(self, *names: str, timeout: float | None = None) -> Any:
        """Readings as they come, the latest known first. Names of parameters or whole devices; none
        means all. With a timeout, `NotReady` when nothing comes for so many seconds."""
        return self._stream("reading", names, timeout)

    def frames(self, name: str, *, timeout: float | None = None) -> Any:
        """Images of a camera as NumPy arrays with their headers; a live view may miss some, and
        then their numbers show it."""
        return self._stream("frame", (name,), timeout)

    def spectra(self, name: str, *, timeout: float | None = None) -> Any:
        """Spectra as NumPy arrays with their headers."""
        return self._stream("spectrum", (name,), timeout)

    def events(self, *names: str, timeout: float | None = None) -> Any:
        """What happens from now on: trips, commands carried out, notes, changes of the clock."""
        return self._stream("event", names, timeout)

    def _stream(self, kind: Kind, names: tuple[str, ...], timeout: float | None) -> Any:
        raise NotImplementedError

    # what the two ways of waiting have in common -------------------------------------------

    def _preface(self, subscription: Subscription) -> Request:
        """What is asked once a subscription is in force: the readings it begins with."""
        if subscription.kind != "reading":
            return []
        try:
            found = yield from self._talk.snapshots(subscription.names)
        except BadRequest:  # a source without memory: a replay
            found = []
        return subscription.begin(found)

    def _before(self, kind: Kind, names: tuple[str, ...]) -> Request:
        """What must be known before a subscription: the port, and that such a stream exists."""
        if kind in ("frame", "spectrum"):
            yield from self._talk.sends(names[0], kind)
        elif not self._talk.lab:
            yield from self._talk.learn()

    def _prepare(self, socket: Any, lane: Lane) -> None:
        socket.setsockopt(zmq.ROUTING_ID, self._routing_id)
        socket.setsockopt(zmq.IMMEDIATE, 1)  # nothing waits in a queue for a hub to be started
        socket.linger = 0
        socket.connect(getattr(self._talk.addresses, lane))

    def _subscribe(self, socket: Any, subscription: Subscription) -> None:
        socket.linger = 0
        socket.connect(self._talk.addresses.streams)
        for topic in [*subscription.topics, subscription.sync]:
            socket.subscribe(topic)
