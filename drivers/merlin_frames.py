"""The data socket of a Merlin, read by a thread of its own into a bounded queue.

When the queue is full the thread stops reading: the network stops the detector, and what the
detector itself must drop is seen as a gap in its numbers. Nothing is dropped here. A message that
broke off is never taken for a frame; the thread finds the beginning of the next one and goes on.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections import deque

from coldframe.drivers.base import Sample
from coldframe.drivers.merlin_wire import PREFIX, cut_at, decode_frame, layout_of, length_of
from coldframe.errors import ColdframeError, Disconnected, Garbled

QUIET = 0.25  # s: a sender that began a message would have gone on by then
GARBAGE_LIMIT = 1 << 20  # bytes without a message in them, and the link is given up


class _Closed(Exception):
    """The socket ended, by us or by the detector."""


class FrameReader:
    """Frames of one connection, in the order in which they came."""

    def __init__(self, host: str, port: int, shape: tuple[int, int], dtype: str, queue: int):
        self.name = f"tcp://{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), 2.0)
        except OSError as error:
            raise Disconnected(f"{self.name}: {error.strerror or error}") from None
        self._socket.settimeout(None)
        self._shape, self._dtype, self._room = shape, dtype, queue
        self._samples: deque[Sample] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._error: ColdframeError | None = None
        self._buffer = bytearray()  # bytes read beyond the message they were read for
        self._since_message = 0
        self.acquisitions = 0  # HDR messages seen
        self.received = 0  # frames
        self.lost = 0  # frames missing in the detector's numbers
        self.garbled = 0  # bytes that belonged to no whole message
        self._last: int | None = None  # unknown when we come in the middle of an acquisition
        self._thread = threading.Thread(target=self._run, name=f"frames {self.name}", daemon=True)
        self._thread.start()

    def take(self) -> list[Sample]:
        """All frames that wait; after the last one, raises what ended the stream."""
        with self._changed:
            samples = list(self._samples)
            self._samples.clear()
            self._changed.notify_all()
            if not samples and self._error is not None:
                raise self._error
        return samples

    def queued(self) -> int:
        """Frames that wait to be taken."""
        return len(self._samples)

    def await_header(self, seen: int, timeout: float) -> bool:
        """Wait until more than `seen` acquisitions have begun."""
        with self._changed:
            return self._changed.wait_for(lambda: self.acquisitions > seen, timeout)

    def close(self) -> None:
        """Stop the thread; frames not taken are gone with it."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was closed from the other end
        self._thread.join(5)
        self._socket.close()

    # ---- the thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while True:
                self._message()
        except _Closed:
            self._end(Disconnected(f"{self.name}: closed by the instrument"))
        except OSError as error:
            self._end(Disconnected(f"{self.name}: {error.strerror or error}"))
        except ColdframeError as error:
            self._end(error)

    def _end(self, error: ColdframeError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _message(self) -> None:
        """Read one message and do what it says."""
        self._fill(PREFIX)
        length = length_of(bytes(self._buffer[:PREFIX]))
        if length is None:
            self._resynchronise()
            return
        kind = bytes(self._fill(PREFIX + 3)[PREFIX : PREFIX + 3])
        if kind == b"MQ1":
            self._frame(length)
        elif kind == b"HDR":
            self._header(length)
        else:
            self._discard(4)

    def _frame(self, length: int) -> None:
        head = self._fill(PREFIX + min(length - 1, 2048))[PREFIX : PREFIX + 2048]
        try:
            size = layout_of(head).size
            if size not in (length - 1, length):  # some senders do not count the comma
                raise Garbled(f"message of {length} bytes, frame of {size}")
            body = self._fill(PREFIX + size)[PREFIX : PREFIX + size]
            mono_ns = time.monotonic_ns()
            frame = decode_frame(body)
        except Garbled:
            self._discard(4)
            return
        if (cut := cut_at(body)) is not None and (cut[1] or not self._goes_on(PREFIX + size)):
            self._discard(PREFIX + cut[0])
            return
        del self._buffer[: PREFIX + size]
        self._since_message = 0
        if self._dtype == "<u4":
            frame = frame._replace(data=frame.data.astype("<u4", copy=False))
        if frame.data.shape != self._shape or frame.data.dtype.str != self._dtype:
            raise Garbled(
                f"frame {frame.number} is {frame.data.shape} {frame.data.dtype.str}, configured "
                f"are {self._shape} {self._dtype}: correct the options rows, columns, wide"
            )
        missed = 0 if self._last is None else max(0, frame.number - self._last - 1)
        details = {
            "number": frame.number,
            "exposure_s": frame.exposure_s,
            "device_time": frame.device_time,
            "acquisition": self.acquisitions,
            "missed": missed,
        }
        self._put(Sample(frame.data, mono_ns, details), missed)
        self._last = frame.number

    def _goes_on(self, end: int) -> bool:
        """Whether the message really ended at `end`: what follows is a message, or nothing."""
        while len(self._buffer) < end + 4:
            if not select.select([self._socket], [], [], QUIET)[0]:
                return True
            try:
                self._read()
            except _Closed:
                return len(self._buffer) == end
        return self._buffer[end : end + 4] == b"MPX,"

    def _header(self, length: int) -> None:
        body = bytes(self._fill(PREFIX + length - 1)[PREFIX:][: length - 1])
        if (cut := cut_at(body)) is not None and cut[1]:
            self._discard(PREFIX + cut[0])
            return
        del self._buffer[: PREFIX + length - 1]
        with self._changed:
            self.acquisitions += 1
            self._last = self._since_message = 0  # frames of an acquisition begin with 1
            self._changed.notify_all()

    def _put(self, sample: Sample, missed: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._samples) < self._room or self._stopping)
            if self._stopping:
                raise _Closed
            self._samples.append(sample)
            self.received += 1
            self.lost += missed

    def _resynchronise(self) -> None:
        """Drop what is no message, up to the next `MPX,`."""
        at = self._buffer.find(b"MPX,", 1)
        self._discard(at if at > 0 else len(self._buffer) - 3)

    def _discard(self, count: int) -> None:
        del self._buffer[:count]
        if count > 1 or self.acquisitions == 0:  # one byte: a header whose comma was not counted
            self.garbled += count
        self._since_message += count
        if self._since_message > GARBAGE_LIMIT:
            raise Garbled(f"{self.name}: {self._since_message} bytes and no message in them")

    def _fill(self, count: int) -> bytearray:
        """The buffer, once it holds `count` bytes."""
        while len(self._buffer) < count:
            self._read(count - len(self._buffer))
        return self._buffer

    def _read(self, wanted: int = 1) -> None:
        data = self._socket.recv(max(wanted, 65536))
        if not data or self._stopping:
            raise _Closed
        self._buffer += data
