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
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coldframe.daemon.lab_checks import cross_checks
from coldframe.daemon.lab_models import Lab, Settings
from coldframe.daemon.toml_lines import line_of
from coldframe.errors import ConfigurationError

CONFIG = Path(__file__).resolve().parent.parent / "config"
SCHEMA = "schema.json"
RULE_TABLES = ("rule", "check")


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
    for kind in RULE_TABLES:
        data = {**data, kind: [entry for _, _, d in sources for entry in _tables(d, kind)]}
    for rule_path, rule_text, rule_data in sources[1:]:
        if extra := sorted(set(rule_data) - set(RULE_TABLES)):
            line = line_of(rule_text, extra[:1])
            raise ConfigurationError(
                f"{rule_path}:{line}: {extra[0]}: a rule file holds [[rule]] and [[check]] only"
            )
    try:
        lab = Lab.model_validate(data)
    except ValidationError as error:
        raise ConfigurationError(_explain(error, sources)) from None
    problems = [
        f"{path}:{line_of(text, where)}: {'.'.join(map(str, where))}: {what}"
        for where, what in cross_checks(lab)
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
        if where[0] in RULE_TABLES and len(where) > 1 and isinstance(where[1], int):
            for source_path, source_text, data in sources:
                count = len(_tables(data, str(where[0])))
                if where[1] < count:
                    path, text = source_path, source_text
                    break
                where[1] -= count
        message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
        key = ".".join(str(part) for part in item["loc"])
        said.append(f"{path}:{line_of(text, where)}: {key}: {message}")
    return "\n".join(said)


def schema() -> str:
    """The JSON Schema of a laboratory's file, as it stands in config/schema.json."""
    return json.dumps(Lab.model_json_schema(), indent=1, sort_keys=True) + "\n"
