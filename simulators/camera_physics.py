"""The camera: counted electrons of a low-dose image of what is under the beam."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from coldframe.simulators.beam_physics import ElectronBeam, SlowDrift
from coldframe.simulators.journal import Journal
from coldframe.simulators.needle_physics import Needle
from coldframe.simulators.particle import Particle
from coldframe.simulators.truth import CameraTruth

Image = npt.NDArray[np.floating[Any]]

# Li | Li2O with Li | Li2O, Li3N | the same with Li3PO4 | LiPON: the interphase (Cheng, thesis)
LAYERS = ((0.0, 0.88), (21.1e-9, 0.78), (11.6e-9, 0.70), (43.7e-9, 0.62), (1.0, 0.52))


class Camera:
    """A camera of counting pixels behind the specimen."""

    def __init__(
        self,
        truth: CameraTruth,
        journal: Journal,
        beam: ElectronBeam,
        needle: Needle,
        particle: Particle,
        random: np.random.Generator,
    ) -> None:
        self._truth = truth
        self._journal = journal
        self._beam = beam
        self._needle = needle
        self._particle = particle
        self._random = random
        self._drift = (SlowDrift(truth.drift_period, random), SlowDrift(truth.drift_period, random))
        self._waves = random.uniform(-1, 1, (6, 4))
        self.specimen = "empty"

    def reload(self, specimen: str, particle: Particle) -> None:
        """A person put in another specimen."""
        self.specimen = specimen
        self._particle = particle

    @property
    def pixel_size(self) -> float:
        """Pixel size at the specimen in m."""
        return self._truth.pixel / self._beam.zoom

    def electrons_per_pixel(self, seconds: float) -> float:
        """Mean electrons that reach one pixel through vacuum in `seconds`."""
        if self._beam.screen_down:
            return 0.0
        return self._beam.dose_rate * seconds * (self.pixel_size * 1e10) ** 2

    def expose(self, seconds: float, shape: tuple[int, int] = (256, 256)) -> npt.NDArray[np.uint16]:
        """One exposure of `seconds` in the present state: uint16 counts of `shape` (rows, columns).

        Beam blanked, off or on the screen leaves the dark counts alone.
        """
        mean = np.full(shape, self._truth.dark * seconds)
        electrons = self.electrons_per_pixel(seconds)
        if electrons > 0:
            mean += electrons * self._truth.counts_per_electron * self.transmission(shape)
        counts = self._random.poisson(mean)
        return np.minimum(counts, np.iinfo(np.uint16).max).astype(np.uint16)

    def transmission(self, shape: tuple[int, int]) -> Image:
        """What the scene lets through, 0 to 1, pixel by pixel."""
        pixel = self.pixel_size
        rows, columns = shape
        y: Image = ((np.arange(rows) - (rows - 1) / 2) * pixel)[:, None]
        x: Image = ((np.arange(columns) - (columns - 1) / 2) * pixel)[None, :]
        x = x - self._truth.drift * self._drift[0].at(self._journal.now)
        y = y - self._truth.drift * self._drift[1].at(self._journal.now)
        if self.specimen == "empty":
            return np.ones(shape)
        if self.specimen == "lamella":
            return self._lamella(x, y)
        return self._single_particle(x, y)

    def _edge(self, inside: Image) -> Image:
        """1 well inside, 0 well outside, soft over the blur: from a signed distance in m."""
        soft: Image = np.clip(0.5 + inside / (2 * self._truth.blur), 0.0, 1.0)
        return soft

    def _texture(self, x: Image, y: Image, depth: float) -> Image:
        """A fixed random relief of some 60 nm, as a sum of waves in row and column."""
        fx, fy, phase, weight = self._waves.T[:, :, None]
        along = math.tau / 60e-9 * fx * x + math.pi * phase
        across = math.tau / 60e-9 * fy * y.T
        relief: Image = (weight * np.cos(across)).T @ np.sin(along)
        relief += (weight * np.sin(across)).T @ np.cos(along)
        return 1 + depth * relief / len(self._waves)

    def _single_particle(self, x: Image, y: Image) -> Image:
        image = self._truth.support * self._texture(x, y, 0.03)
        particle = self._particle
        distance = np.hypot(x, y)
        if self._needle.miss < 500e-9:
            tip = -(particle.radius + self._needle.gap)
            width = 5e-9 + (tip - x) * math.tan(math.radians(10))
            along = np.minimum(width - np.abs(y - self._needle.lateral[0]), tip - x)
            needle = self._edge(np.asarray(along))
            image = image * (1 - needle * (1 - self._truth.needle))
        shell = self._edge(particle.radius - distance)
        core = self._edge(particle.core_radius - distance)
        coating = np.full(distance.shape, self._truth.coating)
        if particle.broken:
            angle = np.arctan2(y, x)
            # Two cracks, through which lithiated silicon shows as dark as the core.
            cracks = (np.abs(angle - 1.1) < 0.12) | (np.abs(angle + 2.0) < 0.16)
            coating[cracks] = self._truth.core
        silicon = self._truth.core
        if self._needle.contact:
            silicon *= 1 - self._truth.contact_change
        body = coating + core * (silicon - coating)
        return image * (1 - shell) + body * shell

    def _lamella(self, x: Image, y: Image) -> Image:
        image = np.full(np.broadcast_shapes(x.shape, y.shape), LAYERS[0][1])
        left = -sum(thickness for thickness, _ in LAYERS[1:-1]) / 2
        border = left
        for index in range(1, len(LAYERS)):
            rough = 1.5e-9 * np.sin(2 * math.pi * y / (40e-9 + 11e-9 * index) + index)
            inside = self._edge(x - border + rough)
            image = image * (1 - inside) + LAYERS[index][1] * inside
            border += LAYERS[index][0]
        return image * self._texture(x, y, 0.05)
