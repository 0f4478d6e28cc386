"""What the guard decides, without its sockets: readings in; permits, safe orders and words out.

One object, one thread: between checking and acting nothing can come in between. What is to be sent
collects in `out` and is sent in that order, safe orders first of all; what must be in the journal
is written after that (a trip) or before the answer (acknowledge, reset, enable).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coldframe.clock import NS, Clock
from coldframe.daemon.conditions import Sample
from coldframe.daemon.derived import Derived
from coldframe.daemon.dose import INPUTS, Calibration, DoseMeter, ReadBack
from coldframe.daemon.engine import LASTING, Engine, Happening, Memory
from coldframe.daemon.journal import Journal
from coldframe.daemon.predict import Contact
from coldframe.daemon.rules import GuardSettings
from coldframe.daemon.securing import Securing
from coldframe.daemon.vetting import Fact, Facts, as_number, as_sample
from coldframe.errors import StorageError
from coldframe.messages import Ask, DeviceInfo, Grant, Message, Reading, Secured

GUARD = "guard"
RESERVE = 0.01  # of the dose limit: how far ahead the journal's upper bound is written
DEADMAN_S = 1.0  # for how long a beam may stay on when the guard dies
PROMPT_S = 0.2  # an output that takes longer to be safe keeps its host from asking meanwhile


@dataclass
class Out:
    """What is to be sent, in this order."""

    to_hosts: list[tuple[str, Message]] = field(default_factory=list)
    events: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)


@dataclass
class Host:
    """One registered device."""

    info: DeviceInfo
    n: int = -1
    asked_ns: int | None = None
    lost: bool = False  # silent, or gone in good order: only the last hand can make it safe

    @property
    def outputs(self) -> list[str]:
        return [f"{self.info.device}.{output.name}" for output in self.info.outputs]

    @property
    def seconds(self) -> float:
        """How long its loop may be busy making safe, on top of what any host may be."""
        slowest = max((output.seconds for output in self.info.outputs), default=0.0)
        return slowest if slowest > PROMPT_S else 0.0

    def alive(self, now_ns: int) -> bool:
        """Has it asked lately?"""
        return not self.lost and self.asked_ns is not None and self.asked_ns > now_ns - NS


class Judge:
    """The engine, the dose meter, the predictions and the journal around them."""

    def __init__(self, settings: GuardSettings, clock: Clock, journal: Journal):
        self.settings, self.clock, self.journal = settings, clock, journal
        self.hosts: dict[str, Host] = {}
        self.out = Out()
        self.securing = Securing()
        self.journal_fault = ""
        self.granting = True  # until the service that started us is gone
        units = {rule.signal: rule.unit for rule in settings.rules}
        self.facts = Facts(units, settings.simulated)
        self.derived = Derived(settings, self.facts)
        self.meter = self.derived.meter
        self.contact = Contact(settings.contact) if settings.contact else None
        self._off_signals = {r.signal: r.off_signal for r in settings.rules if r.off_signal}
        self._held: dict[str, Fact] = {}  # unknown values that an open relay may explain
        self.reserved = 0.0
        self._unwritten: list[Happening] = []
        self.engine = self._remember()

    # ---- what hosts say ---------------------------------------------------------------------

    def register(self, peer: str, info: DeviceInfo) -> str | None:
        """Take in a device that agrees with the configuration; otherwise the reason why not."""
        wanted = self.settings.devices.get(info.device)
        if info.device != peer:
            return f"{peer!r} registers as {info.device!r}: a host speaks for its own device"
        if wanted is None:
            return f"no device {info.device!r} in the configuration"
        if wanted != info.model:
            return f"{info.device}: the configuration has {wanted}, the host has {info.model}"
        now, before = self.clock.mono_ns(), self.hosts.get(info.device)
        if before is not None and before.info.boot == info.boot:
            if before.info.outputs != info.outputs:
                return f"{info.device}: the outputs of a host do not change while it lives"
            before.info = info
            return None
        host = self.hosts[info.device] = Host(info)
        self.facts.forget(info.device)
        self.facts.declare({name: each.unit for name, each in info.named().items()})
        self.engine.add_outputs(host.outputs)
        if before is not None and host.outputs:
            why = f"{info.device} has a new host"
            self.happened(self.engine.disable(host.outputs, why, now))
        return None

    def reading(self, peer: str, reading: Reading) -> None:
        """A reading: vetted, judged, and what depends on it judged too, in this turn."""
        if reading.name.partition(".")[0] != peer or peer not in self.hosts:
            self.say("ignored", f"{peer} says {reading.name}, which is not its own")
            return
        now = self.clock.mono_ns()
        self._learn(reading.name, self.facts.take(reading, now), now)

    def spoilt(self, peer: str, name: str, words: str) -> None:
        """What arrived as a reading of `name` is none: it is bad at once."""
        if name.partition(".")[0] == peer:
            now = self.clock.mono_ns()
            self._learn(name, self.facts.spoil(name, words, now), now)

    def ask(self, ask: Ask) -> Grant | None:
        """The permits for the next half second; None for an old ask or another boot."""
        host = self.hosts.get(ask.device)
        if host is None or ask.boot != host.info.boot or ask.n <= host.n:
            return None
        host.n, host.asked_ns, host.lost = ask.n, self.clock.mono_ns(), False
        granted = [
            output
            for output in ask.outputs
            if self.granting
            and f"{ask.device}.{output}" in host.outputs
            and self.engine.permitted(f"{ask.device}.{output}")
        ]
        return Grant(boot=ask.boot, n=ask.n, granted=granted)

    def secured(self, message: Secured) -> None:
        """A host, or the last hand for it, says what came of a safe order."""
        order = self.securing.heard(message)
        if message.leaving and message.verified and message.device in self.hosts:
            self.hosts[message.device].lost = True
        details: dict[str, Any] = {"device": message.device, "verified": message.verified}
        if order is not None:
            took = (self.clock.mono_ns() - order.since_ns) / 1e6
            details["ms"] = round(took, 1)
            text = f"{message.device} is safe, verified: {message.words}"
            self.say("secured", text, **details)
        elif not message.verified:
            self.say("unverified", f"{message.device} is not yet safe: {message.words}", **details)

    # ---- time --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Silence, debounce, dose and orders under way, whether or not anything was said."""
        now = self.clock.mono_ns()
        self._derive(now)
        self.happened(self.engine.tick(now))
        again, failed = self.securing.due(now)
        for order in again:
            self.out.to_hosts.append((order.device, order.safe))
        for order in failed:
            text = f"NOT SAFE: {order.device}: {order.last_words}. Go and look: {order.safe.why}"
            self.say("not_safe", text, device=order.device)

    # ---- what follows from a decision ------------------------------------------------------------

    def make_safe(self, outputs: Iterable[str], why: str) -> set[str]:
        """Order the devices of these outputs to make safe; returns the devices."""
        now = self.clock.mono_ns()
        devices = {name.partition(".")[0] for name in outputs} & set(self.hosts)
        for device in sorted(devices):
            order = self.securing.order(device, why, now, self.hosts[device].seconds)
            self.out.to_hosts.append((device, order))
        return devices

    def say(self, kind: str, text: str, **details: Any) -> None:
        """An event for hub and recorder."""
        self.out.events.append((kind, text, details))

    def commit(self, happenings: list[Happening], by: str) -> None:
        """Happenings of a command: on the disk before it is answered; `StorageError` if not."""
        for found in happenings:
            self.write(found.kind, found.text, found.details, by=by, sync=True)
            self.say(found.kind, found.text, **found.details)

    def write(
        self, kind: str, text: str, details: dict[str, Any], *, by: str = "", sync: bool = False
    ) -> None:
        """One line of the journal. While it cannot be written, hazardous commands are refused."""
        try:
            self.journal.append(
                kind,
                text,
                t_ns=self.clock.lab_ns(),
                mono_ns=self.clock.mono_ns(),
                by=by,
                details=details,
                configuration=self.settings.configuration_hash,
                sync=sync,
            )
        except StorageError as error:
            self.journal_fault = str(error)
            raise
        self.journal_fault = ""

    def settle(self) -> None:
        """Write what was acted upon already: trips, and the dose's upper bound."""
        known = self.journal_fault
        try:
            while self._unwritten:
                found = self._unwritten[0]
                self.write(found.kind, found.text, found.details, sync=True)
                self._unwritten.pop(0)
            self._reserve()
        except StorageError as error:
            if not known:
                self.say("journal", f"the journal cannot be written: {error}")

    def leave(self) -> None:
        """The last line: the dose as it is, without the margin of a sudden death."""
        if self.meter is not None:
            details = {"specimen": self.meter.specimen, "upper": self.meter.dose}
            self.write("dose", "dose at the end", details)
        self.write("stopped", "the guard stops", {}, sync=True)

    def values(self) -> dict[str, tuple[float | str | None, str]]:
        """The guard's own readings: value and unit by full name."""
        found: dict[str, tuple[float | str | None, str]] = {
            name: (value, self.derived.units[name]) for name, value in self.derived.values.items()
        }
        found |= {
            f"{GUARD}.{rule_id.lower().replace('-', '_')}": (str(state), "")
            for rule_id, state in self.engine.states().items()
        }
        found[f"{GUARD}.specimen_mode"] = (self.engine.mode or "unknown", "")
        if self.meter is not None:
            found[f"{GUARD}.specimen"] = (self.meter.specimen, "")
        return found

    @property
    def mode(self) -> str:
        """What is in the column; unknown counts as cryo."""
        return self.engine.mode or "cryo"

    # ---- inside ----------------------------------------------------------------------------------

    def _learn(self, name: str, fact: Fact, now_ns: int) -> None:
        for sample in self._explained(name, fact, now_ns):
            self.happened(self.engine.feed(name, sample))
        column, _, member = name.partition(".")
        if self.meter is not None and column == self.meter.settings.column and member in INPUTS:
            value = float(fact.value) if isinstance(fact.value, bool) else as_number(fact.value)
            seen = ReadBack(value if fact.good else None, fact.received_ns, fact.steady_ns)
            self.meter.see(member, seen)
        self._derive(now_ns)

    def _explained(self, name: str, fact: Fact, now_ns: int) -> list[Sample]:
        """The samples a fact makes. Behind an open relay nothing is measured, and nothing flows:
        there null counts as 0. Whether the relay is open may be read a moment later."""
        for signal, held in list(self._held.items()):
            if self._off_signals[signal] == name and fact.mono_ns >= held.mono_ns:
                del self._held[signal]
                self.happened(self.engine.feed(signal, self._behind(held, fact)))
        off_signal = self._off_signals.get(name)
        if off_signal is None or fact.value is not None:
            self._held.pop(name, None)
            return [as_sample(fact)]
        relay = self.facts.last(off_signal)
        if relay is not None and relay.good and relay.value is False:
            return [self._behind(fact, relay)]
        self._held.setdefault(name, fact)
        return []

    def _behind(self, fact: Fact, relay: Fact) -> Sample:
        if relay.good and relay.value is False:
            return Sample(0.0, self.clock.mono_ns(), fact.steady_ns, True, "output off")
        return as_sample(fact)

    def happened(self, happenings: list[Happening]) -> None:
        for found in happenings:
            if found.kind == "tripped":
                self.make_safe(found.details["outputs"], found.text)
            self.say(found.kind, found.text, **found.details)
            if found.kind in LASTING:
                self._unwritten.append(found)

    def _derive(self, now_ns: int) -> None:
        steady = self.clock.lab_ns() if self.settings.simulated else now_ns
        counting = self.mode != "none"
        for name, value, words in self.derived.look(now_ns, self.clock.lab_ns(), steady, counting):
            sample = Sample(value, now_ns, steady, value is not None, words)
            self.happened(self.engine.feed(name, sample))

    def _reserve(self) -> None:
        """Keep the journal's upper bound of the dose ahead of the meter, by what a beam may still
        do after a sudden death of the guard: after a restart the meter goes on from there."""
        meter = self.meter
        if meter is None or meter.dose is None or meter.dose <= 0:
            return
        if meter.dose + self._margin(meter) <= self.reserved:
            return
        limit = next((r.above for r in self.settings.rules if r.signal.endswith(".dose")), None)
        step = RESERVE * limit if limit else 10.0
        self.reserved = meter.dose + self._margin(meter) + step
        details = {"specimen": meter.specimen, "upper": self.reserved}
        self.write("dose", f"dose below {self.reserved:.4g} e⁻/Å²", details)

    def _margin(self, meter: DoseMeter) -> float:
        rate = self.derived.values.get(f"{meter.settings.column}.dose_rate")
        return (meter.feared if rate is None else rate) * DEADMAN_S * self.clock.speed

    def _remember(self) -> Engine:
        """The engine and the meter as the journal left them."""
        memory, account = Memory(), self.journal.account
        for entry in account.entries:
            memory.take(entry.kind, entry.details)
            self._recall(entry.kind, entry.details)
        if account.broken:
            self._distrust(memory, f"the journal is broken ({account.broken})")
        if account.torn:
            self.say("journal", f"the journal ended in half a line ({len(account.torn)} bytes)")
        self.write("started", "the guard starts", {}, sync=True)
        settings = self.settings
        return Engine(
            settings.rules,
            self.clock.mono_ns(),
            grace_s=settings.grace_s,
            mode=settings.specimen,
            memory=memory,
        )

    def _distrust(self, memory: Memory, why: str) -> None:
        """What cannot be believed is unknown, and unknown trips: all rules, and the dose."""
        for rule in self.settings.rules:
            details = {
                "rule": rule.id,
                "words": why,
                "outputs": list(rule.trips),
                "first_out": None,
            }
            memory.take("tripped", details)
            self.write("tripped", f"{rule.id} tripped: {why}", details)
        memory.mode = None
        if self.meter is not None:
            self.meter.resume(self.meter.specimen, None)
            self.write("dose", why, {"specimen": self.meter.specimen, "upper": None})
        self.say("journal", f"{why}: everything is tripped, the dose is unknown")

    def _recall(self, kind: str, details: dict[str, Any]) -> None:
        if self.meter is None:
            return
        if kind == "dose":
            self.meter.resume(details["specimen"], details["upper"])
            self.reserved = details["upper"] or 0.0
        elif kind == "calibrated":
            self.meter.calibrate(Calibration(**details))
