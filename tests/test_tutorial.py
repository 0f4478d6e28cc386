"""The tutorial, followed to the letter in a copy of the tree: each block runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/tutorial/write-a-driver.md"
ROOMS = ("coldframe", "config", "daemon", "drivers", "protocols", "simulators")
COLDFRAME = [sys.executable, "-m", "coldframe.daemon"]


class Block(NamedTuple):
    """One fenced block: its language, the file it belongs to, and how it gets there."""

    language: str
    title: str
    how: str  # "", "continued" or the name of the table it goes into
    text: str


def blocks(port: int) -> list[Block]:
    """The page's blocks, its port replaced by a free one."""
    fence = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    found = []
    for language, rest, text in fence.findall(PAGE.read_text(encoding="utf-8")):
        title = re.search(r'title="([^"]+)"', rest)
        into = re.search(r'into="([^"]+)"', rest)
        how = into[1] if into else "continued" if "continued" in rest else ""
        text = text.replace("7100", str(port))
        found.append(Block(language, title[1] if title else "", how, text))
    return found


def write(tree: Path, block: Block) -> None:
    """Put a block where its title says."""
    path = tree / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    if block.how == "continued":
        text = f"{before}\n{block.text}"
    elif block.how:
        head = f"{block.how} = {{\n"
        assert head in before, f"{block.title} has no table {block.how}"
        text = before.replace(head, head + block.text)
    else:
        assert not before, f"{block.title} is there already"
        text = block.text
    path.write_text(text, encoding="utf-8")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the tutorial changes."""
    copy = tmp_path / "coldframe"
    ignored = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, symlinks=True, ignore=ignored)
    (copy / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", copy / "tests")
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


class Terminals:
    """Terminals in one folder; what was started in them ends with the test."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"}

    def run(self, command: list[str]) -> str:
        """A command that ends, and must end well."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, command: list[str]) -> str:
        """A command that stays; its first line."""
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        self.running.append(process)
        assert process.stdout is not None
        return process.stdout.readline()

    def close(self) -> None:
        for process in self.running:
            process.terminate()
            process.communicate(timeout=20)


@pytest.fixture
def terminals(tree: Path) -> Iterator[Terminals]:
    made = Terminals(tree)
    yield made
    made.close()


@pytest.mark.timeout(240)
def test_whoever_follows_the_tutorial_gets_what_it_shows(tree: Path, terminals: Terminals) -> None:
    done: set[str] = set()
    written: set[str] = set()
    for number, block in enumerate(blocks(free_port())):
        if block.title:
            write(tree, block)
            written.add(block.title)
        elif block.language == "console":
            command, *expected = block.text.removeprefix("$ ").splitlines()
            words = command.split()
            if words[0] == "coldframe":
                words = [*COLDFRAME, *words[1:]]
            elif words[0] == "python":
                words[0] = sys.executable
            if "simulate" in words:
                assert terminals.start(words).splitlines() == expected
            else:
                said = terminals.run(words)
                assert all(line in said for line in expected)
                done.add(command)
        else:
            assert block.language == "pycon"
            session = tree / f"session{number}.txt"
            session.write_text(block.text, encoding="utf-8")
            terminals.run([sys.executable, "-m", "doctest", str(session)])
            done.add(block.language)

    assert {"pycon", "coldframe check meter.toml"} <= done
    assert {"drivers/levelmeter.py", "simulators/levelmeter.py"} <= written
    modules = sorted(title for title in written if title.endswith(".py"))
    for habit in (["check"], ["format", "--check"]):
        terminals.run([sys.executable, "-m", "ruff", *habit, "--no-cache", *modules])


def test_the_page_speaks_only_of_blocks_that_are_run() -> None:
    languages = {block.language for block in blocks(7100)}

    assert languages == {"python", "console", "pycon", "toml"}
