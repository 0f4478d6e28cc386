"""Signals no instrument has: dose rate, dose, predicted voltage, ion current against its step.

Worked out from what hosts say, judged by rules like any other signal. A value that cannot be worked
out is None with the reason; before its inputs were there for the first time nothing is said.
"""

from __future__ import annotations

from collections.abc import Iterator

from coldframe.daemon.dose import DoseMeter
from coldframe.daemon.predict import IonStep, cold_bias
from coldframe.daemon.rules import GuardSettings, derived_signals
from coldframe.daemon.vetting import Facts, as_number

Found = tuple[str, float | None, str]


class Derived:
    """The dose meter, the cell and the ion step, asked at every reading and every tick."""

    def __init__(self, settings: GuardSettings, facts: Facts):
        self._settings, self._facts = settings, facts
        self.meter = DoseMeter(settings.dose) if settings.dose else None
        self.ion = IonStep(settings.ion) if settings.ion else None
        self.units = derived_signals(settings.dose, settings.cell, settings.ion)
        self.values: dict[str, float | None] = dict.fromkeys(self.units)

    def look(self, now_ns: int, lab_ns: int, steady_ns: int, counting: bool) -> Iterator[Found]:
        """Every derived signal that can be spoken of: name, value, words."""
        for name, value, words, known in self._all(now_ns, lab_ns, steady_ns, counting):
            self.values[name] = value
            if known:
                yield name, value, words

    def ion_current(self, now_ns: int) -> float | None:
        """The ion current (A): as measured lately at this preset, or what the preset is known for;
        the larger."""
        if self.ion is None:
            return None
        device, age = self.ion.settings.device, self.ion.settings.current_max_age_s
        measured = as_number(self._facts.fresh(f"{device}.current", age, now_ns))
        read, preset = self._facts.last(f"{device}.current"), self._facts.last(f"{device}.preset")
        if read is not None and preset is not None and read.received_ns < preset.since_ns:
            measured = None
        known = None
        if preset is not None and preset.good:
            known = self.ion.settings.presets.get(str(preset.value))
        return max((abs(x) for x in (measured, known) if x is not None), default=None)

    # -------------------------------------------------------------------------------------

    def _all(
        self, now_ns: int, lab_ns: int, steady_ns: int, counting: bool
    ) -> Iterator[tuple[str, float | None, str, bool]]:
        if self.meter is not None:
            yield from self._dose(self.meter, now_ns, lab_ns, steady_ns, counting)
        if self._settings.cell is not None:
            yield self._voltage(now_ns)
        if self.ion is not None:
            yield self._excess(self.ion, now_ns)

    @staticmethod
    def _dose(
        meter: DoseMeter, now_ns: int, lab_ns: int, steady_ns: int, counting: bool
    ) -> Iterator[tuple[str, float | None, str, bool]]:
        look = meter.advance(now_ns, lab_ns, steady_ns, counting=counting)
        column = meter.settings.column
        yield f"{column}.dose_rate", look.rate, look.words, meter.ready
        lost = "" if meter.dose is not None else "the journal broke: call guard.new_specimen"
        yield f"{column}.dose", meter.dose, lost, True

    def _voltage(self, now_ns: int) -> tuple[str, float | None, str, bool]:
        cell, facts = self._settings.cell, self._facts
        assert cell is not None
        name = f"{cell.output.split('.')[0]}.predicted_voltage"
        if facts.fresh(cell.output_on, cell.output_max_age_s, now_ns) is False:
            return name, 0.0, "output off", True
        kelvin = as_number(facts.fresh(cell.temperature, cell.temperature_max_age_s, now_ns))
        current = facts.largest(cell.current)
        if kelvin is None or kelvin <= 0 or current is None:
            known = facts.last(cell.output_on) and facts.last(cell.temperature)
            return name, None, f"{cell.temperature} or {cell.current} is not known", bool(known)
        found = cold_bias(cell, kelvin, current)
        return name, found.most, found.words(), True

    def _excess(self, ion: IonStep, now_ns: int) -> tuple[str, float | None, str, bool]:
        device, age = ion.settings.device, ion.settings.current_max_age_s
        name, beam_on = f"{device}.step_excess", f"{device}.beam_on"
        on, known = self._facts.fresh(beam_on, age, now_ns), self._facts.last(beam_on)
        if on is False:
            return name, 0.0, "beam off", True
        current = self.ion_current(now_ns)
        return name, ion.excess(current), ion.refusal(current) or "", known is not None
