"""The picture of a session: frames, area, V and I, temperature and dose on one time axis.

Lab time in minutes since the session began. A session of hours holds minutes of biasing, so each
interval with the bias on is shown once more, close up, to the right of the whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldframe.daemon.session_data import SessionData
from coldframe.protocols.outline import find_outline
from coldframe.units import ZERO_CELSIUS

Floats = npt.NDArray[np.float64]
MARGIN = 20.0  # s shown before and after an interval with the bias on
FRAMES_SHOWN = 8
LEAST_SPANS = (0.1, 1.0, 2.0, 4.0, 10.0)  # of A/A0, V, pA, °C, e⁻/Å²
AREAS_PER_RUN = 150  # outlines are found in at most so many frames of one interval

BLUE, RED, GREEN, GREY = "#1f5a8c", "#b03a2e", "#2e7d4f", "#666666"


class Trace(NamedTuple):
    """One parameter over lab time."""

    t: Floats  # s
    value: Floats


def draw(session: Path, target: Path) -> Path:
    """Write the PNG of `session` to `target`; returns it."""
    import matplotlib  # slow to import: only who draws waits for it

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with SessionData(session) as data:
        start = data.start
        traces = {
            name: Trace(*data.log(name))
            for name in (
                "stage.temperature",
                "bias.voltage",
                "bias.current",
                "bias.output",
                "beam.dose",
            )
            if data.has_log(name)
        }
        runs = _intervals(traces.get("bias.output"))
        areas = [_areas(data, run) for run in runs]
        thumbnails = _thumbnails(data, runs)
        title = data.title

    columns = 1 + len(runs)
    figure = pyplot.figure(figsize=(4.5 + 3.6 * len(runs), 10.5), layout="constrained")
    rows: Any = figure.subfigures(2, 1, height_ratios=[1, 3.6])
    _draw_frames(rows[0], thumbnails, start)
    axes = rows[1].subplots(
        5, columns, sharex="col", squeeze=False, width_ratios=[1.3] + [1.0] * len(runs)
    )
    for column in range(columns):
        window = (
            None if column == 0 else (runs[column - 1][0] - MARGIN, runs[column - 1][1] + MARGIN)
        )
        _draw_column(axes[:, column], traces, areas, runs, start, window)
    figure.suptitle(f"{title}   (lab time; began {data.start_iso})", fontsize=10)
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
    return target


def _intervals(output: Trace | None) -> list[tuple[float, float]]:
    """When the bias was on, in s."""
    if output is None or len(output.t) < 2:
        return []
    on = output.value > 0.5
    edges = np.flatnonzero(np.diff(on.astype(int)))
    starts = [float(output.t[k + 1]) for k in edges if on[k + 1]]
    ends = [float(output.t[k + 1]) for k in edges if not on[k + 1]]
    if on[-1]:
        ends.append(float(output.t[-1]))
    return [pair for pair in zip(starts, ends, strict=False) if pair[1] - pair[0] > 1.0]


def _areas(data: SessionData, run: tuple[float, float]) -> Trace:
    """A/A0 of the outline around one interval, from the frames in the file."""
    t = data.frame_times("camera")
    chosen = np.flatnonzero((t > run[0] - MARGIN) & (t < run[1] + 1.0))
    chosen = chosen[:: max(1, len(chosen) // AREAS_PER_RUN)]
    found = [(t[k], find_outline(data.frame("camera", int(k)))) for k in chosen]
    seen = [(when, outline.area) for when, outline in found if outline is not None]
    if not seen:
        return Trace(np.empty(0), np.empty(0))
    when = np.array([s[0] for s in seen])
    area = np.array([s[1] for s in seen])
    before = area[when < run[0]]
    return Trace(when, area / (before.mean() if len(before) else area[:3].mean()))


def _thumbnails(
    data: SessionData, runs: list[tuple[float, float]]
) -> list[tuple[float, npt.NDArray[Any]]]:
    """The first frame, and the first, middle and last of each interval."""
    t = data.frame_times("camera")
    if not len(t):
        return []
    wanted = [float(t[len(t) // 50])]
    for begin, end in runs:
        wanted += [begin, (begin + end) / 2, end - 1.0]
    picked = sorted({int(np.argmin(np.abs(t - when))) for when in wanted})[:FRAMES_SHOWN]
    return [(float(t[k]), data.frame("camera", k)) for k in picked]


def _draw_frames(figure: Any, frames: list[tuple[float, npt.NDArray[Any]]], start: float) -> None:
    if not frames:
        return
    for axis, (when, image) in zip(
        figure.subplots(1, len(frames), squeeze=False)[0], frames, strict=True
    ):
        low, high = np.percentile(image, [1, 99])
        axis.imshow(image, cmap="gray", vmin=low, vmax=max(high, low + 1))
        axis.set_title(f"{(when - start) / 60:.1f} min", fontsize=8)
        axis.set_axis_off()


def _draw_column(
    axes: Any,
    traces: dict[str, Trace],
    areas: list[Trace],
    runs: list[tuple[float, float]],
    start: float,
    window: tuple[float, float] | None,
) -> None:
    whole = window is None

    def plot(axis: Any, trace: Trace | None, colour: str, offset: float = 0.0, **how: Any) -> None:
        if trace is None or not len(trace.t):
            return
        keep = slice(None)
        if window is not None:
            keep = (trace.t >= window[0]) & (trace.t <= window[1])  # type: ignore[assignment]
        t = (trace.t[keep] - start) / 60
        axis.plot(t, trace.value[keep] + offset, color=colour, **how)

    for area in areas:
        plot(axes[0], area, BLUE, marker=".", ms=3, lw=0)
    plot(axes[1], traces.get("bias.voltage"), RED, lw=1)
    current = traces.get("bias.current")
    plot(
        axes[2], None if current is None else Trace(current.t, current.value * 1e12), GREEN, lw=0.7
    )
    plot(axes[3], traces.get("stage.temperature"), BLUE, -ZERO_CELSIUS, lw=1.2)
    plot(axes[4], traces.get("beam.dose"), RED, lw=1.2)
    if whole:
        names = ("A/A₀", "V / V", "I / pA", "T / °C", "dose / e⁻ Å⁻²")
        for axis, name in zip(axes, names, strict=True):
            axis.set_ylabel(name)
    for axis, least in zip(axes, LEAST_SPANS, strict=True):
        low, high = axis.get_ylim()
        if high - low < least:  # noise is not to fill the panel
            middle = (low + high) / 2
            axis.set_ylim(middle - least / 2, middle + least / 2)
        axis.ticklabel_format(axis="y", useOffset=False)
        axis.grid(alpha=0.25)
        axis.tick_params(labelsize=8)
        for begin, end in runs:
            axis.axvspan((begin - start) / 60, (end - start) / 60, color=GREY, alpha=0.12, lw=0)
    if window is not None:
        axes[-1].set_xlim((window[0] - start) / 60, (window[1] - start) / 60)
    axes[-1].set_xlabel("lab time / min")
