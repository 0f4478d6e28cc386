"""What HyperSpy and LiberTEM see in a long session, in numbers small enough for a line of JSON."""

import json
import sys
import warnings

import hyperspy.api as hs
from libertem.api import Context
from libertem.udf.sum import SumUDF

path = sys.argv[1]
warnings.simplefilter("ignore")
camera = hs.load(path, use_default=True)
with Context.make_with("inline") as context:
    dataset = context.load("hdf5", path=path, ds_path="entry/camera/data")
    total = context.run_udf(dataset, SumUDF())["intensity"].data
print(
    json.dumps(
        {
            "title": str(camera.metadata.General.title),
            "shape": list(camera.data.shape),
            "first": int(camera.data[0].sum()),
            "last": int(camera.data[-1].sum()),
            "libertem": float(total.sum()),
            "time_unit": str(camera.axes_manager[0].units),
        }
    )
)
