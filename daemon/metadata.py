"""What a session must say about itself: each field a value, or "unknown: reason".

The list answers the gaps that published work leaves: without electrode area, probe current or dwell
time a measurement cannot be repeated.
Source: docs/explanation/sources.md, "What a session must say about itself".
"""

from __future__ import annotations

from typing import Any

from pydantic import JsonValue

from coldframe.errors import BadRequest

FIELDS: dict[str, tuple[str, ...]] = {
    "sample": (
        "id", "stack", "electrode_area", "electrode_area_uncertainty", "mass", "state_of_charge",
        "history_id", "preparation_date", "atom_types",
    ),
    "transfer": ("air_seconds", "glovebox_hours", "shuttle", "holder", "purge_count", "washed"),
    "temperature": (
        "stage", "holder", "setpoint", "sensor_age", "max_excursion", "cold_seconds",
        "ice_estimate", "room",
    ),
    "electron_beam": (
        "high_voltage", "probe_current", "probe_current_measured", "emission_current", "mode",
        "magnification", "pixel_size", "dwell", "frame_rate", "dose_rate", "dose_per_frame",
        "cumulative_dose",
    ),
    "ion_beam": (
        "species", "high_voltage", "probe_current", "pattern", "dwell", "step", "ions_per_area",
    ),
    "detector": (
        "model", "gain", "binning", "dqe_curve", "eds_solid_angle", "eds_live_time",
        "eels_dispersion", "eels_convergence_angle", "eels_collection_angle",
    ),
    "tilt": ("angle", "scheme", "order"),
    "bias": (
        "instrument", "channel", "polarity", "mode", "setpoint", "limits", "current_range",
        "relay_state", "contact_evidence", "points_per_decade", "rest_times",
    ),
    "cycling": ("c_rate", "c_rate_capacity"),
    "pressure": ("external", "plate_area"),
    "provenance": ("calibrations", "program_hash", "operator", "overrides"),
}  # fmt: skip

NOT_GIVEN = "unknown: not given"
Given = dict[str, dict[str, JsonValue]]


def merge(base: Given, more: Any) -> Given:
    """`base` with `more` on top; `BadRequest` for a section or value that has no place."""
    merged = {section: dict(fields) for section, fields in base.items()}
    if not isinstance(more, dict):
        raise BadRequest(f"metadata: {more!r} is not a table of sections")
    for section, fields in more.items():
        if section not in FIELDS:
            raise BadRequest(f"metadata: no section {section!r}; there are {', '.join(FIELDS)}")
        if not isinstance(fields, dict):
            raise BadRequest(f"metadata.{section}: {fields!r} is not a table of fields")
        for name, value in fields.items():
            if not isinstance(name, str) or not name.isidentifier():
                raise BadRequest(f"metadata.{section}: {name!r} is not a name")
            if not isinstance(value, str | int | float | bool):
                raise BadRequest(f"metadata.{section}.{name}: {value!r} is not text or a number")
            if isinstance(value, str) and "\0" in value:
                raise BadRequest(f"metadata.{section}.{name}: text with a NUL in it")
            merged.setdefault(section, {})[name] = value
    return merged


def complete(given: Given) -> Given:
    """Every mandatory field, those that nobody gave as "unknown: not given"; extra ones kept."""
    unknown: Given = {section: dict.fromkeys(names, NOT_GIVEN) for section, names in FIELDS.items()}
    return {section: unknown[section] | given.get(section, {}) for section in FIELDS}


def missing(given: Given) -> list[str]:
    """The mandatory fields that `given` lacks; "unknown: reason" counts as present."""
    return [
        f"{section}.{name}"
        for section, names in FIELDS.items()
        for name in names
        if given.get(section, {}).get(name) in (None, "")
    ]
