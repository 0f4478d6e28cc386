"""Operando biasing of a particle that the test lets grow, or stops."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from coldframe.errors import NotReady
from coldframe.protocols.biasing import operando_biasing
from coldframe.simulators.world import World

FRAME = 1.0  # s
GROWTH = 0.01  # of A/A0 a second, while the bias is on
GROWN = 1.2


class Touched:
    """A laboratory as the procedure sees it: a growing particle in the camera, and a source that a
    rule may switch off."""

    def __init__(self, trips_at: float = np.inf) -> None:
        self.world = World(seed=3)
        self.world.load("particle_10nm")
        self.world.beam.spot, self.world.beam.blanked = 4, False
        self.world.beam.screen_down = False
        self.world.step(1)
        self.on, self.called, self._trips_at = False, list[str](), trips_at

    def frames(self, camera: str, timeout: float | None = None) -> Iterator[tuple[np.ndarray, Any]]:
        ratio, since = 1.0, 0.0
        for number in range(400):
            since += FRAME * self.on
            self.on = self.on and since < self._trips_at
            ratio = min(ratio + GROWTH * FRAME * self.on, GROWN)
            self.world.particle.area_ratio = ratio
            yield self.world.camera.expose(0.5), SimpleNamespace(t_ns=str(round(number * 1e9)))

    def set(self, name: str, value: float) -> float:
        return value

    def get(self, name: str, *, fresh: bool = False) -> bool:
        assert (name, fresh) == ("bias.output", True)
        return self.on

    def call(self, name: str) -> None:
        self.called.append(name)
        self.on = name == "bias.output_on"


def test_it_ends_at_the_plateau_with_the_ratio_and_at_open_circuit() -> None:
    lab = Touched()

    found = operando_biasing(lab, lambda fraction, words: None, least_s=25.0)

    assert found["area_ratio"] == pytest.approx(GROWN, abs=3 * found["area_ratio_sigma"])
    assert found["seconds"] < 60
    assert lab.called == ["bias.output_on", "bias.output_off"]


def test_a_bias_that_goes_off_meanwhile_gives_no_ratio() -> None:
    lab = Touched(trips_at=10.0)

    with pytest.raises(
        NotReady, match=r"bias\.output went off within 1\d s, at A/A0 1\.\d+: no pla"
    ):
        operando_biasing(lab, lambda fraction, words: None, least_s=25.0)

    assert lab.called == ["bias.output_on", "bias.output_off"]
