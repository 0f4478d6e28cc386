"""The hazards of the world: what may go wrong in the physics, by name, while it runs."""

import math
from collections.abc import Callable

from coldframe.simulators.beam_physics import ElectronBeam, IonBeam
from coldframe.simulators.circuit import BiasCircuit
from coldframe.simulators.journal import Journal
from coldframe.simulators.needle_physics import Needle
from coldframe.simulators.stage_physics import ColdStage

Values = dict[str, float]

# Each hazard with its values and their defaults.
HAZARDS: dict[str, Values] = {
    "stage_warms": {"watts": 10.0},  # a heat leak; 10 W lead from -185 C to +51 C in the end
    "stage_recovers": {},  # no leak, gas flows again
    "flow_lost": {},  # the valve says open, no gas flows
    "dewar_empty": {},
    "dewar_refilled": {},
    "beam_drifts": {"factor": 1.5},  # the probe current times so much; 1 ends it
    "ion_drifts": {"factor": 1.5},
    "blanker_sticks": {},  # the electron blanker stays where it is
    "blanker_frees": {},
    "needle_slips": {"metres": 50e-9},  # back, away from the particle
    "short": {"ohms": 10.0},  # unoxidised lithium, or redeposited metal, at the needle
    "short_clears": {},
}


class Hazards:
    """Lets things go wrong in the parts of one world."""

    def __init__(
        self,
        journal: Journal,
        stage: ColdStage,
        beam: ElectronBeam,
        ion: IonBeam,
        needle: Needle,
        circuit: BiasCircuit,
    ) -> None:
        self._journal = journal
        self._stage = stage
        self._beam = beam
        self._ion = ion
        self._needle = needle
        self._circuit = circuit
        self._acts: dict[str, Callable[[Values], None]] = {
            "stage_warms": self._stage_warms,
            "stage_recovers": self._stage_recovers,
            "flow_lost": self._flow_lost,
            "dewar_empty": lambda v: self._stage.refill(0.0),
            "dewar_refilled": lambda v: self._stage.refill(),
            "beam_drifts": self._beam_drifts,
            "ion_drifts": self._ion_drifts,
            "blanker_sticks": lambda v: self._beam.stick_blanker(),
            "blanker_frees": lambda v: self._beam.free_blanker(),
            "needle_slips": lambda v: self._needle.slip(v["metres"]),
            "short": lambda v: self._short(v["ohms"]),
            "short_clears": lambda v: self._short(math.inf),
        }

    def inject(self, hazard: str, values: Values) -> None:
        """Let one hazard happen; a ValueError lists the known ones, or the known values."""
        if hazard not in HAZARDS:
            raise ValueError(f"hazard {hazard!r}: known are {', '.join(sorted(HAZARDS))}")
        unknown = sorted(set(values) - set(HAZARDS[hazard]))
        if unknown:
            known = ", ".join(HAZARDS[hazard]) or "none"
            raise ValueError(f"hazard {hazard} has no {', '.join(unknown)}; its values: {known}")
        chosen = {**HAZARDS[hazard], **values}
        bad = [f"{name}={value}" for name, value in chosen.items() if not 0 <= value < math.inf]
        if bad:
            raise ValueError(f"hazard {hazard}: {', '.join(bad)} is negative or not a number")
        words = " ".join(f"{name}={value:g}" for name, value in chosen.items())
        self._journal.note(f"hazard {hazard}", words)
        self._acts[hazard](chosen)

    def _stage_warms(self, values: Values) -> None:
        self._stage.leak_watts = values["watts"]

    def _stage_recovers(self, values: Values) -> None:
        self._stage.leak_watts = 0.0
        self._stage.flow_lost = False

    def _flow_lost(self, values: Values) -> None:
        self._stage.flow_lost = True

    def _beam_drifts(self, values: Values) -> None:
        self._beam.factor = values["factor"]

    def _ion_drifts(self, values: Values) -> None:
        self._ion.factor = values["factor"]

    def _short(self, ohms: float) -> None:
        self._circuit.short_ohms = max(ohms, 1e-3) if ohms < math.inf else ohms
