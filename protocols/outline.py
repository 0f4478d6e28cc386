"""The outline of a dark particle on a brighter support, as a polygon: its area, and how sure.

The polygon is what a person would draw around the particle, coating included, as in the source
(docs/explanation/sources.md, "Operando biasing"). It is found along rays from the particle's
centre: where the smoothed image crosses half-way between support and particle. Rays that something
else shadows (the needle) stand out from their neighbours and are bridged. Pure numpy; works on
electrons counted per pixel.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RAYS = 120
RIM_SIGMA = 0.3  # px: how well the rim is known on frames of known outline (tests)
MIN_CONTRAST = 6.0  # standard errors between inside and outside; below it there is nothing to see


class Outline(NamedTuple):
    """A polygon around a particle."""

    area: float  # px²
    sigma: float  # px², standard uncertainty of the area from the scatter of the rays and the rim
    centre: tuple[float, float]  # px, (row, column)
    polygon: Floats  # (RAYS, 2) px, (row, column)


def find_outline(image: npt.NDArray[Any], smooth: float = 1.5) -> Outline | None:
    """The outline in one frame `(rows, columns)` of counts, or None when no particle shows.

    `smooth` is the Gaussian blur (px) before the edge is looked for; raise it for fewer electrons.
    """
    counts = np.asarray(image, dtype=float)
    soft = _blur(counts, smooth)
    rough = _blur(counts, 4.0)
    background = float(np.median(rough))
    level = _half_way(rough, background)
    if level is None:
        return None
    centre = _centre(rough < level)
    if centre is None:
        return None
    radii = _radii(soft, centre, level)
    for _ in range(2):  # the centre moves to the middle of what the rays find
        if radii is None:
            return None
        y, x = _polygon(centre, radii).mean(axis=0)
        centre = (float(y), float(x))
        radii = _radii(soft, centre, level)
    if radii is None:
        return None
    radii = radii + _rim(counts, centre, radii)
    polygon = _polygon(centre, radii)
    area = _area(polygon)
    if not _stands_out(counts, centre, np.sqrt(area / np.pi)):
        return None
    scatter = float(np.std(radii - _smooth_ring(radii))) / np.sqrt(RAYS / 4)  # blur joins rays
    sigma = 2 * np.pi * float(radii.mean()) * float(np.hypot(scatter, RIM_SIGMA))
    return Outline(area, sigma, centre, polygon)


def _half_way(rough: Floats, background: float) -> float | None:
    """Half-way between the support and the particle, by the two means that split best (Otsu)."""
    low, high = float(rough.min()), background
    if not high > low:
        return None
    for _ in range(20):
        level = (low + high) / 2
        dark = rough[rough < level]
        if dark.size == 0:
            return None
        low, high = float(np.median(dark)), float(np.median(rough[rough >= level]))
    return (low + high) / 2


def _centre(mask: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    """The middle of the dark patch nearest the middle of the image, found by shrinking windows."""
    rows, columns = mask.shape
    y, x = np.mgrid[:rows, :columns].astype(float)
    cy, cx, reach = (rows - 1) / 2, (columns - 1) / 2, float(min(rows, columns)) / 2
    for _ in range(6):
        near = mask & (np.hypot(y - cy, x - cx) < reach)
        if not near.any():
            return None
        cy, cx = float(np.median(y[near])), float(np.median(x[near]))
        reach = max(1.3 * np.sqrt(near.sum() / np.pi), 8.0)
    return cy, cx


def _radii(soft: Floats, centre: tuple[float, float], level: float) -> Floats | None:
    """Where each ray leaves the particle, in px; shadowed rays bridged."""
    rows, columns = soft.shape
    reach = min(centre[0], centre[1], rows - 1 - centre[0], columns - 1 - centre[1]) - 1
    if reach < 5:
        return None
    steps = np.arange(0, reach, 0.25)
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    y = centre[0] + np.outer(np.sin(angles), steps)
    x = centre[1] + np.outer(np.cos(angles), steps)
    profile = _bilinear(soft, y, x)
    # neighbours share an edge: averaging over some degrees halves the noise and bends nothing
    profile = (np.roll(profile, 1, axis=0) + profile + np.roll(profile, -1, axis=0)) / 3
    outside = profile >= level
    # the edge is where "dark before, bright after" is true for most samples of the ray
    right = np.cumsum(~outside, axis=1) + outside.sum(axis=1, keepdims=True)
    right = right - np.cumsum(outside, axis=1)
    edge = np.argmax(right, axis=1)
    found = edge < len(steps) - 4
    if found.sum() < RAYS * 0.6:
        return None
    radii = steps[edge]
    middle = float(np.median(radii[found]))
    found &= np.abs(radii - middle) < 0.25 * middle
    for _ in range(2):  # neighbours agree; what does not is a shadow
        if found.sum() < RAYS * 0.5:
            return None
        radii = np.interp(angles, angles[found], radii[found], period=2 * np.pi)
        ring = _smooth_ring(radii)
        found &= np.abs(radii - ring) < max(3 * float(np.std(radii - ring)), 1.0)
    return np.asarray(_crossing(profile, level, edge, radii, found, steps))


def _crossing(
    profile: Floats,
    level: float,
    edge: npt.NDArray[np.intp],
    radii: Floats,
    found: npt.NDArray[np.bool_],
    steps: Floats,
) -> Floats:
    """The crossing between two samples, to a fraction of them."""
    fine = radii.copy()
    for ray in np.flatnonzero(found):
        k = int(edge[ray])
        before, after = profile[ray, k], profile[ray, min(k + 1, len(steps) - 1)]
        if after > level >= before:
            fine[ray] = steps[k] + (level - before) / (after - before) * (steps[1] - steps[0])
    return fine


def _rim(counts: Floats, centre: tuple[float, float], radii: Floats) -> float:
    """How far outside the half-way line the particle's rim stands, in px.

    A coating is brighter than its core, so half-way lies inside the rim. Averaged along the whole
    outline the unblurred profile has hardly any noise: its outermost steep step is the rim.
    """
    offsets = np.arange(-8, 8.01, 0.25)
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    reach = radii[:, None] + offsets
    y = centre[0] + np.sin(angles)[:, None] * reach
    x = centre[1] + np.cos(angles)[:, None] * reach
    profile = np.median(_bilinear(counts, y, x).reshape(12, -1, len(offsets)).mean(1), axis=0)
    slope = np.convolve(np.gradient(profile), np.ones(5) / 5, mode="same")
    slope[:5] = slope[-5:] = 0  # the ends of a convolution say nothing
    peaks = [
        k
        for k in range(1, len(slope) - 1)
        if slope[k] >= slope[k - 1] and slope[k] > slope[k + 1] and slope[k] > 0.4 * slope.max()
    ]
    if not peaks:
        return 0.0
    k = peaks[-1]
    bend = slope[k - 1] - 2 * slope[k] + slope[k + 1]
    fraction = 0.5 * (slope[k - 1] - slope[k + 1]) / bend if bend else 0.0
    return float(offsets[k] + fraction * 0.25)


def _stands_out(counts: Floats, centre: tuple[float, float], radius: float) -> bool:
    """Is the inside darker than the ring around it by more than chance?"""
    y, x = np.ogrid[: counts.shape[0], : counts.shape[1]]
    distance = np.hypot(y - centre[0], x - centre[1])
    inside = counts[distance < 0.9 * radius]
    outside = counts[(distance > 1.1 * radius) & (distance < 1.5 * radius)]
    if inside.size < 20 or outside.size < 20:
        return False
    error = np.sqrt(inside.var() / inside.size + outside.var() / outside.size)
    contrast = outside.mean() - inside.mean()
    return bool(contrast > MIN_CONTRAST * error and contrast > 0.1 * outside.mean())


def _polygon(centre: tuple[float, float], radii: Floats) -> Floats:
    angles = np.arange(RAYS) * 2 * np.pi / RAYS
    return np.stack(
        [centre[0] + radii * np.sin(angles), centre[1] + radii * np.cos(angles)], axis=1
    )


def _area(polygon: Floats) -> float:
    """Shoelace."""
    y, x = polygon[:, 0], polygon[:, 1]
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _smooth_ring(radii: Floats) -> Floats:
    """The first five harmonics of a ring of radii."""
    spectrum = np.fft.rfft(radii)
    spectrum[6:] = 0
    return np.fft.irfft(spectrum, len(radii))


def _blur(image: Floats, sigma: float) -> Floats:
    """Gaussian blur, edges repeated."""
    half = max(1, round(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(image, half, mode="edge")
    rows = np.apply_along_axis(np.convolve, 1, padded, kernel, mode="valid")
    return np.asarray(np.apply_along_axis(np.convolve, 0, rows, kernel, mode="valid"))


def _bilinear(image: Floats, y: Floats, x: Floats) -> Floats:
    row, column = np.floor(y).astype(int), np.floor(x).astype(int)
    row = np.clip(row, 0, image.shape[0] - 2)
    column = np.clip(column, 0, image.shape[1] - 2)
    fy, fx = y - row, x - column
    top = image[row, column] * (1 - fx) + image[row, column + 1] * fx
    bottom = image[row + 1, column] * (1 - fx) + image[row + 1, column + 1] * fx
    return np.asarray(top * (1 - fy) + bottom * fy)
