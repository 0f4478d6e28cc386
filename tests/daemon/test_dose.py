"""The dose meter: never less than the specimen has had, whatever is read, late or not at all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldframe.clock import NS
from coldframe.daemon.dose import Calibration, DoseMeter, ReadBack
from coldframe.daemon.rules import DoseSettings
from coldframe.errors import BadRequest

DAY = 86_400 * NS
SETTINGS = DoseSettings(max_rate=60.0, blanked_max_age_s=0.35, optics_max_age_s=2.5)
CURRENTS = {1: 12.58e-12, 2: 62.9e-12, 3: 125.8e-12, 4: 500e-12}  # 1, 5, 10, 39.7 e⁻/Å²/s


def calibration(spot: int = 3, magnification: float = 50e3, **changes: float) -> Calibration:
    values = {"current": CURRENTS.get(spot, 1e-12), "diameter": 1e-6, "t_ns": 0} | changes
    return Calibration(200.0, spot, magnification, **values)  # type: ignore[arg-type]


class Bench:
    """A meter, its two clocks (lab time may run faster), and read-backs."""

    def __init__(self, speed: float = 1.0, calibrated: bool = True, **changes: float):
        self.meter = DoseMeter(SETTINGS.model_copy(update=changes))
        self.now, self.speed = 0.0, speed
        if calibrated:
            for spot in CURRENTS:
                self.meter.calibrate(calibration(spot))

    @property
    def lab(self) -> int:
        return round(self.now * self.speed * NS)

    def see(self, **values: float | None) -> None:
        for name, value in values.items():
            self.meter.see(name, ReadBack(value, round(self.now * NS), self.lab))
        self.advance()

    def unblank(self) -> None:
        self.meter.unblanking(round(self.now * NS), self.lab, self.lab)

    def advance(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.meter.advance(round(self.now * NS), self.lab, self.lab)

    def run(self, seconds: float, step: float = 0.1, **values: float | None) -> None:
        """Read everything every `step`."""
        for _ in range(round(seconds / step)):
            self.now += step
            self.see(**values)

    @property
    def dose(self) -> float:
        assert self.meter.dose is not None
        return self.meter.dose


ON = {"high_voltage": 200.0, "spot": 3.0, "magnification": 50e3, "blanked": 0.0}
OFF = ON | {"blanked": 1.0}


def test_the_documents_beam_gives_the_documents_dose() -> None:
    bench = Bench()
    bench.see(**ON)
    bench.run(144.0, **ON)
    assert bench.dose == pytest.approx(1440, rel=0.01)  # 10 e⁻/Å²/s for 144 s


def test_dose_counts_in_lab_time() -> None:
    bench = Bench(speed=20.0)
    bench.see(**ON)
    bench.run(5.0, **ON)
    assert bench.dose == pytest.approx(1000, rel=0.01)


def test_a_blanked_beam_doses_nothing() -> None:
    bench = Bench()
    bench.see(**OFF)
    bench.run(100.0, **OFF)
    assert bench.dose == 0.0
    assert bench.meter.look(round(bench.now * NS), bench.lab).rate == 0.0


def test_the_uncertainty_of_the_calibration_is_counted_and_not_shown() -> None:
    bench = Bench(calibrated=False)
    bench.meter.calibrate(calibration(sigma=6.29e-12))  # 5 %
    bench.see(**ON)
    bench.run(10.0, **ON)
    assert bench.meter.look(round(bench.now * NS), 0).rate == pytest.approx(10.0, rel=0.01)
    assert bench.dose == pytest.approx(110, rel=0.01)


@pytest.mark.parametrize(
    "changes", [{"spot": 9.0}, {"high_voltage": 80.0}, {"magnification": 80e3}, {"spot": None}]
)
def test_outside_the_calibrated_table_the_rate_is_unknown(changes: dict[str, float | None]) -> None:
    bench = Bench()
    bench.see(**(ON | changes))
    look = bench.meter.look(round(bench.now * NS), bench.lab)
    assert look.rate is None and ("calibration" in look.words or "not known" in look.words)


def test_between_two_magnifications_the_larger_neighbour_holds() -> None:
    bench = Bench()
    bench.meter.calibrate(calibration(3, 100e3, diameter=0.5e-6))
    bench.see(**(ON | {"magnification": 70e3}))
    rate = bench.meter.look(round(bench.now * NS), bench.lab).rate
    assert rate == pytest.approx(40, rel=0.01)


def test_a_calibration_ages_and_one_from_the_future_is_none() -> None:
    meter = DoseMeter(SETTINGS)
    meter.calibrate(calibration(t_ns=10 * DAY))
    for name, value in ON.items():
        meter.see(name, ReadBack(value, 0, 0))
    assert meter.look(0, 17 * DAY).rate is not None
    assert meter.look(0, 17 * DAY + 1).rate is None
    assert meter.look(0, 10 * DAY - 1).rate is None


def test_what_is_unknown_counts_at_the_highest_rate_from_when_it_was_last_known() -> None:
    bench = Bench()
    bench.see(**OFF)
    bench.advance(0.3)
    assert bench.dose == 0.0  # still proven blanked
    bench.advance(0.7)
    assert bench.dose == pytest.approx(
        10.0, rel=0.01
    )  # optics are known: 10 e⁻/Å²/s if it is unblanked
    bench.advance(9.0)
    assert bench.dose == pytest.approx(600)  # nothing is known any more: 60 e⁻/Å²/s, from the start


def test_a_beam_proven_blanked_again_stops_the_count_and_takes_nothing_back() -> None:
    bench = Bench()
    bench.see(**OFF)
    bench.advance(5.0)
    counted = bench.dose
    assert counted > 0
    bench.run(5.0, **OFF)
    assert counted < bench.dose < counted + 6.1  # until the first read-back, 0.1 s later


def test_an_unblanking_command_leaves_no_gap_even_between_two_read_backs() -> None:
    bench = Bench()
    bench.see(**OFF)
    bench.now += 0.02
    bench.unblank()
    bench.now += 0.08
    bench.see(**OFF)  # on and off again in between
    assert bench.dose == pytest.approx(0.8, rel=0.01)


def test_right_after_an_unblanking_command_the_rate_is_the_calibrated_one() -> None:
    bench = Bench()
    bench.see(**OFF)
    bench.unblank()
    look = bench.meter.look(round((bench.now + 0.05) * NS), bench.lab)
    assert look.rate == pytest.approx(10, rel=0.01)  # no spurious "unknown"
    assert bench.meter.look(round((bench.now + 0.5) * NS), bench.lab).rate is None


def test_only_a_new_specimen_begins_at_zero() -> None:
    bench = Bench()
    bench.see(**ON)
    bench.run(5.0, **ON)
    bench.meter.calibrate(calibration())
    assert bench.dose > 49
    with pytest.raises(BadRequest, match="id"):
        bench.meter.new_specimen(" ")
    bench.meter.new_specimen("S-7")
    assert bench.meter.specimen == "S-7" and bench.dose == 0.0
    bench.advance(0.0)
    bench.run(1.0, **ON)
    assert bench.dose == pytest.approx(10, rel=0.15)


def test_with_nothing_in_the_column_nothing_is_counted() -> None:
    meter = DoseMeter(SETTINGS)
    for second in range(10):
        meter.see("blanked", ReadBack(0.0, second * NS, second * NS))
        meter.advance(second * NS, second * NS, second * NS, counting=False)
    assert meter.dose == 0.0


def test_a_dose_that_is_not_known_stays_so_until_a_new_specimen() -> None:
    bench = Bench()
    bench.meter.resume("S-1", None)
    bench.see(**OFF)
    bench.run(1.0, **OFF)
    assert bench.meter.dose is None
    bench.meter.new_specimen("S-2")
    assert bench.meter.dose == 0.0


@pytest.mark.parametrize("bad", [0.0, -1e-12, math.nan, math.inf])
def test_a_calibration_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(BadRequest):
        DoseMeter(SETTINGS).calibrate(calibration(current=bad))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.04, 0.1, 0.3, 1.0, 3.0])),
        st.tuples(st.sampled_from(["set", "turn"]), st.sampled_from([1.0, 2.0, 3.0, 4.0])),
        st.tuples(st.just("unblank"), st.just(0.0)),
        st.tuples(st.just("blank"), st.just(0.0)),
        st.tuples(st.just("silent"), st.sampled_from([0.2, 1.0, 4.0])),
    ),
    min_size=1,
    max_size=40,
)


@given(STEPS, st.sampled_from([1.0, 7.0]))
@settings(max_examples=200, deadline=None)
def test_the_meter_is_never_below_the_truth_and_never_goes_back(
    steps: list[tuple[str, float]], speed: float
) -> None:
    """The truth changes at any moment; the blanker is read every 0.1 s, the optics every second,
    and sometimes nothing at all."""
    bench = Bench(speed=speed)
    truth, shown = 0.0, 0.0
    spot, blanked, silent_until = 3.0, 1.0, -1.0
    next_blanked = next_optics = 0.0
    unread = False  # a knob was turned, and has not been read since
    bench.see(**OFF)

    def wait(seconds: float) -> None:
        nonlocal truth, shown, next_blanked, next_optics, unread
        end = bench.now + seconds
        while bench.now < end - 1e-9:
            step = min(0.01, end - bench.now)
            bench.now += step
            if not blanked:
                truth += calibration(int(spot)).rate * step * speed
            talks = bench.now >= silent_until
            if talks and bench.now >= next_optics:
                next_optics = bench.now + 1.0
                bench.see(high_voltage=200.0, spot=spot, magnification=50e3)
                unread = False
            if talks and bench.now >= next_blanked:
                next_blanked = bench.now + 0.1
                bench.see(blanked=blanked)
            bench.advance()
            assert bench.dose >= shown - 1e-9
            shown = bench.dose

    for kind, value in steps:
        if kind in ("turn", "set") and unread:  # what no read-back ever shows nobody can count
            wait(max(0.0, silent_until - bench.now) + 1.1)
        if kind == "wait":
            wait(value)
        elif kind == "turn":
            spot, unread = value, True  # by hand, at the column
        elif kind == "set":
            spot = value
            bench.meter.changing("spot", value, round(bench.now * NS))
        elif kind == "unblank":
            bench.unblank()
            blanked = 0.0
        elif kind == "blank":
            blanked = 1.0
        else:
            silent_until = bench.now + value
    wait(max(0.0, silent_until - bench.now) + 1.1)  # until all has been read once more
    assert bench.dose >= truth * (1 - 1e-9)
