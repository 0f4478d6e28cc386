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
from coldframe.daemon.lab_models import Lab
from coldframe.daemon.rules import Frozen
from coldframe.daemon.toml_lines import line_of
from coldframe.errors import ConfigurationError

CONFIG = Path(__file__).resolve().parent.parent / "config"
SCHEMA = "schema.json"
RULE_TABLES = ("rule", "check")
Source = tuple[Path, str, dict[str, Any]]  # a file, its text, what it parses to


class LoadedLab(Frozen):
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
    problems = [_place(sources, where, what) for where, what in cross_checks(lab)]
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


def _explain(error: ValidationError, sources: list[Source]) -> str:
    """Every refusal of pydantic at its file and line."""
    return "\n".join(
        _place(
            sources,
            list(item["loc"]),
            "unknown key" if item["type"] == "extra_forbidden" else item["msg"],
        )
        for item in error.errors(include_url=False)
    )


def _place(sources: list[Source], where: list[str | int], what: str) -> str:
    """file:line: key: what. Rules are counted through all files, in the order they were read."""
    source, inside = sources[0], list(where)
    if where[0] in RULE_TABLES and len(where) > 1 and isinstance(where[1], int):
        number = where[1]
        for each in sources:
            count = len(_tables(each[2], str(where[0])))
            if number < count:
                source, inside[1] = each, number
                break
            number -= count
    key = ".".join(str(part) for part in where)
    return f"{source[0]}:{line_of(source[1], inside)}: {key}: {what}"


def schema() -> str:
    """The JSON Schema of a laboratory's file, as it stands in config/schema.json."""
    return json.dumps(Lab.model_json_schema(), indent=1, sort_keys=True) + "\n"
