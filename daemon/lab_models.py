"""A laboratory as frozen models: every key its TOML may have, with its default and its meaning."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, JsonValue

from coldframe.daemon.rules import (
    CellSettings,
    Check,
    ContactSettings,
    DoseSettings,
    Frozen,
    IonStepSettings,
    Rule,
)
from coldframe.drivers.base import Driver
from coldframe.drivers.catalogue import driver
from coldframe.messages import GUARD_PORT, HUB_PORT, STREAM_PORT, DeviceName
from coldframe.simulators.world import Truth

Port = int
ELSEWHERE = "elsewhere"  # as the `host` of a device: a person starts it


class LabSettings(Frozen):
    """What the laboratory is."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)
    simulated: bool = Field(False, description="every instrument is imitated, in one world")
    specimen: Literal["none", "ambient", "cryo"] = Field(
        "cryo", description="until a person says otherwise; unknown counts as cryo"
    )
    rules: list[str] = Field(
        default_factory=list, description="rule files, beside this file or shipped in config/"
    )
    plugins: list[str] = Field(
        default_factory=list, description="entry points of coldframe.drivers that are trusted"
    )
    seed: int = Field(0, description="of the simulated world")


class ServiceSettings(Frozen):
    """Where the service listens, on loopback; 0 takes any free port."""

    hub: Port = Field(HUB_PORT, ge=0, le=65535)
    streams: Port = Field(STREAM_PORT, ge=0, le=65535)
    guard: Port = Field(GUARD_PORT, ge=0, le=65535)


class RecordSettings(Frozen):
    """Where sessions go, and how."""

    folder: str = Field(
        "", description="default: $STATE_DIRECTORY/sessions or ~/coldframe/sessions"
    )
    compression: Literal["portable", "none"] = "portable"
    reserve_mb: float = Field(1024, ge=0, description="recording stops cleanly before this is used")


class DeviceSettings(Frozen):
    """One instrument."""

    model: str
    address: str = Field(description="tcp://, udp://, serial://, visa://, pyjem:// or sim://NAME")
    options: dict[str, Any] = Field(default_factory=dict, description="the driver's own keys")
    limits: dict[str, tuple[float | str, float | str]] = Field(
        default_factory=dict, description="the laboratory's limits, inside the instrument's"
    )
    poll: dict[str, float] = Field(default_factory=dict, description="seconds between two readings")
    host: str = Field(
        "",
        description="devices with the same word share a process; elsewhere: the service starts "
        "none, and `coldframe host` dials in",
    )


class Lab(Frozen):
    """The whole file."""

    lab: LabSettings
    service: ServiceSettings = ServiceSettings()
    record: RecordSettings = RecordSettings()
    device: dict[DeviceName, DeviceSettings] = Field(min_length=1)
    rule: list[Rule] = Field(default_factory=list)
    check: list[Check] = Field(default_factory=list)
    dose: DoseSettings | None = None
    cell: CellSettings | None = None
    contact: ContactSettings | None = None
    ion: IonStepSettings | None = None
    metadata: dict[str, dict[str, JsonValue]] = Field(
        default_factory=dict, description="sample, transfer, … as they go into every session file"
    )
    world: Truth = Field(default_factory=Truth, description="the truth of a simulated laboratory")

    def drivers(self) -> dict[str, type[Driver]]:
        """The driver class of each device."""
        return {name: driver(d.model, self.lab.plugins) for name, d in self.device.items()}
