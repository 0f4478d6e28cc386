"""The runner: one process for one procedure, a client like any other.

It outlives whoever asked for it. What it says goes out as events of `run.PROTOCOL`: `begun`,
`progress`, then `done` with what was measured or `failed` with the error. It touches no instrument
itself: everything it asks passes the guard.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import structlog
import zmq

import coldframe
from coldframe.client import Lab
from coldframe.clock import NS, open_clock
from coldframe.daemon.lanes import dealer
from coldframe.daemon.plan import Plan
from coldframe.daemon.stamps import Stamps
from coldframe.errors import ColdframeError
from coldframe.protocols.catalogue import check_arguments, find
from coldframe.runs import PEER

log = structlog.get_logger()
EVERY = 0.1  # s between two reports of progress


class Stopped(ColdframeError):
    """The run was told to end."""


def run_protocol(plan: Plan, run_id: str, protocol: str, arguments: dict[str, Any]) -> int:
    """Run `protocol`; 0 when it is done, 1 when it failed and said why."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped("told to stop")

    with open_clock(plan.clock) as clock, zmq.Context() as context:
        stamps = Stamps(PEER, clock, plan.guard.simulated)
        socket = dealer(context, PEER, plan.inner("hub"))
        next_report = 0

        def say(kind: str, text: str, **details: Any) -> None:
            name = f"{PEER}.{protocol}"
            socket.send_multipart(stamps.event(kind, text, name=name, run=run_id, **details))

        def report(fraction: float | None, words: str) -> None:
            nonlocal next_report
            if clock.mono_ns() >= next_report:
                next_report = clock.mono_ns() + round(EVERY * NS)
                say("progress", words, fraction=fraction)

        signal.signal(signal.SIGTERM, stop)
        try:
            with coldframe.connect(plan.tcp(plan.hub)) as lab:
                function = find(protocol)
                checked = check_arguments(function, arguments)
                said = " ".join(f"{key}={value}" for key, value in checked.items())
                plan_words = f"{protocol} {said}".strip()
                say("begun", plan_words)
                _into_session(lab, f"begun: {plan_words}", run=run_id, arguments=checked)
                result = function(lab, report, **checked)
                _into_session(lab, f"done: {protocol}", run=run_id, result=result)
            say("done", f"{protocol}: done", result=result)
            return 0
        except ColdframeError as error:
            say("failed", str(error), error=error.kind)
            log.error("run failed", protocol=protocol, error=str(error))
            return 1
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            socket.close(linger=1000)


def _into_session(lab: Lab, text: str, **details: Any) -> None:
    """What was asked and what came of it belong into the file, where one is being written."""
    if lab.command("record", "status")["recording"]:
        lab.note(text, **details)
