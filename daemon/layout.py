"""Where everything stands in a session file: NeXus groups, attributes, and the last touches.

Each attribute here is there because some reader needs it: `interpretation` on the group for
HyperSpy and on the dataset for silx, `default` on root and entry, every named axis present, arrays
physically inside their NXdata, a sample named literally `sampleID`.
Source: docs/explanation/sources.md, "What readers need of a session file".
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from coldframe.clock import iso
from coldframe.daemon import metadata as fields_of
from coldframe.daemon.chunks import Compression
from coldframe.daemon.columns import (
    ARRAY_COLUMNS,
    DETAILS_BYTES,
    LOG_COLUMNS,
    ROWS,
    STAMPS,
    VALUE_TYPES,
    column_crc,
    create_column,
)
from coldframe.daemon.packing import EVENTS, take_in
from coldframe.errors import BadRequest
from coldframe.messages import DeviceInfo, StreamInfo

FORMAT = 1  # of the file; a newer Coldframe reads every older one
ENTRY = "entry"
LOGS, INSTRUMENT, CONTROL = "entry/logs", "entry/instrument", "entry/control"
METADATA, SAMPLE = "entry/metadata", "entry/sampleID"
CLOCK, CONFIGURATION = f"{CONTROL}/clock", f"{CONTROL}/configuration"
CLOCK_COLUMNS = ("mono_ns", "lab_ns", "wall_ns", "speed")
RECORDING, CLOSED = "recording", "closed"


def create_entry(file: h5py.File, about: Any) -> None:
    """Everything that is not a stream."""
    start = iso(about.start_ns)
    file.attrs["NX_class"] = "NXroot"
    file.attrs["default"] = ENTRY
    file.attrs["creator"] = f"coldframe {about.software}"
    file.attrs["file_name"] = Path(file.filename).name
    file.attrs["file_time"] = start
    file.attrs["coldframe_format"] = FORMAT
    file.attrs["coldframe_state"] = RECORDING
    entry = _group(file, ENTRY, "NXentry")
    entry.attrs["session"] = about.session
    entry.attrs["start_ns"] = np.int64(about.start_ns)
    entry.attrs["simulated"] = bool(about.simulated)
    entry.attrs["lab"] = about.lab
    entry["definition"] = "NXem"
    entry["definition"].attrs["version"] = "v2026.01"
    entry["title"] = about.title
    entry["start_time"] = start
    entry["program_name"] = "coldframe"
    entry["program_name"].attrs["version"] = about.software
    for path, nx_class in (
        (LOGS, "NXcollection"),
        (INSTRUMENT, "NXinstrument"),
        (CONTROL, "NXcollection"),
        (CLOCK, "NXcollection"),
        (EVENTS, "NXcollection"),
        (CONFIGURATION, "NXnote"),
    ):
        _group(file, path, nx_class)
    for name in CLOCK_COLUMNS:
        dtype, units = (np.dtype("<f8"), "") if name == "speed" else (np.dtype("<i8"), "ns")
        create_column(file[CLOCK], name, dtype, {"units": units})
    text = about.configuration
    note = file[CONFIGURATION]
    note["type"] = "application/toml"
    note["data"] = text.replace("\0", "")
    note["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    _write_metadata(file, about, about.metadata)


def create_device(file: h5py.File, info: DeviceInfo) -> None:
    """What a device says it is; a second time, what it says now."""
    group = file.require_group(f"{INSTRUMENT}/{info.device}")
    group.attrs["NX_class"] = "NXcollection"
    said = {"model": info.model, "role": info.role, "identity": info.identity, "boot": info.boot}
    for name, text in {**said, "description": info.encode().decode()}.items():
        if name in group:
            del group[name]
        group[name] = text.replace("\0", "")


def create_log(
    file: h5py.File, about: Any, name: str, kind: str, unit: str, doc: str
) -> h5py.Group:
    """An NXlog for the readings of one parameter."""
    group = _group(file, f"{LOGS}/{name}", "NXlog")
    group.attrs["stream"], group.attrs["kind"], group.attrs["unit"] = name, kind, unit
    group["description"] = (doc or name).replace("\0", "")
    create_column(
        group, "value", VALUE_TYPES[kind], {"units": unit, "long_name": _long(name, unit)}
    )
    _create_stamps(group, about)
    return group


def check_stream(name: str, info: StreamInfo) -> None:
    """Refuse arrays that a file cannot hold, before anything is created."""
    try:
        dtype = np.dtype(info.dtype)
    except TypeError:
        raise BadRequest(f"{name}: dtype {info.dtype!r} is no type of numbers") from None
    if dtype.kind not in "iufcb" or dtype.str != info.dtype:
        raise BadRequest(
            f"{name}: dtype {info.dtype!r}: say a type of numbers as numpy does, e.g. <u2"
        )
    if not info.shape or min(info.shape) < 1 or len(info.shape) > 4:
        raise BadRequest(f"{name}: arrays of shape {info.shape} cannot be recorded")
    if int(np.prod(info.shape, dtype=object)) * dtype.itemsize >= 2**32:
        raise BadRequest(f"{name}: one array of shape {info.shape} is larger than a chunk may be")


def create_stack(
    file: h5py.File, about: Any, name: str, info: StreamInfo, compression: Compression
) -> h5py.Group:
    """An NXdata for the frames or spectra of one stream."""
    interpretation = "image" if info.kind == "frame" else "spectrum"
    axes = _axes(info)
    group = _group(file, f"{ENTRY}/{_free_name(file[ENTRY], name, info.kind)}", "NXdata")
    group.attrs["stream"], group.attrs["kind"], group.attrs["unit"] = name, info.kind, info.unit
    group.attrs["signal"] = "data"
    group.attrs["axes"] = ["time", *(axis for axis, _, _ in axes)]
    group.attrs["interpretation"] = interpretation
    for index, axis in enumerate(["time", *(axis for axis, _, _ in axes)]):
        group.attrs[f"{axis}_indices"] = np.uint32(index)
    group["title"] = name
    data = _create_data(group, info, compression)
    data.attrs["units"] = info.unit
    data.attrs["long_name"] = _long(name, info.unit)
    data.attrs["interpretation"] = interpretation
    for (axis, step, unit), length in zip(axes, info.shape, strict=True):
        group[axis] = np.arange(length, dtype="<f8") * step
        group[axis].attrs["units"] = unit
        group[axis].attrs["long_name"] = _long(axis, unit)
    _create_stamps(group, about)
    text = h5py.string_dtype("utf-8", DETAILS_BYTES)
    create_column(group, "details", text, {"description": "what else each header said, as JSON"})
    create_column(group, "crc", np.dtype("<u4"), {"description": "CRC-32 of each stored chunk"})
    _choose_default(file[ENTRY])
    return group


def _choose_default(entry: h5py.Group) -> None:
    """What a reader shows that is asked for one thing: images first, whoever came first."""
    stacks = [n for n, g in entry.items() if g.attrs.get("NX_class") == "NXdata"]
    chosen = entry.attrs.get("default")
    best = sorted(stacks, key=lambda n: (entry[n].attrs["kind"] != "frame", n != chosen))
    if best:
        entry.attrs["default"] = best[0]
    else:
        entry.attrs.pop("default", None)


def finish(
    file: h5py.File,
    about: Any,
    end_ns: int,
    metadata: fields_of.Given,
    reason: str,
    columns: dict[str, Any],
    journal: Path,
) -> None:
    """The last touches, when nobody can append any more."""
    for path, of_stream in columns.items():
        _trim_or_prune(file, path, of_stream)
    entry = file[ENTRY]
    _choose_default(entry)
    for empty in [n for n in (LOGS,) if not len(file[n])]:
        del file[empty]
    if CLOCK in file and not len(file[CLOCK]["mono_ns"]):
        del file[CLOCK]
    del file[METADATA], file[SAMPLE]
    _write_metadata(file, about, metadata)
    entry.attrs["journal_lines"] = np.int64(take_in(file, about.start_ns, journal))
    entry["end_time"] = iso(end_ns)
    entry.attrs["end_ns"] = np.int64(end_ns)
    entry.attrs["ended"] = reason
    file.attrs["coldframe_state"] = CLOSED


# ---- inside -------------------------------------------------------------------------------


def _group(file: h5py.File, path: str, nx_class: str) -> h5py.Group:
    group = file.create_group(path)
    group.attrs["NX_class"] = nx_class
    return group


def _long(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _create_stamps(group: h5py.Group, about: Any) -> None:
    for name, (dtype, attributes) in STAMPS.items():
        start = {"start": iso(about.start_ns)} if name == "time" else {}
        create_column(group, name, dtype, attributes | start)


def _create_data(group: h5py.Group, info: StreamInfo, compression: Compression) -> h5py.Dataset:
    shape = tuple(info.shape)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((1, *shape))
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # else each new chunk is written twice
    if compression == "portable":
        creation.set_shuffle()
        creation.set_deflate(1)
    space = h5py.h5s.create_simple((0, *shape), (h5py.h5s.UNLIMITED, *shape))
    dtype = h5py.h5t.py_create(np.dtype(info.dtype), logical=True)
    return h5py.Dataset(h5py.h5d.create(group.id, b"data", dtype, space, creation))


def _axes(info: StreamInfo) -> list[tuple[str, float, str]]:
    """Name, step and unit of each axis; declared as `energy_eV`, or counted in pixels."""
    plain = {"frame": ["y", "x"], "spectrum": ["energy"]}[info.kind]
    names = [f"axis{index}" for index in range(len(info.shape) - len(plain))] + plain
    axes = [(name, 1.0, "px") for name in names[-len(info.shape) :]]
    for position, (key, step) in enumerate(info.axes.items()):
        name, _, unit = key.partition("_")
        known = [index for index, axis in enumerate(axes) if axis[0] == name]
        index = known[0] if known else position
        if index < len(axes) and name.isidentifier() and name not in (*ARRAY_COLUMNS, "data"):
            axes[index] = (name, step, unit)
    return axes


def _free_name(entry: h5py.Group, name: str, kind: str) -> str:
    """A name for the group of a stream, no beginning of another's (readers match substrings)."""
    taken = list(entry)
    candidates = [name, f"{name}_{kind}", *(f"{kind}{n}_{name}" for n in range(2, 1000))]
    stacks = [n for n in taken if entry[n].attrs.get("NX_class") == "NXdata"]
    for candidate in candidates:
        clash = any(candidate.startswith(n) or n.startswith(candidate) for n in stacks)
        if candidate not in taken and not clash:
            return candidate
    return next(c for c in candidates if c not in taken)


def _trim_or_prune(file: h5py.File, path: str, columns: dict[str, Any]) -> None:
    """Cut a stream to its shortest part, note each column's CRC; an unused stream goes."""
    group = file[path]
    is_log = "value" in group
    parts = [group[name] for name in (LOG_COLUMNS if is_log else (*ARRAY_COLUMNS, "data"))]
    length = min(len(part) for part in parts)
    if length == 0:
        del file[path]
        return
    whole = len({len(part) for part in parts}) == 1
    for part in parts:
        part.resize(length, axis=0)
    for name, column in columns.items():
        if h5py.check_string_dtype(group[name].dtype):
            group[name].attrs["crc32"] = np.uint32(_free_length(group, name))
        elif whole:
            group[name].attrs["crc32"] = np.uint32(column.crc)


def _free_length(group: h5py.Group, name: str) -> int:
    """Make a column of fixed-length text one of variable length (HyperSpy loads no file that has
    the former, SWMR readers see nothing of the latter); returns its CRC."""
    old, crc = group[name], 0
    text = h5py.string_dtype("utf-8")
    new = group.create_dataset(f"{name}~", old.shape, text, maxshape=(None,), chunks=(ROWS,))
    for start in range(0, len(old), ROWS):
        block = old[start : start + ROWS]
        new[start : start + ROWS] = block.astype(object)
        crc = column_crc(new[start : start + ROWS], crc)
    for key, value in old.attrs.items():
        new.attrs[key] = value
    del group[name]
    group.move(f"{name}~", name)
    return crc


def _write_metadata(file: h5py.File, about: Any, given: fields_of.Given) -> None:
    """The mandatory fields, and the sample where NXem looks for it."""
    complete = fields_of.complete(given)
    for section, values in complete.items():
        group = _group(file, f"{METADATA}/{section}", "NXcollection")
        for name, value in values.items():
            group[name] = value
    file[METADATA].attrs["NX_class"] = "NXcollection"
    sample = _group(file, SAMPLE, "NXsample")
    sample["name"] = str(complete["sample"]["id"])
    sample["is_simulation"] = bool(about.simulated)
    for name in ("preparation_date", "atom_types"):
        sample[name] = str(complete["sample"][name])
