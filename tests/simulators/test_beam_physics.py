"""Beams dose what they hit, blankers act a little late, and the cup sees what falls into it."""

import itertools

import pytest

from coldframe.simulators.beam_physics import dose_rate
from coldframe.simulators.truth import BeamTruth, Truth
from coldframe.simulators.world import World


def steady() -> World:
    """A world whose beam does not drift, with a lamella loaded."""
    world = World(Truth(beam=BeamTruth(drift=0.0)))
    world.load("lamella")
    return world


def test_125_8_pA_in_a_disc_of_1_um_are_10_electrons_per_square_angstrom_and_second() -> None:
    assert dose_rate(125.8e-12, 1e-6) == pytest.approx(10.0, rel=1e-3)


def test_spots_4_and_6_give_10_and_1_at_the_magnification_of_1_nm_pixels() -> None:
    world = steady()
    world.beam.blanked = False
    world.step(1)

    assert world.camera.pixel_size == pytest.approx(1e-9)
    assert world.beam.dose_rate == pytest.approx(10.0, rel=1e-3)
    world.beam.spot = 6
    assert world.beam.dose_rate == pytest.approx(1.0, rel=1e-3)


def test_twice_the_magnification_is_four_times_the_dose_rate() -> None:
    world = steady()
    world.beam.blanked = False
    world.step(1)

    world.beam.magnification *= 2

    assert world.beam.diameter == pytest.approx(0.5e-6)
    assert world.beam.dose_rate == pytest.approx(40.0, rel=1e-3)


def test_a_column_wakes_blanked_and_a_blanked_beam_doses_nothing() -> None:
    world = steady()

    world.step(60)

    assert world.beam.blanked and world.beam.blanked_now
    assert world.truth()["fluence"] == 0


def test_the_dose_counts_the_blanker_s_latency_exactly() -> None:
    world = steady()
    world.beam.blanker_latency = 0.05

    world.beam.blanked = False
    world.step(1.0)  # on for 0.95 s
    world.beam.blanked = True
    assert not world.beam.blanked_now
    world.step(60.0)  # and for 0.05 s more

    assert world.truth()["beam_seconds"] == pytest.approx(1.0)
    assert world.truth()["fluence"] == pytest.approx(10.0, rel=1e-3)
    assert [(e.name, e.t) for e in world.events if e.name.startswith("beam")] == [
        ("beam unblanked", pytest.approx(0.05)),
        ("beam blanked", pytest.approx(1.05)),
    ]


def test_a_short_flash_within_one_latency_still_reaches_the_specimen() -> None:
    world = steady()
    world.beam.blanker_latency = 0.05

    world.beam.blanked = False
    world.step(0.01)
    world.beam.blanked = True
    world.step(1.0)

    assert world.truth()["beam_seconds"] == pytest.approx(0.01)


def test_the_dose_does_not_depend_on_how_time_was_stepped() -> None:
    fluences = []
    for dt in (0.5, 5.0, 60.0):
        world = World(seed=4)
        world.load("lamella")
        world.beam.blanked = False
        for _ in range(round(600 / dt)):
            world.step(dt)
        fluences.append(world.truth()["fluence"])

    assert fluences[1] == pytest.approx(fluences[0], rel=1e-5)
    assert fluences[2] == pytest.approx(fluences[0], rel=1e-5)


def test_a_beam_on_no_specimen_doses_none_and_a_new_specimen_is_fresh() -> None:
    world = World()
    world.beam.blanked = False
    world.step(10)
    assert world.truth()["fluence"] == 0

    world.load("lamella")
    world.step(10)
    assert world.truth()["fluence"] > 90
    world.load("particle_5nm")
    assert world.truth()["fluence"] == 0


def test_beam_on_a_warm_specimen_is_counted() -> None:
    world = steady()
    world.beam.blanked = False
    world.stage.temperature = world.stage.gas = 88.0
    world.stage.cooling = True
    world.step(10)
    assert world.truth()["warm_beam_seconds"] == 0

    world.stage.temperature = 120.0
    world.step(10)
    assert world.truth()["warm_beam_seconds"] == pytest.approx(10)


def test_the_cup_catches_the_beam_only_under_the_screen() -> None:
    world = steady()
    assert abs(world.cup.current()) < 2e-14

    world.beam.screen_down = True
    world.step(1)
    assert abs(world.cup.current()) < 2e-14

    world.beam.blanked = False
    world.step(1)
    assert world.cup.current() == pytest.approx(-125.8e-12, rel=5e-3)  # electrons
    assert world.truth()["fluence"] == pytest.approx(10.0, rel=3e-3)

    world.beam.screen_down = False
    assert abs(world.cup.current()) < 2e-14


def test_a_scanning_column_sets_its_probe_current_itself() -> None:
    world = steady()

    world.beam.kv = 5
    world.beam.set_current(25e-12)
    assert world.beam.current == pytest.approx(25e-12)

    world.beam.spot = 1
    assert world.beam.current == pytest.approx(3.978e-9 * 5 / 200)
    with pytest.raises(ValueError, match="probe current"):
        world.beam.set_current(1.0)


def test_the_current_drifts_slowly_and_little() -> None:
    world = World(seed=2)
    currents = []
    for _ in range(60):
        world.step(60)
        currents.append(world.beam.current)

    spread = (max(currents) - min(currents)) / 125.8e-12
    assert 0.001 < spread < 0.0101
    assert max(abs(a - b) for a, b in itertools.pairwise(currents)) < 0.002 * 126e-12


def test_a_stuck_blanker_ignores_commands_until_it_is_free() -> None:
    world = steady()
    world.beam.blanked = False
    world.step(1)

    world.inject("blanker_sticks")
    world.beam.blanked = True
    world.step(1)
    assert not world.beam.blanked_now

    world.inject("blanker_frees")
    world.step(1)
    assert world.beam.blanked_now


def test_a_column_switched_off_doses_nothing() -> None:
    world = steady()
    world.beam.blanked = False
    world.step(1)
    before = world.truth()["fluence"]

    world.beam.on = False
    world.step(10)

    assert world.truth()["fluence"] == before
    assert world.beam.current == 0 and world.beam.dose_rate == 0
    assert world.events[-1].name == "beam off"


def test_3_nA_of_gallium_remove_a_trench_of_1600_cubic_microns_in_an_hour() -> None:
    world = World()
    world.load("lamella")
    world.ion.preset = "30 kV; 3 nA"
    world.ion.on = True
    world.ion.scanning = True

    for _ in range(59):
        world.step(60)

    assert world.truth()["removed_volume"] == pytest.approx(1600e-18, rel=0.02)
    assert world.truth()["ions"] == pytest.approx(1.9e10 * 59 * 60, rel=0.03)


def test_the_ion_beam_falls_into_the_cup_while_it_is_parked() -> None:
    world = World()
    world.cup.source = "ion"
    world.ion.on = True
    assert world.cup.current() == pytest.approx(10e-12, rel=0.02)

    world.ion.scanning = True
    assert abs(world.cup.current()) < 2e-14


def test_an_unknown_preset_or_spot_is_refused() -> None:
    world = World()
    with pytest.raises(ValueError, match="known are 30 kV; 10 pA"):
        world.ion.preset = "30 kV; 50 nA"
    with pytest.raises(ValueError, match="spot 9"):
        world.beam.spot = 9
