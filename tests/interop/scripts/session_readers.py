"""What HyperSpy, LiberTEM, nexusformat and plain h5py see in a session file, as JSON."""

import json
import sys
import warnings

import h5py
import hyperspy.api as hs
from libertem.api import Context
from libertem.udf.sum import SumUDF
from nexusformat.nexus import nxload

path = sys.argv[1]
warnings.simplefilter("ignore")


def axis(each):
    return {
        "name": str(each.name),
        "units": str(each.units),
        "offset": float(each.offset),
        "scale": float(each.scale),
        "size": int(each.size),
    }


def hyperspy():
    everything = hs.load(path)
    one = hs.load(path, use_default=True)
    images = [each for each in everything if type(each).__name__ == "Signal2D"]
    spectra = [each for each in everything if type(each).__name__ == "Signal1D"]
    camera, eds = images[0], spectra[0]
    return {
        "default": str(one.metadata.General.title),
        "camera": camera.data.tolist(),
        "camera_axes": [axis(each) for each in camera.axes_manager._axes],
        "images": [str(each.metadata.General.title) for each in images],
        "eds": eds.data.tolist(),
        "eds_signal_axis": axis(eds.axes_manager.signal_axes[0]),
        "temperature_unit": str(
            camera.original_metadata["logs"]["stage.temperature"]["value"]["attrs"]["units"]
        ),
    }


def libertem():
    with Context.make_with("inline") as context:
        found = {}
        for kind, more in (("auto", {}), ("hdf5", {"ds_path": "entry/camera/data"})):
            dataset = context.load(kind, path=path, **more)
            total = context.run_udf(dataset, SumUDF())["intensity"].data
            found[kind] = {"shape": list(dataset.shape), "sum": total.tolist()}
        return found


def nexus():
    root = nxload(path)
    default = root.get_default()
    return {
        "default": default.nxname,
        "signal": default.nxsignal.nxvalue.tolist(),
        "axes": [each.nxname for each in default.nxaxes],
        "axis_units": [str(each.attrs["units"]) for each in default.nxaxes],
        "definition": str(root["entry/definition"].nxvalue),
        "log_class": root["entry/logs/stage.temperature"].nxclass,
        "log": root["entry/logs/stage.temperature/value"].nxvalue.tolist(),
    }


def plain():
    with h5py.File(path) as file:
        entry = file[file.attrs["default"]]
        data = entry[entry.attrs["default"]]
        log = entry["logs/stage.temperature"]
        return {
            "camera": data[data.attrs["signal"]][()].tolist(),
            "time": data["time"][()].tolist(),
            "log": log["value"][()].tolist(),
            "log_unit": log["value"].attrs["units"],
            "words": [text.decode() for text in entry["logs/stage.words/value"][()]],
            "notes": [text.decode() for text in entry["control/events/text"][()]],
        }


print()
print(json.dumps([hyperspy(), libertem(), nexus(), plain()]))
