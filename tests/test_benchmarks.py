"""The benchmarks run, and compare what they say they compare."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_a_benchmark_prints_ours_its_reference_and_their_ratio() -> None:
    command = [sys.executable, "-m", "benchmarks", "messages", "--json"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)

    for result in json.loads(done.stdout):
        ours, theirs = (
            float(result[key].split("/s")[0].replace(",", "")) for key in ("ours", "reference")
        )
        assert 0.2 < result["ratio"] / (ours / theirs) < 5  # medians of rates and of ratios differ


def test_an_unknown_benchmark_is_refused_with_the_list() -> None:
    command = [sys.executable, "-m", "benchmarks", "speed"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "messages, frames" in done.stderr
