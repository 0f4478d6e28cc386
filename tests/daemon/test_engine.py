"""The interlock engine: what it must never do, whatever happens in whatever order."""

from __future__ import annotations

import json
import math
from itertools import permutations
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from coldframe.clock import NS
from coldframe.daemon.conditions import Condition, Sample, Verdict, slope
from coldframe.daemon.engine import LASTING, LATCHED, Engine, Happening, Memory, State
from coldframe.daemon.rules import RateLimit, Rule
from coldframe.errors import Interlocked, UnknownName

GUIDANCE = "Look at it before you do anything else."


def a_rule(**changes: Any) -> Rule:
    values: dict[str, Any] = {
        "id": "IL-03", "signal": "stage.temperature", "unit": "K", "above": 103.0, "reset": 101.0,
        "max_age_s": 2.0, "trips": ("beam.beam",), "guidance": GUIDANCE, "source": "test",
    }  # fmt: skip
    return Rule(**(values | changes))


WARM = a_rule(specimen=("cryo",))
SLOW = a_rule(id="IL-10", signal="bias.current", above=10.0, reset=8.0, debounce_s=1.0,
              max_age_s=3.0, trips=("bias.bias", "beam.beam"))  # fmt: skip
FAST = a_rule(id="IL-90", signal="stage.pressure", above=None, reset=None, max_age_s=2.5,
              rate=RateLimit(above=2.0, window_s=3.0, min_n=3), trips=("bias.bias",))  # fmt: skip
LOW = a_rule(id="IL-91", signal="stage.level", above=None, below=5.0, reset=6.0, max_age_s=4.0,
             trips=("stage.heater",))  # fmt: skip
RULES = (WARM, SLOW, FAST, LOW)
OUTPUTS = ("beam.beam", "bias.bias", "stage.heater")
HEALTHY = {WARM.signal: 90.0, SLOW.signal: 0.0, FAST.signal: 1.0, LOW.signal: 50.0}


def sample(value: float | None, at: float, good: bool = True) -> Sample:
    return Sample(value, round(at * NS), round(at * NS), good)


class Reference:
    """What a rule's signal says, worked out anew from its whole history, as slowly as can be."""

    def __init__(self, watched: Rule, began: float, grace: float):
        self.rule, self.began, self.grace = watched, began, grace
        self.history: list[tuple[float, float | None]] = []  # receipt, value (None: bad)

    def healthy(self, now: float) -> bool:
        return self.known(now) and self.over_since(now) is None and self.rate_known()

    def known(self, now: float) -> bool:
        """Fresh, finite, good."""
        if not self.history:
            return False
        at, value = self.history[-1]
        return value is not None and now - at <= self.rule.max_age_s

    def rate_known(self) -> bool:
        return self.rule.rate is None or self._slope(len(self.history)) is not None

    def unsafe(self, now: float) -> bool:
        """Must have tripped by now."""
        if not self.history:
            return now > self.began + self.grace
        since = self.over_since(now)
        return not self.known(now) or (since is not None and now - since >= self.rule.debounce_s)

    def over_since(self, now: float) -> float | None:
        """Since when it has been beyond a limit, hysteresis included."""
        since: float | None = None
        limit_over = False
        before: float | None = None
        for index, (at, value) in enumerate(self.history):
            gap = before is not None and at - before > self.rule.max_age_s
            was = since is not None
            if value is None or gap:
                limit_over = self.rule.above is not None or self.rule.below is not None
                since = since if was else at
                was = was or limit_over
            before = at
            if value is None:
                continue
            above, below, reset = self.rule.above, self.rule.below, self.rule.reset
            if (above is not None and value >= above) or (below is not None and value <= below):
                limit_over = True
            elif reset is None or (value <= reset if above is not None else value >= reset):
                limit_over = False
            found = self._slope(index + 1)
            rate = self.rule.rate
            rate_over = rate is not None and rate.above is not None and (found or 0) > rate.above
            if not (limit_over or rate_over):
                since = None
            elif not was:
                since = at
        if self.rule.rate is not None and self.history and self.history[-1][1] is None:
            return None
        return since

    def _slope(self, count: int) -> float | None:
        """The slope after `count` samples; None while a whole window has not been seen."""
        rate = self.rule.rate
        if rate is None:
            return None
        points: list[tuple[float, float]] = []
        blind = -math.inf
        before: float | None = None
        for at, value in self.history[:count]:
            if value is None or (before is not None and at - before > self.rule.max_age_s):
                points, blind = [], at + rate.window_s
            before = at
            if value is not None:
                points.append((at, value))
                while len(points) > rate.min_n and points[0][0] < at - rate.window_s:
                    points.pop(0)
        if not points or len(points) < rate.min_n or points[-1][0] < blind - 1e-9:
            return None
        return slope(points)


class Interlocks(RuleBasedStateMachine):
    """Samples, silences, commands and restarts in any order, beside a slow reference and beside a
    shadow that sees some of the samples as bad."""

    GRACE = 5.0

    @initialize()
    def start(self) -> None:
        self.now = 100.0
        self.journal: list[tuple[str, dict[str, Any]]] = []
        self.engine = Engine(RULES, self.ns, grace_s=self.GRACE, mode="cryo")
        self.shadow = Engine(RULES, self.ns, grace_s=self.GRACE, mode="cryo")
        for engine in (self.engine, self.shadow):
            engine.add_outputs(OUTPUTS)
        self.references = {r.id: Reference(r, self.now, self.GRACE) for r in RULES}
        self.latched: set[str] = set()
        self.acked: set[str] = set()
        self.tripped_by: dict[str, list[str]] = {}
        self.first_out: Any = None
        self.ever_armed = self.ever_limit = False

    @property
    def ns(self) -> int:
        return round(self.now * NS)

    def applies(self, rule_id: str) -> bool:
        return rule_id != "IL-03" or self.engine.mode == "cryo"

    def take(self, happenings: list[Happening]) -> None:
        for found in happenings:
            if found.kind in LASTING:
                # as the journal holds it
                self.journal.append((found.kind, json.loads(json.dumps(found.details))))
            if found.kind == "tripped":
                rule_id = found.details["rule"]
                reference = self.references[rule_id]
                # never without a reason: silence, bad, over for long enough, or the rate is lost
                lost = reference.rule.rate is not None and not reference.rate_known()
                assert reference.unsafe(self.now) or lost, found.text
                self.ever_limit |= reference.known(self.now)
                self.latched.add(rule_id)
                self.acked.discard(rule_id)

    def advance(self, seconds: float) -> None:
        self.now = round(self.now + seconds, 3)
        self.take(self.engine.tick(self.ns))
        self.shadow.tick(self.ns)

    def say(self, watched: Rule, value: float | None, shadow_bad: bool = False) -> None:
        self.references[watched.id].history.append((self.now, value))
        self.take(self.engine.feed(watched.signal, sample(value, self.now, value is not None)))
        seen = None if shadow_bad else value
        self.shadow.feed(watched.signal, sample(seen, self.now, seen is not None))

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.4, 1.0, 2.1, 4.5]))
    def wait(self, seconds: float) -> None:
        self.advance(seconds)

    @rule(
        watched=st.sampled_from(RULES),
        value=st.sampled_from(
            [-1.0, 0.0, 4.9, 5.5, 6.5, 7.0, 8.5, 10.0, 90.0, 102.0, 103.0, 120.0]
        ),
        shadow_bad=st.booleans(),
    )
    def reading(self, watched: Rule, value: float, shadow_bad: bool) -> None:
        self.say(watched, value, shadow_bad)

    @rule(watched=st.sampled_from(RULES))
    def bad_reading(self, watched: Rule) -> None:
        self.say(watched, None)
        if self.applies(watched.id):
            assert self.engine.states()[watched.id] in LATCHED  # at that sample

    def all_healthy(self, seconds: float) -> None:
        """Good samples of everything for a while."""
        for _ in range(round(seconds / 0.5)):
            self.advance(0.5)
            for watched in RULES:
                self.say(watched, HEALTHY[watched.signal])

    @rule()
    def all_is_well_for_a_while(self) -> None:
        self.all_healthy(5.0)

    @rule()
    def bring_up(self) -> None:
        """What an operator does: wait until all is well, acknowledge, reset, enable."""
        self.all_healthy(5.0)
        for rule_id in list(self.latched):
            self.ack(rule_id)
        self.reset()
        for output in OUTPUTS:
            self.enable(output)
        assert all(self.engine.permitted(output) for output in OUTPUTS)
        self.ever_armed = True

    @rule(rule_id=st.sampled_from([r.id for r in RULES]))
    def ack(self, rule_id: str) -> None:
        was = self.permissions()
        try:
            self.take(self.engine.ack(rule_id, self.ns))
            self.acked.add(rule_id)
        except Interlocked:
            assert rule_id not in self.latched
        self.shadowed("ack", rule_id)
        assert self.permissions() == was

    @rule()
    def reset(self) -> None:
        self.advance(0.0)
        disabled = set(self.engine.disabled)
        try:
            self.take(self.engine.reset(self.ns))
        except Interlocked as refusal:
            assert "reset refused" in str(refusal)
        else:
            assert self.latched <= self.acked
            for rule_id, reference in self.references.items():
                assert not self.applies(rule_id) or reference.healthy(self.now), rule_id
            self.latched.clear()
            self.acked.clear()
            self.first_out = None
        assert self.engine.disabled == disabled  # reset turns nothing on
        self.shadowed("reset")

    @rule(output=st.sampled_from(OUTPUTS))
    def enable(self, output: str) -> None:
        try:
            self.take(self.engine.enable(output, self.ns))
        except Interlocked:
            assert any(output in r.trips and r.id in self.latched for r in RULES)
        self.shadowed("enable", output)

    @rule(mode=st.sampled_from(["none", "cryo"]))
    def change_mode(self, mode: Any) -> None:
        was = self.permissions()
        before = self.engine.mode
        self.take(self.engine.set_mode(mode, self.ns))
        self.shadow.set_mode(mode, self.ns)
        if mode == "cryo" and before != "cryo":
            assert self.permissions() <= was
            self.references["IL-03"].began = self.now
        self.advance(0.0)

    @rule()
    def abort(self) -> None:
        self.take(self.engine.disable(OUTPUTS, "abort", self.ns))
        self.shadow.disable(OUTPUTS, "abort", self.ns)
        assert not self.permissions()

    @precondition(lambda self: self.journal)
    @rule()
    def restart(self) -> None:
        was, states = self.permissions(), self.engine.states()
        memory = Memory()
        for kind, details in self.journal:
            memory.take(kind, details)
        mode = self.engine.mode
        self.engine = Engine(RULES, self.ns, grace_s=self.GRACE, mode="cryo", memory=memory)
        self.engine.add_outputs(OUTPUTS)
        self.shadow = Engine(RULES, self.ns, grace_s=self.GRACE, mode="cryo", memory=memory)
        self.shadow.add_outputs(OUTPUTS)
        self.references = {r.id: Reference(r, self.now, self.GRACE) for r in RULES}

        assert self.engine.mode == mode
        assert self.permissions() <= was
        assert self.engine.disabled == set(OUTPUTS)  # a start enables nothing
        assert self.engine.first_out == self.first_out
        for rule_id, state in self.engine.states().items():
            if states[rule_id] in LATCHED:
                assert state == states[rule_id]
            else:
                assert state is State.INIT

    def shadowed(self, name: str, *args: Any) -> None:
        """The same command to the shadow, which may refuse what the engine takes."""
        try:
            getattr(self.shadow, name)(*args, self.ns)
        except Interlocked:
            pass

    def permissions(self) -> set[str]:
        return {output for output in OUTPUTS if self.engine.permitted(output)}

    # ---- what holds at every moment --------------------------------------------------------

    @invariant()
    def what_is_latched_stays_latched(self) -> None:
        for rule_id in self.latched:
            assert self.engine.states()[rule_id] in LATCHED

    @invariant()
    def nothing_hazardous_but_under_armed_rules(self) -> None:
        for output in OUTPUTS:
            states = [
                self.engine.states()[r.id]
                for r in RULES
                if output in r.trips and (self.applies(r.id) or r.id in self.latched)
            ]
            if self.engine.refusal(output, self.ns) is None:
                assert all(state is State.ARMED for state in states)
                assert self.engine.permitted(output)
            if self.engine.permitted(output):
                assert all(state in (State.ARMED, State.PENDING) for state in states)

    @invariant()
    def unsafe_is_tripped(self) -> None:
        for rule_id, reference in self.references.items():
            if self.applies(rule_id) and reference.unsafe(self.now):
                state = self.engine.states()[rule_id]
                assert state in LATCHED, (rule_id, self.engine.describe(rule_id, self.ns))

    @invariant()
    def armed_is_known(self) -> None:
        for rule_id, state in self.engine.states().items():
            if state in (State.ARMED, State.PENDING) and self.applies(rule_id):
                assert self.references[rule_id].known(self.now)

    @invariant()
    def the_first_out_stays(self) -> None:
        if self.first_out is None:
            self.first_out = self.engine.first_out
            return
        assert self.engine.first_out is not None
        assert self.engine.first_out["mono_ns"] == self.first_out["mono_ns"]
        assert set(self.first_out["rules"]) <= set(self.engine.first_out["rules"])
        self.first_out = self.engine.first_out

    @invariant()
    def a_bad_sample_never_permits_more(self) -> None:
        assert {o for o in OUTPUTS if self.shadow.permitted(o)} <= self.permissions()

    def teardown(self) -> None:
        event(f"armed: {self.ever_armed}")
        event(f"a limit tripped: {self.ever_limit}")


Interlocks.TestCase.settings = settings(
    max_examples=120, stateful_step_count=30, deadline=None, derandomize=True
)
test_the_invariants_hold_in_any_order = Interlocks.TestCase


# ---- single facts ----------------------------------------------------------------------------


def armed(*rules: Rule, at: float = 10.0) -> Engine:
    engine = Engine(rules, round(at * NS), mode="cryo")
    for each in rules:
        engine.feed(each.signal, sample(HEALTHY[each.signal], at))
    engine.reset(round(at * NS))
    for output in sorted(engine.disabled):
        engine.enable(output, round(at * NS))
    return engine


def test_a_violation_shorter_than_its_debounce_trips_nothing() -> None:
    engine = armed(SLOW)
    engine.feed(SLOW.signal, sample(11.0, 11.0))
    assert engine.states()["IL-10"] is State.PENDING and engine.permitted("bias.bias")
    assert "IL-10" in (engine.refusal("bias.bias", 11 * NS) or "")  # but nothing new begins
    with pytest.raises(Interlocked, match="reset refused"):
        engine.reset(11 * NS)
    engine.tick(round(11.9 * NS))
    engine.feed(SLOW.signal, sample(7.0, 11.95))
    engine.tick(round(12.5 * NS))
    assert engine.states()["IL-10"] is State.ARMED


def test_a_violation_that_lasts_trips_at_the_end_of_its_debounce_without_a_sample() -> None:
    engine = armed(SLOW)
    engine.feed(SLOW.signal, sample(11.0, 11.0))
    assert not engine.tick(round(11.999 * NS))
    (tripped,) = engine.tick(12 * NS)
    assert tripped.kind == "tripped" and tripped.details["outputs"] == ["bias.bias", "beam.beam"]


def test_in_the_band_a_violation_goes_on() -> None:
    engine = armed(SLOW)
    engine.feed(SLOW.signal, sample(11.0, 11.0))
    engine.feed(SLOW.signal, sample(9.0, 11.5))
    assert engine.tick(12 * NS)[0].kind == "tripped"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_finite_number_trips_at_that_sample(value: float | None) -> None:
    engine = armed(SLOW)  # for all its debounce
    assert engine.feed(SLOW.signal, sample(value, 11.0))[0].kind == "tripped"


def test_a_number_of_bad_quality_trips_at_that_sample() -> None:
    engine = armed(SLOW)
    assert engine.feed(SLOW.signal, sample(0.0, 11.0, good=False))[0].kind == "tripped"


def test_a_magnitude_is_judged_on_both_sides() -> None:
    engine = armed(a_rule(signal=SLOW.signal, above=10.0, reset=None, magnitude=True))
    assert not engine.feed(SLOW.signal, sample(-9.0, 11.0))
    assert "-10.5" in engine.feed(SLOW.signal, sample(-10.5, 11.1))[0].text


def test_a_rate_trips_in_lab_time_and_lab_time_only() -> None:
    watched = a_rule(above=None, reset=None, rate=RateLimit(above=0.5, window_s=60.0, min_n=4))
    for speed, trips in ((1, False), (0.1, True)):
        engine = Engine([watched], 0, mode="cryo")
        kinds = []
        for number in range(10):
            lab = round(number * speed * NS)
            reading = Sample(90 + 0.3 * number, number * NS, lab)
            kinds += [found.kind for found in engine.feed(watched.signal, reading)]
        assert ("tripped" in kinds) is trips


def test_slopes_are_least_squares() -> None:
    assert slope([(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]) == pytest.approx(2.0)
    assert slope([(0.0, 0.0), (1.0, 1.0), (2.0, 0.0)]) == pytest.approx(0.0)
    assert slope([(1.0, 1.0), (1.0, 2.0)]) is None


def test_a_trip_names_signal_value_limit_and_guidance() -> None:
    engine = armed(WARM)
    (tripped,) = engine.feed(WARM.signal, sample(104.0, 11.0))
    assert "stage.temperature -169.15 °C (104.00 K) is at or above -170.15 °C" in tripped.text
    assert tripped.details["guidance"] == GUIDANCE and tripped.details["value"] == 104.0


def test_a_tripped_beam_stops_nobody_from_cooling_the_stage() -> None:
    engine = armed(WARM, LOW)
    engine.feed(WARM.signal, sample(104.0, 10.5))
    assert engine.refusal("beam.beam", 11 * NS) is not None
    assert engine.refusal("stage.heater", 11 * NS) is None and engine.permitted("stage.heater")
    assert engine.refusal(None, 11 * NS) is not None  # what names no output answers to all


def test_a_new_violation_after_the_acknowledgement_trips_again() -> None:
    engine = armed(WARM)
    engine.feed(WARM.signal, sample(104.0, 10.5))
    engine.ack("IL-03", 11 * NS)
    engine.feed(WARM.signal, sample(105.0, 11.2))
    assert engine.states()["IL-03"] is State.ACKED  # the same one
    engine.feed(WARM.signal, sample(90.0, 11.4))
    engine.feed(WARM.signal, sample(104.0, 11.6))
    assert engine.states()["IL-03"] is State.TRIPPED


def test_a_rule_that_begins_to_apply_begins_without_permission() -> None:
    engine = armed(WARM, LOW)
    engine.set_mode("none", 10 * NS)
    engine.feed(WARM.signal, sample(293.0, 10.5))
    assert engine.permitted("beam.beam") is True
    engine.feed(WARM.signal, sample(90.0, 11.0))
    engine.set_mode("cryo", 11 * NS)
    assert not engine.permitted("beam.beam") and engine.permitted("stage.heater")
    assert "not armed" in (engine.refusal("beam.beam", 11 * NS) or "")


def test_an_unknown_specimen_counts_as_cryo() -> None:
    engine = Engine([WARM], 0)
    assert engine.applies(WARM)
    assert engine.feed(WARM.signal, sample(293.0, 0.1))[0].kind == "tripped"


def test_a_warning_is_told_once_a_minute_and_trips_nothing() -> None:
    watched = a_rule(warn=100.0, reset=None)
    engine = armed(watched)
    kinds = [
        engine.feed(watched.signal, sample(v, 11 + i)) for i, v in enumerate((100.5, 99, 100.5))
    ]
    assert [[found.kind for found in each] for each in kinds] == [["warned"], [], []]
    assert engine.permitted("beam.beam")


def test_names_that_are_not_there_are_said() -> None:
    engine = armed(WARM)
    with pytest.raises(UnknownName, match="IL-03"):
        engine.ack("IL-99", 0)
    with pytest.raises(UnknownName, match=r"beam\.beam"):
        engine.enable("beam.rays", 0)
    with pytest.raises(Interlocked, match="nothing to acknowledge"):
        engine.ack("IL-03", 0)


@given(
    st.lists(
        st.tuples(st.sampled_from(RULES), st.sampled_from([0.0, 7.0, 50.0, 104.0, math.nan])),
        min_size=2,
        max_size=4,
        unique_by=lambda pair: pair[0].id,
    )
)
@settings(max_examples=60, deadline=None)
def test_what_arrives_at_one_instant_latches_alike_in_any_order(
    said: list[tuple[Rule, float]],
) -> None:
    outcomes = []
    for order in permutations(said):
        engine = Engine(RULES, 0, mode="cryo")
        for watched, value in order:
            engine.feed(watched.signal, sample(value, 1.0))
        outcomes.append((engine.states(), engine.disabled, engine.first_out))
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_a_band_value_after_an_unknown_one_is_not_health() -> None:
    condition = Condition(WARM, 0, 5.0)
    condition.take(sample(None, 1.0, good=False))
    condition.take(sample(102.0, 1.1))
    assert condition.verdict(round(1.1 * NS)) is Verdict.UNSAFE
    condition.take(sample(100.5, 1.2))
    assert condition.verdict(round(1.2 * NS)) is Verdict.HEALTHY


def test_after_an_unknown_value_a_rate_is_unknown_for_a_whole_window() -> None:
    condition = Condition(FAST, 0, 5.0)
    condition.take(sample(None, 1.0, good=False))
    for number in range(1, 8):
        condition.take(sample(1.0, 1.0 + 0.5 * number))
        healthy = condition.verdict(round((1.0 + 0.5 * number) * NS)) is Verdict.HEALTHY
        assert healthy == (0.5 * number >= 3.0)


def test_acknowledge_reset_and_enable_are_three_things() -> None:
    engine = armed(WARM)
    engine.feed(WARM.signal, sample(104.0, 10.5))
    engine.feed(WARM.signal, sample(90.0, 10.6))
    now = round(10.7 * NS)

    with pytest.raises(Interlocked, match="acknowledge it first"):
        engine.reset(now)
    with pytest.raises(Interlocked, match="stays disabled"):
        engine.enable("beam.beam", now)
    engine.ack("IL-03", now)
    with pytest.raises(Interlocked, match="stays disabled"):
        engine.enable("beam.beam", now)
    engine.reset(now)
    assert engine.states()["IL-03"] is State.ARMED and not engine.permitted("beam.beam")
    assert engine.refusal("beam.beam", now) == (
        "beam.beam is disabled: allowed after `enable beam.beam`"
    )
    engine.enable("beam.beam", now)
    assert engine.permitted("beam.beam")


def test_an_output_without_a_rule_needs_a_reset_like_all_others() -> None:
    engine = Engine([WARM], 0, mode="cryo")
    engine.add_outputs(["cell.cell", "gas.valve"])
    engine.enable("gas.valve", 0)
    assert not engine.permitted("cell.cell") and not engine.permitted("gas.valve")
    assert "since the guard started" in (engine.refusal("cell.cell", 0) or "")
    engine.feed(WARM.signal, sample(90.0, 0.1))
    engine.reset(round(0.1 * NS))
    assert engine.refusal("cell.cell", 0) and not engine.permitted("cell.cell")
    engine.enable("cell.cell", round(0.1 * NS))
    assert engine.permitted("cell.cell")


def test_a_latch_outlasts_a_mode_in_which_its_rule_does_not_apply() -> None:
    engine = armed(WARM, LOW)
    engine.feed(WARM.signal, sample(104.0, 10.5))
    engine.set_mode("none", 11 * NS)
    assert "IL-03 tripped" in (engine.refusal("beam.beam", 11 * NS) or "")
    engine.ack("IL-03", 11 * NS)
    assert not engine.permitted("beam.beam")
    engine.reset(11 * NS)
    engine.enable("beam.beam", 11 * NS)
    assert engine.permitted("beam.beam")


def test_a_rate_that_can_no_longer_be_worked_out_trips() -> None:
    engine = Engine([FAST], 0, mode="cryo")
    for number in range(4):
        engine.feed(FAST.signal, sample(1.0, number))
    engine.reset(3 * NS)
    stuck = [Sample(1.0, round((3 + n / 10) * NS), 3 * NS) for n in range(1, 80)]
    kinds = {found.kind for each in stuck for found in engine.feed(FAST.signal, each)}
    assert "tripped" not in kinds  # the old samples are still in the window
    stuck = [Sample(1.0, round((11 + n / 10) * NS), 9 * NS) for n in range(1, 9)]
    kinds = {found.kind for each in stuck for found in engine.feed(FAST.signal, each)}
    assert "tripped" in kinds
