"""Reads a session along while it is written: only h5py, nothing of ours. A line in, a line out."""

import json
import sys

import h5py

with h5py.File(sys.argv[1], "r", swmr=True) as file:
    data = file["entry/camera/data"]
    value = file["entry/logs/stage.temperature/value"]
    for _ in sys.stdin:
        data.refresh()
        value.refresh()
        seen = [len(data), int(data[-1].sum()), float(value[-1])]
        print(json.dumps(seen), flush=True)
