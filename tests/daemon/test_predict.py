"""The predictions, against the numbers of the experiments they were made for."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldframe.clock import NS
from coldframe.daemon.predict import Contact, IonStep, cold_bias, resistance
from coldframe.daemon.rules import CellSettings, ContactSettings, IonStepSettings
from coldframe.errors import BadRequest, UnknownName
from coldframe.units import ZERO_CELSIUS

LIPON = CellSettings(
    area_cm2=0.04, thickness_um=3.7, sigma_S_cm=2.5e-6, overpotential_V=1.0, voltage_limit_V=5.5
)
NOMINAL = 0.55  # eV
CURRENT = -50e-9  # A


def ohmic(celsius: float, activation: float = NOMINAL) -> float:
    return abs(CURRENT) * resistance(LIPON, celsius + ZERO_CELSIUS, activation)


@pytest.mark.parametrize(
    ("celsius", "activation", "expected"),
    [
        (25, NOMINAL, 0.19e-3),
        (-50, NOMINAL, 0.18),
        (-80, NOMINAL, 13.6),
        (-80, 0.53, 8.9),
        (-80, 0.63, 74),
    ],
)
def test_the_ohmic_part_is_the_documents(
    celsius: float, activation: float, expected: float
) -> None:
    assert ohmic(celsius, activation) == pytest.approx(expected, rel=0.03)


def test_a_warm_cell_is_allowed_and_a_cold_one_refused_on_the_upper_bound() -> None:
    warm = cold_bias(LIPON, 25 + ZERO_CELSIUS, CURRENT)
    assert warm.allowed and warm.most == pytest.approx(1.0, abs=0.01)

    # at -75 °C the lower end of the interval is within 5.5 V, the upper end is not
    between = cold_bias(LIPON, -75 + ZERO_CELSIUS, CURRENT)
    assert between.ohmic[0] + 1.0 < 5.5 < between.most
    assert not between.allowed
    assert not cold_bias(LIPON, -80 + ZERO_CELSIUS, CURRENT).allowed


def test_the_message_prints_the_ohmic_part_the_overpotential_the_sum_and_the_interval() -> None:
    words = cold_bias(LIPON, -80 + ZERO_CELSIUS, CURRENT).words()
    for part in (
        "8.889 V",
        "73.75 V",
        "overpotential 1 V",
        "predicted 9.889 V to 74.75 V",
        "-80.00 °C",
    ):
        assert part in words, words
    assert "limit 5.5 V" in words


@pytest.mark.parametrize("kelvin", [88.15, 77.36, 4.2, 0.05, 1e-300])
def test_the_coldest_stage_overflows_nothing(kelvin: float) -> None:
    found = cold_bias(LIPON, kelvin, CURRENT)
    assert math.isfinite(found.most) and not found.allowed
    assert found.words()


@given(
    st.floats(50, 400),
    st.floats(50, 400),
    st.floats(1e-12, 1e-3),
)
def test_colder_never_needs_less_voltage(a: float, b: float, current: float) -> None:
    low, high = sorted((a, b))
    assert cold_bias(LIPON, low, current).most >= cold_bias(LIPON, high, current).most * (1 - 1e-9)


@pytest.mark.parametrize("kelvin", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_temperature_is_refused(kelvin: float) -> None:
    with pytest.raises(BadRequest):
        cold_bias(LIPON, kelvin, CURRENT)


# ---- contact ------------------------------------------------------------------------------


def test_a_contact_counts_for_sixty_seconds() -> None:
    contact = Contact(ContactSettings())
    assert "nobody has verified" in (contact.refusal(0) or "")
    contact.confirm("image contrast", "Ada", 10 * NS, False)
    assert contact.refusal(70 * NS) is None
    refusal = contact.refusal(71 * NS) or ""
    assert "61 s ago" in refusal and "limit 60 s" in refusal and "confirm_contact" in refusal


def test_a_needle_that_moves_undoes_the_contact() -> None:
    contact = Contact(ContactSettings())
    contact.confirm("person", "Ada", 10 * NS, False)
    contact.moved(11 * NS)
    assert "moved since" in (contact.refusal(12 * NS) or "")
    with pytest.raises(BadRequest, match="stands still"):
        contact.confirm("person", "Ada", 11 * NS + NS // 20, False)
    contact.confirm("person", "Ada", 13 * NS, False)
    assert contact.refusal(14 * NS) is None


def test_a_needle_that_moves_or_may_move_gets_no_bias() -> None:
    contact = Contact(ContactSettings())
    with pytest.raises(BadRequest, match="moves"):
        contact.confirm("person", "Ada", 0, True)
    contact.confirm("person", "Ada", 0, False)
    assert contact.refusal(NS, False) is None
    assert "needle.moving" in (contact.refusal(NS, True) or "")
    assert "not known" in (contact.refusal(NS, None) or "")


def test_evidence_has_a_kind_and_a_name() -> None:
    contact = Contact(ContactSettings())
    with pytest.raises(BadRequest, match="image contrast"):
        contact.confirm("  ", "Ada", 0, False)
    with pytest.raises(BadRequest, match="who"):
        contact.confirm("person", " ", 0, False)


# ---- ion current of a step --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "allowed", "refused"),
    [("image", 11.9e-12, 13e-12), ("weld", 10e-12, 0.1e-9), ("clean", 0.119e-9, 3e-9),
     ("mill", 3.59e-9, 3.7e-9)],
)  # fmt: skip
def test_each_step_has_its_current_and_a_fifth(step: str, allowed: float, refused: float) -> None:
    ion = IonStep(IonStepSettings())
    ion.set(step, "Ga")
    assert ion.refusal(allowed) is None
    words = ion.refusal(refused) or ""
    assert repr(step) in words and "× 1.2" in words
    assert (ion.excess(allowed) or 2) <= 1 < (ion.excess(refused) or 0)


def test_what_is_not_known_of_the_ion_beam_is_refused() -> None:
    ion = IonStep(IonStepSettings())
    assert "no ion step is set" in (ion.refusal(1e-12) or "")
    ion.set("clean", "Ga")
    assert "not known" in (ion.refusal(None) or "")
    assert "Xe" in (ion.refusal(1e-12, "Xe") or "")
    with pytest.raises(BadRequest):
        ion.set("clean", "Xe")
    with pytest.raises(UnknownName, match="mill"):
        ion.set("polish", "Ga")
