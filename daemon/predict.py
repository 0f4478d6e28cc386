"""What is refused before it can do harm: cold bias, unverified contact, too much ion current.

Pure functions and small memories, all times handed in. Each refusal is a text that names the
interlock, the value, the limit and what would allow it; None means nothing stands against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coldframe.clock import NS
from coldframe.daemon.rules import CellSettings, ContactSettings, IonStepSettings
from coldframe.errors import BadRequest, UnknownName
from coldframe.units import show

BOLTZMANN = 8.617333262e-5  # eV/K, CODATA 2018
LARGEST = 1e300  # what stands for "more than can be said"


@dataclass(frozen=True)
class ColdBias:
    """The voltage a cold electrolyte asks for, over the interval of its activation energy."""

    temperature: float  # K
    current: float  # A
    ohmic: tuple[float, float]  # V: least, most
    overpotential: float  # V
    limit: float  # V

    @property
    def most(self) -> float:
        """The upper bound, on which it is decided (V)."""
        return min(LARGEST, self.ohmic[1] + self.overpotential)

    @property
    def allowed(self) -> bool:
        return self.most <= self.limit

    def words(self) -> str:
        """Ohmic part, overpotential, sum and interval, as a person checks them."""
        low, high = (volts(part) for part in self.ohmic)
        least = volts(min(LARGEST, self.ohmic[0] + self.overpotential))
        return (
            f"predicted {least} to {volts(self.most)} at {show(self.temperature, 'K')} with "
            f"{show(abs(self.current), 'A')}: ohmic part {low} to {high} plus overpotential "
            f"{volts(self.overpotential)}; limit {volts(self.limit)}"
        )


def resistance(cell: CellSettings, temperature: float, activation_eV: float) -> float:
    """R_ion = t / (σ(T) A) in Ω, with σ T ∝ exp(-Ea / kT); infinite where it overflows.

    Source: docs/explanation/sources.md, "Cold bias (IL-13)": 3.7 µm, 4 mm² and
    2.5e-6 S/cm at 25 °C are 3.7 kΩ.
    """
    reference = cell.thickness_um * 1e-4 / (cell.sigma_S_cm * cell.area_cm2)
    exponent = activation_eV / BOLTZMANN * (1 / temperature - 1 / cell.reference_K)
    logarithm = math.log(reference * temperature / cell.reference_K) + exponent
    return math.exp(logarithm) if logarithm < 690 else math.inf


def cold_bias(cell: CellSettings, temperature: float, current: float) -> ColdBias:
    """IL-13 for a bias of `current` (A) at `temperature` (K)."""
    if not (math.isfinite(temperature) and temperature > 0 and math.isfinite(current)):
        raise BadRequest("a temperature above 0 K and a finite current are needed")
    ends = [resistance(cell, temperature, energy) for energy in cell.activation_eV]
    parts = [min(LARGEST, abs(current) * end) if current else 0.0 for end in ends]
    return ColdBias(
        temperature,
        current,
        (min(parts), max(parts)),  # below the reference the high energy is the worse, above the low
        abs(cell.overpotential_V),
        cell.voltage_limit_V,
    )


def volts(value: float) -> str:
    """A voltage as people read it, also one that no unit prefix reaches."""
    return show(value, "V") if value < 1e5 else f"{value:.3g} V"


class Contact:
    """IL-11: a bias needs a contact that was verified just now, by a needle that stands still."""

    def __init__(self, settings: ContactSettings):
        self.settings = settings
        self._verified_ns: int | None = None
        self._moved_ns: int | None = None
        self._words = "nobody has verified it"

    def moved(self, now_ns: int) -> None:
        """The needle was told to move: what was seen before says nothing about now."""
        self._moved_ns = now_ns
        if self._verified_ns is not None:
            self._verified_ns, self._words = None, "the needle has moved since it was verified"

    def confirm(self, evidence: str, person: str, now_ns: int, moving: bool | None) -> None:
        """What was seen (the contrast of the particle), and by whom; `moving` is what the needle
        says of itself, None where it cannot. Source: docs/explanation/sources.md."""
        if not evidence.strip():
            raise BadRequest("say what shows the contact, e.g. 'image contrast -12 %'")
        if not person.strip():
            raise BadRequest("say who confirms the contact")
        since = None if self._moved_ns is None else (now_ns - self._moved_ns) / NS
        if moving or (since is not None and since < self.settings.settle_s):
            raise BadRequest("the needle moves: look again when it stands still")
        self._verified_ns, self._words = now_ns, f"{evidence}, {person}"

    def refusal(self, now_ns: int, moving: bool | None = False) -> str | None:
        """Why a bias is refused, or None. What is not known of the needle counts as moving."""
        valid = self.settings.valid_s
        allows = (
            f"allowed within {valid:g} s of `call guard.confirm_contact` with the needle at rest"
        )
        if self._verified_ns is None:
            return f"contact: {self._words}; {allows}"
        age = (now_ns - self._verified_ns) / NS
        if age > valid:
            return f"contact: verified {age:.0f} s ago, limit {valid:g} s; {allows}"
        if moving is not False:
            known = "moves" if moving else "is not known to stand still"
            return f"contact: the needle {known} ({self.settings.moving}); {allows}"
        return None


class IonStep:
    """IL-05: each step of a recipe has its ion current and its species."""

    def __init__(self, settings: IonStepSettings):
        self.settings = settings
        self.step: str | None = None

    def set(self, step: str, species: str) -> None:
        """A person or a recipe says which step this is."""
        known = self.settings.steps
        if step not in known:
            raise UnknownName(f"no ion step {step!r}; there are {', '.join(known)}")
        if species != self.settings.species:
            raise BadRequest(
                f"the recipe wants {species} ions, the column has {self.settings.species}"
            )
        self.step = step

    @property
    def limit(self) -> float | None:
        """The current (A) above which the step is refused."""
        return None if self.step is None else self.settings.steps[self.step] * self.settings.factor

    def refusal(self, current: float | None, species: str | None = None) -> str | None:
        """Why this ion current (A; None: not known) is refused, or None."""
        steps = ", ".join(f"{n} {show(i, 'A')}" for n, i in self.settings.steps.items())
        if self.step is None or self.limit is None:
            return f"no ion step is set; allowed after `call guard.set_step` ({steps})"
        if species is not None and species != self.settings.species:
            return f"the column has {species} ions, the recipe wants {self.settings.species}"
        if current is None:
            return (
                f"the ion current is not known, step {self.step!r} allows {show(self.limit, 'A')}"
            )
        if abs(current) > self.limit:
            nominal, factor = self.settings.steps[self.step], self.settings.factor
            return (
                f"ion current {show(abs(current), 'A')} is above {show(self.limit, 'A')} "
                f"({show(nominal, 'A')} × {factor:g} of step {self.step!r}); allowed with a "
                f"smaller preset or another step ({steps})"
            )
        return None

    def excess(self, current: float | None) -> float | None:
        """The current as a fraction of what the step allows: at 1 the rule trips."""
        if current is None or self.limit is None:
            return None
        return min(LARGEST, abs(current) / self.limit)
