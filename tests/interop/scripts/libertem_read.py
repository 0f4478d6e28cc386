"""LiberTEM reads a Merlin file; prints a hash of every frame's little-endian counts as JSON."""

import hashlib
import json
import sys

import numpy as np
from libertem.api import Context
from libertem.udf.base import UDF


class Frames(UDF):
    """Every frame as it is."""

    def get_result_buffers(self):
        shape = tuple(self.meta.dataset_shape.sig)
        return {"frames": self.buffer(kind="nav", extra_shape=shape, dtype=sys.argv[2])}

    def process_frame(self, frame):
        self.results.frames[:] = frame


with Context.make_with("inline") as context:
    dataset = context.load("mib", path=sys.argv[1])
    frames = context.run_udf(dataset=dataset, udf=Frames())["frames"].data
flat = frames.reshape(-1, *frames.shape[-2:]).astype(sys.argv[2])
print(json.dumps([hashlib.sha256(np.ascontiguousarray(f).tobytes()).hexdigest() for f in flat]))
