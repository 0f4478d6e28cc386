"""What the documents say of keys, commands and targets is what there is."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import typer.main
from pydantic import BaseModel

from coldframe.daemon import lab_models, rules
from coldframe.daemon.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TABLES: dict[str, type[BaseModel]] = {
    "[lab]": lab_models.LabSettings,
    "[service]": lab_models.ServiceSettings,
    "[record]": lab_models.RecordSettings,
    "[device.NAME]": lab_models.DeviceSettings,
    "[[rule]]": rules.Rule,
    "rate": rules.RateLimit,
    "[[check]]": rules.Check,
    "[dose]": rules.DoseSettings,
    "[cell]": rules.CellSettings,
    "[contact]": rules.ContactSettings,
    "[ion]": rules.IonStepSettings,
}


def documented() -> dict[str, dict[str, str]]:
    """Table → key → default, as the page has them."""
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = {}
    for part in re.split(r"^#{2,3} ", page, flags=re.MULTILINE)[1:]:
        title, _, text = part.partition("\n")
        rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE)
        found[title.strip()] = dict(rows)
    return found


def default_of(field: Any) -> str:
    """A default as the page writes it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", (), [], {}):
        return "none"
    return f"`{json.dumps(value)}`"


def test_the_page_of_the_configuration_has_each_key_with_its_default() -> None:
    wanted = {
        title: {name: default_of(field) for name, field in model.model_fields.items()}
        for title, model in TABLES.items()
    }

    assert documented() == wanted


def test_each_table_of_a_laboratory_is_on_the_page_or_named_there() -> None:
    page = (ROOT / "docs/reference/configuration.md").read_text(encoding="utf-8")

    for table in lab_models.Lab.model_fields:
        assert re.search(rf"\[\[?{table}[\].]", page), table


def test_each_command_a_document_shows_exists() -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    shown = {
        (page.name, word)
        for page in PAGES
        for word in re.findall(
            r"(?:^|`|\$ |bin/)coldframe ([a-z]+)", page.read_text(), re.MULTILINE
        )
    }

    assert {word for _, word in shown} >= {"check", "serve", "status", "simulate"}
    assert [(page, word) for page, word in sorted(shown) if word not in commands] == []


def test_each_make_target_a_document_shows_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {
        target
        for page in [*PAGES, ROOT / "CONTRIBUTING.md"]
        for target in re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(), re.MULTILINE)
    }

    assert {"demo", "test"} <= shown <= targets


def test_each_laboratory_file_is_valid_toml_and_the_readme_names_those_to_copy() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    for path in (ROOT / "config").glob("*.toml"):
        assert tomllib.loads(path.read_text(encoding="utf-8"))["lab"]["name"] == path.stem
    for name in re.findall(r"`([\w-]+\.toml)`", readme):
        assert (ROOT / "config" / name).exists(), name


def test_the_readme_says_what_it_is_not() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert "no personnel-safety function" in readme
