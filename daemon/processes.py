"""The mains of the service's processes: each reads the plan, builds its settings, runs.

`python -m coldframe.daemon NAME PLAN.json …`. Imports stand inside: the guard must not load numpy,
and no process what another needs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from coldframe.daemon.plan import Plan

Main = Callable[[Plan, list[str]], int]


def main(arguments: list[str]) -> int:
    """Run the process that `arguments` name."""
    name, plan, *rest = arguments
    return PROCESSES[name](Plan.read(Path(plan)), rest)


def _runner(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.runner import run_protocol

    run_id, protocol, arguments = rest
    return run_protocol(plan, run_id, protocol, json.loads(arguments))


PROCESSES: dict[str, Main] = {
    "runner": _runner,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
