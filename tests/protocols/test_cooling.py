"""When the stage counts as cold and stable."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldframe.protocols.cooling import StabilityGate

COLD, GAS, ROOM = 88.15, 83.15, 293.15  # K


def cooling(t: float, tau: float) -> float:
    """Exponential approach to the cold gas, held at the setpoint by the heater once there."""
    return max(COLD, GAS + (ROOM - GAS) * math.exp(-t / tau))


@pytest.mark.parametrize("period", [0.5, 20.0, 75.0, 200.0])
def test_the_gate_opens_at_about_a_hundred_minutes_however_often_it_is_fed(period):
    gate, t = StabilityGate(COLD), 0.0
    while not gate.add(t, cooling(t, 24.1 * 60)):
        t += period
    assert 90 <= t / 60 <= 107


def test_an_unknown_temperature_begins_the_hold_anew():
    gate = StabilityGate(COLD, hold=600)
    for t in range(0, 590, 10):
        assert not gate.add(t, COLD)
    gate.add(590, None)
    opened = [t for t in range(600, 1400, 10) if gate.add(t, COLD)]
    assert opened[0] >= 600 + 600


def test_a_slow_drift_inside_the_band_is_not_stable():
    gate = StabilityGate(COLD, rate=0.2)
    drift = 0.3 / 60  # K/s
    assert not any(gate.add(t, COLD - 1.9 + drift * t) for t in range(0, 700, 10))


def test_outside_the_band_it_never_opens():
    gate = StabilityGate(COLD, band=2.0)
    assert not any(gate.add(t, COLD + 2.1) for t in range(0, 3600, 10))


@given(st.lists(st.one_of(st.none(), st.floats(80, 120)), min_size=1, max_size=60))
def test_it_never_opens_before_a_whole_hold_of_good_readings(values):
    gate, good_since = StabilityGate(COLD, hold=100), None
    for k, value in enumerate(values):
        t = 10.0 * k
        if value is None or abs(value - COLD) > 2.0:
            good_since = None
        elif good_since is None:
            good_since = t
        if gate.add(t, value):
            assert good_since is not None and t - good_since >= 100
