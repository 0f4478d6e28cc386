"""Needle, circuit and particle: what lithiates silicon, and what must not."""

import pytest

from coldframe.simulators.circuit import Mode
from coldframe.simulators.truth import CircuitTruth, ParticleTruth, Truth
from coldframe.simulators.world import World


def approach(world: World) -> None:
    """Bring the needle to the particle as a person does: coarse first, then the fine piezo."""
    while world.needle.gap > 0.3e-6:
        world.needle.step(3, 5, 30.0)
    volts = 0.0
    while not world.needle.contact:
        volts += 0.1
        assert volts < 150
        world.needle.set_offset(3, volts)


def touched(specimen: str = "particle_5nm", truth: Truth | None = None) -> World:
    """A world at ambient whose needle touches the particle, the circuit open."""
    world = World(truth, seed=7)
    world.load(specimen)
    world.circuit.drive("open")
    approach(world)
    return world


def lithiated(world: World, mode: Mode, value: float, seconds: float) -> float:
    """Picocoulomb of lithium that a state of the circuit drives into the particle."""
    before = world.particle.charge
    world.circuit.drive(mode, value, 100e-9 if mode != "current" else 5.0)
    world.step(seconds)
    return (world.particle.charge - before) * 1e12


def test_five_nanometres_let_the_outline_double_in_120_seconds_and_no_further() -> None:
    world = touched()
    world.circuit.drive("voltage", -2.0, 100e-9)

    world.step(60)
    assert world.particle.area_ratio == pytest.approx(1.5, abs=0.01)
    world.step(61)
    assert world.particle.area_ratio == pytest.approx(2.0)
    world.step(300)

    assert world.particle.area_ratio == 2.0 and not world.particle.broken
    assert world.particle.core_ratio == pytest.approx(2.28, abs=0.01)
    assert world.particle.radius == pytest.approx(55e-9 * 2**0.5)
    assert world.particle.charge == pytest.approx(10.3e-12)


def test_ten_nanometres_break_at_120_seconds_and_stop_at_1_2_after_144() -> None:
    world = touched("particle_10nm")
    began = world.now
    world.circuit.drive("voltage", -2.0, 100e-9)

    world.step(119)
    assert not world.particle.broken
    world.step(200)

    assert world.particle.area_ratio == pytest.approx(1.2)
    assert world.particle.broke_at is not None
    assert world.particle.broke_at - began == pytest.approx(120, abs=0.2)
    [plateau] = [e for e in world.events if e.name == "plateau"]
    assert plateau.t - began == pytest.approx(144, abs=0.3)


def test_the_thin_shell_grows_six_times_as_fast() -> None:
    growth = []
    for specimen in ("particle_5nm", "particle_10nm"):
        world = touched(specimen)
        world.circuit.drive("voltage", -2.0, 100e-9)
        world.step(60)
        growth.append(world.particle.area_ratio - 1)

    assert growth[0] / growth[1] == pytest.approx(6.0, rel=0.01)


def test_the_times_do_not_depend_on_how_time_was_stepped() -> None:
    times = []
    for dt in (0.05, 1.0, 30.0):
        world = touched("particle_10nm")
        world.circuit.drive("voltage", -2.0, 100e-9)
        began = world.now
        while world.now - began < 150:
            world.step(dt)
        assert world.particle.broke_at is not None
        times.append(world.particle.broke_at - began)

    assert times == pytest.approx([times[0]] * 3, abs=0.05)


def test_the_wrong_polarity_the_cold_and_no_contact_leave_the_particle_as_it_is() -> None:
    wrong, cold, apart = touched(), touched(), touched()
    cold.stage.temperature = cold.stage.gas = 88.15
    cold.stage.cooling = True
    for _ in range(5):
        apart.needle.step(3, -10, 30.0)
    assert not apart.needle.contact

    wrong.circuit.drive("voltage", +2.0, 100e-9)
    cold.circuit.drive("voltage", -2.0, 100e-9)
    apart.circuit.drive("voltage", -2.0, 100e-9)
    for world in (wrong, cold, apart):
        world.step(300)

    assert wrong.particle.area_ratio == pytest.approx(1.0, abs=0.01)
    assert cold.particle.area_ratio == pytest.approx(1.0, abs=0.01)
    assert apart.particle.area_ratio == 1.0


def test_nothing_but_a_particle_can_be_touched() -> None:
    world = World()
    world.load("lamella")
    world.needle.step(3, 100, 40.0)

    assert not world.needle.contact and not world.particle.present


def test_zero_volts_lithiate_at_0_43_of_the_rate_and_so_are_never_safe() -> None:
    at_zero, at_two = touched(), touched()
    at_zero.circuit.drive("voltage", 0.0, 100e-9)
    at_two.circuit.drive("voltage", -2.0, 100e-9)
    for world in (at_zero, at_two):
        world.step(60)

    ratio = (at_zero.particle.area_ratio - 1) / (at_two.particle.area_ratio - 1)
    assert ratio == pytest.approx(1.5 / 3.5, rel=0.01)


def test_the_default_off_state_of_an_smu_passes_more_than_1_pC_in_a_minute() -> None:
    assert lithiated(touched(), "off_normal", 0.0, 60) > 1.0


def test_an_open_circuit_passes_less_than_1_pC_in_a_minute_also_after_a_bias() -> None:
    fresh, biased = touched(), touched()
    assert lithiated(fresh, "open", 0.0, 60) < 0.2

    biased.circuit.drive("voltage", -2.0, 100e-9)
    biased.step(20)
    assert lithiated(biased, "open", 0.0, 60) < 0.5
    assert biased.circuit.current == 0
    assert biased.circuit.voltage == pytest.approx(2.5, abs=0.01)


def test_a_meter_of_10_gigaohm_lithiates_as_a_short_does() -> None:
    # 2.5 V over 10 Gohm would be 0.25 nC/s; the particle gives 37 fA and falls to 0.4 mV.
    world = touched()

    passed = lithiated(world, "current", 0.0, 60)

    assert passed == pytest.approx(lithiated(touched(), "off_normal", 0.0, 60), rel=0.02)
    assert 0 < world.circuit.voltage < 1e-3


def test_a_lab_without_a_relay_at_its_holder_cannot_open_the_circuit() -> None:
    world = touched(truth=Truth(circuit=CircuitTruth(open_farads=100e-12)))

    world.circuit.drive("voltage", -2.0, 100e-9)
    world.step(20)

    assert lithiated(world, "open", 0.0, 60) > 3.0


def test_the_current_of_lithiation_is_negative_and_below_100_fA() -> None:
    world = touched()
    world.circuit.drive("voltage", -2.0, 100e-9)
    world.step(1)
    taken = world.particle.charge

    world.step(118)

    mean = (world.particle.charge - taken) / 118
    assert world.circuit.voltage == -2.0
    assert mean == pytest.approx(86e-15, rel=0.03)
    assert world.circuit.current == pytest.approx(-103e-15, rel=0.05)
    assert not world.circuit.in_compliance


def test_the_circuit_counts_the_cable_s_charge_too() -> None:
    world = World()
    world.circuit.drive("voltage", -2.0, 100e-9)

    world.step(1)

    assert world.circuit.charge == pytest.approx(-200e-12, rel=1e-3)
    assert world.particle.charge == 0


def test_the_cable_fills_no_faster_than_the_limit_allows() -> None:
    world = World()
    world.circuit.drive("voltage", -2.0, 100e-12)

    world.step(1.0)
    assert world.circuit.voltage == pytest.approx(-1.0, rel=0.01)
    assert world.circuit.in_compliance
    assert world.circuit.current == pytest.approx(-100e-12, rel=0.01)

    world.step(2.0)
    assert world.circuit.voltage == -2.0 and not world.circuit.in_compliance


def test_a_short_puts_the_source_into_compliance_and_stops_lithiation_by_bias() -> None:
    world = touched()
    world.inject("short", ohms=10)
    world.circuit.drive("voltage", -2.0, 100e-9)

    world.step(10)

    assert world.circuit.in_compliance
    assert world.circuit.current == pytest.approx(-100e-9, rel=1e-3)
    assert abs(world.circuit.voltage) < 5e-6


def test_sourcing_a_current_into_an_open_needle_ends_at_the_voltage_limit() -> None:
    world = World()
    world.circuit.drive("current", -1e-9, 2.0)

    world.step(20)

    assert world.circuit.voltage == pytest.approx(-2.0)
    assert world.circuit.in_compliance
    assert world.circuit.current == pytest.approx(-2.0 / 10e9, rel=1e-6)


def test_without_a_limit_an_instrument_has_the_one_it_wakes_with() -> None:
    world = World()
    world.circuit.drive("current", 1e-9)
    world.cell.drive("current", -1e-3)
    world.step(20)

    assert world.circuit.voltage == pytest.approx(2.0)
    assert world.cell.voltage == pytest.approx(-5.0)


def test_the_reading_has_noise_and_the_beam_in_it() -> None:
    world = touched()
    world.circuit.drive("voltage", +2.0, 100e-9)
    world.step(10)
    dark = [world.circuit.read()[1] for _ in range(100)]

    world.beam.blanked = False
    world.step(1)
    lit = [world.circuit.read()[1] for _ in range(100)]

    assert abs(sum(dark) / 100) < 2e-14 and max(dark) > min(dark)
    assert sum(lit) / 100 == pytest.approx(12.6e-12, rel=0.02)


def test_a_needle_steps_further_forward_than_back_and_never_twice_the_same() -> None:
    world = World(seed=1)
    world.load("particle_5nm")
    start = world.needle.gap
    world.needle.step(3, 30, 30.0)
    forward = start - world.needle.gap
    world.needle.step(3, -30, 30.0)
    back = world.needle.gap - (start - forward)

    assert forward == pytest.approx(30 * 40e-9 * 1.1, rel=0.05)
    assert back == pytest.approx(30 * 40e-9 * 0.9, rel=0.05)
    gap = world.needle.gap
    world.needle.step(3, 50, 8.0)
    assert world.needle.gap == gap


def test_a_cold_piezo_moves_a_third_as_far() -> None:
    world = World()
    world.load("particle_5nm")
    world.stage.temperature = 88.15
    start = world.needle.gap

    world.needle.set_offset(3, 100.0)

    assert start - world.needle.gap == pytest.approx(100 * 20e-9 * 0.287, rel=0.01)


def test_a_needle_beside_the_particle_passes_it() -> None:
    world = World()
    world.load("particle_5nm")
    world.needle.set_offset(1, 10.0)
    world.needle.step(3, 100, 30.0)

    assert world.needle.miss > world.particle.radius
    assert world.needle.gap < -1e-6 and not world.needle.contact


def test_a_needle_pressed_too_hard_bends_and_keeps_contact() -> None:
    world = touched()

    world.needle.step(3, 20, 60.0)

    assert world.needle.contact
    assert world.needle.gap == pytest.approx(-200e-9)
    assert world.events[-1].name == "needle bent"


def test_a_slipping_needle_ends_the_reaction() -> None:
    world = touched()
    world.circuit.drive("voltage", -2.0, 100e-9)
    world.step(30)

    world.inject("needle_slips", metres=50e-9)
    before = world.particle.area_ratio
    world.step(60)

    assert world.particle.area_ratio == before
    assert "contact lost" in [e.name for e in world.events]


def test_a_new_specimen_is_far_from_the_needle_and_unlithiated() -> None:
    world = touched()
    world.circuit.drive("voltage", -2.0, 100e-9)
    world.step(30)

    world.load("particle_10nm")

    assert not world.needle.contact
    assert world.needle.gap == pytest.approx(1.5e-6)
    assert world.particle.area_ratio == 1.0 and world.truth()["particle_charge"] == 0


def test_another_lab_may_have_another_particle() -> None:
    kind = ParticleTruth(rate=0.01, plateau=1.4, breaks_at=1.1)
    world = touched(truth=Truth(particle_5nm=kind))
    world.circuit.drive("voltage", -2.0, 100e-9)

    world.step(60)

    assert world.particle.area_ratio == 1.4 and world.particle.broken
