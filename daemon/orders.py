"""The commands that wait for an instrument: refused late, safe ones first, hazardous by permit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from coldframe.clock import NS
from coldframe.daemon.checks import Verdict, check
from coldframe.daemon.instrument import Instrument
from coldframe.daemon.permits import Permits
from coldframe.errors import (
    BadRequest,
    Busy,
    ColdframeError,
    Disconnected,
    Interlocked,
    LinkError,
    TooLate,
)
from coldframe.messages import Command, DeviceInfo, Reply, failure, plain

ROOM = 64  # commands that may wait for one instrument
PERMIT_WAIT = 0.3  # s a hazardous order waits for its permit: three asks


class Order(NamedTuple):
    """A checked command, when it came, and the instant after which it is not run any more."""

    command: Command
    verdict: Verdict
    since_ns: int
    until_ns: int | None
    needs: frozenset[str]  # the outputs that must be permitted


class Orders:
    """Commands for one device, one at a time. What is answered comes out of `take` and `work`."""

    def __init__(
        self,
        info: DeviceInfo,
        instrument: Instrument,
        permits: Permits,
        mono: Callable[[], int],
    ):
        self.info, self._instrument, self._permits, self._mono = info, instrument, permits, mono
        self._urgent: deque[Order] = deque()
        self._waiting: deque[Order] = deque()
        self._drained_ns = mono()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._waiting)

    def drained(self) -> None:
        """All lanes are empty now: what is found next turn arrived after this instant.

        So a deadline is counted from here, at most one exchange too early, never too late, and
        without the clocks of two machines having to agree.
        """
        self._drained_ns = self._mono()

    def take(self, command: Command, *, from_guard: bool) -> list[Reply]:
        """Check and queue; a refusal comes back at once."""
        try:
            verdict = check(self.info, command)
            if verdict.hazard == "hazardous" and not from_guard:
                raise Interlocked(f"{command.name} is hazardous: only the guard may pass it on")
            if verdict.hazard != "safe" and len(self._waiting) >= ROOM:
                raise Busy(f"{self.info.device}: {ROOM} commands are waiting already")
        except ColdframeError as error:
            return [failure(command.id, error)]
        until = None
        if command.deadline_ms is not None:
            until = self._drained_ns + command.deadline_ms * NS // 1000
        queue = self._urgent if verdict.hazard == "safe" else self._waiting
        order = Order(command, verdict, self._mono(), until, self._needs(verdict))
        queue.append(order)
        if not order.needs <= self._permits.granted():
            self._permits.hurry()
        return []

    def _needs(self, verdict: Verdict) -> frozenset[str]:
        """A hazardous order that names no output may be about any of them."""
        if verdict.hazard != "hazardous":
            return frozenset()
        if verdict.output is not None:
            return frozenset([verdict.output])
        return frozenset(output.name for output in self.info.outputs)

    @property
    def held(self) -> bool:
        """The next order waits for a permit that may be on its way: the guard has let it pass, and
        what it granted last may be older than that (an `enable` a moment ago)."""
        if self._urgent or not self._waiting:
            return False
        order = self._waiting[0]
        patient = self._mono() - order.since_ns < PERMIT_WAIT * NS
        return patient and not order.needs <= self._permits.granted()

    def refuse_hazardous(self, why: str) -> list[Reply]:
        """The guard has said `safe`: what it had allowed before and still waits is not run."""
        refused = [each for each in self._waiting if each.verdict.hazard == "hazardous"]
        self._waiting = deque(each for each in self._waiting if each not in refused)
        text = "made safe while this waited"
        return [
            failure(each.command.id, Interlocked(f"{each.command.name}: {text}: {why}"))
            for each in refused
        ]

    def work(self) -> list[Reply]:
        """Carry out the next order; its answer, or nothing when nothing waits."""
        if not len(self) or self.held:
            return []
        order = self._urgent.popleft() if self._urgent else self._waiting.popleft()
        try:
            return [Reply(id=order.command.id, value=self._carry_out(order))]
        except ColdframeError as error:
            return [failure(order.command.id, self._named(order.command, error))]

    # -----------------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> Any:
        command, verdict, instrument = order.command, order.verdict, self._instrument
        if order.until_ns is not None and self._mono() > order.until_ns:
            late = f"{command.deadline_ms} ms had passed before its turn came"
            raise TooLate(f"{command.name}: {late}: it was not run")
        if not instrument.up and not (verdict.hazard == "safe" and instrument.connect()):
            raise Disconnected(f"{self.info.device}: no link to the instrument; trying again")
        if not order.needs <= self._permits.granted():
            outputs = ", ".join(sorted(order.needs))
            raise Interlocked(
                f"{command.name}: no permit for output {outputs!r}: the guard does not "
                "grant it now; look at its rules with `status`"
            )
        member = command.name.partition(".")[2]
        if command.do == "get":
            return instrument.known(member)
        try:
            value = self._do(command, member)
        except LinkError as error:
            instrument.failed(error)
            raise
        finally:
            if verdict.hazard == "hazardous":
                instrument.driven(verdict.output)
            instrument.refresh()
        return value

    def _named(self, command: Command, error: ColdframeError) -> ColdframeError:
        """An error of the wire knows the question, not whose wire it was."""
        text = str(error)
        return error if self.info.device in text else type(error)(f"{command.name}: {text}")

    def _do(self, command: Command, member: str) -> Any:
        instrument = self._instrument
        if command.do == "set":
            instrument.driver.set(member, command.value)
            said = f"{command.name} = {command.value!r}"
            instrument.did(said, do="set", name=command.name, value=command.value, by=command.by)
            return instrument.read(member) if instrument.readable(member) else command.value
        if command.do == "call":
            value = travelling(instrument.driver.call(member, command.args))
            said = f"{command.name}({', '.join(f'{k}={v!r}' for k, v in command.args.items())})"
            instrument.did(said, do="call", name=command.name, args=command.args, by=command.by)
            return value
        raise BadRequest(f"{command.do!r} is nothing a device does")


def travelling(value: Any) -> Any:
    """What a command returned, as JSON can carry it."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): travelling(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [travelling(each) for each in value]
    if hasattr(value, "tolist"):  # numpy, arrays and scalars alike
        return travelling(value.tolist())
    return plain(value)
