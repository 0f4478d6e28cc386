"""Frames and spectra are counts, and what happened in the world can be seen in them."""

import numpy as np
import numpy.typing as npt
import pytest

from coldframe.simulators.world import World

Frame = npt.NDArray[np.uint16]


def lit(specimen: str, spot: int = 4, seed: int = 0) -> World:
    world = World(seed=seed)
    world.load(specimen)
    world.beam.spot = spot
    world.beam.blanked = False
    world.step(0.1)
    return world


def lithiate(world: World) -> None:
    world.circuit.drive("open")
    world.needle.step(3, 20, 30.0)
    volts = 0.0
    while not world.needle.contact:
        volts += 0.5
        world.needle.set_offset(3, volts)
    world.circuit.drive("voltage", -2.0, 100e-9)
    for _ in range(150):
        world.step(1)


def dark_area(frame: Frame, electrons: float) -> int:
    """Pixels darker than half-way between support and shell, after a mean of 5 x 5."""
    padded = np.pad(frame.astype(float), 2, mode="edge")
    smooth = np.lib.stride_tricks.sliding_window_view(padded, (5, 5)).mean(axis=(2, 3))
    return int(np.count_nonzero(smooth < 0.68 * electrons))


def test_a_frame_of_vacuum_has_the_counts_of_the_dose_and_their_poisson_noise() -> None:
    world = lit("empty")

    frame = world.camera.expose(0.5)

    assert frame.shape == (256, 256) and frame.dtype == np.uint16
    assert frame.mean() == pytest.approx(world.beam.dose_rate * 0.5 * 100, rel=2e-3)
    assert frame.var() == pytest.approx(frame.mean(), rel=0.03)


def test_a_blanked_beam_leaves_dark_counts_alone() -> None:
    world = lit("particle_5nm")
    world.beam.blanked = True
    world.step(0.1)
    assert world.camera.expose(1.0).mean() == pytest.approx(0.02, rel=0.2)

    world.beam.blanked = False
    world.step(0.1)
    world.beam.screen_down = True
    assert world.camera.expose(1.0).mean() < 0.05

    world.beam.screen_down = False
    world.beam.on = False
    assert world.camera.expose(1.0).mean() < 0.05


def test_a_particle_is_seen_at_one_electron_per_square_angstrom_and_second() -> None:
    world = lit("particle_5nm", spot=6)

    frame = world.camera.expose(0.5)

    electrons = world.camera.electrons_per_pixel(0.5)
    assert electrons == pytest.approx(50, rel=0.02)
    assert dark_area(frame, electrons) == pytest.approx(np.pi * 55**2, rel=0.04)


@pytest.mark.parametrize(
    ("specimen", "ratio", "tolerance"), [("particle_5nm", 2.0, 0.05), ("particle_10nm", 1.2, 0.02)]
)
@pytest.mark.parametrize("spot", [4, 6])
def test_the_outline_swells_in_low_dose_frames_as_it_does_in_truth(
    specimen: str, ratio: float, tolerance: float, spot: int
) -> None:
    world = lit(specimen, spot)
    before = dark_area(world.camera.expose(0.5), world.camera.electrons_per_pixel(0.5))

    lithiate(world)
    after = dark_area(world.camera.expose(0.5), world.camera.electrons_per_pixel(0.5))

    assert world.particle.area_ratio == pytest.approx(ratio)
    assert after / before == pytest.approx(ratio, abs=tolerance)


def test_contact_changes_the_contrast_of_the_particle() -> None:
    world = lit("particle_5nm")
    before = world.camera.expose(0.5)[108:148, 108:148].mean()
    world.needle.step(3, 20, 30.0)
    near = world.camera.expose(0.5)[108:148, 108:148].mean()
    world.needle.step(3, 10, 60.0)
    assert world.needle.contact

    after = world.camera.expose(0.5)[108:148, 108:148].mean()

    assert near == pytest.approx(before, rel=0.02)
    assert after == pytest.approx(before * 0.92, rel=0.02)


def test_a_broken_shell_shows_the_core_through_its_cracks() -> None:
    world = lit("particle_10nm")
    lithiate(world)
    assert world.particle.broken
    with_cracks = world.camera.transmission((256, 256))

    world.particle.broken = False
    whole = world.camera.transmission((256, 256))

    cracked = np.abs(whole - with_cracks) > 0.05
    assert 200 < np.count_nonzero(cracked) < 1500


def test_a_frame_is_as_large_as_asked_and_its_pixel_follows_the_magnification() -> None:
    world = lit("particle_5nm")
    world.beam.magnification *= 2

    frame = world.camera.expose(0.1, (128, 200))

    assert frame.shape == (128, 200)
    assert world.camera.pixel_size == pytest.approx(0.5e-9)
    # 4 times the dose rate on a quarter of the area: the electrons per pixel stay.
    assert world.camera.electrons_per_pixel(0.1) == pytest.approx(100, rel=0.02)


def test_a_lamella_shows_its_layers_from_lithium_to_lipon() -> None:
    world = lit("lamella")

    columns = world.camera.expose(1.0).mean(axis=0)

    lithium, interphase, lipon = columns[:60].mean(), columns[95:165].mean(), columns[200:].mean()
    assert lithium > 1.1 * interphase > 1.2 * lipon


def test_a_bright_pixel_saturates_and_does_not_wrap() -> None:
    world = lit("empty", spot=1)

    frame = world.camera.expose(10.0)

    assert frame.min() == 65535


def test_the_same_seed_gives_the_same_frames_and_another_seed_others() -> None:
    first, again, other = (lit("particle_5nm", seed=s).camera.expose(0.1) for s in (3, 3, 4))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_spectrum_has_the_lines_of_its_specimen() -> None:
    world = lit("particle_10nm")
    spectrum = world.xray.counts(100.0)

    assert spectrum.shape == (2048,) and spectrum.dtype == np.uint32
    silicon, titanium = spectrum[165:183].sum(), spectrum[440:462].sum()
    beside = spectrum[210:228].sum()
    assert silicon > 20 * beside and titanium > 5 * beside


def test_a_lamella_has_phosphorus_and_no_silicon() -> None:
    spectrum = lit("lamella").xray.counts(100.0)

    assert spectrum[195:208].sum() > 10 * spectrum[165:178].sum()


def test_x_rays_are_proportional_to_the_beam_on_the_specimen() -> None:
    bright, dim = lit("lamella", 4).xray.counts(50), lit("lamella", 6).xray.counts(50)
    assert bright.sum() / dim.sum() == pytest.approx(10.0, rel=0.03)

    world = lit("lamella")
    world.beam.blanked = True
    world.step(0.1)
    assert world.xray.counts(50).sum() < 100
    assert lit("empty").xray.counts(50).sum() < 100


def test_a_beam_of_1_kV_excites_no_silicon() -> None:
    world = lit("particle_5nm")
    world.beam.kv = 1.0

    spectrum = world.xray.counts(1000.0)

    assert int(spectrum[165:183].sum()) < 30
