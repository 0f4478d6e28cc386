"""Rules: nonsense is refused before anything listens, limits are written as people say them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from coldframe.daemon.rules import (
    CellSettings,
    Check,
    GuardSettings,
    RateLimit,
    Rule,
    derived_signals,
    for_devices,
)
from coldframe.errors import ConfigurationError

RULES = Path(__file__).parents[2] / "config" / "rules"
GOOD: dict[str, Any] = {
    "id": "IL-03",
    "signal": "stage.temperature",
    "unit": "K",
    "above": "-170 degC",
    "reset": "-172 degC",
    "warn": "-175 degC",
    "max_age_s": 2.0,
    "trips": ["beam.beam"],
    "guidance": "Look at it before you do anything else.",
    "source": "a test",
}


def test_limits_are_written_as_people_say_them() -> None:
    found = Rule.model_validate(GOOD)
    assert (found.above, found.reset, found.warn) == (103.15, 101.15, 98.15)
    rate = Rule.model_validate(GOOD | {"rate": {"above": "3 K/min", "window_s": 30}}).rate
    assert rate is not None and rate.above == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"reset": "-168 degC"}, "healthy side"),
        ({"above": None, "below": "-170 degC", "warn": None}, "healthy side"),
        ({"reset": "-175 degC", "below": 50.0, "warn": None}, "exactly one"),
        ({"warn": "-160 degC"}, "beyond the trip limit"),
        ({"above": 90.0, "below": 95.0, "reset": None, "warn": None}, "less than above"),
        ({"above": float("nan"), "reset": None, "warn": None}, "finite"),
        ({"above": "inf K"}, "not a quantity"),
        ({"above": "-170"}, "say degC or K"),
        ({"above": "3 V"}, "not a unit"),
        ({"unit": ""}, "must say the unit"),
        ({"max_age_s": 0}, "greater than 0"),
        ({"max_age_s": float("inf")}, "finite"),
        ({"debounce_s": -1}, "greater than or equal"),
        ({"trips": []}, "at least 1"),
        ({"trips": ["beam"]}, "pattern"),
        ({"trips": ["beam.beam", "beam.beam"]}, "twice"),
        ({"guidance": "help"}, "at least 20"),
        ({"id": "cold"}, "pattern"),
        ({"specimen": []}, "never apply"),
        ({"specimen": ["wet"]}, "ambient"),
        ({"magnitude": True, "above": None, "reset": None, "warn": None, "below": 1.0}, "no limit"),
        ({"rate": {"window_s": 3}}, "above or below"),
        ({"rate": {"above": 1, "below": 2, "window_s": 3}}, "less than above"),
        ({"rate": {"above": "3 degC/min", "window_s": 3}}, "rates in K"),
        ({"rate": {"above": "3 K", "window_s": 3}}, "write a rate"),
        ({"rate": {"above": 1, "window_s": 3, "min_n": 2}}, "greater than or equal to 3"),
        ({"colour": "red"}, "not permitted"),
    ],
)
def test_nonsense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Rule.model_validate(GOOD | changes)


@pytest.mark.parametrize(
    ("unit", "poll", "says"),
    [("K", 1.5, "twice the poll"), ("K", None, "not polled"), ("V", 0.5, "is in V")],
)
def test_a_rule_must_fit_the_signal_it_watches(unit: str, poll: float | None, says: str) -> None:
    rule = Rule.model_validate(GOOD)
    rule.check_signal("K", 1.0)
    with pytest.raises(ConfigurationError, match=says):
        rule.check_signal(unit, poll)


def test_two_rules_of_one_id_and_a_check_without_its_settings_are_refused() -> None:
    rule = Rule.model_validate(GOOD)
    with pytest.raises(ValidationError, match="twice"):
        GuardSettings(rules=(rule, rule))
    check = Check(
        id="IL-13",
        check="cold_bias",
        refuses=("bias.bias",),
        guidance="Warm the cell before you bias it.",
        source="a test",
    )
    with pytest.raises(ValidationError, match="no settings for 'cold_bias'"):
        GuardSettings(checks=(check,))


def test_settings_survive_being_written_and_read() -> None:
    rule = Rule.model_validate(GOOD | {"rate": {"above": 1.0, "window_s": 3.0}})
    settings = GuardSettings(
        rules=(rule,),
        cell=CellSettings(
            area_cm2=0.04,
            thickness_um=3.7,
            sigma_S_cm=2.5e-6,
            overpotential_V=1,
            voltage_limit_V=5.5,
        ),
    )
    assert GuardSettings.model_validate_json(settings.model_dump_json()) == settings
    assert RateLimit(above=1.0, window_s=3.0) == rule.rate


@pytest.mark.parametrize("path", sorted(RULES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_rules_that_are_shipped_are_whole(path: Path) -> None:
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    rules = [Rule.model_validate(each) for each in data["rule"]]
    checks = [Check.model_validate(each) for each in data["check"]]
    assert rules and checks
    assert all(entry.guidance and entry.source for entry in (*rules, *checks))


def test_the_cryo_tem_rules_keep_the_meaning_of_their_numbers() -> None:
    data = tomllib.loads((RULES / "cryo-tem.toml").read_text(encoding="utf-8"))
    rules = {entry["id"]: Rule.model_validate(entry) for entry in data["rule"]}
    assert rules["IL-01"].above == pytest.approx(11.0)  # 10 e⁻/Å²/s × 1.1
    assert (rules["IL-02"].warn, rules["IL-02"].above) == (1440, 1800)
    assert rules["IL-03"].above == pytest.approx(103.15) and rules["IL-03"].max_age_s == 2
    assert rules["IL-10"].magnitude and rules["IL-10"].above == pytest.approx(110e-9)
    assert rules["IL-13"].above == 5.5
    checks = {entry["id"]: entry["check"] for entry in data["check"]}
    assert checks == {
        "IL-01": "dose",
        "IL-05": "ion_step",
        "IL-11": "contact",
        "IL-13": "cold_bias",
    }


def test_a_rule_is_dropped_only_where_it_says_so() -> None:
    data = tomllib.loads((RULES / "cryo-tem.toml").read_text(encoding="utf-8"))
    rules = [Rule.model_validate(each) for each in data["rule"]]
    checks = [Check.model_validate(each) for each in data["check"]]
    kept, asked = for_devices(rules, checks, {"stage", "beam"})
    assert {rule.id for rule in kept} == {"IL-01", "IL-02", "IL-03", "IL-22"}
    assert {check.id for check in asked} == {"IL-01"}
    assert next(rule.trips for rule in kept if rule.id == "IL-03") == ("beam.beam",)
    with pytest.raises(ConfigurationError, match="none of the outputs"):
        for_devices(rules, checks, {"stage"})


def test_what_the_guard_derives_has_units() -> None:
    settings = GuardSettings()
    assert derived_signals(settings.dose, settings.cell, settings.ion) == {}
