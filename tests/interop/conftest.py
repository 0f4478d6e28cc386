"""Fixtures for tests that drive software nobody here wrote.

`interop_python` is the interpreter of the environment that has it (see environment.py); a test that
asks for it is skipped, with the reason, where it cannot be installed. `there("NAME.py", …)` runs a
script of the folder `scripts` with it: arguments in, what the script prints as JSON out. Scripts
see neither this clone nor its environment.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
FIRST_INSTALL = 720  # s: the first test waits for the installation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.interop)
            item.add_marker(pytest.mark.timeout(FIRST_INSTALL))


@pytest.fixture(scope="session")
def interop_python() -> Path:
    """The interpreter that has lakeshore, LiberTEM-live, LiberTEM, HyperSpy, nexusformat, h5py."""
    spec = importlib.util.spec_from_file_location("environment", HERE / "environment.py")
    assert spec is not None and spec.loader is not None
    environment = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(environment)
    try:
        made: Path = environment.interpreter()
    except environment.Unavailable as reason:
        pytest.skip(f"the interop environment cannot be made: {reason}")
    return made


@pytest.fixture
def there(interop_python: Path) -> Callable[..., Any]:
    """Run a script of `scripts` in that environment; returns what it printed last, as JSON."""

    def run(script: str, *arguments: object, timeout: float = 120) -> Any:
        done = subprocess.run(
            [interop_python, "-I", HERE / "scripts" / script, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{script}:\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run
