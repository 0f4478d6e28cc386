"""Quantities as people type them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldframe.errors import BadRequest
from coldframe.units import dose_rate, parse, show


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("-185 degC", "K", 88.15),
        ("-185degC", "K", 88.15),
        ("88.15 K", "K", 88.15),
        ("20 °C", "K", 293.15),
        ("150 nA", "A", 1.5e-7),
        ("125.8 pA", "A", 1.258e-10),
        ("3 µA", "A", 3e-6),
        ("3 μA", "A", 3e-6),
        ("2", "V", 2.0),
        ("-2e-3 V", "V", -0.002),
        ("1 kV", "V", 1000.0),
        ("200", "kV", 200.0),
        ("200000 V", "kV", 200.0),
        ("5 MOhm", "Ohm", 5e6),
        ("10 GΩ", "Ohm", 1e10),
        ("10 e-/Å²/s", "e/Å^2/s", 10.0),
        (".5 s", "s", 0.5),
        ("50 %", "%", 50.0),
        ("50 percent", "%", 50.0),
    ],
)
def test_a_quantity_with_its_unit_is_this_number(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == value


@pytest.mark.parametrize("text", ["-185", "88.15", " 300 "])
def test_a_bare_number_is_no_temperature(text: str) -> None:
    with pytest.raises(BadRequest, match="say degC or K"):
        parse(text, "K")


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", "V"), ("V", "V"), ("1 2 V", "V"), ("1,5 V", "V"), ("nan", "V"), ("inf V", "V"),
        ("1e999 V", "V"), ("1 A", "V"), ("1 mK", "V"), ("1 XV", "V"), ("0x10 V", "V"),
        ("1 m", "s"), ("--1 V", "V"), ("1 V; DROP", "V"), ("-185 degF", "K"),
    ],
)  # fmt: skip
def test_what_is_no_such_quantity_is_refused(text: str, unit: str) -> None:
    with pytest.raises(BadRequest):
        parse(text, unit)


@given(st.text(max_size=40), st.sampled_from(["K", "A", "V", "", "%", "e/Å^2"]))
def test_any_text_is_a_finite_number_or_refused(text: str, unit: str) -> None:
    try:
        assert math.isfinite(parse(text, unit))
    except BadRequest:
        pass


def test_temperatures_are_shown_in_both_scales_and_currents_with_a_prefix() -> None:
    assert show(88.15, "K") == "-185.00 °C (88.15 K)"
    assert show(1.258e-10, "A") == "125.8 pA"
    assert show(0.0, "A") == "0 A"
    assert show(2.0, "V") == "2 V"
    assert show(None, "K") == "unknown"
    assert show(True, "") == "True"
    assert show(12.5, "%") == "12.5 %"


def test_125_8_pa_in_a_disc_of_1_um_are_10_electrons_per_square_angstrom_and_second() -> None:
    assert dose_rate(125.8e-12, 1e-6) == pytest.approx(10.0, rel=1e-3)
