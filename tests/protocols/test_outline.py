"""The outline against particles whose size the test draws and the analysis never sees."""

from __future__ import annotations

import numpy as np
import pytest

from coldframe.protocols.outline import find_outline
from coldframe.simulators.world import World


def touched() -> World:
    """A particle at ambient under the beam, and the needle on it."""
    world = World(seed=7)
    world.load("particle_5nm")
    world.beam.spot, world.beam.blanked, world.beam.screen_down = 4, False, False
    world.circuit.drive("open")
    while world.needle.gap > 0.3e-6:
        world.needle.step(3, 5, 30.0)
    while not world.needle.contact:
        world.needle.step(3, 1, 20.0)
    return world


def measured(world: World) -> float:
    """The mean area in sixteen frames, as a session would show it (px²)."""
    found = []
    for _ in range(16):
        world.step(0.25)
        outline = find_outline(world.camera.expose(0.25))
        assert outline is not None
        found.append(outline.area)
    return float(np.mean(found))


def frame(specimen: str, ratio: float, spot: int, seed: int) -> tuple[np.ndarray, float]:
    """A quarter-second frame of a particle grown to `ratio`, and its true area in px² (1 nm)."""
    world = World(seed=seed)
    world.load(specimen)
    world.beam.spot, world.beam.blanked, world.beam.screen_down = spot, False, False
    world.step(1)
    world.particle.area_ratio = ratio
    return world.camera.expose(0.25), np.pi * (world.particle.radius * 1e9) ** 2


@pytest.mark.parametrize("seed", range(6))
def test_the_area_of_a_blindly_drawn_particle_is_recovered_within_its_stated_uncertainty(seed):
    draw = np.random.default_rng(seed)
    specimen = str(draw.choice(["particle_5nm", "particle_10nm"]))
    ratio = float(draw.uniform(1.0, 2.0 if specimen == "particle_5nm" else 1.2))

    image, truth = frame(specimen, ratio, spot=4, seed=seed)
    found = find_outline(image)

    assert found is not None
    assert abs(found.area - truth) < 3 * found.sigma
    assert found.sigma < 0.03 * truth


def test_the_polygon_encloses_the_area_it_states():
    image, _ = frame("particle_5nm", 1.3, spot=4, seed=1)
    found = find_outline(image)
    assert found is not None
    y, x = found.polygon[:, 0], found.polygon[:, 1]
    shoelace = abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2
    assert shoelace == pytest.approx(found.area)


def test_swelling_is_recovered_under_a_tenth_of_the_dose():
    first, last = (frame("particle_5nm", ratio, spot=6, seed=4)[0] for ratio in (1.0, 2.0))
    before, after = find_outline(first), find_outline(last)
    assert before is not None and after is not None
    assert after.area / before.area == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("seed", range(5))
def test_pure_noise_has_no_outline(seed):
    noise = np.random.default_rng(seed).poisson(20, (256, 256))
    assert find_outline(noise) is None


def test_a_blanked_beam_has_no_outline():
    world = World(seed=2)
    world.load("particle_5nm")
    world.beam.blanked = True
    world.step(1)
    assert find_outline(world.camera.expose(0.25)) is None


def test_frozen_frames_do_not_swell():
    image, _ = frame("particle_5nm", 1.5, spot=4, seed=3)
    first, again = find_outline(image), find_outline(image.copy())
    assert first is not None and again is not None
    assert again.area == first.area


def wrong_sign(world: World) -> None:
    world.circuit.drive("voltage", +2.0, 100e-9)


def no_contact(world: World) -> None:
    world.needle.step(3, -50, 30.0)
    assert not world.needle.contact
    world.circuit.drive("voltage", -2.0, 100e-9)


def cold(world: World) -> None:
    world.stage.temperature = world.stage.gas = 88.15
    world.stage.cooling = True
    world.circuit.drive("voltage", -2.0, 100e-9)


@pytest.mark.parametrize("control", [wrong_sign, no_contact, cold])
def test_what_does_not_lithiate_measures_an_expansion_of_one(control):
    world = touched()
    before = measured(world)

    control(world)
    world.step(200)

    assert measured(world) / before == pytest.approx(1.0, abs=0.01)


def test_the_right_sign_at_ambient_in_contact_does():
    world = touched()
    before = measured(world)

    world.circuit.drive("voltage", -2.0, 100e-9)
    world.step(200)

    assert measured(world) / before == pytest.approx(2.0, abs=0.03)
