"""Rules of the house that no linter knows, read off the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("coldframe", "config", "daemon", "drivers", "protocols", "simulators", "benchmarks")
LENGTH = 350  # lines; blank ones are paragraphs and do not count
BASES = {"drivers/base.py", "simulators/ports.py", "coldframe/verbs.py"}  # a subclass must provide
CLOCK = "coldframe/clock.py"
WALL_CLOCKS = {
    *("time.time", "time.time_ns", "time.localtime", "time.gmtime", "datetime.now"),
    *("datetime.utcnow", "datetime.today", "date.today", "datetime.datetime.now"),
}
UNSAFE_CALLS = {"eval", "exec", "__import__", "os.system", "yaml.load", "tempfile.mktemp"}
UNSAFE_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
TEXT = {".py", ".md", ".toml", ".txt", ".json", ".service", ".yaml", ".yml", ".cfg", ""}


def modules(*rooms: str) -> list[str]:
    """The Python files of these rooms; the links of the front room are not followed."""
    return sorted(
        path.relative_to(ROOT).as_posix()
        for room in rooms
        for path in (
            (ROOT / room).glob("*.py") if room == "coldframe" else (ROOT / room).rglob("*.py")
        )
        if "__pycache__" not in path.parts
    )


def texts() -> Iterator[Path]:
    """Every text file of the tree that is ours."""
    skipped = {"build", "dist", "demo", "__pycache__"}
    for top in sorted(ROOT.iterdir()):
        if top.name.startswith(".") and top.name not in (".ci", ".dockerignore", ".gitignore"):
            continue
        if top.name in skipped or top.name.endswith(".egg-info"):
            continue
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            linked = any(parent.is_symlink() for parent in (path, *path.parents))
            ours = path.suffix in TEXT and not skipped & set(path.parts) and not linked
            if ours and path.is_file() and path != Path(__file__):
                yield path


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(read(ROOT / module))


def dotted(node: ast.expr) -> str:
    """`time.time` of the node that says so; empty when it is no plain name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := dotted(node.value)):
        return f"{before}.{node.attr}"
    return ""


def calls(module: str) -> list[tuple[int, str]]:
    """Line and name of each call."""
    every = (node for node in ast.walk(tree(module)) if isinstance(node, ast.Call))
    return [(node.lineno, dotted(node.func)) for node in every]


def imported(module: str) -> set[str]:
    """The names of everything a module imports: `a.b` and, for `from a import b`, both."""
    names: set[str] = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


EVERY = modules(*ROOMS, "tests")
OURS = modules(*ROOMS)


def test_there_is_something_to_look_at() -> None:
    assert len(OURS) > 40
    assert {"coldframe/clock.py", "drivers/base.py", "daemon/cli.py"} <= set(OURS)
    assert ROOT / "README.md" in set(texts())


def test_each_module_begins_by_saying_what_it_is() -> None:
    def speaks(said: str | None) -> bool:
        paragraph = (said or "").split("\n\n")[0].rstrip()
        return bool(re.match(r"""["'`A-Z0-9]""", paragraph)) and paragraph[-1] in ".:?!…"

    assert [m for m in EVERY if not speaks(ast.get_docstring(tree(m)))] == []


def test_each_module_is_small_enough_to_have_one_reason() -> None:
    def length(module: str) -> int:
        return sum(bool(line.strip()) for line in read(ROOT / module).splitlines())

    assert [m for m in OURS if length(m) > LENGTH] == []


def test_nothing_is_left_for_later() -> None:
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK|WIP)\b")

    assert [path for path in texts() if words.search(read(path))] == []


def test_nothing_pretends_to_be_there() -> None:
    def named(module: str) -> set[str]:
        return {node.id for node in ast.walk(tree(module)) if isinstance(node, ast.Name)}

    empty = {"NotImplementedError", "NotImplemented"}
    assert [m for m in OURS if m not in BASES and named(m) & empty] == []


def test_no_file_knows_the_machine_it_was_written_on_or_where_packages_come_from() -> None:
    place = re.compile(
        r"(?<![\w.])/(work|root|tmp|home/\w+|Users/\w+)/|pypi\.org|pythonhosted|--(extra-)?index-url"
    )

    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        for number, line in enumerate(read(path).splitlines(), 1)
        if place.search(line)
    ]

    assert found == []


def test_what_came_over_a_wire_or_from_a_file_is_never_run() -> None:
    def unsafe(module: str) -> bool:
        keywords = {n.arg for n in ast.walk(tree(module)) if isinstance(n, ast.keyword)}
        roots = {name.split(".")[0] for name in imported(module)}
        called = {name for _, name in calls(module)}
        return bool(called & UNSAFE_CALLS or roots & UNSAFE_MODULES or "allow_pickle" in keywords)

    assert [m for m in EVERY if unsafe(m)] == []


def test_only_the_clock_looks_at_the_time_of_day() -> None:
    looked = [
        f"{module}:{line}: {name}: take a coldframe.clock.Clock instead"
        for module in OURS
        if module != CLOCK
        for line, name in calls(module)
        if name in WALL_CLOCKS
    ]

    assert looked == []
    assert [m for m in OURS if imported(m) & {"time.time", "time.time_ns"}] == []


def test_each_page_that_is_cited_exists_and_has_the_section() -> None:
    cited = re.compile(r"""((?:[\w.-]+/)*[\w-]+\.md)(?:, "([^"]+)")?""")
    missing = []
    for path in texts():
        if path.suffix == ".md":
            continue
        for page, section in cited.findall(re.sub(r"\s*\n#?\s*", " ", read(path))):
            known = next(iter([*ROOT.glob(page), *(ROOT / "docs").rglob(page)]), None)
            if known is None or (section and f"\n## {section}\n" not in read(known)):
                missing.append(f"{path.relative_to(ROOT)}: {page} {section}".rstrip())

    assert missing == []


def test_no_source_is_cited_that_a_reader_cannot_look_up() -> None:
    private = re.compile(r"\b[Dd]ocument 00\d|(?<![\d:.])00[0-4]:\d{3}")

    assert [path for path in texts() if private.search(read(path))] == []


def test_each_link_between_our_pages_leads_somewhere() -> None:
    link = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")

    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in texts()
        if path.suffix == ".md"
        for target in link.findall(read(path))
        if not (path.parent / target).exists()
    ]

    assert broken == []
