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
from coldframe.errors import ColdframeError, NotReady
from coldframe.protocols.catalogue import check_arguments, find
from coldframe.runs import PEER

log = structlog.get_logger()
EVERY = 0.1  # s between two reports of progress
DONE, FAILED, DEFECT = 0, 3, 4  # exit status of a run that has said how it ended


class Stopped(ColdframeError):
    """The run was told to end."""


def run_protocol(plan: Plan, run_id: str, protocol: str, arguments: dict[str, Any]) -> int:
    """Run `protocol`, and say how it ended."""

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
                try:
                    result = function(lab, report, **checked)
                except ColdframeError as error:
                    _into_session(lab, f"failed: {protocol}: {error}", run=run_id)
                    raise
                _into_session(lab, f"done: {protocol}", run=run_id, result=result)
            say("done", f"{protocol}: done", result=result)
            return DONE
        except ColdframeError as error:
            say("failed", str(error), error=error.kind)
            log.error("run failed", protocol=protocol, error=str(error))
            return FAILED
        except Exception as error:
            say("failed", f"{type(error).__name__}: {error}", error=ColdframeError.__name__)
            log.exception("a defect in a protocol", protocol=protocol)
            return DEFECT
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            socket.close(linger=1000)


def _into_session(lab: Lab, text: str, **details: Any) -> None:
    """What was asked and what came of it belong into the file, where one is being written."""
    try:
        if lab.command("record", "status")["recording"]:
            lab.note(text, **details)
    except NotReady as error:  # an experiment under way does not end because the recorder does
        log.warning("not noted", text=text, error=str(error))


def report_death(plan: Plan, run_id: str, protocol: str, status: int | None) -> None:
    """Say of a run that died without a word that it failed, so that nobody waits for it."""
    with open_clock(plan.clock) as clock, zmq.Context() as context:
        stamps = Stamps(PEER, clock, plan.guard.simulated)
        text = f"{protocol}: its process died (status {status}); everything was made safe"
        event = stamps.event(
            "failed", text, name=f"{PEER}.{protocol}", run=run_id, error=ColdframeError.__name__
        )
        socket = dealer(context, PEER, plan.inner("hub"))
        socket.send_multipart(event)
        socket.close(linger=1000)
