"""The package codec: what a simulator writes is what the driver reads, and nothing else is read."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coldframe.drivers.methodscript import (
    literal,
    parse_package,
    parse_point,
    parse_refusal,
    parse_variable,
)
from coldframe.errors import Garbled
from coldframe.simulators.methodscript import Value, encode, number_of

sizes = st.floats(1e-15, 1e9) | st.floats(-1e9, -1e-15)
values = st.builds(
    Value,
    sizes | st.just(0.0) | st.just(math.nan),
    st.sampled_from(["da", "ab", "ba", "eb", "cc"]),
    st.integers(0, 15),
    st.none() | st.integers(0, 255),
)


def test_the_manual_s_transcripts_are_read_as_the_manual_says() -> None:
    potential, current = parse_package("Pda7F85F3Fu;ba4BA99F0p,10,288")

    assert potential.kind == "da"
    assert potential.value == pytest.approx(-0.4999, abs=1e-4)
    assert current.value == pytest.approx(-5.487976e-5, rel=1e-9)
    assert (current.status, current.range_index) == (0, 0x88)
    assert parse_variable("ba9F70730p,10,207").range_index == 7
    assert parse_variable("dc800000Ai").value == 10
    assert math.isnan(parse_variable("ba     nan").value)
    assert parse_variable("da800000Am").value == 0.01
    assert parse_variable("ab7FFFFF6m").value == -0.01


def test_an_overloaded_current_is_not_known() -> None:
    point = parse_point("Peb8000001 ;da8000001 ;ba8000064n,13,209")

    assert point is not None
    assert math.isnan(point.current)
    assert point.overload and point.late
    assert point.range_index == 9


@pytest.mark.parametrize(
    ("line", "code", "where"),
    [
        ("e!4001: Line 3, Col 1", 0x4001, 3),
        ("!0014: Line 12", 0x0014, 12),
        ("Z!0006", 0x0006, None),
    ],
)
def test_errors_name_their_line(line: str, code: int, where: int | None) -> None:
    refusal = parse_refusal(line)

    assert refusal is not None
    assert (refusal.code, refusal.line) == (code, where)
    assert f"!{code:04X}" in str(refusal)


@given(sizes)
def test_a_number_survives_the_package_to_the_last_step_of_its_prefix(number: float) -> None:
    read = parse_variable("ba" + encode(number)).value

    assert read == pytest.approx(number, rel=4e-6, abs=0.51e-18)
    assert math.copysign(1, read) == math.copysign(1, number)


@given(st.lists(values, min_size=1, max_size=6))
def test_a_package_is_read_as_it_was_written(written: list[Value]) -> None:
    read = parse_package("P" + ";".join(value.show() for value in written))

    assert [variable.kind for variable in read] == [value.kind for value in written]
    for variable, value in zip(read, written, strict=True):
        assert variable.value == pytest.approx(value.number, rel=4e-6, abs=1e-18, nan_ok=True)
        if value.range_index is not None:
            assert (variable.status, variable.range_index) == (value.status, value.range_index)


@given(st.lists(values, min_size=1, max_size=4), st.data())
def test_a_cut_package_run_into_the_next_is_never_read(
    written: list[Value], data: st.DataObject
) -> None:
    package = "P" + ";".join(value.show() for value in written)
    cut = data.draw(st.integers(1, len(package)))

    with pytest.raises(Garbled):
        parse_package(package[:cut] + package)


@given(st.text(max_size=60))
def test_no_text_is_anything_but_a_package_or_garbled(text: str) -> None:
    for line in (text, "P" + text):
        with contextlib.suppress(Garbled):
            assert parse_package(line)
    assert parse_refusal(text) is None or "!" in text


@given(st.floats(1e-12, 1e8) | st.floats(-1e8, -1e-12))
def test_a_literal_means_its_number(number: float) -> None:
    text = literal(number)

    assert number_of(text) == pytest.approx(number, rel=8e-6, abs=0.51e-18)


@pytest.mark.parametrize(
    ("number", "text"),
    [(-0.5, "-500m"), (2.0, "2"), (0.1, "100m"), (1e-7, "100n"), (0.0, "0"), (3.05, "3050m")],
)
def test_literals_are_short_where_they_are_exact(number: float, text: str) -> None:
    assert literal(number) == text


@given(st.sampled_from([math.nan, math.inf, -math.inf]))
def test_what_is_not_finite_is_not_written_into_a_script(number: float) -> None:
    assume(not math.isfinite(number))

    with pytest.raises(ValueError, match="script"):
        literal(number)
