"""What the guard is told: rules, checks and the numbers of the laboratory, as frozen models.

A *rule* watches a signal and trips outputs; a *check* is asked before a hazardous command runs.
One interlock (IL-13) may be both: refused beforehand, tripped when the stage cools during the run.
Limits may be written as people say them (`above = "-170 degC"`) when the rule names the `unit` of
its signal. Nonsense is refused here, before anything listens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from coldframe.errors import BadRequest, ConfigurationError
from coldframe.messages import DeviceName, Name
from coldframe.units import parse

SpecimenMode = Literal["none", "ambient", "cryo"]
OutputName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$", max_length=100)]
RuleId = Annotated[str, Field(pattern=r"^[A-Z]{1,8}-\d{1,3}[a-z]?$")]
Positive = Annotated[float, Field(gt=0)]

_PER = re.compile(r"(.*\S)\s*/\s*(s|min|h)")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}


class Frozen(BaseModel):
    """Frozen, nothing unknown, nothing infinite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RateLimit(Frozen):
    """Least-squares slope over `window_s` of lab time, in the signal's unit per second."""

    above: float | None = None
    below: float | None = None
    window_s: Positive
    min_n: int = Field(default=5, ge=3)

    @model_validator(mode="after")
    def _sides(self) -> RateLimit:
        if self.above is None and self.below is None:
            raise ValueError("give above or below")
        if self.above is not None and self.below is not None and self.below >= self.above:
            raise ValueError(f"below ({self.below:g}) must be less than above ({self.above:g})")
        return self


class Rule(Frozen):
    """One watched signal: unhealthy or unknown trips the outputs it names, and latches."""

    id: RuleId
    signal: Name
    unit: str = ""
    above: float | None = None
    below: float | None = None
    reset: float | None = None  # hysteresis: healthy again only on this side of the limit
    magnitude: bool = False  # judge |value|
    warn: float | None = None  # an event, no trip; on the healthy side of the limit
    debounce_s: float = Field(default=0.0, ge=0)
    rate: RateLimit | None = None
    max_age_s: Positive
    specimen: tuple[SpecimenMode, ...] = ("none", "ambient", "cryo")  # where the rule applies
    if_device: DeviceName | None = None  # drop the rule where the lab has no such device
    off_signal: Name | None = None  # while this reads false, an unknown value counts as 0
    trips: tuple[OutputName, ...] = Field(min_length=1)
    guidance: str = Field(min_length=20)  # for a person at 3 a.m.
    source: str = Field(min_length=3)

    @model_validator(mode="before")
    @classmethod
    def _quantities(cls, data: Any) -> Any:
        """Limits as text become numbers in the rule's unit."""
        if not isinstance(data, dict):
            return data
        unit = data.get("unit", "")
        found = {**data}
        for key in ("above", "below", "reset", "warn"):
            if isinstance(found.get(key), str):
                found[key] = _number(found[key], unit, key)
        rate = found.get("rate")
        if isinstance(rate, dict):
            found["rate"] = {
                key: _per_second(value, unit, f"rate.{key}")
                if key in ("above", "below") and isinstance(value, str)
                else value
                for key, value in rate.items()
            }
        return found

    @model_validator(mode="after")
    def _sense(self) -> Rule:
        above, below, reset, warn = self.above, self.below, self.reset, self.warn
        if above is not None and below is not None and below >= above:
            raise ValueError(f"below ({below:g}) must be less than above ({above:g})")
        if reset is not None:
            if (above is None) == (below is None):
                raise ValueError("reset needs exactly one of above and below")
            if above is not None and reset > above:
                raise ValueError(f"reset ({reset:g}) is not on the healthy side of above {above:g}")
            if below is not None and reset < below:
                raise ValueError(f"reset ({reset:g}) is not on the healthy side of below {below:g}")
        if warn is not None:
            if (above is None) == (below is None):
                raise ValueError("warn needs exactly one of above and below")
            if (above is not None and warn > above) or (below is not None and warn < below):
                raise ValueError(f"warn ({warn:g}) lies beyond the trip limit")
        if self.magnitude and below is not None:
            raise ValueError("a magnitude has no limit below")
        if len(set(self.trips)) != len(self.trips):
            raise ValueError("an output is named twice in trips")
        if not self.specimen:
            raise ValueError("specimen: the rule would never apply")
        return self

    def check_signal(self, unit: str, poll: float | None) -> None:
        """Refuse a rule that does not fit the signal it watches."""
        if unit != self.unit:
            raise ConfigurationError(
                f"rule {self.id}: {self.signal} is in {unit or 'no unit'}, "
                f"the rule in {self.unit or 'no unit'}"
            )
        if poll is None:
            raise ConfigurationError(f"rule {self.id}: {self.signal} is not polled; give it a poll")
        if self.max_age_s < 2 * poll:
            raise ConfigurationError(
                f"rule {self.id}: max_age_s {self.max_age_s:g} is less than twice the poll period "
                f"of {self.signal} ({poll:g} s): it would trip constantly"
            )


class Check(Frozen):
    """What is asked before a hazardous command on one of these outputs is passed on."""

    id: RuleId
    check: Literal["dose", "ion_step", "contact", "cold_bias"]
    refuses: tuple[OutputName, ...] = Field(min_length=1)
    excepts: tuple[Name, ...] = ()  # commands on these outputs that it does not concern
    specimen: tuple[SpecimenMode, ...] = ("none", "ambient", "cryo")
    if_device: DeviceName | None = None
    guidance: str = Field(min_length=20)
    source: str = Field(min_length=3)


class DoseSettings(Frozen):
    """Which column doses the specimen, and how long what is known of it stays true.

    The limits are the rules': IL-01 on COLUMN.dose_rate, IL-02 on COLUMN.dose.
    """

    column: DeviceName = "beam"
    output: str = "beam"
    max_rate: Positive = 100.0  # e⁻/Å²/s assumed while nothing better is known
    calibration_max_age_days: Positive = 7.0  # IL-21
    blanked_max_age_s: Positive = 1.0  # a hang is the permit's to end, after half a second
    optics_max_age_s: Positive = 12.0  # high voltage (polled every 5 s), spot, magnification


class CellSettings(Frozen):
    """The electrolyte between the electrodes, for IL-13; docs/explanation/sources.md."""

    area_cm2: Positive
    thickness_um: Positive
    sigma_S_cm: Positive  # at reference_K
    reference_K: Positive = 298.15
    activation_eV: tuple[Positive, Positive] = (0.53, 0.63)
    overpotential_V: float = Field(ge=0)
    voltage_limit_V: Positive
    temperature: Name = "stage.temperature"
    temperature_max_age_s: Positive = 2.0
    output: OutputName = "bias.bias"
    current: Name = "bias.current_limit"  # what the source may push, A
    output_on: Name = "bias.output"
    output_max_age_s: Positive = 1.5

    @field_validator("activation_eV")
    @classmethod
    def _interval(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("write the interval as [low, high]")
        return value


class ContactSettings(Frozen):
    """How long a verified contact counts, and what undoes it (IL-11)."""

    valid_s: Positive = 60.0
    settle_s: float = Field(default=0.1, ge=0)  # evidence counts from this long after a motion
    motion: OutputName = "needle.motion"
    moving: Name | None = "needle.moving"  # must be known, and false
    moving_max_age_s: Positive = 1.0
    output_on: Name = "bias.output"


class IonStepSettings(Frozen):
    """Ion currents a step may use (IL-05); docs/explanation/sources.md."""

    device: DeviceName = "ion"
    species: str = "Ga"
    factor: float = Field(default=1.2, ge=1)
    current_max_age_s: Positive = 5.0
    steps: dict[str, Positive] = Field(
        default={"image": 10e-12, "weld": 10e-12, "clean": 0.1e-9, "mill": 3e-9}
    )
    presets: dict[str, Positive] = Field(default_factory=dict)  # current (A) of each preset


class GuardSettings(Frozen):
    """All the guard needs to know of the laboratory."""

    simulated: bool = False
    specimen: SpecimenMode | None = None  # None: nobody has said; counts as cryo
    devices: dict[DeviceName, str] = Field(default_factory=dict)  # name: model
    rules: tuple[Rule, ...] = ()
    checks: tuple[Check, ...] = ()
    dose: DoseSettings | None = None
    cell: CellSettings | None = None
    contact: ContactSettings | None = None
    ion: IonStepSettings | None = None
    configuration_hash: str = ""
    grace_s: Positive = 10.0  # how long after the start a signal may be missing before it trips
    host_silent_s: Positive = 0.9  # of asks; then the last hand takes over: hung → safe within 1 s

    @model_validator(mode="after")
    def _whole(self) -> GuardSettings:
        unique(self.rules)
        unique(self.checks)
        parts = {
            "dose": self.dose,
            "ion_step": self.ion,
            "contact": self.contact,
            "cold_bias": self.cell,
        }
        for check in self.checks:
            if parts[check.check] is None:
                raise ValueError(f"check {check.id}: the lab has no settings for {check.check!r}")
        return self


DERIVED_POLL_S = 0.1  # how often the guard says what it derives


def derived_signals(
    dose: DoseSettings | None, cell: CellSettings | None, ion: IonStepSettings | None
) -> dict[str, str]:
    """The signals the guard itself makes, with their units: rules may watch them like any other."""
    found: dict[str, str] = {}
    if dose is not None:
        found |= {f"{dose.column}.dose_rate": "e/Å^2/s", f"{dose.column}.dose": "e/Å^2"}
    if cell is not None:
        found[f"{cell.output.split('.')[0]}.predicted_voltage"] = "V"
    if ion is not None:
        found[f"{ion.device}.step_excess"] = ""
    return found


def unique(entries: Sequence[Rule | Check]) -> None:
    """Refuse two of the same id."""
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise ValueError(f"{entry.id} is there twice")
        seen.add(entry.id)


def for_devices(
    rules: Iterable[Rule], checks: Iterable[Check], devices: Collection[str]
) -> tuple[tuple[Rule, ...], tuple[Check, ...]]:
    """Those that say `if_device` only where there is that device, their outputs likewise.

    An output of a device the lab does not have is left out of `trips`; a rule is dropped only
    through `if_device`, so that a misspelt signal is an error and not a missing interlock.
    """

    def there(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in names if name.split(".")[0] in devices)

    kept = [
        rule.model_copy(update={"trips": there(rule.trips)})
        for rule in rules
        if rule.if_device is None or rule.if_device in devices
    ]
    asked = [
        check.model_copy(update={"refuses": there(check.refuses)})
        for check in checks
        if check.if_device is None or check.if_device in devices
    ]
    for entry in kept:
        if not entry.trips:
            raise ConfigurationError(f"rule {entry.id}: the lab has none of the outputs it trips")
    return tuple(kept), tuple(check for check in asked if check.refuses)


def _number(text: str, unit: str, where: str) -> float:
    if not unit:
        raise ValueError(f"{where} = {text!r}: the rule must say the unit of its signal")
    try:
        return parse(text, unit)
    except BadRequest as error:
        raise ValueError(f"{where}: {error}") from None


def _per_second(text: str, unit: str, where: str) -> float:
    match = _PER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{where} = {text!r}: write a rate, e.g. '0.5 {unit}/min'")
    if unit == "K" and "K" not in match[1]:  # 0.5 degC is 273.65 K, but not per minute
        raise ValueError(f"{where} = {text!r}: write temperature rates in K")
    return _number(match[1], unit, where) / _SECONDS[match[2]]
