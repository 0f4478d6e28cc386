"""From readings to samples: what may be believed, and what is bad at once."""

from __future__ import annotations

from typing import Any

import pytest

from coldframe.clock import NS
from coldframe.daemon.vetting import Facts, as_sample
from coldframe.messages import Reading

HOUR = 3600 * NS
NAME = "stage.temperature"


def reading(seq: int = 0, at: int = 100, **changes: Any) -> Reading:
    values: dict[str, Any] = {
        "name": NAME, "seq": seq, "t_ns": str(at * NS + HOUR), "mono_ns": str(at * NS),
        "unit": "K", "value": 90.0,
    }  # fmt: skip
    return Reading(**(values | changes))


def facts(simulated: bool = False) -> Facts:
    made = Facts({NAME: "K"}, simulated)
    made.take(reading(), 100 * NS)
    return made


def test_what_is_fresh_finite_and_in_order_is_good() -> None:
    fact = facts().take(reading(1, 101), 101 * NS)
    assert fact.good and as_sample(fact).value == 90.0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"value": None, "quality": "bad"}, "quality bad"),
        ({"quality": "stale"}, "quality stale"),
        ({"quality": "simulated"}, "simulated"),
        ({"unit": "degC"}, "in degC, not K"),
        ({"seq": 2}, "number 2 after 0"),
        ({"seq": 0}, "number 0 after 0"),
        ({"mono_ns": str(99 * NS)}, "before the last"),
        ({"mono_ns": str(101 * NS + 2_000_000)}, "in the future"),
        ({"value": "cold"}, "not a number"),
        ({"value": True}, "not a number"),
    ],
)
def test_what_may_not_be_believed_is_bad_at_once(changes: dict[str, Any], says: str) -> None:
    fact = facts().take(reading(**{"seq": 1, "at": 101} | changes), 101 * NS)
    sample = as_sample(fact)
    assert not sample.good and says in sample.words


@pytest.mark.parametrize("jump", [-HOUR, HOUR, -1_000_000, 25 * HOUR])
def test_a_jump_of_the_wall_clock_changes_nothing(jump: int) -> None:
    still = facts().take(reading(1, 101), 101 * NS)
    jumped = facts().take(reading(1, 101, t_ns=str(101 * NS + HOUR + jump)), 101 * NS)
    assert jumped == still


def test_in_a_simulated_lab_the_lab_clock_counts_and_its_quality_is_good() -> None:
    made = facts(simulated=True)
    fact = made.take(reading(1, 101, quality="simulated"), 101 * NS)
    assert fact.good and fact.steady_ns == 101 * NS + HOUR


def test_a_new_host_begins_its_numbers_again() -> None:
    made = facts()
    made.forget("stage")
    assert made.take(reading(0, 50), 101 * NS).good


def test_a_setting_on_its_way_counts_until_it_is_read_back() -> None:
    made = Facts({}, False)
    made.take(reading(name="bias.current_limit", value=1e-8), 100 * NS)
    made.sent("bias.current_limit", 1e-6)
    assert made.largest("bias.current_limit") == 1e-6
    made.take(reading(1, 101, name="bias.current_limit", value=2e-8), 101 * NS)
    assert made.largest("bias.current_limit") == 2e-8
    assert made.largest("bias.nothing") is None
