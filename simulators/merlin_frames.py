"""What a Merlin sends on its data port: the acquisition header, and frames with theirs.

Layout of Medipix3RX with software 0.67, as its receivers read it: text fields separated by commas,
padded with NUL to 384 bytes (one chip) or 768 (four), then big-endian pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import numpy.typing as npt

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # what the detector's PC thinks the world began at
DTYPES = {1: ("U08", ">u1"), 6: ("U08", ">u1"), 12: ("U16", ">u2"), 24: ("U32", ">u4")}
DACS = (100, 255, 100, 125, 100, 100, 82, 100, 87, 30, 128, 4, 255, 129, 128, 176, 168, 511, 511)
ARRANGEMENT = {1: "1x1", 4: "2x2"}


def message(body: bytes) -> bytes:
    """`MPX,` and ten digits of length; the length counts the comma before the body."""
    return b"MPX,%010d," % (len(body) + 1) + body


def acquisition_header(settings: Mapping[str, float], chips: int, now: float) -> bytes:
    """The `HDR,` body that begins an acquisition."""
    stamp = EPOCH + timedelta(seconds=now)
    thresholds = ",".join(f"{settings[f'THRESHOLD{n}']:.6E}" for n in range(8))
    lines = {
        "Time and Date Stamp (day, mnth, yr, hr, min, s)": f"{stamp:%d/%m/%Y %H:%M:%S}",
        "Chip ID": "W529_F5" + ",-,-,-" * (chips == 1),
        "Chip Type (Medipix 3.0, Medipix 3.1, Medipix 3RX)": "Medipix 3RX",
        "Assembly Size (NX1, 2X2)": ARRANGEMENT[chips].upper(),
        "Chip Mode  (SPM, CSM, CM, CSCM)": "CSM" if settings["CHARGESUMMING"] else "SPM",
        "Counter Depth (number)": f"{settings['COUNTERDEPTH']:g}",
        "Gain": ("SLGM", "LGM", "HGM", "SHGM")[int(settings["GAIN"])],
        "Active Counters": "Alternating",
        "Thresholds (keV)": thresholds,
        "Gap Fill Mode": "None",
        "Acquisition Type (Normal, Th_scan, Config)": "Normal",
        "Frames in Acquisition (Number)": f"{settings['NUMFRAMESTOACQUIRE']:.0f}",
        "Frames per Trigger (Number)": f"{settings['NUMFRAMESPERTRIGGER']:.0f}",
        "Trigger Start (Positive, Negative, Internal)": "Internal",
        "Trigger Stop (Positive, Negative, Internal)": "Internal",
        "Sensor Bias (V)": f"{settings['HVBIAS']:g} V",
        "Sensor Polarity (Positive, Negative)": "Positive",
        "Temperature (C)": "Board Temp 37.384918 Deg C",
        "Medipix Clock (MHz)": "120MHz",
        "Readout System": "Merlin Quad",
        "Software Version": "0.67.0.9",
    }
    text = "HDR,\t\r\n" + "".join(f"{key}:\t{value}\r\n" for key, value in lines.items())
    return (text + "End\t").encode("latin-1")


def frame(
    image: npt.NDArray[np.uint16],
    number: int,
    settings: Mapping[str, float],
    chips: int,
    now: float,
) -> bytes:
    """The `MQ1,` body of one frame; a pixel cannot count beyond its counter's depth."""
    depth = int(settings["COUNTERDEPTH"])
    name, dtype = DTYPES[depth]
    exposure_ms = settings["ACQUISITIONTIME"]
    stamp = EPOCH + timedelta(seconds=now)
    rows, columns = image.shape
    size = 384 if chips == 1 else 768
    fields = (
        f"MQ1,{number:06d},{size:05d},{chips:02d},{columns:04d},{rows:04d},{name},"
        f"{ARRANGEMENT[chips]:>6},{(1 << chips) - 1:02X},{stamp:%Y-%m-%d %H:%M:%S.%f},"
        f"{exposure_ms * 1e-3:.6f},{settings['ENABLECOUNTER1']:.0f},{settings['COLOURMODE']:.0f},"
        f"{settings['GAIN']:.0f},"
        + ",".join(f"{settings[f'THRESHOLD{n}']:.6E}" for n in range(8))
        + _chips(chips)
        + f",MQ1A,{stamp:%Y-%m-%dT%H:%M:%S.%f}000Z,{exposure_ms * 1e6:.0f}ns,{depth},"
    )
    pixels = np.minimum(image, np.uint32((1 << depth) - 1)).astype(dtype)
    return fields.encode("ascii").ljust(size, b"\0") + pixels.tobytes()


@cache
def _chips(chips: int) -> str:
    thresholds = ",".join(f"{value:03d}" for value in (175, 511, 0, 0, 0, 0, 0, 0))
    dacs = ",".join(f"{value:03d}" for value in DACS)
    return f",3RX,{thresholds},{dacs}" * chips
