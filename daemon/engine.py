"""The interlock engine: samples in, latches and permits out; no socket, no file, no clock.

Every rule is INIT, ARMED, PENDING (over its limit, debouncing), TRIPPED or ACKED. Only ARMED and
PENDING permit, and only `reset` arms. What is unknown trips. Acknowledge ("I have seen it"), reset
(arm again; refused while anything is unhealthy) and enable (an output may be used again; nothing is
turned on) are three separate things.

A latch concerns the outputs its rule names: a tripped beam does not stop anybody from cooling the
stage, which may be what the reset waits for. What the engine decides it returns as `Happening`s;
written to the journal and folded by `Memory`, they give the same latches after a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from coldframe.clock import NS
from coldframe.daemon.conditions import Condition, Sample, Verdict
from coldframe.daemon.rules import Rule, SpecimenMode
from coldframe.errors import Interlocked, UnknownName

WARN_AGAIN_S = 60.0


class State(StrEnum):
    """Of one rule."""

    INIT = "init"
    ARMED = "armed"
    PENDING = "pending"
    TRIPPED = "tripped"
    ACKED = "acked"


LATCHED = (State.TRIPPED, State.ACKED)


@dataclass(frozen=True)
class Happening:
    """Something the engine decided, in words and in data (JSON) for the journal."""

    kind: str  # tripped, acked, reset, enabled, disabled, mode; pending, recovered, warned
    text: str
    mono_ns: int
    details: dict[str, Any] = field(default_factory=dict)


# what changes a latch, and so must be in the journal
LASTING = frozenset({"tripped", "acked", "reset", "enabled", "disabled", "mode"})


@dataclass
class Memory:
    """What outlives the process: fold the journal's happenings into it, in order."""

    latched: dict[str, State] = field(default_factory=dict)
    words: dict[str, str] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    first_out: dict[str, Any] | None = None
    mode: SpecimenMode | None = None

    def take(self, kind: str, details: dict[str, Any]) -> None:
        """One more happening; kinds that latch nothing are ignored."""
        if kind == "tripped":
            self.latched[details["rule"]] = State.TRIPPED
            self.words[details["rule"]] = details["words"]
            self.disabled |= set(details["outputs"])
            self.first_out = details["first_out"]
        elif kind == "acked":
            self.latched[details["rule"]] = State.ACKED
        elif kind == "reset":
            self.latched.clear()
            self.words.clear()
            self.first_out = None
        elif kind == "enabled":
            self.disabled.discard(details["output"])
        elif kind == "disabled":
            self.disabled |= set(details["outputs"])
        elif kind == "mode":
            self.mode = details["mode"]


@dataclass
class _Watch:
    rule: Rule
    condition: Condition
    state: State = State.INIT
    recovered: bool = False  # healthy since the trip: the next violation is a new one
    why: str = ""  # of the trip
    warned: bool = False
    warned_ns: int | None = None


class Engine:
    """All rules of a laboratory and what they permit."""

    def __init__(
        self,
        rules: Sequence[Rule],
        now_ns: int,
        *,
        grace_s: float = 10.0,
        mode: SpecimenMode | None = None,
        memory: Memory | None = None,
    ):
        memory = memory or Memory()
        self._grace_s = grace_s
        self._watches = {rule.id: _Watch(rule, Condition(rule, now_ns, grace_s)) for rule in rules}
        self._by_signal: dict[str, list[_Watch]] = {}
        for watch in self._watches.values():
            self._by_signal.setdefault(watch.rule.signal, []).append(watch)
        self._outputs = {output for rule in rules for output in rule.trips}
        self._armed = False  # a reset was accepted since the start
        self.mode: SpecimenMode | None = memory.mode if memory.mode is not None else mode
        # a start enables nothing: what may be used is for a person to say, each time
        self.disabled = set(memory.disabled) | self._outputs
        self.first_out = memory.first_out
        for rule_id in memory.latched.keys() & self._watches.keys():
            watch = self._watches[rule_id]
            watch.state, watch.why = memory.latched[rule_id], memory.words[rule_id]

    # ---- what comes in ------------------------------------------------------------------

    def add_outputs(self, outputs: Iterable[str]) -> None:
        """These exist: they may be enabled, and need a reset like all others."""
        new = set(outputs) - self._outputs
        self._outputs |= new
        self.disabled |= new

    def feed(self, signal: str, sample: Sample) -> list[Happening]:
        """A sample of a signal: judged in the same turn."""
        happenings: list[Happening] = []
        for watch in self._by_signal.get(signal, ()):
            watch.condition.take(sample)
            happenings += self._judge(watch, sample.received_ns)
        return happenings

    def tick(self, now_ns: int) -> list[Happening]:
        """Time has passed: silence and debounce are judged without any sample."""
        return [found for watch in self._watches.values() for found in self._judge(watch, now_ns)]

    def set_mode(self, mode: SpecimenMode, now_ns: int) -> list[Happening]:
        """A person says what is in the column. Rules that begin to apply begin in INIT."""
        before = {rule_id: self.applies(watch.rule) for rule_id, watch in self._watches.items()}
        self.mode = mode
        for rule_id, watch in self._watches.items():
            if self.applies(watch.rule) != before[rule_id] and watch.state not in LATCHED:
                watch.state = State.INIT
                watch.condition.expect(now_ns, self._grace_s)
        return [Happening("mode", f"specimen mode {mode}", now_ns, {"mode": mode})]

    # ---- the three commands, and abort ----------------------------------------------------

    def ack(self, rule_id: str, now_ns: int) -> list[Happening]:
        """A person has seen the trip. Nothing else changes."""
        watch = self._find(rule_id)
        if watch.state not in LATCHED:
            raise Interlocked(f"{rule_id} is {watch.state}: there is nothing to acknowledge")
        if watch.state is State.ACKED:
            return []
        watch.state = State.ACKED
        watch.recovered = watch.condition.verdict(now_ns) is Verdict.HEALTHY
        return [Happening("acked", f"{rule_id} acknowledged", now_ns, {"rule": rule_id})]

    def reset(self, now_ns: int) -> list[Happening]:
        """Arm all rules, or say everything that stands against it. Turns nothing on."""
        against = []
        for rule_id, watch in self._watches.items():
            if watch.state is State.TRIPPED:
                against.append(f"{rule_id} tripped ({watch.why}): acknowledge it first")
            elif self.applies(watch.rule) and (
                watch.condition.verdict(now_ns) is not Verdict.HEALTHY
            ):
                words, allows = watch.condition.words(now_ns), watch.condition.allows()
                against.append(f"{rule_id}: {words}; needs {allows}")
        if against:
            raise Interlocked("reset refused: " + "; ".join(against))
        for watch in self._watches.values():
            watch.state = State.ARMED if self.applies(watch.rule) else State.INIT
            watch.recovered, watch.why = False, ""
        self.first_out = None
        self._armed = True
        return [Happening("reset", "all rules armed", now_ns)]

    def enable(self, output: str, now_ns: int) -> list[Happening]:
        """The output may be used again. It stays as it is until somebody turns it on."""
        if output not in self._outputs:
            known = ", ".join(sorted(self._outputs)) or "none"
            raise UnknownName(f"no output {output!r}; there are {known}")
        for rule_id, watch in self._watches.items():
            if output in watch.rule.trips and watch.state in LATCHED:
                raise Interlocked(f"{output} stays disabled: {self._words(rule_id, watch, now_ns)}")
        if output not in self.disabled:
            return []
        self.disabled.discard(output)
        return [Happening("enabled", f"{output} enabled", now_ns, {"output": output})]

    def disable(self, outputs: Iterable[str], why: str, now_ns: int) -> list[Happening]:
        """Abort: these outputs are no longer permitted until they are enabled again."""
        names = sorted(outputs)
        self.disabled |= set(names)
        text = f"{', '.join(names) or 'nothing'} disabled: {why}"
        return [Happening("disabled", text, now_ns, {"outputs": names, "why": why})]

    # ---- what it says ---------------------------------------------------------------------

    def applies(self, rule: Rule) -> bool:
        """Whether the rule concerns the specimen there is; unknown counts as cryo."""
        return (self.mode or "cryo") in rule.specimen

    def permitted(self, output: str) -> bool:
        """May this output stay on for the next half second?"""
        return (
            self._armed
            and output not in self.disabled
            and all(
                watch.state in (State.ARMED, State.PENDING)
                for watch in self._watches.values()
                if output in watch.rule.trips and self._counts(watch)
            )
        )

    def refusal(self, output: str | None, now_ns: int) -> str | None:
        """Why a hazardous command on `output` is refused now, or None. Without an output it is
        judged by all rules."""
        for rule_id, watch in self._watches.items():
            concerned = output is None or output in watch.rule.trips
            if concerned and self._counts(watch) and watch.state is not State.ARMED:
                return self._words(rule_id, watch, now_ns)
        if not self._armed:
            return "nothing is armed since the guard started: reset arms the rules"
        if output in self.disabled:
            return f"{output} is disabled: allowed after `enable {output}`"
        return None

    def states(self) -> dict[str, State]:
        """Of every rule."""
        return {rule_id: watch.state for rule_id, watch in self._watches.items()}

    def describe(self, rule_id: str, now_ns: int) -> str:
        """A rule's state and what its signal says, for people."""
        watch = self._find(rule_id)
        if not self._counts(watch):
            return f"does not apply (specimen {self.mode})"
        why = f" ({watch.why})" if watch.why else ""
        return f"{watch.state}{why}: {watch.condition.words(now_ns)}"

    # ---- inside -----------------------------------------------------------------------------

    def _find(self, rule_id: str) -> _Watch:
        if rule_id not in self._watches:
            raise UnknownName(f"no rule {rule_id!r}; there are {', '.join(self._watches)}")
        return self._watches[rule_id]

    def _counts(self, watch: _Watch) -> bool:
        return self.applies(watch.rule) or watch.state in LATCHED

    def _judge(self, watch: _Watch, now_ns: int) -> list[Happening]:
        if not self.applies(watch.rule):
            return []
        happenings = self._warn(watch, now_ns)
        verdict = watch.condition.verdict(now_ns)
        permits = watch.state in (State.ARMED, State.PENDING)
        if verdict is Verdict.UNSAFE or (permits and verdict is Verdict.WAITING):
            if watch.state is State.TRIPPED or (watch.state is State.ACKED and not watch.recovered):
                watch.recovered = False
                return happenings
            return [*happenings, self._trip(watch, now_ns)]
        if watch.state in LATCHED:
            if verdict is Verdict.HEALTHY and not watch.recovered:
                watch.recovered = True
                text = f"{watch.rule.id}: {watch.condition.words(now_ns)} again; still latched"
                happenings.append(_about(watch, "recovered", text, now_ns))
        elif watch.state is State.ARMED and verdict is Verdict.OVER:
            watch.state = State.PENDING
            text = f"{watch.rule.id}: {watch.condition.words(now_ns)}"
            happenings.append(_about(watch, "pending", text, now_ns))
        elif watch.state is State.PENDING and verdict is not Verdict.OVER:
            watch.state = State.ARMED
        return happenings

    def _trip(self, watch: _Watch, now_ns: int) -> Happening:
        rule = watch.rule
        watch.state, watch.recovered = State.TRIPPED, False
        watch.why = watch.condition.words(now_ns)
        self.disabled |= set(rule.trips)
        if self.first_out is None:
            self.first_out = {"mono_ns": str(now_ns), "rules": [rule.id]}
        elif self.first_out["mono_ns"] == str(now_ns):  # a tie is recorded as one
            tied = sorted({*self.first_out["rules"], rule.id})
            self.first_out = {**self.first_out, "rules": tied}
        last = watch.condition.last
        details = {
            "rule": rule.id,
            "signal": rule.signal,
            "value": last.value if last else None,
            "unit": rule.unit,
            "words": watch.why,
            "outputs": list(rule.trips),
            "guidance": rule.guidance,
            "first_out": self.first_out,
        }
        return Happening("tripped", f"{rule.id} tripped: {watch.why}", now_ns, details)

    def _warn(self, watch: _Watch, now_ns: int) -> list[Happening]:
        was, watch.warned = watch.warned, watch.condition.warned()
        if was or not watch.warned:
            return []
        if watch.warned_ns is not None and now_ns - watch.warned_ns < WARN_AGAIN_S * NS:
            return []
        watch.warned_ns = now_ns
        text = f"{watch.rule.id} warns: {watch.condition.words(now_ns)}"
        return [_about(watch, "warned", text, now_ns)]

    def _words(self, rule_id: str, watch: _Watch, now_ns: int) -> str:
        allows = watch.condition.allows()
        now = watch.condition.words(now_ns)
        if watch.state in LATCHED:
            steps = ["ack " + rule_id] if watch.state is State.TRIPPED else []
            steps = [
                f"`{step}`"
                for step in (*steps, "reset", *map("enable {}".format, watch.rule.trips))
            ]
            return (
                f"{rule_id} tripped: {watch.why}; allowed after {allows}, then {', '.join(steps)}"
            )
        if watch.state is State.INIT:
            return f"{rule_id} is not armed: {now}; allowed after {allows}, then `reset`"
        return f"{rule_id}: {now}; allowed with {allows}"


def _about(watch: _Watch, kind: str, text: str, now_ns: int) -> Happening:
    return Happening(kind, text, now_ns, {"rule": watch.rule.id, "signal": watch.rule.signal})
