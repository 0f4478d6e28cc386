"""The one reader of session files, as a command line or a page uses it: open, info, verify."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from coldframe.clock import iso
from coldframe.daemon import layout
from coldframe.daemon.session import Message, Session, Stream
from coldframe.daemon.session_check import Problem, verify
from coldframe.daemon.session_journal import parse
from coldframe.messages import Event, header_of, stream_kind

__all__ = ["Message", "Problem", "Session", "Stream", "info", "verify"]


def info(path: Path | str) -> dict[str, Any]:
    """What a file is and holds, as plain data for a command line or a page."""
    with Session(path) as session:
        entry = session.entry
        notes, events = [], 0
        for line in map(parse, session.journal()):
            if line.kind == "message" and stream_kind(line.topic) == "event":
                events += 1
                header = header_of(line.topic, line.header)
                if isinstance(header, Event) and header.kind == "note":
                    notes.append({"t": iso(int(header.t_ns)), "text": header.text})
        return {
            "file": str(session.path),
            "bytes": os.path.getsize(session.path),
            "state": "closed" if session.closed else "live or interrupted",
            "session": session.session,
            "title": session.text(f"{layout.ENTRY}/title"),
            "lab": str(entry.attrs["lab"]),
            "simulated": session.simulated,
            "start": iso(session.start_ns),
            "end": iso(int(entry.attrs["end_ns"])) if session.closed else None,
            "ended": str(entry.attrs["ended"]) if session.closed else None,
            "software": str(session.file.attrs["creator"]),
            "configuration_sha256": session.text(f"{layout.CONFIGURATION}/sha256"),
            "streams": [_describe(stream) for stream in session.streams()],
            "devices": {d.device: f"{d.model}, {d.identity}" for d in session.devices()},
            "events": events,
            "notes": notes,
            "gaps": [line.record for line in session.records("gap")],
            "metadata": session.metadata(),
        }


def _describe(stream: Stream) -> dict[str, Any]:
    group, length = stream.group, len(stream)
    described: dict[str, Any] = {
        "kind": stream.kind,
        "name": stream.name,
        "unit": str(group.attrs["unit"]),
        "count": length,
        "path": group.name,
    }
    if length:
        described["from_s"], described["to_s"] = (
            float(group["time"][0]),
            float(group["time"][length - 1]),
        )
    if stream.kind != "reading":
        described["shape"] = list(group["data"].shape)
        described["dtype"] = group["data"].dtype.str
        described["stored_bytes"] = int(group["data"].id.get_storage_size())
    return described
