"""Printing for people (rich) or for programs (JSON): the only place that knows which."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from coldframe.errors import ColdframeError


class Sheet(NamedTuple):
    """A table: a title, the heads of its columns, its rows."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


class Out:
    """Where a command prints."""

    def __init__(self, as_json: bool = False):
        self.as_json = as_json
        self.console = Console(soft_wrap=True)

    def value(self, value: Any, shown: str | None = None) -> None:
        """One value; `shown` is how people read it."""
        if self.as_json:
            print(json.dumps(value, ensure_ascii=False), flush=True)
        else:
            self.say(shown if shown is not None else _plain(value))

    def say(self, text: str) -> None:
        """A line for people; nothing where a program reads."""
        if not self.as_json:
            self.console.print(escape(text), highlight=False)

    def tables(self, sheets: Sequence[Sheet]) -> None:
        """Tables, or a list of objects for each."""
        if self.as_json:
            found = {
                s.title: [dict(zip(s.heads, row, strict=True)) for row in s.rows] for s in sheets
            }
            print(json.dumps(found, ensure_ascii=False))
            return
        for sheet in sheets:
            table = Table(*sheet.heads, title=sheet.title, title_justify="left", expand=False)
            for row in sheet.rows:
                table.add_row(*(escape(cell) for cell in row))
            self.console.print(table)

    def tree(self, values: Mapping[str, Any], indent: int = 0) -> None:
        """Nested names and values."""
        if self.as_json:
            print(json.dumps(values, ensure_ascii=False, default=str))
            return
        for key, value in values.items():
            if isinstance(value, Mapping):
                self.say("  " * indent + f"{key}:")
                self.tree(value, indent + 1)
            elif isinstance(value, list) and value and isinstance(value[0], Mapping):
                self.say("  " * indent + f"{key}:")
                for each in value:
                    self.say(
                        "  " * (indent + 1) + "- " + ", ".join(f"{k} {v}" for k, v in each.items())
                    )
            else:
                self.say("  " * indent + f"{key}: {_plain(value)}")

    def problems(self, path: Path, problems: Sequence[str]) -> None:
        """What is wrong with a file, or that nothing is."""
        if self.as_json:
            print(json.dumps({"file": str(path), "problems": list(problems)}, ensure_ascii=False))
        elif problems:
            for problem in problems:
                self.say(problem)
        else:
            self.say(f"{path}: whole")

    @staticmethod
    def error(error: ColdframeError, as_json: bool = False) -> None:
        """An error, on standard error."""
        if as_json:
            shown = {"class": error.kind, "text": str(error), "retryable": error.retryable}
            print(json.dumps({"error": shown}, ensure_ascii=False), flush=True)
        else:
            console = Console(stderr=True, soft_wrap=True)
            console.print(f"[bold red]{error.kind}[/]: {escape(str(error))}", highlight=False)

    @contextmanager
    def progress(self, title: str) -> Iterator[Bar]:
        """A progress bar with words beside it; silent where a program reads."""
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[words]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console, disable=self.as_json) as progress:
            yield Bar(progress, progress.add_task(title, total=1.0, words=""))


class Bar:
    """One progress bar: a fraction (None: unknown) and a few words."""

    def __init__(self, progress: Progress, task: Any):
        self._progress, self._task = progress, task

    def __call__(self, fraction: float | None, words: str) -> None:
        if fraction is None:
            self._progress.update(self._task, words=words)
        else:
            self._progress.update(self._task, completed=fraction, words=words)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
