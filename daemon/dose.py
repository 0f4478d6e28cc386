"""The dose meter: how fast the specimen is dosed, and an upper bound of what it has had.

The rate follows from the column's read-backs and a calibration (high voltage, spot, magnification →
current and disc) that ages. Between two looks the larger of both rates counts, in lab time. What is
not known is not zero: until the beam is proven blanked again the meter counts on at the rate it
must fear, from the last moment it was sure. Only a new specimen sets it back to zero.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from coldframe.clock import NS
from coldframe.daemon.rules import DoseSettings
from coldframe.errors import BadRequest
from coldframe.units import dose_rate

KV_TOLERANCE = 0.005  # a high tension that reads 199.8 kV is 200 kV
MAG_TOLERANCE = 1.001
DAY_NS = 86_400 * NS
LEAST, MOST = 1e-9, 1e9  # e⁻/Å²/s: what is beyond was typed wrong


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


@dataclass(slots=True)
class Stretch:
    """A stretch of lab time and the highest rate there may have been in it."""

    begin_ns: int
    end_ns: int
    bound: float


class DoseMeter:
    """Fed with read-backs, asked at every tick. Pure: all times are handed in.

    A read-back says what was changed since the one before it, at the latest then; so the last
    stretches stay open until every read-back has been renewed, and are raised by what they show.
    A knob turned by hand and turned back between two read-backs is not seen by anybody.
    """

    def __init__(self, settings: DoseSettings):
        self.settings = settings
        self.specimen = ""
        self.table: list[Calibration] = []
        self.dose: float | None = 0.0  # e⁻/Å², upper bound; None: the journal was not believed
        self._closed = 0.0
        self._open: deque[Stretch] = deque()
        self._before: tuple[int, float] | None = None  # lab time and bound of the last look
        self._last_rate = 0.0  # of the unblanked beam, when it was last known
        self._seen: dict[str, ReadBack] = {}
        self._since: dict[str, int] = {}  # what was renewed since the last look: its stamp before
        self._planned: dict[str, tuple[float, int]] = {}  # commanded, not read back: value, when
        self._doubted_ns = -1  # monotonic: when a command may have unblanked it

    # ---- what comes in --------------------------------------------------------------------

    def calibrate(self, entry: Calibration) -> None:
        """Add a measurement; it replaces one of the same setting."""
        numbers = (entry.high_voltage, entry.magnification, entry.current, entry.diameter)
        positive = all(math.isfinite(number) and number > 0 for number in numbers)
        if not positive or not (math.isfinite(entry.sigma) and entry.sigma >= 0):
            raise BadRequest(
                "a calibration needs high voltage, magnification, current and diameter above 0"
            )
        if not (entry.diameter > 1e-12 and LEAST <= entry.rate <= entry.upper <= MOST):
            raise BadRequest(
                f"{entry.current:g} A in a disc of {entry.diameter:g} m is no dose rate of a "
                f"microscope ({LEAST:g} to {MOST:g} e⁻/Å²/s)"
            )
        self.table = [old for old in self.table if _setting(old) != _setting(entry)] + [entry]

    def new_specimen(self, specimen: str) -> None:
        """A person has put in a specimen with this id: its dose begins at zero."""
        if not specimen.strip():
            raise BadRequest("a new specimen needs an id")
        self.resume(specimen, 0.0)

    def resume(self, specimen: str, dose: float | None) -> None:
        """Go on after a restart from the upper bound the journal holds."""
        self.specimen, self.dose, self._closed = specimen, dose, dose or 0.0
        self._open.clear()
        self._before = None

    def see(self, name: str, read_back: ReadBack) -> None:
        """One of `INPUTS` (`blanked` as 1 or 0) as the column reads it back."""
        if name == "blanked" and read_back.received_ns <= self._doubted_ns:
            return
        if name in self._seen:
            self._since.setdefault(name, self._seen[name].steady_ns)
        if name in self._planned and read_back.received_ns > self._planned[name][1]:
            del self._planned[name]
        self._seen[name] = read_back

    def unblanking(self, now_ns: int, lab_ns: int, steady_ns: int) -> None:
        """A command that may unblank is on its way: what was read before proves nothing more."""
        self.advance(now_ns, lab_ns, steady_ns)
        self._doubted_ns = now_ns
        self.advance(now_ns, lab_ns, steady_ns)

    def changing(self, name: str, value: float, now_ns: int) -> None:
        """A command that sets one of `OPTICS` is on its way: the higher of both rates counts."""
        if name in OPTICS:
            self._planned[name] = (value, now_ns)

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
        look = self.look(now_ns, lab_ns)
        proven = self._fresh("blanked", now_ns) == 1
        rate = self._bound(now_ns, lab_ns)
        bound = 0.0 if proven else rate
        before, self._before = self._before, (steady_ns, bound)
        renewed, self._since = self._since, {}
        if before is None or not counting:
            # before the first read-backs nothing has a permit: there is nothing to count
            self._close(steady_ns)
            self._before = (steady_ns, bound) if self.ready else None
            return look
        self._lay(before[0], steady_ns, max(before[1], bound))
        stale = {n: s.steady_ns for n, s in self._seen.items() if self._is_stale(n, now_ns)}
        changed = {**renewed, **stale}
        if optics := [stamp for name, stamp in changed.items() if name in OPTICS]:
            self._raise(min(optics), rate, blanked_too=False)
        if "blanked" in changed and not proven:
            self._raise(changed["blanked"], rate, blanked_too=True)
        self._close(min(seen.steady_ns for seen in self._seen.values()))
        if self.dose is not None:
            still = sum(s.bound * (s.end_ns - s.begin_ns) for s in self._open) / NS
            self.dose = max(self.dose, self._closed + still)
        return look

    # ---- inside -------------------------------------------------------------------------------

    def _bound(self, now_ns: int, lab_ns: int) -> float:
        """The highest rate the unblanked beam may have, commands under way included."""
        found = self.unblanked_rate(now_ns, lab_ns).upper
        if found is not None:
            self._last_rate = found
        if found is not None and self._planned:
            planned = {name: value for name, (value, _) in self._planned.items()}
            then = self.unblanked_rate(now_ns, lab_ns, **planned).upper
            return self.feared if then is None else max(found, then)
        return self.feared if found is None else found

    def _fresh(self, name: str, now_ns: int) -> float | None:
        seen = self._seen.get(name)
        if seen is None or self._is_stale(name, now_ns):
            return None
        if name == "blanked" and seen.received_ns <= self._doubted_ns:
            return None
        return seen.value

    def _is_stale(self, name: str, now_ns: int) -> bool:
        settings = self.settings
        limit = settings.blanked_max_age_s if name == "blanked" else settings.optics_max_age_s
        return now_ns - self._seen[name].received_ns > limit * NS

    def _lay(self, begin_ns: int, end_ns: int, bound: float) -> None:
        """The stretch since the last look."""
        if end_ns <= begin_ns:
            return
        if self._open and self._open[-1].bound == bound:
            self._open[-1].end_ns = end_ns
        else:
            self._open.append(Stretch(begin_ns, end_ns, bound))

    def _raise(self, since_ns: int, rate: float, *, blanked_too: bool) -> None:
        """From `since_ns` on it may have been `rate`; where it was proven blanked, only if told."""
        self._split(since_ns)
        for stretch in self._open:
            if stretch.begin_ns >= since_ns and (blanked_too or stretch.bound > 0):
                stretch.bound = max(stretch.bound, rate)

    def _close(self, until_ns: int) -> None:
        """What no read-back can raise any more."""
        self._split(until_ns)
        while self._open and self._open[0].end_ns <= until_ns:
            stretch = self._open.popleft()
            self._closed += stretch.bound * (stretch.end_ns - stretch.begin_ns) / NS

    def _split(self, at_ns: int) -> None:
        for index, stretch in enumerate(self._open):
            if stretch.begin_ns < at_ns < stretch.end_ns:
                self._open.insert(index, Stretch(stretch.begin_ns, at_ns, stretch.bound))
                stretch.begin_ns = at_ns
                return

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
