"""One instrument as its host sees it: connected or not, read, made safe, and what it said last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coldframe.daemon.connection import Connection
from coldframe.daemon.polling import Schedule
from coldframe.daemon.stamps import Frames, Stamps
from coldframe.drivers.base import Driver, Sample
from coldframe.errors import (
    BadRequest,
    Busy,
    ColdframeError,
    Disconnected,
    LinkError,
    NotReady,
    Silence,
)
from coldframe.messages import DeviceInfo, Scalar, plain
from coldframe.status import Severity, Status

STATUS = ""  # the name under which the status is on the schedule
STATUS_EVERY = 2.0  # s


class Instrument:
    """Reads go out as they come in; a reading that failed goes out as null, once."""

    def __init__(
        self,
        driver: Driver,
        info: DeviceInfo,
        stamps: Stamps,
        publish: Callable[[Frames], None],
        mono: Callable[[], int],
    ):
        self.driver, self.owes_safe = driver, False
        self.units = {each.name: each.unit for each in info.parameters}
        periods = {each.name: each.poll for each in info.parameters}
        self.schedule = Schedule({**periods, STATUS: STATUS_EVERY}, mono)
        writable = (each.name for each in info.parameters if each.writable)
        self._settings = [name for name in writable if self.readable(name)]
        self._stamps, self._publish = stamps, publish
        self._connection = Connection(driver, mono)
        self._last: dict[str, Scalar] = {}
        self._bad: set[str] = set()
        self._left_on: set[str] = set()  # outputs on in the safe state itself: a stage held cold
        self._trouble = ""

    # the link --------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        return self._connection.up

    @property
    def identity(self) -> str:
        return self._connection.identity

    def due(self) -> bool:
        """Is it time to try to connect?"""
        return self._connection.due()

    def wake_ns(self) -> int:
        """When there is something to do here next."""
        if not self.up:
            return self._connection.next_try_ns
        wake = self.schedule.wake_ns()
        assert wake is not None  # the status is always on the schedule
        return wake

    def connect(self) -> bool:
        """Open, identify, compare, adopt; say what differs from before. No order is repeated."""
        again = bool(self.identity)
        try:
            self._connection.open()
            self.driver.adopt()
            self._prepare()
            before = dict(self._last)
            for name in self._settings:
                self.driver.between()
                self.poll(name)
        except ColdframeError as error:
            self._tell_trouble(error)
            if self._connection.up:
                self._connection.drop()
            return False
        if not self.up:  # lost again while the settings were read
            return False
        self._trouble = ""
        if again:
            changed = {
                name: [before[name], self._last.get(name)]
                for name in self._settings
                if name in before and before[name] != self._last.get(name)
            }
            differs = f"; changed meanwhile: {', '.join(changed)}" if changed else ""
            self._event("reconnected", f"{self.driver.name} is back{differs}", changed=changed)
        else:
            self._event("connected", f"{self.driver.name} is {self.identity}")
        self._left_on.clear()
        self.schedule.soon([*self.schedule.periods])
        return True

    def _prepare(self) -> None:
        """An instrument that will not be prepared is there all the same: what it leaves on or
        unclear, `outputs_on` says, and without a permit that is made safe."""
        try:
            self.driver.prepare()
        except Busy:
            pass  # found on; it is as it was
        except LinkError:
            raise
        except ColdframeError as error:
            self._event("not prepared", str(error), error=error.kind)

    def _lost(self, error: ColdframeError) -> None:
        self._connection.drop()
        self._tell_trouble(error)

    def _tell_trouble(self, error: ColdframeError) -> None:
        """Once for each kind of trouble: an event, a status, and null for everything polled."""
        if error.kind != self._trouble:
            self._trouble = error.kind
            self._event("lost", f"{self.driver.name}: {error}", error=error.kind)
            words = f"link lost: {error}; trying again"
            self._publish(self._stamps.status(Status(Severity.ERROR, words)))
        for name in self.units:
            if (name in self._last or name in self.schedule.periods) and name not in self._bad:
                self._send(name, None)

    # reading ---------------------------------------------------------------------------

    def readable(self, name: str) -> bool:
        parameter = self.driver.parameters[name]
        return parameter.read is not None or hasattr(self.driver, f"read_{name}")

    def poll(self, name: str) -> None:
        """Read `name` and publish it; a failure is published too."""
        try:
            self.read(name)
        except ColdframeError:
            pass  # `read` has published the failure, and dropped a link that is lost

    def read(self, name: str) -> Scalar:
        """Read `name`, publish it and return it; a failure is raised, and published unless it
        is a single silence."""
        try:
            value = plain(self.driver.get(name))
        except ColdframeError as error:
            if self._connection.failed(error):
                self._lost(error)
            elif name not in self._bad and not isinstance(error, Silence):
                # one answer that did not come says nothing yet: the guard counts the age of the
                # last one, and the next silences in a row are a lost link
                self._send(name, None)
            raise
        self._connection.worked()
        self._send(name, value)
        return value

    def known(self, name: str) -> Scalar:
        """Read `name` for somebody who asked; `NotReady` when the instrument has no value."""
        if not self.readable(name):
            raise BadRequest(f"{self.driver.name}.{name} can be set, not read")
        value = self.read(name)
        if value is None:
            raise NotReady(f"{self.driver.name}.{name}: the instrument says it has no valid value")
        return value

    def report_status(self) -> None:
        try:
            status = self.driver.status()
        except ColdframeError as error:
            self.failed(error)
            status = Status(Severity.ERROR, str(error))
        if self.up:
            self._publish(self._stamps.status(status))

    def take(self) -> list[Sample]:
        """The frames or spectra that arrived."""
        try:
            return self.driver.take()
        except ColdframeError as error:
            self.failed(error)
            return []

    def failed(self, error: ColdframeError) -> None:
        """An exchange outside `read` went wrong; a lost link is let go of."""
        if self._connection.failed(error) and self.up:
            self._lost(error)

    def refresh(self) -> None:
        """What an order may have changed, or a session is to hold, is read again soon."""
        self.schedule.soon([*self._settings, *self.schedule.periods])

    def _send(self, name: str, value: Scalar) -> None:
        (self._bad.add if value is None else self._bad.discard)(name)
        if value is not None:
            self._last[name] = value
        parameter = f"{self.driver.name}.{name}"
        self._publish(self._stamps.reading(parameter, value, self.units[name]))

    def _event(self, kind: str, text: str, **details: Any) -> None:
        self._publish(self._stamps.event(kind, text, **details))

    def did(self, text: str, **details: Any) -> None:
        """An order was carried out: on record, with who asked."""
        self._event("done", text, **details)

    # safety ----------------------------------------------------------------------------

    def loose(self, granted: frozenset[str]) -> set[str]:
        """The outputs that are or may be on without a permit."""
        on = set(self.driver.outputs_on())
        self._left_on = (self._left_on & on) - granted
        return on - granted - self._left_on

    def driven(self, output: str | None) -> None:
        """A hazardous order reached the instrument: its output is watched again."""
        if output is None:
            self._left_on.clear()
        self._left_on.discard(output or "")

    def make_safe(self, why: str) -> tuple[bool, str]:
        """The safe state, verified or not, and the words for it. Tries to connect if it must."""
        try:
            if not self.up and not self.connect():
                raise Disconnected(f"{self.driver.name}: no link to make it safe through")
            self.driver.make_safe()
        except ColdframeError as error:
            self.failed(error)
            words = f"NOT SAFE: {error}"
            if not self.owes_safe:
                self._event("not safe", f"{self.driver.name}: {words} (wanted: {why})")
            self._publish(self._stamps.status(Status(Severity.ERROR, words)))
            self.owes_safe = True
            return False, words
        self.owes_safe = False
        self._left_on = set(self.driver.outputs_on())
        states = "; ".join(output.safe_state for output in self.driver.outputs)
        words = states or "nothing to make safe"
        self._event("safe", f"{self.driver.name}: {words} ({why})")
        self.refresh()
        return True, words

    def close(self) -> None:
        self.driver.close()
