"""The X-ray detector: characteristic lines of the specimen on bremsstrahlung."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from coldframe.simulators.beam_physics import ElectronBeam
from coldframe.simulators.truth import XrayTruth

Spectrum = npt.NDArray[np.floating[Any]]

# K alpha and L alpha lines in eV (X-Ray Data Booklet, table 1-2)
LINES = {
    "C": 277.0,
    "N": 392.4,
    "O": 524.9,
    "Si": 1740.0,
    "P": 2013.7,
    "Ti": 4510.8,
    "Ti b": 4931.8,
    "Cu L": 929.7,
    "Cu": 8047.8,
    "Cu b": 8905.3,
    "W M": 1775.4,
    "W": 8397.6,
}
WEIGHTS: dict[str, dict[str, float]] = {
    "empty": {},
    "lamella": {"O": 0.45, "P": 0.25, "N": 0.08, "C": 0.05, "Cu": 0.12, "Cu b": 0.02, "Cu L": 0.03},
    "particle_5nm": {"Si": 0.6, "O": 0.14, "Ti": 0.09, "Ti b": 0.012, "C": 0.08, "W": 0.03},
    "particle_10nm": {"Si": 0.5, "O": 0.2, "Ti": 0.16, "Ti b": 0.02, "C": 0.08, "W": 0.03},
}
MANGANESE = 5898.8  # eV
EV_PER_PAIR = 3.65  # in silicon
FANO = 0.115


class XrayDetector:
    """An energy-dispersive detector that looks at the specimen."""

    def __init__(self, truth: XrayTruth, beam: ElectronBeam, random: np.random.Generator) -> None:
        self._truth = truth
        self._beam = beam
        self._random = random
        self.specimen = "empty"

    def counts(self, seconds: float, channels: int = 2048) -> npt.NDArray[np.uint32]:
        """Counts of `seconds` in the present state, 10 eV a channel from 0 eV."""
        energy: Spectrum = (np.arange(channels) + 0.5) * self._truth.volts_per_channel
        mean: Spectrum = np.full(channels, self._truth.dark * seconds / channels)
        weights = WEIGHTS.get(self.specimen, {})
        if self._beam.beam_out and weights:
            total = self._beam.current * 1e9 * self._truth.counts_per_nanoamp * seconds
            mean = mean + total * self._spectrum(energy, weights)
        return self._random.poisson(mean).astype(np.uint32)

    def _spectrum(self, energy: Spectrum, weights: dict[str, float]) -> Spectrum:
        """Probability per channel; lines above the beam's energy are not excited."""
        landing = self._beam.kv * 1e3
        shape = np.zeros_like(energy)
        for line, weight in weights.items():
            centre = LINES[line]
            if centre * 1.3 > landing:
                continue
            sigma = self._sigma(centre)
            peak = np.exp(-0.5 * ((energy - centre) / sigma) ** 2) / (
                sigma * math.sqrt(2 * math.pi)
            )
            shape += weight * peak * self._truth.volts_per_channel
        kramers = np.clip(landing / energy - 1, 0, None) * (1 - np.exp(-((energy / 600.0) ** 2)))
        background = kramers / max(float(kramers.sum()), 1e-30)
        whole: Spectrum = (
            shape * (1 - self._truth.bremsstrahlung) + background * self._truth.bremsstrahlung
        )
        return whole

    def _sigma(self, energy: float) -> float:
        """Electronic noise and Fano statistics, fixed by the resolution at manganese."""
        at_manganese = (self._truth.resolution / 2.3548) ** 2
        return math.sqrt(max(at_manganese + FANO * EV_PER_PAIR * (energy - MANGANESE), 400.0))
