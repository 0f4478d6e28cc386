"""LiberTEM-live sets up a Merlin, starts it and takes its frames; prints a hash of each as JSON."""

import hashlib
import json
import sys

import numpy as np
from libertem.udf.base import UDF
from libertem_live.api import LiveContext


class Frames(UDF):
    """Every frame as it is."""

    def get_result_buffers(self):
        shape = tuple(self.meta.dataset_shape.sig)
        return {"frames": self.buffer(kind="nav", extra_shape=shape, dtype="<u2")}

    def process_frame(self, frame):
        self.results.frames[:] = frame


control, data, frames = (int(word) for word in sys.argv[1:4])
with LiveContext.make_with("inline") as context:
    builder = context.make_connection("merlin")
    ports = {"api_port": control, "data_port": data}
    with builder.open(api_host="127.0.0.1", data_host="127.0.0.1", **ports) as connection:
        with connection.control() as detector:
            detector.set("NUMFRAMESTOACQUIRE", frames)
            detector.set("ACQUISITIONTIME", 10)
            detector.cmd("STARTACQUISITION")
        pending = connection.wait_for_acquisition(30)
        shape = (frames // 4, 4)
        acquisition = context.make_acquisition(conn=connection, nav_shape=shape, pending_aq=pending)
        result = context.run_udf(dataset=acquisition, udf=Frames())["frames"].data
flat = result.reshape(-1, *result.shape[-2:]).astype("<u2")
print(json.dumps([hashlib.sha256(np.ascontiguousarray(f).tobytes()).hexdigest() for f in flat]))
