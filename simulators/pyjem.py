"""A JEOL column as its PyJEM calls show it, served as lines of JSON to `pyjem_calls.tem3`.

The wire is ours, because the vendor publishes none; the calls, their arguments and what they return
are the vendor's (PyJEM manual 1.3, "PyJEM.TEM3 module"): volts, spot numbers from 0, `[value, unit,
name]` for a magnification, screen angles by index, 1 for a blanked beam. Some versions of the
module return each number with a result code, 0 for success; `pairs = True` imitates them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coldframe.simulators.faults import Faults
from coldframe.simulators.ports import LINE_LIMIT, Conversation, Instrument, Send
from coldframe.simulators.pyjem_calls import CALLS
from coldframe.simulators.world import World

# MAG mode of a 200 kV column, by selector number
MAGNIFICATIONS = (
    2000, 2500, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 15_000, 20_000, 25_000, 30_000,
    40_000, 50_000, 60_000, 80_000, 100_000, 120_000, 150_000, 200_000, 250_000, 300_000, 400_000,
    500_000, 600_000, 800_000, 1_000_000,
)  # fmt: skip
MODES = ("MAG", "MAG2", "LowMAG", "SAMAG", "DIFF")
CAMERA_LENGTH = 500  # mm
EMISSION = 12.0  # uA of a field emitter in use
HT_RANGE = [200_000.0, 10.0]  # V, largest and smallest
DOWN, TILTED, UP = 0, 1, 2  # 0, 7 and 90 degrees


class PyJemSimulator(Instrument):
    """A TEM column in the shared world."""

    models = ("pyjem",)

    def __init__(self, world: World, model: str = "", faults: Faults | None = None):
        self.writes: list[str] = []  # calls that changed something
        self.pairs = False
        self._held: dict[str, Any] = {}
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.world.beam.blanked = True
        self._mode = 0
        self._screen = DOWN if self.world.beam.screen_down else UP
        self._inserted: set[int] = set()
        self._cl3 = 0x8000

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return _Calls(send, self._serve)

    def _serve(self, line: bytes) -> dict[str, Any]:
        """The answer to one request."""
        try:
            request = json.loads(line)
            number, name, arguments = request["id"], request["call"], request["args"]
            group, method = name.split(".")
            if method not in CALLS[group]:
                raise KeyError(name)
            act: Callable[..., Any] = getattr(self, f"_{group}_{method}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return {"id": None, "error": f"not a call: {error}"}
        try:
            if not method.startswith("Get"):
                self._change(name, act, arguments)
                return {"id": number, "value": None}
            return {"id": number, "value": self._observe(name, act(*arguments))}
        except (ValueError, TypeError) as error:
            return {"id": number, "error": str(error)}

    def _change(self, name: str, act: Callable[..., Any], arguments: list[Any]) -> None:
        if not self.faults.on("lie"):
            act(*arguments)
            self.writes.append(f"{name}({', '.join(map(repr, arguments))})")

    def _observe(self, name: str, value: Any) -> Any:
        """A result, as the faults leave it."""
        if not self.faults.on("frozen"):
            self._held.clear()
        else:
            value = self._held.setdefault(name, value)
        if self.faults.on("nan") and isinstance(value, int | float):
            value = float("nan")
        return [value, 0] if self.pairs and not isinstance(value, list) else value

    # Def3 ---------------------------------------------------------------------------------

    def _Def3_GetBeamBlank(self) -> int:
        return int(self.world.beam.blanked)

    def _Def3_SetBeamBlank(self, switch: int) -> None:
        self.world.beam.blanked = bool(_one_of(switch, (0, 1)))

    # EOS3 ---------------------------------------------------------------------------------

    def _EOS3_GetMagValue(self) -> list[Any]:
        if MODES[self._mode] == "DIFF":
            return [CAMERA_LENGTH, "mm", f"{CAMERA_LENGTH // 10}cm"]
        value = round(self.world.beam.magnification)
        return [value, "X", f"X{value}" if value < 10_000 else f"X{value / 1000:g}k"]

    def _EOS3_GetCurrentMagSelectorID(self) -> int:
        here = self.world.beam.magnification
        return min(range(len(MAGNIFICATIONS)), key=lambda i: abs(MAGNIFICATIONS[i] - here))

    def _EOS3_SetSelector(self, number: int) -> None:
        _one_of(number, range(len(MAGNIFICATIONS)))
        self.world.beam.magnification = float(MAGNIFICATIONS[number])

    def _EOS3_UpSelector(self) -> None:
        last = len(MAGNIFICATIONS) - 1
        self._EOS3_SetSelector(min(last, self._EOS3_GetCurrentMagSelectorID() + 1))

    def _EOS3_DownSelector(self) -> None:
        self._EOS3_SetSelector(max(0, self._EOS3_GetCurrentMagSelectorID() - 1))

    def _EOS3_GetFunctionMode(self) -> list[Any]:
        return [self._mode, MODES[self._mode]]

    def _EOS3_SelectFunctionMode(self, mode: int) -> None:
        self._mode = _one_of(mode, range(len(MODES)))

    def _EOS3_GetTemStemMode(self) -> int:
        return 0

    def _EOS3_GetSpotSize(self) -> int:
        return self.world.beam.spot - 1

    def _EOS3_SelectSpotSize(self, number: int) -> None:
        self.world.beam.spot = _one_of(number, range(8)) + 1

    # HT3, GUN3, FEG3 ----------------------------------------------------------------------

    def _HT3_GetHtRange(self) -> list[float]:
        return HT_RANGE

    def _HT3_GetHtValue(self) -> float:
        return self.world.beam.kv * 1000.0

    def _HT3_SetHtValue(self, volts: float) -> None:
        if not HT_RANGE[1] <= volts <= HT_RANGE[0]:
            raise ValueError(f"HT {volts} V: {HT_RANGE[1]} to {HT_RANGE[0]}")
        self.world.beam.kv = volts / 1000.0

    def _GUN3_GetEmissionCurrentValue(self) -> float:
        return EMISSION if self.world.beam.on else 0.0

    def _FEG3_GetBeamValve(self) -> int:
        return int(self.world.beam.on)

    def _FEG3_SetBeamValve(self, switch: int) -> None:
        self.world.beam.on = bool(_one_of(switch, (0, 1)))

    # Lens3, Detector3 ---------------------------------------------------------------------

    def _Lens3_GetCL3(self) -> int:
        return self._cl3

    def _Lens3_SetCL3(self, value: int) -> None:
        self._cl3 = _one_of(value, range(0x10000))

    def _Detector3_GetScreen(self) -> int:
        return self._screen

    def _Detector3_SetScreen(self, angle: int) -> None:
        self._screen = _one_of(angle, (DOWN, TILTED, UP))
        self.world.beam.screen_down = self._screen == DOWN

    def _Detector3_GetPosition(self, detector: int) -> int:
        return int(_one_of(detector, range(1, 25)) in self._inserted)

    def _Detector3_SetPosition(self, detector: int, place: int) -> None:
        change = self._inserted.add if _one_of(place, (0, 1)) else self._inserted.discard
        change(_one_of(detector, range(1, 25)))


class _Calls:
    """Lines of JSON both ways."""

    def __init__(self, send: Send, serve: Callable[[bytes], dict[str, Any]]):
        self._send, self._serve = send, serve
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-LINE_LIMIT:]
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._send(json.dumps(self._serve(line)).encode() + b"\n")


def _one_of(value: int, allowed: range | tuple[int, ...]) -> int:
    if type(value) is not int or value not in allowed:
        raise ValueError(f"{value!r} is none of {min(allowed)} to {max(allowed)}")
    return value
