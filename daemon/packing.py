"""The journal on its way into a closed file: every line as it is, and tables for people to read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from coldframe.daemon.session_journal import Line, parse, read
from coldframe.messages import Event, header_of, stream_kind

EVENTS, GAPS = "entry/control/events", "entry/control/gaps"
JOURNAL = f"{EVENTS}/journal"
_BLOCK = 1000  # lines in memory at once
_TEXT = h5py.string_dtype("utf-8")
_EVENT_COLUMNS = {"time": "<f8", "source": _TEXT, "kind": _TEXT, "text": _TEXT}
_GAP_COLUMNS = {"stream": _TEXT, "first": "<i8", "count": "<i8", "reason": _TEXT}


def take_in(file: h5py.File, start_ns: int, journal: Path) -> int:
    """Pack `journal` into `file` and say how many lines it had; no empty dataset is left behind."""
    lines, total = read(journal), 0
    while block := list(islice(lines, _BLOCK)):
        total += len(block)
        _extend(file, JOURNAL, _TEXT, block)
        parsed = [parse(line) for line in block]
        _extend_table(file, EVENTS, _EVENT_COLUMNS, list(_events(parsed, start_ns)))
        _extend_table(file, GAPS, _GAP_COLUMNS, list(_gaps(parsed)))
    if "time" in file[EVENTS]:
        file[EVENTS]["time"].attrs["units"] = "s"
    return total


def _events(lines: list[Line], start_ns: int) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        if line.kind == "message" and stream_kind(line.topic) == "event":
            event = header_of(line.topic, line.header)
            if isinstance(event, Event):
                seconds = (int(event.t_ns) - start_ns) / 1e9
                yield seconds, event.name, event.kind, event.text


def _gaps(lines: list[Line]) -> Iterator[tuple[Any, ...]]:
    for line in lines:
        if line.kind == "gap":
            gap = line.record
            yield gap["stream"], gap["first"], gap["count"], gap["reason"]


def _extend_table(
    file: h5py.File, path: str, columns: dict[str, Any], rows: list[tuple[Any, ...]]
) -> None:
    if not rows:
        return
    group = file.require_group(path)
    group.attrs["NX_class"] = "NXcollection"
    for (name, dtype), block in zip(columns.items(), zip(*rows, strict=True), strict=True):
        _extend(file, f"{path}/{name}", dtype, list(block))


def _extend(file: h5py.File, path: str, dtype: Any, values: list[Any]) -> None:
    if dtype is _TEXT:
        values = [v.replace("\0", "") if isinstance(v, str) else v for v in values]
        block = np.array(values, dtype=object)
    else:
        block = np.array(values, dtype)
    if path not in file:
        file.create_dataset(path, data=block, dtype=dtype, maxshape=(None,), chunks=(_BLOCK,))
        return
    dataset = file[path]
    dataset.resize(len(dataset) + len(block), axis=0)
    dataset[-len(block) :] = block
