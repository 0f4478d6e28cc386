"""What a client hears of a run: begun, progress, and in the end a result or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coldframe.errors import from_wire
from coldframe.messages import Event

PEER = "run"  # events of a run are named run.PROTOCOL
Report = Callable[[float | None, str], None]


def heed(event: Event, run_id: str, report: Report | None) -> dict[str, Any] | None:
    """The result when this event ends the run `run_id`, None while it goes on.

    Progress goes to `report(fraction, words)`; a run that failed raises its own error.
    """
    details: dict[str, Any] = event.details
    if details.get("run") != run_id:
        return None
    if event.kind == "progress" and report is not None:
        report(details.get("fraction"), event.text)
    if event.kind == "failed":
        raise from_wire(str(details.get("error")), event.text)
    return dict(details["result"]) if event.kind == "done" else None
