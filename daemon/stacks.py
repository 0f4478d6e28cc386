"""The growing streams of a session file: logs of readings, and stacks of frames or spectra."""

from __future__ import annotations

import h5py
import numpy as np

from coldframe.daemon.chunks import Chunk
from coldframe.daemon.columns import ARRAY_COLUMNS, LOG_COLUMNS, Rows
from coldframe.messages import StreamInfo


class Log:
    """The readings of one parameter."""

    def __init__(self, group: h5py.Group, name: str, kind: str, unit: str):
        self.path, self.name, self.kind, self.unit = group.name, name, kind, unit
        self.rows = Rows(group, LOG_COLUMNS)

    def bind(self, file: h5py.File) -> None:
        self.rows.bind(file[self.path])


class Stack:
    """The arrays of one stream: a chunk each."""

    def __init__(self, group: h5py.Group, name: str, info: StreamInfo):
        self.path, self.name, self.unit = group.name, name, info.unit
        self.dtype, self.shape = np.dtype(info.dtype), tuple(info.shape)
        self.nbytes = int(np.prod(self.shape)) * self.dtype.itemsize
        self.rows = Rows(group, ARRAY_COLUMNS)
        self.data: h5py.Dataset = group["data"]
        self._doubtful = False

    def bind(self, file: h5py.File) -> None:
        self.rows.bind(file[self.path])
        self.data = file[self.path]["data"]

    def write(self, chunk: Chunk) -> None:
        """The next chunk. Direct: the frame is not copied, the filters do not run again."""
        if self._doubtful:
            file = self.data.file
            self.data.id._close()
            self.data = file[self.path]["data"]
        index = self.rows.count
        # until it succeeds: after a failed write HDF5 takes the chunk for indexed, which it is not,
        # and only a dataset opened anew knows better
        self._doubtful = True
        self.data.id.set_extent((index + 1, *self.shape))
        self.data.id.write_direct_chunk((index, *[0] * len(self.shape)), chunk.data, chunk.mask)
        self._doubtful = False
