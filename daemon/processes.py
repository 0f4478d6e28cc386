"""The mains of the service's processes: each reads the plan, builds its settings, runs.

`python -m coldframe.daemon NAME PLAN.json …`. Imports stand inside: the guard must not load numpy,
and no process what another needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from coldframe import __version__
from coldframe.daemon import logs
from coldframe.daemon.lifeline import end_with
from coldframe.daemon.plan import Plan

Main = Callable[[Plan, list[str]], int]

SIMULATORS = "simulators"
OUTLIVE = ("guard", "lasthand")  # they watch the service themselves, and make safe before they end
LAST = 3.0  # s that simulated instruments outlive the service: their outputs go safe over the wire


def main(arguments: list[str]) -> int:
    """Run the process of the service that `arguments` name; it ends with the service."""
    name, file, *rest = arguments
    if name == SIMULATORS:
        return _simulators(Path(file), *rest)
    plan = Plan.read(Path(file))
    if name not in OUTLIVE:
        end_with(plan.service_pid)
    return run(name, plan, rest)


def run(name: str, plan: Plan, rest: list[str]) -> int:
    """Run it in this process, whoever started it."""
    logs.configure(" ".join([name, *rest[:1]]))
    return PROCESSES[name](plan, rest)


def _simulators(lab: Path, service_pid: str, form: str) -> int:
    """They start before there is a plan, for it holds their addresses."""
    from coldframe.daemon import simulation

    end_with(int(service_pid), LAST)
    simulation.laboratory(lab, speed=1.0, as_json=form == "json")
    return 0


def _guard(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.guard import run_guard

    return run_guard(plan)


def _lasthand(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.configuration import load
    from coldframe.daemon.lasthand import Port, run_lasthand

    lab = load(plan.lab_file).lab
    if plan.guard.simulated:
        _stand_in()
    ports = {
        name: Port(kind, plan.addresses[name], lab.device[name].model, lab.device[name].options)
        for name, kind in lab.drivers().items()
        if kind.outputs
    }
    return run_lasthand(ports, plan.inner("guard"))


def _hub(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.configuration import load
    from coldframe.daemon.hub import HubSettings, run_hub
    from coldframe.daemon.switchboard import Expected

    loaded = load(plan.lab_file)
    classes = loaded.lab.drivers()
    expected = {
        name: Expected(device.model, classes[name].role)
        for name, device in loaded.lab.device.items()
    }
    return run_hub(
        HubSettings(
            lab=plan.name,
            expected={**expected, "guard": Expected("guard", "guard")},
            inner=plan.inner("hub"),
            commands=plan.tcp(plan.hub),
            streams=plan.tcp(plan.streams),
            guard=plan.tcp(plan.guard_port),
            recorder_lane=plan.inner("recorder"),
            simulated=plan.guard.simulated,
            clock=plan.clock,
            details={"configuration": loaded.sha256, "version": __version__},
        )
    )


def _recorder(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.configuration import load
    from coldframe.daemon.recorder import RecorderSettings, run_recorder

    loaded = load(plan.lab_file)
    record = loaded.lab.record
    return run_recorder(
        RecorderSettings(
            lane=plan.inner("recorder"),
            hub=plan.inner("hub"),
            folder=plan.sessions,
            lab=plan.name,
            simulated=plan.guard.simulated,
            configuration=loaded.text,
            metadata=loaded.lab.metadata,
            compression=record.compression,
            reserve_bytes=round(record.reserve_mb * 1e6),
            clock=plan.clock,
        )
    )


def _hosts(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.configuration import load
    from coldframe.daemon.host import HostSettings, run_hosts
    from coldframe.daemon.lab_checks import lab_limits

    lab = load(plan.lab_file).lab
    classes = lab.drivers()
    if plan.guard.simulated:
        _stand_in()
    return run_hosts(
        [
            HostSettings(
                name=name,
                driver=classes[name],
                address=plan.addresses[name],
                guard=plan.inner("guard"),
                hub=plan.inner("hub"),
                recorder=plan.inner("recorder"),
                model=lab.device[name].model,
                options=lab.device[name].options,
                polls=lab.device[name].poll,
                limits=lab_limits(lab.device[name], classes[name]),
                simulated=plan.guard.simulated,
                clock=plan.clock,
            )
            for name in rest
        ]
    )


def _stand_in() -> None:
    """Where an instrument has no wire, its vendor's calls are imitated: drivers import no
    simulator, so whoever starts them puts the stand-in there."""
    from coldframe.drivers.pyjem import PyJem
    from coldframe.simulators import pyjem_calls

    PyJem.calls = staticmethod(pyjem_calls.tem3)


def _runner(plan: Plan, rest: list[str]) -> int:
    from coldframe.daemon.runner import run_protocol

    run_id, protocol, arguments = rest
    return run_protocol(plan, run_id, protocol, json.loads(arguments))


PROCESSES: dict[str, Main] = {
    "guard": _guard,
    "lasthand": _lasthand,
    "hub": _hub,
    "recorder": _recorder,
    "hosts": _hosts,
    "runner": _runner,
}
NAMES = (*PROCESSES, SIMULATORS)
