"""The world as a whole: one seed one world, truth as JSON, hazards by name, cheap steps."""

import json
import time
import tomllib

import pytest
from pydantic import ValidationError

from coldframe.simulators.truth import Truth
from coldframe.simulators.world import World


def test_the_same_seed_and_steps_make_the_same_world() -> None:
    worlds = [World(seed=11), World(seed=11), World(seed=12)]
    for world in worlds:
        world.load("particle_5nm")
        world.needle.step(3, 20, 30.0)
        world.beam.blanked = False
        world.step(30)

    truths = [json.dumps(world.truth()) for world in worlds]
    assert truths[0] == truths[1] != truths[2]


def test_what_an_instrument_reads_changes_nothing_in_the_world() -> None:
    asked, alone = World(seed=1), World(seed=1)
    for world in (asked, alone):
        world.load("particle_5nm")
        world.beam.blanked = False
        world.step(1)
    asked.camera.expose(0.1)
    asked.stage.sensor("A")
    asked.cup.current()
    asked.circuit.read()
    asked.xray.counts(1.0)

    for world in (asked, alone):
        world.needle.step(3, 20, 30.0)
        world.step(10)

    assert asked.truth() == alone.truth()


def test_truth_is_json_and_tells_what_happened() -> None:
    world = World()
    world.load("lamella")
    world.beam.blanked = False
    world.step(2)

    told = json.loads(json.dumps(world.truth(), allow_nan=False))

    assert told["specimen"] == "lamella" and told["fluence"] > 19
    assert [event["name"] for event in told["events"]] == ["specimen loaded", "beam unblanked"]


def test_time_is_what_was_stepped_and_does_not_run_back() -> None:
    world = World()
    for dt in (0.1, 60.0, 600.0, 0.0):
        world.step(dt)

    assert world.now == pytest.approx(660.1)
    with pytest.raises(ValueError, match="does not run back"):
        world.step(-1)


def test_a_minute_costs_little_also_while_everything_is_on() -> None:
    world = World()
    world.load("particle_10nm")
    world.stage.cooling = True
    world.beam.blanked = False
    world.needle.step(3, 40, 30.0)
    world.circuit.drive("voltage", -2.0, 100e-9)
    world.cell.drive("current", 50e-9, 5.0)
    world.step(1)

    began = time.perf_counter()
    for _ in range(20):
        world.step(60)
    each = (time.perf_counter() - began) / 20

    assert each < 0.05  # a few ms; wide, because test machines are shared


def test_an_unknown_specimen_or_hazard_is_refused_with_the_known_ones() -> None:
    world = World()
    with pytest.raises(ValueError, match="known are empty, lamella, particle_5nm"):
        world.load("virus")
    with pytest.raises(ValueError, match=r"known are .*stage_recovers, stage_warms"):
        world.inject("earthquake")
    with pytest.raises(ValueError, match="stage_warms has no kelvin; its values: watts"):
        world.inject("stage_warms", kelvin=3)
    with pytest.raises(ValueError, match="not a number"):
        world.inject("stage_warms", watts=float("nan"))


def test_an_injected_hazard_is_an_event() -> None:
    world = World()
    world.step(5)

    world.inject("beam_drifts", factor=2)

    assert world.events[-1] == (5.0, "hazard beam_drifts", "factor=2")
    assert world.beam.current == pytest.approx(2 * 125.8e-12, rel=0.01)


def test_a_lab_states_its_world_in_toml() -> None:
    text = """
        [world.stage]
        time_constant = 1806.0
        [world.particle_10nm]
        coating = 12e-9
        rate = 1e-3
        plateau = 1.5
        breaks_at = 1.3
        [world.ion]
        preset = "30 kV; 50 pA"
        presets = { "30 kV; 50 pA" = 5e-11 }
    """

    world = World(Truth.model_validate(tomllib.loads(text)["world"]))

    assert list(world.ion.presets) == ["30 kV; 50 pA"]
    world.load("particle_10nm")
    assert world.particle.radius == pytest.approx(62e-9)


@pytest.mark.parametrize(
    "table",
    [
        {"stage": {"tau": 1}},
        {"weather": {}},
        {"stage": {"time_constant": -1}},
        {"stage": {"time_constant": float("inf")}},
    ],
)
def test_unknown_keys_and_impossible_numbers_of_a_world_are_refused(
    table: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        Truth.model_validate(table)
