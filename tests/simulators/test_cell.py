"""The LiPON cell conducts warm and refuses cold."""

import pytest

from coldframe.simulators.world import World
from coldframe.units import ZERO_CELSIUS


def cell_at(celsius: float) -> World:
    world = World()
    world.stage.temperature = world.stage.gas = ZERO_CELSIUS + celsius
    return world


@pytest.mark.parametrize(
    ("celsius", "volts", "tolerance"), [(25, 0.19e-3, 0.03), (-50, 0.18, 0.03), (-80, 13.6, 0.01)]
)
def test_50_nA_cost_what_the_source_computes(
    celsius: float, volts: float, tolerance: float
) -> None:
    assert cell_at(celsius).cell.resistance * 50e-9 == pytest.approx(volts, rel=tolerance)


@pytest.mark.parametrize(
    ("celsius", "sigma"),
    [(0, 3.8e-7), (-20, 6.6e-8), (-50, 2.5e-9), (-80, 3.4e-11), (-170, 1.9e-23)],
)
def test_the_conductivity_follows_the_table(celsius: float, sigma: float) -> None:
    per_centimetre = 3.7e-4 / (cell_at(celsius).cell.resistance * 0.04)

    assert per_centimetre == pytest.approx(sigma, rel=0.05)


def test_a_pristine_cell_rests_at_2_8_volts() -> None:
    world = World()

    world.step(600)

    assert world.cell.voltage == pytest.approx(2.8)
    assert world.cell.current == 0
    assert world.cell.read()[0] == pytest.approx(2.8, abs=5e-4)


def test_50_nA_of_reduction_cost_about_a_volt_of_overpotential_at_ambient() -> None:
    world = cell_at(20)
    world.cell.drive("current", -50e-9, 5.0)

    for _ in range(5):
        world.step(60)

    assert world.cell.current == -50e-9 and not world.cell.in_compliance
    assert world.cell.voltage - world.cell.open_circuit == pytest.approx(-1.0, abs=0.01)
    assert world.truth()["cell_charge"] == pytest.approx(-50e-9 * 300)


def test_a_cold_cell_parks_the_source_at_its_voltage_limit() -> None:
    world = cell_at(-170)
    world.stage.cooling = True

    world.cell.drive("current", -50e-9, 5.0)
    world.step(1)

    assert world.cell.in_compliance
    assert world.cell.voltage == pytest.approx(-5.0)
    assert abs(world.cell.current) < 1e-15


def test_a_voltage_step_begins_at_the_ohmic_current_and_decays() -> None:
    world = cell_at(25)

    world.cell.drive("voltage", 3.8, 1e-3)
    first = world.cell.current
    world.step(0.1)
    later = world.cell.current
    world.step(60)

    assert first == pytest.approx(1.0 / 3700, rel=1e-3)
    assert 1e-8 < later < 1e-6
    assert world.cell.current == pytest.approx(50e-9, rel=0.02)
    assert world.cell.voltage == pytest.approx(3.8)


def test_a_current_limit_is_kept() -> None:
    world = cell_at(25)

    world.cell.drive("voltage", 3.8, 1e-5)

    assert world.cell.current == 1e-5 and world.cell.in_compliance
    assert world.cell.voltage < 3.8


def test_zero_volts_discharge_the_cell_and_open_lets_it_recover() -> None:
    world = cell_at(25)
    world.cell.drive("off_normal")
    world.step(60)
    assert world.cell.current < -1e-6
    drained = world.truth()["cell_charge"]

    world.cell.drive("open")
    world.step(600)
    world.step(600)

    assert drained < -50e-6
    assert world.cell.current == 0
    assert world.truth()["cell_charge"] == pytest.approx(drained, rel=1e-3)
    assert world.cell.voltage == pytest.approx(world.cell.open_circuit, abs=1e-3)


def test_an_unknown_mode_is_refused() -> None:
    world = World()
    with pytest.raises(ValueError, match="cell mode 'galvanic'"):
        world.cell.drive("galvanic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="circuit mode 'galvanic'"):
        world.circuit.drive("galvanic")  # type: ignore[arg-type]
