"""What is installed is what is in the tree: rooms, links, data files, dependencies and versions."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("config", "daemon", "drivers", "protocols", "simulators")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
CORE = PROJECT["dependencies"]
EXTRAS = PROJECT["optional-dependencies"]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
OFFLINE = ("--no-deps", "--no-index")
RUFF = (sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format", "concise")
# Readers under the GPL: interop tests run them in an environment of their own.
GPL_READERS = {"hyperspy", "hyperspy-gui-traitsui", "rosettasciio", "exspy", "galvani", "yadg"}


def tree_files() -> Iterator[str]:
    """Every file of the front room and the rooms, by the name it should have when installed."""
    yield from (f"coldframe/{p.name}" for p in (ROOT / "coldframe").iterdir() if p.is_file())
    for room in ROOMS:
        for path in (ROOT / room).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"coldframe/{path.relative_to(ROOT).as_posix()}"


# ---- the tree --------------------------------------------------------------------------------


def test_every_folder_with_modules_is_a_package_that_pyproject_lists() -> None:
    folders = {Path(name).parent.as_posix() for name in tree_files() if name.endswith(".py")}

    listed = {name.replace(".", "/") for name in PYPROJECT["tool"]["setuptools"]["packages"]}

    assert folders == listed
    assert set(PYPROJECT["tool"]["setuptools"]["package-dir"]) == {
        name.replace("/", ".") for name in listed
    }


def test_the_links_of_the_front_room_are_relative_and_point_to_the_rooms() -> None:
    links = {p.name: os.readlink(p) for p in (ROOT / "coldframe").iterdir() if p.is_symlink()}

    assert links == {room: f"../{room}" for room in ROOMS}


def test_a_room_imported_without_its_first_name_is_refused_by_ruff(tmp_path: Path) -> None:
    bare = tmp_path / "bare.py"
    bare.write_text(
        "".join(f"import {room}.base\nfrom {room} import base\n" for room in ROOMS)
        + "import coldframe.drivers.base\nfrom coldframe.daemon import cli\n"
    )

    said = subprocess.run(
        [*RUFF, "--config", str(ROOT / "pyproject.toml"), str(bare)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    refused = {int(line.split(":")[1]) for line in said.splitlines() if "TID251" in line}

    assert refused == set(range(1, 2 * len(ROOMS) + 1)), said


# ---- the wheel -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, under the name that `git clone` gives it."""
    copy = tmp_path_factory.mktemp("tree") / "coldframe"
    unwanted = (".git", ".venv", "build", "dist", "demo", "*.egg-info", "__pycache__", ".*_cache")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=shutil.ignore_patterns(*unwanted))
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory, can_build: None) -> Path:
    """A wheel built from the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run([*PIP, "wheel", *OFFLINE, "--no-build-isolation", "--wheel-dir", str(folder), str(tree)])
    return next(folder.glob("coldframe-*.whl"))


def run(command: list[str], **options: object) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


def test_the_wheel_holds_each_module_and_data_file_of_the_tree_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    assert held == set(tree_files())


@pytest.mark.timeout(300)
def test_the_rooms_and_their_data_work_from_the_wheel_in_a_clean_environment(
    wheel: Path, tmp_path: Path, lend: Callable[[Path], None]
) -> None:
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=False, symlinks=True)
    lend(clean)
    python = str(clean / "bin" / "python")
    run([*PIP, "--python", python, "install", *OFFLINE, str(wheel)])

    rooms = ", ".join(f"coldframe.{room}" for room in ROOMS)
    imported = run(
        [python, "-I", "-c", f"import {rooms}; print(coldframe.config.__file__)"], cwd=tmp_path
    )
    usage = run([str(clean / "bin" / "coldframe"), "--help"], cwd=tmp_path)

    config = Path(imported.strip()).parent
    assert config.is_relative_to(clean)
    assert tomllib.loads((config / "simulated.toml").read_text(encoding="utf-8"))["device"]
    assert (config / "coldframe.service").exists()
    assert "LAB.toml" in usage


@pytest.mark.timeout(300)
def test_a_script_beside_the_checkout_imports_the_front_room_and_not_the_folder(
    tree: Path, tmp_path: Path, lend: Callable[[Path], None], can_build: None
) -> None:
    clean = tmp_path / "clean"
    venv.create(clean, with_pip=False, symlinks=True)
    lend(clean)
    python = str(clean / "bin" / "python")
    as_make_does = re.findall(r"--config-settings \S+", (ROOT / "Makefile").read_text())
    settings = [word for found in as_make_does for word in found.split()]
    install = [*PIP, "--python", python, "install", *OFFLINE, "--no-build-isolation"]
    run([*install, *settings, "-e", str(tree)])
    script = tree.parent / "first_look.py"
    script.write_text("import coldframe.drivers\nprint(coldframe.connect.__module__)\n")

    assert run([python, str(script)], cwd=tree.parent).strip() == "coldframe"


# ---- dependencies ----------------------------------------------------------------------------


@pytest.mark.parametrize("line", CORE)
def test_a_core_dependency_has_a_lower_bound_and_no_other(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+>=\d+(\.\d+)*", line)


@pytest.mark.parametrize("line", [line for extra in EXTRAS.values() for line in extra])
def test_a_dependency_of_an_extra_has_no_upper_bound(line: str) -> None:
    assert re.fullmatch(r"[a-z0-9-]+(>=\d+(\.\d+)*)?", line)


def constraints() -> dict[str, str]:
    """The pins of constraints.txt, each checked to be NAME==VERSION and nothing else."""
    pins = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            match = re.fullmatch(r"([a-z0-9-]+)==(\d[0-9a-z.]*)", line)
            assert match, f"constraints.txt: {line!r} is not name==version"
            pins[match[1]] = match[2]
    return pins


def closure(lines: list[str]) -> set[str]:
    """The names of these requirements and, where they are installed here, of all below them."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            try:
                below = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue
            waiting += [
                each
                for each in map(Requirement, below)
                if each.marker is None or each.marker.evaluate({"extra": extra})
            ]
    return {name for name, _ in seen}


def test_constraints_pin_each_dependency_those_below_them_included() -> None:
    needed = closure(CORE + [line for extra in EXTRAS.values() for line in extra])

    assert needed <= set(constraints())


def test_constraints_carry_no_address() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")

    assert not re.search(r"://|@|--(index|find|extra)", text)


def test_each_pin_is_at_or_above_the_lower_bound_of_pyproject() -> None:
    pins = constraints()

    for line in CORE + [line for extra in EXTRAS.values() for line in extra]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line


def test_no_gpl_reader_is_asked_for_or_pinned() -> None:
    asked = {canonicalize_name(Requirement(r).name) for r in sum(EXTRAS.values(), list(CORE))}

    assert not GPL_READERS & (asked | set(constraints()))


def test_nothing_the_daemon_runs_on_says_it_is_under_the_gpl() -> None:
    for name in closure(CORE):
        try:
            told = importlib.metadata.metadata(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        said = [told.get("License-Expression", ""), *(told.get_all("Classifier") or [])]
        words = " ".join(line for line in said if line.startswith("License") or "GPL" in line)
        assert not re.search(r"(?<!L)(?<!Lesser )\bA?GPL|GNU General Public", words), name
