"""What `coldframe check` prints: what each rule can really do, and how long it takes at worst.

The worst case of a reaction is a sum, and its parts are shown: a poll period (the violation may
begin just after a reading), a transaction that times out on the way in and one on the way out, the
debounce, the guard's own share, and the time the output takes to be safe. An interlock whose sum a
laboratory cannot live with needs hardware.
"""

from __future__ import annotations

from coldframe.daemon.configuration import LoadedLab
from coldframe.daemon.lab_checks import guard_settings, signal_of
from coldframe.daemon.lab_models import Lab
from coldframe.daemon.rules import Rule
from coldframe.daemon.show import Sheet
from coldframe.drivers.base import Driver, Output
from coldframe.units import show

TRANSACTION = 0.25  # s, the longest time-out on a hazardous port
GUARD = 0.05  # s from a reading to the order on its way, default scheduler (docs: interlocks)


def report(loaded: LoadedLab) -> list[Sheet]:
    """Cause and effect of the laboratory, as tables."""
    lab = loaded.lab
    classes = lab.drivers()
    guard = guard_settings(lab)
    causes = Sheet(
        f"Rules of {lab.lab.name} (configuration {loaded.sha256[:12]})",
        ["rule", "when", "makes safe", "standing", "worst case"],
        [
            [rule.id, _when(rule), output, "enforced", _reaction(lab, classes, rule, output)]
            for rule in guard.rules
            for output in rule.trips
        ],
    )
    asked = Sheet(
        "Asked before a hazardous command",
        ["check", "what", "refuses"],
        [[check.id, check.check, ", ".join(check.refuses)] for check in guard.checks],
    )
    outputs = Sheet(
        "Outputs",
        ["output", "safe state", "takes", "dead-man", "fast blank"],
        [_output_row(name, output) for name, kind in classes.items() for output in kind.outputs],
    )
    bypassed = Sheet(
        "Observed only",
        ["what", "why"],
        [
            [
                "the vendors' own buttons and programs",
                "they do not ask this guard: it sees, it cannot refuse",
            ]
        ],
    )
    return [causes, asked, outputs, bypassed]


def _when(rule: Rule) -> str:
    name = f"|{rule.signal}|" if rule.magnitude else rule.signal
    parts = []
    if rule.above is not None:
        parts.append(f"{name} > {show(rule.above, rule.unit)}")
    if rule.below is not None:
        parts.append(f"{name} < {show(rule.below, rule.unit)}")
    if rule.rate is not None:
        for side, limit in (("above", rule.rate.above), ("below", rule.rate.below)):
            if limit is not None:
                parts.append(f"rate {side} {limit:g} {rule.unit}/s")
    parts.append(f"unknown or older than {rule.max_age_s:g} s")
    return ", ".join(parts)


def _reaction(lab: Lab, classes: dict[str, type[Driver]], rule: Rule, output: str) -> str:
    """The sum and its parts, in seconds."""
    poll = signal_of(lab, classes, rule.signal)[1] or 0.0
    target, _, name = output.partition(".")
    safe = next(o.seconds for o in classes[target].outputs if o.name == name)
    parts = {
        "poll": poll,
        "transactions": 2 * TRANSACTION,  # one on the way in, one in flight on the way out
        "debounce": rule.debounce_s,
        "guard": GUARD,
        "output": safe,
    }
    shown = " + ".join(f"{what} {seconds:g}" for what, seconds in parts.items() if seconds)
    return f"{sum(parts.values()):.2f} s = {shown}"


def _output_row(device: str, output: Output) -> list[str]:
    blank = {None: "", True: "yes", False: "FAST BLANK: NONE"}[output.fast_blank]
    return [f"{device}.{output.name}", output.safe_state, f"{output.seconds:g} s", "lease", blank]
