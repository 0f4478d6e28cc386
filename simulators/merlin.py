"""A Quantum Detectors Merlin with one Medipix3 chip or four: MPX messages on two TCP ports.

Written from the dialect's description (docs/explanation/sources.md, "Instruments"): control on
PORT, frames on PORT+1. The detector counts frames whether or not anybody takes them: what its
buffer cannot hold is lost, and seen by the client as a gap in the numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from coldframe.simulators.faults import Faults
from coldframe.simulators.merlin_frames import acquisition_header, frame, message
from coldframe.simulators.ports import Conversation, Instrument, Send
from coldframe.simulators.world import World

OK, BUSY, UNKNOWN, RANGE = 0, 1, 2, 3
BUFFER = 64  # frames the readout can hold while the network is slow
BURST = 4  # frames made in one look at the world: drawing one takes 10 ms, others are waiting
READOUT = {1: 1.0, 6: 1.0, 12: 1.64, 24: 3.28}  # ms, unless CONTINUOUSRW hides it
TRIGGER_INTERNAL, TRIGGER_SOFTWARE = 0, 3
IDLE, ARMED, ACQUIRING = "idle", "armed", "acquiring"


class Setting(NamedTuple):
    """A name that GET and SET know: its value after power-on and its range."""

    default: float
    low: float
    high: float
    choices: tuple[int, ...] = ()


SETTINGS = {
    "NUMFRAMESTOACQUIRE": Setting(1, 0, 1_000_000_000),  # 0: until STOPACQUISITION
    "ACQUISITIONTIME": Setting(10.0, 0.001, 1e7),  # ms
    "ACQUISITIONPERIOD": Setting(11.64, 0.001, 1e7),  # ms
    "COUNTERDEPTH": Setting(12, 1, 24, (1, 6, 12, 24)),
    "TRIGGERSTART": Setting(0, 0, 3),
    "TRIGGERSTOP": Setting(0, 0, 3),
    "NUMFRAMESPERTRIGGER": Setting(1, 1, 1_000_000_000),
    "CONTINUOUSRW": Setting(0, 0, 1),
    "ENABLECOUNTER1": Setting(0, 0, 2),
    "COLOURMODE": Setting(0, 0, 1),
    "CHARGESUMMING": Setting(0, 0, 1),
    "GAIN": Setting(0, 0, 3),
    "HVBIAS": Setting(120.0, -200, 200),  # V
    "OPERATINGENERGY": Setting(200.0, 0, 1000),  # keV
    "FILEENABLE": Setting(0, 0, 1),
    **{f"THRESHOLD{n}": Setting(40.0 if n == 0 else 511.0, 0, 1000) for n in range(8)},  # keV
}
TEXTS = {"FILEDIRECTORY": "C:\\data", "FILENAME": "default"}


class MerlinSimulator(Instrument):
    """Chip, readout and the LabVIEW server in front of them."""

    models: ClassVar[tuple[str, ...]] = ("merlin",)
    transports: ClassVar[tuple[str, ...]] = ("tcp",)
    ports: ClassVar[int] = 2

    def __init__(
        self, world: World, model: str = "", faults: Faults | None = None, *, chips: int = 1
    ):
        if chips not in (1, 4):
            raise ValueError(f"{chips} chips: a Merlin has 1 or 4 (2x2)")
        self.chips = chips
        self.shape = (256, 256) if chips == 1 else (512, 512)
        self.writes: list[str] = []
        self._client: Send | None = None
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.settings: dict[str, float] = {name: s.default for name, s in SETTINGS.items()}
        self.texts = dict(TEXTS)
        self.state = IDLE
        self.number = 0  # of the last frame of this acquisition, taken by a client or not
        self.lost = 0  # frames that no client got
        self._left = 0
        self._next = 0.0  # s, when the frame being exposed ends
        self._unheard: bytes | None = None  # a header that waits for somebody to listen
        self._image: npt.NDArray[np.uint16] | None = None

    def converse(self, send: Send, port: int = 0) -> Conversation:
        if port == 0:
            return _Requests(send, self._answer)
        self._client = send  # the newest client gets the frames
        if self._unheard is not None:
            send(message(self._unheard))
            self._unheard = None
        return _Deaf()

    def tick(self) -> None:
        """Finish the exposures whose time is over."""
        if self.state != ACQUIRING or self.world.now < self._next - 1e-9:
            return
        due = int((self.world.now - self._next) / self.interval + 1e-6) + 1
        if self._left >= 0:
            due = min(due, self._left)
        if due > BUFFER:
            self._skip(due - BUFFER)
        for _ in range(min(due, BURST)):
            self._finish()

    @property
    def interval(self) -> float:
        """Seconds from frame to frame: the period, or exposure and readout when that is longer."""
        time, period = self.settings["ACQUISITIONTIME"], self.settings["ACQUISITIONPERIOD"]
        hidden = self.settings["CONTINUOUSRW"] == 1
        readout = 0.0 if hidden else READOUT[int(self.settings["COUNTERDEPTH"])]
        return max(period, time + readout) * 1e-3

    # ---- acquisition ------------------------------------------------------------------

    def _start(self) -> int:
        if self.state != IDLE:
            return BUSY
        self.number = 0
        header = acquisition_header(self.settings, self.chips, self.world.now)
        if self._client is None:
            self._unheard = header
        else:
            self._client(message(header))
        self.state = ARMED
        if self.settings["TRIGGERSTART"] == TRIGGER_INTERNAL:
            self._run(int(self.settings["NUMFRAMESTOACQUIRE"]))
        return OK

    def _trigger(self) -> int:
        if self.state == ARMED and self.settings["TRIGGERSTART"] == TRIGGER_SOFTWARE:
            self._run(int(self.settings["NUMFRAMESPERTRIGGER"]))
            return OK
        return BUSY

    def _run(self, frames: int) -> None:
        self.state = ACQUIRING
        self._left = frames if frames > 0 else -1
        self._next = self.world.now + self.settings["ACQUISITIONTIME"] * 1e-3

    def _stop(self) -> int:
        self.state = IDLE
        return OK

    def _skip(self, frames: int) -> None:
        self.number += frames
        self.lost += frames
        self._left -= frames if self._left > 0 else 0
        self._next += frames * self.interval

    def _finish(self) -> None:
        """One exposure ends: its frame goes to the client, if the buffer has room for it."""
        self.number += 1
        client, rows, columns = self._client, *self.shape
        if client is None or client.waiting() > BUFFER * rows * columns * 2:
            self.lost += 1
        else:
            exposure = self.settings["ACQUISITIONTIME"] * 1e-3
            if self._image is None or not self.faults.on("frozen"):
                self._image = self.world.camera.expose(exposure, self.shape)
            client(message(frame(self._image, self.number, self.settings, self.chips, self._next)))
        self._next += self.interval
        self._left -= 1 if self._left > 0 else 0
        if self._left == 0:
            total = int(self.settings["NUMFRAMESTOACQUIRE"])
            more = self.settings["TRIGGERSTART"] != TRIGGER_INTERNAL and (
                total == 0 or self.number < total
            )
            self.state = ARMED if more else IDLE

    # ---- control ----------------------------------------------------------------------

    def _answer(self, request: str) -> str:
        verb, _, rest = request.partition(",")
        name, _, value = rest.partition(",")
        if verb == "GET":
            found = self._get(name)
            return f"GET,{name},{'0' if found is None else found},{UNKNOWN if found is None else 0}"
        if verb == "SET":
            return f"SET,{name},{self._obey(request, lambda: self._set(name, value))}"
        if verb == "CMD":
            commands: dict[str, Callable[[], int]] = {
                "STARTACQUISITION": self._start,
                "STOPACQUISITION": self._stop,
                "SOFTTRIGGER": self._trigger,
                "RESET": self._reset,
            }
            return f"CMD,{name},{self._obey(request, commands.get(name, lambda: UNKNOWN))}"
        return f"{verb},{name},{UNKNOWN}"

    def _obey(self, request: str, act: Callable[[], int]) -> int:
        self.writes.append(request)
        return OK if self.faults.on("lie") else act()

    def _reset(self) -> int:
        client = self._client
        self.power_on()
        self._client = client
        return OK

    def _get(self, name: str) -> str | None:
        read_only = {
            "SOFTWAREVERSION": "0.67.0.9",
            "DETECTORSTATUS": "0" if self.state == IDLE else "1",
            "IMAGEX": str(self.shape[1]),
            "IMAGEY": str(self.shape[0]),
        }
        if name in read_only:
            return read_only[name]
        if name in self.settings:
            if self.faults.on("nan") and isinstance(SETTINGS[name].default, float):
                return "NaN"
            return f"{self.settings[name]:.10g}"
        return self.texts.get(name)

    def _set(self, name: str, value: str) -> int:
        if self.state != IDLE:
            return BUSY
        if name in self.texts:
            self.texts[name] = value
            return OK
        if name not in SETTINGS:
            return UNKNOWN
        setting = SETTINGS[name]
        if not re.fullmatch(r"[+-]?\d+\.?\d*([eE][+-]?\d+)?", value):
            return RANGE
        number = float(value)
        whole = isinstance(setting.default, int)
        if not setting.low <= number <= setting.high or (whole and number != int(number)):
            return RANGE
        if setting.choices and number not in setting.choices:
            return RANGE
        self.settings[name] = number
        return OK


class _Requests:
    """Requests of a control client, `MPX,length,VERB,NAME[,VALUE]` one after another."""

    def __init__(self, send: Send, answer: Callable[[str], str]):
        self._send, self._answer = send, answer
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while True:
            start = self._buffer.find(b"MPX,")
            self._buffer = self._buffer[start:] if start >= 0 else self._buffer[-3:]
            match = re.match(rb"MPX,(\d{10}),", self._buffer)
            if match is None:
                if start >= 0 and len(self._buffer) >= 15:  # begins right, goes on wrong
                    self._buffer = self._buffer[4:]
                    continue
                return
            end = 15 + int(match[1]) - 1  # the length counts the comma before the body
            if end > 65536:
                self._buffer = self._buffer[4:]
                continue
            if len(self._buffer) < end:
                return
            if self._buffer[end : end + 1] not in (b"", b"M"):  # some clients do not count it
                end += 1
            body, self._buffer = self._buffer[15:end], self._buffer[end:]
            self._send(message(self._answer(body.decode("latin-1")).encode("latin-1")))


class _Deaf:
    """The data port does not listen."""

    def feed(self, data: bytes) -> None:
        pass
