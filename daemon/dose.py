"""The dose meter: how fast the specimen is dosed, and an upper bound of what it has had.

The rate follows from the column's read-backs and a calibration (high voltage, spot, magnification →
current and disc) that ages. Between two looks the larger of both rates counts, in lab time. What is
not known is not zero: until the beam is proven blanked again the meter counts on at the rate it
must fear, from the last moment it was sure. Only a new specimen sets it back to zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from coldframe.clock import NS
from coldframe.daemon.rules import DoseSettings
from coldframe.errors import BadRequest
from coldframe.units import dose_rate

KV_TOLERANCE = 0.005  # a high tension that reads 199.8 kV is 200 kV
MAG_TOLERANCE = 1.001
DAY_NS = 86_400 * NS


@dataclass(frozen=True)
class Calibration:
    """A measured current (A) in a disc of `diameter` (m) at one setting of the column."""

    high_voltage: float  # kV
    spot: int
    magnification: float
    current: float
    diameter: float
    t_ns: int  # lab time of the measurement
    sigma: float = 0.0  # A, standard uncertainty of the current

    @property
    def rate(self) -> float:
        """e⁻/Å²/s on the specimen."""
        return dose_rate(self.current, self.diameter)

    @property
    def upper(self) -> float:
        """The rate that is counted: two standard uncertainties above."""
        return dose_rate(self.current + 2 * self.sigma, self.diameter)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What the column said of itself, or None where that is not known."""

    value: float | None
    received_ns: int  # monotonic
    steady_ns: int  # lab time when the host read it


@dataclass(frozen=True)
class Look:
    """The dose rate at one moment: a number, or None with the reason."""

    rate: float | None
    words: str
    upper: float | None = None  # what is counted: the rate with its uncertainty


OPTICS = ("high_voltage", "spot", "magnification")
INPUTS = (*OPTICS, "blanked")


class DoseMeter:
    """Fed with read-backs, asked at every tick. Pure: all times are handed in.

    The dose is certain up to the moment the last read-backs speak of; from there on the worst rate
    that any look since has shown is counted.
    """

    def __init__(self, settings: DoseSettings):
        self.settings = settings
        self.specimen = ""
        self.table: list[Calibration] = []
        self.dose: float | None = 0.0  # e⁻/Å², upper bound; None: the journal was not believed
        self._certain = 0.0
        self._sure_ns: int | None = None  # lab time up to which it is certain
        self._worst = 0.0  # the highest rate that may have been since then
        self._last_rate = 0.0  # of the unblanked beam, when it was last known
        self._seen: dict[str, ReadBack] = {}
        self._doubted_ns = -1  # monotonic: when a command may have unblanked it
        self._lab_ns = 0

    # ---- what comes in --------------------------------------------------------------------

    def calibrate(self, entry: Calibration) -> None:
        """Add a measurement; it replaces one of the same setting."""
        numbers = (entry.high_voltage, entry.magnification, entry.current, entry.diameter)
        positive = all(math.isfinite(number) and number > 0 for number in numbers)
        if not positive or not (math.isfinite(entry.sigma) and entry.sigma >= 0):
            raise BadRequest(
                "a calibration needs high voltage, magnification, current and diameter above 0"
            )
        self.table = [old for old in self.table if _setting(old) != _setting(entry)] + [entry]

    def new_specimen(self, specimen: str) -> None:
        """A person has put in a specimen with this id: its dose begins at zero."""
        if not specimen.strip():
            raise BadRequest("a new specimen needs an id")
        self.resume(specimen, 0.0)

    def resume(self, specimen: str, dose: float | None) -> None:
        """Go on after a restart from the upper bound the journal holds."""
        self.specimen, self.dose, self._certain = specimen, dose, dose or 0.0
        self._sure_ns, self._worst = None, 0.0

    def see(self, name: str, read_back: ReadBack) -> None:
        """One of `INPUTS` (`blanked` as 1 or 0) as the column reads it back."""
        if name == "blanked" and read_back.received_ns <= self._doubted_ns:
            return
        self._seen[name] = read_back

    def unblanking(self, now_ns: int) -> None:
        """A command that may unblank is on its way: what was read before proves nothing more."""
        self._doubted_ns = now_ns
        self._seen.pop("blanked", None)
        self._worst = max(self._worst, self._bound(now_ns))

    # ---- what it says -----------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Has every read-back been there at least once?"""
        return all(name in self._seen for name in INPUTS)

    @property
    def feared(self) -> float:
        """The rate that is assumed where nothing is known."""
        return max(self._last_rate, self.settings.max_rate)

    def look(self, now_ns: int, lab_ns: int) -> Look:
        """The rate now: 0 when proven blanked, a number when calibrated, else unknown."""
        blanked = self._fresh("blanked", now_ns)
        if blanked == 1:
            return Look(0.0, "blanked", 0.0)
        waited = (now_ns - self._doubted_ns) / NS
        if blanked is None and not 0 <= waited <= self.settings.blanked_max_age_s:
            return Look(None, f"{self.settings.column}.blanked is not known")
        return self.unblanked_rate(now_ns, lab_ns)

    def unblanked_rate(self, now_ns: int, lab_ns: int, **planned: float) -> Look:
        """The rate the beam has when it is not blanked, with `planned` optics in place of read."""
        optics = {name: planned.get(name, self._fresh(name, now_ns)) for name in OPTICS}
        kv, spot, magnification = optics.values()
        if kv is None or spot is None or magnification is None:
            missing = " and ".join(name for name, value in optics.items() if value is None)
            return Look(None, f"{self.settings.column}: {missing} not known")
        setting = f"{kv:g} kV, spot {spot:g}, magnification {magnification:g}"
        neighbours = self._calibrated(kv, spot, magnification, lab_ns)
        if not neighbours:
            return Look(None, f"no valid calibration at {setting}")
        rate, upper = (max(n.rate for n in neighbours), max(n.upper for n in neighbours))
        return Look(rate, setting, upper)

    def advance(self, now_ns: int, lab_ns: int, steady_ns: int, *, counting: bool = True) -> Look:
        """Count up to now; returns the look it used. `counting` is off while a person says that
        there is no specimen."""
        self._lab_ns = lab_ns
        look = self.look(now_ns, lab_ns)
        unblanked = self.unblanked_rate(now_ns, lab_ns).upper
        self._last_rate = self._last_rate if unblanked is None else unblanked
        bound = self._bound(now_ns) if look.upper is None else look.upper
        if self._sure_ns is None or not counting:
            # before the first read-backs nothing has a permit: there is nothing to count
            self._sure_ns, self._worst = (steady_ns if self.ready else None), bound
            return look
        self._worst = max(self._worst, bound)
        if look.upper is not None and "blanked" in self._seen:
            needed = ("blanked",) if look.rate == 0.0 else INPUTS
            proven_ns = min(self._seen[name].steady_ns for name in needed)
            if proven_ns > self._sure_ns:
                self._certain += self._worst * (proven_ns - self._sure_ns) / NS
                self._sure_ns, self._worst = proven_ns, look.upper
        if self.dose is not None:
            since = max(0, steady_ns - self._sure_ns) / NS
            self.dose = max(self.dose, self._certain + self._worst * since)
        return look

    # ---- inside -------------------------------------------------------------------------------

    def _bound(self, now_ns: int) -> float:
        """The highest rate there can be, while it is not known whether the beam is blanked."""
        upper = self.unblanked_rate(now_ns, self._lab_ns).upper
        return self.feared if upper is None else upper

    def _fresh(self, name: str, now_ns: int) -> float | None:
        settings = self.settings
        max_age_s = settings.blanked_max_age_s if name == "blanked" else settings.optics_max_age_s
        seen = self._seen.get(name)
        if seen is None or now_ns - seen.received_ns > max_age_s * NS:
            return None
        return seen.value

    def _calibrated(self, kv: float, spot: float, mag: float, lab_ns: int) -> list[Calibration]:
        """What is valid at this setting, or at its two neighbours in magnification."""
        max_age_ns = self.settings.calibration_max_age_days * DAY_NS
        valid = [
            entry
            for entry in self.table
            if math.isclose(entry.high_voltage, kv, rel_tol=KV_TOLERANCE)
            and entry.spot == spot
            and 0 <= lab_ns - entry.t_ns <= max_age_ns
        ]
        lower = [entry for entry in valid if entry.magnification <= mag * MAG_TOLERANCE]
        upper = [entry for entry in valid if entry.magnification >= mag / MAG_TOLERANCE]
        if not lower or not upper:
            return []
        below = max(lower, key=lambda entry: entry.magnification)
        above = min(upper, key=lambda entry: entry.magnification)
        return [below, above]


def _setting(entry: Calibration) -> tuple[float, int, float]:
    return entry.high_voltage, entry.spot, entry.magnification
