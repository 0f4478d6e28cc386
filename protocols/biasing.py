"""Operando biasing: approach a particle with a needle, verify contact, bias it, watch it swell.

Numbers: docs/explanation/sources.md, "Operando biasing". The contact of a single particle cannot be
tested electrically within its charge budget, so the evidence is the image's contrast and a named
person. The polarity is explicit: `voltage_V` is the particle (silicon) against lithium, and
lithiation needs it negative. The stop is the area's plateau, the dose budget (guard) or the time
limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from coldframe.client import Lab
from coldframe.errors import NotReady
from coldframe.protocols.outline import Outline, find_outline
from coldframe.protocols.procedure import Report, Result, procedure

CONTACT_DARKENING = 0.04  # relative; half of what a touched particle darkens
NO_FRAMES = 30.0  # s without a frame: the camera has stopped
STILL = 8  # readings of `moving` in a row: longer than the guard's settling time
PLATEAU_WINDOW = 15.0  # s
PLATEAU_SLOPE = 3e-4  # 1/s of A/A0: a fifth of the slower of the two growths as published


class Seen(NamedTuple):
    """What one frame says of the particle."""

    t: float  # lab s
    area: float  # px²
    sigma: float  # px²
    brightness: float  # inside over outside


@procedure
def approach(
    lab: Lab,
    report: Report,
    *,
    operator: str,
    needle: str = "needle",
    camera: str = "camera",
    axis: int = 3,
    steps: int = 200,
) -> Result:
    """Step the needle to the particle until the image shows contact; `operator` confirms it.

    The bias stays at open circuit throughout. Raises `NotReady` after `steps` without contact.
    """
    views = _views(lab, camera)
    baseline = float(np.median([next(views).brightness for _ in range(5)]))
    for count in range(steps):
        lab.call(f"{needle}.step", axis=axis, steps=1)
        seen = next(views), next(views)
        darker = [1 - view.brightness / baseline for view in seen]
        report(None, f"step {count + 1}: image {-100 * darker[-1]:+.1f} %")
        if min(darker) > CONTACT_DARKENING:
            lab.call(f"{needle}.stop")
            _stand_still(lab, needle)
            evidence = f"image contrast {-100 * min(darker):+.1f} %, electrical: none"
            lab.call("guard.confirm_contact", evidence=evidence, person=operator)
            return {"steps": count + 1, "evidence": evidence}
    lab.call(f"{needle}.stop")
    raise NotReady(f"{needle}: no contact in the image after {steps} steps: look at the particle")


@procedure
def operando_biasing(
    lab: Lab,
    report: Report,
    *,
    voltage_V: float = -2.0,
    current_limit_A: float = 1e-7,
    limit_s: float = 220.0,
    least_s: float = 60.0,
    bias: str = "bias",
    camera: str = "camera",
) -> Result:
    """Bias the touched particle until its outline stops growing; ends at open circuit.

    Returns A/A0 with its standard uncertainty, the time to the plateau and the frames used. Raises
    `NotReady` when the bias went off meanwhile: what then stops growing is no plateau.
    """
    views = _views(lab, camera)
    before = [next(views) for _ in range(8)]
    first = float(np.mean([view.area for view in before]))
    lab.set(f"{bias}.current_limit", current_limit_A)
    lab.set(f"{bias}.level", voltage_V)
    lab.call(f"{bias}.output_on")
    start = before[-1].t
    seen: list[Seen] = []
    try:
        for view in views:
            seen.append(view)
            elapsed = view.t - start
            if lab.get(f"{bias}.output", fresh=True) is not True:
                raise NotReady(
                    f"{bias}.output went off within {elapsed:.0f} s, at A/A0 "
                    f"{view.area / first:.3f}: no plateau was measured. Look at what "
                    "tripped, and begin with a new particle"
                )
            report(min(elapsed / limit_s, 1.0), f"A/A0 {view.area / first:.3f}, {elapsed:.0f} s")
            if elapsed > limit_s or (elapsed > least_s and _still(seen, first)):
                break
    finally:
        lab.call(f"{bias}.output_off")
    end = [view for view in seen if view.t > seen[-1].t - PLATEAU_WINDOW / 2]
    last = float(np.mean([view.area for view in end]))
    # the rim's uncertainty is common to all frames: it does not average out
    sigma = float(np.hypot(before[0].sigma / first, end[0].sigma / last)) * last / first
    return {
        "area_ratio": last / first,
        "area_ratio_sigma": sigma,
        "seconds": seen[-1].t - start,
        "frames": len(seen),
        "voltage_V": voltage_V,
    }


def _stand_still(lab: Lab, needle: str) -> None:
    """Wait until the needle has said a few times in a row that it does not move."""
    quiet = 0
    for reading in lab.watch(f"{needle}.moving", timeout=10.0):
        quiet = quiet + 1 if reading.value is False else 0
        if quiet > STILL:
            return


def _still(seen: list[Seen], first: float) -> bool:
    recent = [view for view in seen if view.t > seen[-1].t - PLATEAU_WINDOW]
    if len(recent) < 8:
        return False
    t = np.array([view.t for view in recent])
    ratio = np.array([view.area for view in recent]) / first
    slope = np.polyfit(t - t[0], ratio, 1)[0]
    return bool(slope < PLATEAU_SLOPE)


def _views(lab: Lab, camera: str) -> Iterator[Seen]:
    """What each frame says, as long as the particle can be seen."""
    missed = 0
    for image, header in lab.frames(camera, timeout=NO_FRAMES):
        outline = find_outline(image)
        if outline is None:
            missed += 1
            if missed > 20:
                raise NotReady(f"{camera}: 20 frames without a particle: is the beam on it?")
            continue
        missed = 0
        inside = _brightness(image, outline)
        yield Seen(int(header.t_ns) / 1e9, outline.area, outline.sigma, inside)


def _brightness(image: npt.NDArray[Any], outline: Outline) -> float:
    """Mean inside over mean in a ring around the outline."""
    radius = (outline.area / np.pi) ** 0.5
    y, x = np.ogrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(y - outline.centre[0], x - outline.centre[1])
    inside = image[distance < 0.8 * radius].mean()
    around = image[(distance > 1.15 * radius) & (distance < 1.6 * radius)].mean()
    return float(inside / around)
