"""A laboratory's TOML, read into frozen models or refused with file, line and key.

What differs between laboratories stands here and nowhere else: which instruments, at which
addresses, within which limits, guarded by which rules. `schema.json` in `config/` is generated from
these models, so an editor completes the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coldframe.daemon.rules import CellSettings, DoseSettings, IonSettings, Rule
from coldframe.daemon.toml_lines import line_of
from coldframe.drivers.base import Driver
from coldframe.drivers.catalogue import driver
from coldframe.errors import ColdframeError, ConfigurationError, OutOfRange
from coldframe.messages import GUARD_PORT, HUB_PORT, RECORDER_PORT, STREAM_PORT, DeviceName
from coldframe.simulators.world import Truth
from coldframe.units import parse

CONFIG = Path(__file__).resolve().parent.parent / "config"
SCHEMA = "schema.json"
Port = int


class Settings(BaseModel):
    """Frozen, and nothing unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class LabSettings(Settings):
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


class ServiceSettings(Settings):
    """Where the service listens, on loopback; 0 takes any free port."""

    hub: Port = Field(HUB_PORT, ge=0, le=65535)
    streams: Port = Field(STREAM_PORT, ge=0, le=65535)
    guard: Port = Field(GUARD_PORT, ge=0, le=65535)
    recorder: Port = Field(RECORDER_PORT, ge=0, le=65535)


class RecordSettings(Settings):
    """Where sessions go, and how."""

    folder: str = Field("", description="default: $STATE_DIRECTORY/sessions or ~/coldframe/sessions")
    compression: Literal["portable", "none"] = "portable"
    reserve_mb: float = Field(1024, ge=0, description="recording stops cleanly before this is used")
    operator: str = ""


class DeviceSettings(Settings):
    """One instrument."""

    model: str
    address: str = Field(description="tcp://, udp://, serial://, visa://, pyjem:// or sim://NAME")
    options: dict[str, Any] = Field(default_factory=dict, description="the driver's own keys")
    limits: dict[str, tuple[float | str, float | str]] = Field(
        default_factory=dict, description="the laboratory's limits, inside the instrument's"
    )
    poll: dict[str, float] = Field(default_factory=dict, description="seconds between two readings")
    host: str = Field("", description="devices with the same word share a process")
    accept_no_deadman: str = Field("", description="why a hazardous output may be without one")


class Lab(Settings):
    """The whole file."""

    lab: LabSettings
    service: ServiceSettings = ServiceSettings()
    record: RecordSettings = RecordSettings()
    device: dict[DeviceName, DeviceSettings] = Field(min_length=1)
    rule: list[Rule] = Field(default_factory=list)
    dose: DoseSettings | None = None
    cell: CellSettings | None = None
    ion: IonSettings | None = None
    metadata: dict[str, dict[str, str | float | int | bool]] = Field(
        default_factory=dict, description="sample, transfer, … as they go into every session file"
    )
    world: Truth = Field(default_factory=Truth, description="the truth of a simulated laboratory")

    def drivers(self) -> dict[str, type[Driver]]:
        """The driver class of each device."""
        return {name: driver(d.model, self.lab.plugins) for name, d in self.device.items()}


class LoadedLab(Settings):
    """A laboratory and the text it was read from, which goes into every session."""

    lab: Lab
    path: Path
    text: str
    sha256: str


def load(path: Path) -> LoadedLab:
    """Read, complete and check `path`; `ConfigurationError` says file:line: key: what is wrong."""
    text = _read(path)
    data = _parse(path, text)
    sources = [(path, text, data)]
    lab_table = data.get("lab")
    for name in lab_table.get("rules", []) if isinstance(lab_table, dict) else []:
        rule_path = _rule_file(path, str(name))
        rule_text = _read(rule_path)
        sources.append((rule_path, rule_text, _parse(rule_path, rule_text)))
    data = {**data, "rule": [rule for _, _, d in sources for rule in _tables(d, "rule")]}
    for rule_path, rule_text, rule_data in sources[1:]:
        if extra := set(rule_data) - {"rule"}:
            key = sorted(extra)[0]
            line = line_of(rule_text, [key])
            raise ConfigurationError(f"{rule_path}:{line}: {key}: a rule file holds [[rule]] only")
    try:
        lab = Lab.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, sources)) from None
    problems = [
        f"{path}:{line_of(text, where)}: {'.'.join(map(str, where))}: {what}"
        for where, what in _cross_checks(lab)
    ]
    if problems:
        raise ConfigurationError("\n".join(problems))
    whole = "\n".join(t for _, t, _ in sources)
    return LoadedLab(
        lab=lab, path=path, text=whole, sha256=hashlib.sha256(whole.encode()).hexdigest()
    )


def _read(path: Path) -> str:
    try:
        if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o002:
            raise ConfigurationError(f"{path}: anybody may write it: chmod o-w {path.name}")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}") from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line (\d+)", str(error))
        raise ConfigurationError(f"{path}:{place[1] if place else 1}: {error}") from None


def _rule_file(lab_path: Path, name: str) -> Path:
    beside = lab_path.parent / name
    return beside if beside.exists() else CONFIG / name


def _tables(data: dict[str, Any], key: str) -> list[Any]:
    found = data.get(key, [])
    return found if isinstance(found, list) else [found]


def _explain(error: ValidationError, sources: list[tuple[Path, str, dict[str, Any]]]) -> str:
    """Every refusal of pydantic at its file and line."""
    said = []
    for item in error.errors(include_url=False, include_input=True):
        where = list(item["loc"])
        path, text = sources[0][:2]
        if where[:1] == ["rule"] and len(where) > 1 and isinstance(where[1], int):
            for source_path, source_text, data in sources:
                count = len(_tables(data, "rule"))
                if where[1] < count:
                    path, text = source_path, source_text
                    break
                where[1] -= count
        message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        key = ".".join(str(part) for part in item["loc"])
        said.append(f"{path}:{line_of(text, where)}: {key}: {message}")
    return "\n".join(said)


Problem = tuple[list[str | int], str]


def _cross_checks(lab: Lab) -> list[Problem]:
    """What no single field can know."""
    problems: list[Problem] = []
    classes: dict[str, type[Driver]] = {}
    for name, device in lab.device.items():
        where: list[str | int] = ["device", name]
        try:
            classes[name] = driver(device.model, lab.lab.plugins)
        except ColdframeError as error:
            problems.append(([*where, "model"], str(error)))
            continue
        problems += _check_device(where, device, classes[name])
        simulated = device.address.startswith("sim://")
        if simulated and not lab.lab.simulated:
            problems.append(([*where, "address"], "sim:// belongs in a lab with simulated = true"))
        if lab.lab.simulated and not simulated:
            problems.append(
                ([*where, "address"], f"in a simulated lab every address is sim://NAME: sim://{name}")
            )
    if len(classes) == len(lab.device):
        problems += _check_rules(lab, classes)
    return problems


def _check_device(
    where: list[str | int], device: DeviceSettings, kind: type[Driver]
) -> list[Problem]:
    problems: list[Problem] = []
    try:
        kind.Options.model_validate(device.options)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = [str(part) for part in first["loc"]]
        known = ", ".join(kind.Options.model_fields) or "none"
        problems.append(
            ([*where, "options", *key], f"{first['msg']} ({device.model} takes {known})")
        )
    for key, names in (("limits", device.limits), ("poll", device.poll)):
        for name in names:
            if name not in kind.parameters:
                known = ", ".join(kind.parameters)
                problems.append(([*where, key, name], f"no such parameter; there are {known}"))
    for name, seconds in device.poll.items():
        if not 0.01 <= seconds <= 3600:
            problems.append(([*where, "poll", name], f"{seconds:g} s is outside 0.01 … 3600 s"))
    try:
        lab_limits(device, kind)
    except ColdframeError as error:
        problems.append(([*where, "limits"], str(error)))
    return problems


def lab_limits(device: DeviceSettings, kind: type[Driver]) -> dict[str, tuple[float, float]]:
    """The laboratory's limits in the parameters' units; `OutOfRange` if wider than the
    instrument's, or the wrong way round."""
    found = {}
    for name, pair in device.limits.items():
        parameter = kind.parameters.get(name)
        if parameter is None:
            continue
        low, high = (parse(v, parameter.unit) if isinstance(v, str) else float(v) for v in pair)
        if low > high:
            raise OutOfRange(f"{name}: {low:g} is above {high:g}")
        if parameter.limits and not (parameter.limits[0] <= low and high <= parameter.limits[1]):
            first, last = parameter.limits
            raise OutOfRange(
                f"{name}: {low:g} … {high:g} is wider than the instrument's {first:g} … {last:g}"
            )
        found[name] = (low, high)
    return found


def _check_rules(lab: Lab, classes: dict[str, type[Driver]]) -> list[Problem]:
    problems: list[Problem] = []
    outputs = {f"{n}.{o.name}" for n, kind in classes.items() for o in kind.outputs}
    if outputs and not lab.rule:
        problems.append((["lab"], f"no [[rule]] guards {', '.join(sorted(outputs))}"))
    return problems


def schema() -> str:
    """The JSON Schema of a laboratory's file, as it stands in config/schema.json."""
    return json.dumps(Lab.model_json_schema(), indent=1, sort_keys=True) + "\n"


# ---- folders ------------------------------------------------------------------------------


def run_folder(lab_name: str) -> Path:
    """Where this laboratory's sockets, lock and clock live: private to the user."""
    if given := os.environ.get("RUNTIME_DIRECTORY"):
        folder = Path(given.split(":")[0])
    elif given := os.environ.get("XDG_RUNTIME_DIR"):
        folder = Path(given) / "coldframe" / lab_name
    else:
        folder = Path(tempfile.gettempdir()) / f"coldframe-{os.getuid()}" / lab_name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for each in (folder, folder.parent):
        if each.name.startswith("coldframe") and each.stat().st_uid != os.getuid():
            raise ConfigurationError(f"{each} belongs to somebody else")
    return folder


def state_folder() -> Path:
    """Where journals live and outlast a reboot."""
    given = os.environ.get("STATE_DIRECTORY")
    folder = Path(given.split(":")[0]) if given else Path.home() / "coldframe"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def session_folder(lab: Lab) -> Path:
    """Where session files go."""
    folder = Path(lab.record.folder).expanduser() if lab.record.folder else state_folder() / "sessions"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
