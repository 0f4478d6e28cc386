"""A JEOL transmission column through the vendor's module PyJEM, which runs on the TEM's own PC.

There is no public wire: the boundary is the vendor's call interface, `from PyJEM import TEM3`
(PyJEM manual 1.3). In a simulated laboratory the process that starts this driver replaces
`PyJem.calls` by a stand-in with the same names. Numbers come bare or, from some versions, with a
result code, 0 for success; both are read. A vendor's call cannot be given a timeout: if one hangs,
the host process hangs, and whoever watches the host takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

from coldframe.drivers.base import Driver, Options, Output, Parameter, command, parse, retry_safe
from coldframe.errors import (
    ConfigurationError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.status import Severity, Status

SCREEN_DOWN, SCREEN_UP = 0, 2  # Detector3.SetScreen: 0 is 0 degrees, 2 is 90


def vendor_module(address: str) -> Any:
    """The vendor's own module; there is only one column, so the address says nothing."""
    try:
        return import_module("PyJEM.TEM3")
    except ImportError as error:
        raise ConfigurationError(
            "PyJEM is not installed here: run this device's host on the TEM's PC, with the "
            f"vendor's Python environment ({error})"
        ) from None


class PyJemOptions(Options):
    """`magnifications`: what the selector's numbers 0, 1, 2 … mean on this column."""

    magnifications: tuple[int, ...] = (
        2000, 2500, 3000, 4000, 5000, 6000, 8000, 10_000, 12_000, 15_000, 20_000, 25_000, 30_000,
        40_000, 50_000, 60_000, 80_000, 100_000, 120_000, 150_000, 200_000, 250_000, 300_000,
        400_000, 500_000, 600_000, 800_000, 1_000_000,
    )  # fmt: skip


class PyJem(Driver):
    """A TEM: high voltage, magnification, spot, blanker, fluorescent screen."""

    models = ("pyjem",)
    role = "ElectronColumn"
    outputs = (Output("beam", "beam blanked", seconds=0.05, fast_blank=True),)
    Options = PyJemOptions
    calls: ClassVar[Callable[[str], Any]] = staticmethod(vendor_module)  # address → TEM3

    high_voltage = Parameter(float, unit="kV", poll=5.0, doc="HT3.GetHtValue")
    magnification = Parameter(
        float, poll=1.0, limits=(1, 1e8), output="beam", doc="EOS3.GetMagValue, SetSelector"
    )
    spot = Parameter(
        int, poll=1.0, limits=(1, 8), output="beam", doc="EOS3.GetSpotSize + 1: 1 is the brightest"
    )
    blanked = Parameter(bool, poll=0.1, doc="Def3.GetBeamBlank")
    screen_down = Parameter(bool, poll=0.5, doc="Detector3.GetScreen: the beam is in the cup")
    emission = Parameter(float, unit="A", poll=5.0, doc="GUN3.GetEmissionCurrentValue")
    valve_open = Parameter(bool, poll=1.0, doc="FEG3.GetBeamValve")

    _tem3: Any = None
    _blanked: bool | None = None  # as last read back; None: not known

    def open(self) -> None:
        self.close()
        tem3 = type(self).calls(self.address)
        if connect := getattr(tem3, "connect", None):
            self._vendor("connect", connect)
        self._tem3 = tem3

    def close(self) -> None:
        self._blanked = None
        if close := getattr(self._tem3, "close", None):  # the vendor's module has none
            close()
        self._tem3 = None

    def identify(self) -> str:
        """PyJEM tells no serial number: the range of the high voltage tells columns apart."""
        limits = self._call("HT3", "GetHtRange")
        if not isinstance(limits, list | tuple) or len(limits) < 2:
            raise WrongInstrument(f"{self.name}: HT3.GetHtRange → {limits!r}, which is no range")
        highest = parse(float, limits[0], f"{self.name}: HT3.GetHtRange")
        return f"JEOL PyJEM, {highest / 1000:g} kV column"

    def read_high_voltage(self) -> float:
        found = self._number("HT3", "GetHtValue")
        return parse(float, found, f"{self.name}.high_voltage") / 1000

    def read_magnification(self) -> float:
        found = self._call("EOS3", "GetMagValue")
        if not isinstance(found, list | tuple) or len(found) < 3:
            raise Garbled(f"{self.name}: EOS3.GetMagValue → {found!r}")
        if found[1] != "X":
            raise InstrumentError(
                f"{self.name}: the column shows a camera length ({found[2]}), no magnification"
            )
        return parse(float, found[0], f"{self.name}.magnification")

    def write_magnification(self, magnification: float) -> None:
        table = self.options.magnifications
        if magnification not in table:
            nearest = min(table, key=lambda step: abs(step - magnification))
            raise OutOfRange(
                f"{self.name}.magnification: {magnification:g} is no step of this column; "
                f"the nearest is {nearest}"
            )
        self._call("EOS3", "SetSelector", table.index(magnification))
        self._confirm("magnification", self.read_magnification(), magnification)

    def read_spot(self) -> int:
        return self._integer("EOS3", "GetSpotSize") + 1

    def write_spot(self, number: int) -> None:
        self._call("EOS3", "SelectSpotSize", number - 1)
        self._confirm("spot", self.read_spot(), number)

    def read_blanked(self) -> bool:
        self._blanked = None
        self._blanked = self._switch("Def3", "GetBeamBlank")
        return self._blanked

    def read_screen_down(self) -> bool:
        return self._integer("Detector3", "GetScreen") == SCREEN_DOWN

    def read_emission(self) -> float:
        found = self._number("GUN3", "GetEmissionCurrentValue")
        return parse(float, found, f"{self.name}.emission") * 1e-6

    def read_valve_open(self) -> bool:
        return self._switch("FEG3", "GetBeamValve")

    @command("safe", output="beam")
    def blank(self) -> None:
        """Blank the beam, and see that it is."""
        self.make_safe()

    @command("hazardous", output="beam")
    def unblank(self) -> None:
        """Let the beam on to the specimen."""
        self._blanked = None  # until it has been read back, the beam may be on
        self._call("Def3", "SetBeamBlank", 0)
        if self.read_blanked():
            raise InstrumentError(f"{self.name}: told to unblank, the column is still blanked")

    @command("neutral")
    def lower_screen(self) -> None:
        """Put the screen, and the Faraday cup in it, into the beam; watch `screen_down`."""
        self._call("Detector3", "SetScreen", SCREEN_DOWN)

    @command("neutral")
    def raise_screen(self) -> None:
        """Let the beam through to the camera; watch `screen_down`."""
        self._call("Detector3", "SetScreen", SCREEN_UP)

    def make_safe(self, sensor_good: bool | None = None) -> None:
        def attempt() -> bool:
            self._call("Def3", "SetBeamBlank", 1)
            return self.read_blanked()

        retry_safe(self, attempt, "beam blanked")

    def outputs_on(self) -> list[str]:
        return [] if self._blanked else ["beam"]

    def status(self) -> Status:
        if self._tem3 is None:
            return Status(Severity.ERROR, "not connected")
        if self._blanked is None:
            return Status(Severity.WARN, "whether the beam is blanked is not known")
        if self._blanked:
            return Status(Severity.IDLE, "beam blanked")
        return Status(Severity.BUSY, "beam on the specimen")

    # the vendor's calls -------------------------------------------------------------------

    def _call(self, group: str, method: str, *arguments: Any) -> Any:
        if self._tem3 is None:
            raise Disconnected(f"{self.name}: PyJEM is not connected")
        what = f"{group}.{method}"
        try:
            return self._vendor(
                what, lambda: getattr(getattr(self._tem3, group)(), method)(*arguments)
            )
        except LinkError:
            self._blanked = None
            raise

    def _vendor(self, what: str, act: Callable[[], Any]) -> Any:
        """Do `act`, and say in our words what the vendor's module says in exceptions."""
        try:
            return act()
        except TimeoutError as error:
            raise Silence(f"{self.name}: {error}") from error
        except OSError as error:
            raise Disconnected(f"{self.name}: {what}: {error}") from error
        except ValueError as error:
            raise Garbled(f"{self.name}: {what}: {error}") from error
        except AttributeError as error:
            raise InstrumentError(f"{self.name}: this PyJEM has no {what}: {error}") from error
        except (RuntimeError, TypeError) as error:
            raise InstrumentError(f"{self.name}: {what}: {error}") from error

    def _number(self, group: str, method: str) -> Any:
        """A result that is one number, bare or with its result code."""
        found = self._call(group, method)
        if not isinstance(found, list | tuple):
            return found
        if len(found) != 2:
            raise Garbled(f"{self.name}: {group}.{method} → {found!r}, where one number belongs")
        if found[1] != 0:
            raise InstrumentError(f"{self.name}: {group}.{method} → result code {found[1]!r}")
        return found[0]

    def _integer(self, group: str, method: str) -> int:
        return parse(int, self._number(group, method), f"{self.name}: {group}.{method}")

    def _switch(self, group: str, method: str) -> bool:
        number = self._integer(group, method)
        if number not in (0, 1):
            raise Garbled(f"{self.name}: {group}.{method} → {number}, where 0 or 1 belongs")
        return number == 1

    def _confirm(self, what: str, found: float, wanted: float) -> None:
        if found != wanted:
            raise InstrumentError(
                f"{self.name}.{what}: {wanted:g} was accepted, but it is {found:g}"
            )
