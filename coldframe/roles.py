"""What one may ask of a kind of device. Drivers and client proxies both fit; neither inherits.

A protocol (an experiment procedure) is written against these, so the same procedure runs in the
service and in a notebook. A parameter is an attribute with `get()` and, where it can be written,
`set(value)`; a command is a method.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Readable(Protocol[T_co]):
    """A quantity that can be read."""

    def get(self) -> T_co: ...


class Settable(Protocol[T]):
    """A quantity that can be read and set; a value outside its limits raises `OutOfRange`."""

    def get(self) -> T: ...
    def set(self, value: T) -> object: ...


class Thermostat(Protocol):
    """Holds a stage at a temperature (K)."""

    @property
    def temperature(self) -> Readable[float]: ...
    @property
    def setpoint(self) -> Settable[float]: ...
    @property
    def heater(self) -> Readable[float]: ...


class ElectronColumn(Protocol):
    """An electron beam: blanker, spot, magnification, high voltage (kV)."""

    @property
    def blanked(self) -> Readable[bool]: ...
    @property
    def magnification(self) -> Settable[float]: ...
    @property
    def high_voltage(self) -> Readable[float]: ...
    def blank(self) -> object: ...
    def unblank(self) -> object: ...


class IonColumn(Protocol):
    """A focused ion beam: current (A) by preset, on and off."""

    @property
    def current(self) -> Readable[float]: ...
    @property
    def preset(self) -> Settable[str]: ...
    @property
    def beam_on(self) -> Readable[bool]: ...
    def turn_on(self) -> object: ...
    def turn_off(self) -> object: ...


class Ammeter(Protocol):
    """Measures a small current (A); positive charge that flows in is a positive one."""

    @property
    def current(self) -> Readable[float]: ...
    def zero(self) -> object: ...


class Potentiostat(Protocol):
    """Runs electrochemical techniques; positive current is oxidation at the working electrode."""

    @property
    def voltage(self) -> Readable[float]: ...
    @property
    def current(self) -> Readable[float]: ...
    def open_circuit(self) -> object: ...


class BiasSource(Protocol):
    """Sources a voltage (V) within a current limit (A); off is high impedance, never 0 V."""

    @property
    def voltage(self) -> Readable[float]: ...
    @property
    def current(self) -> Readable[float]: ...
    @property
    def level(self) -> Settable[float]: ...
    @property
    def current_limit(self) -> Settable[float]: ...
    @property
    def output(self) -> Readable[bool]: ...
    def output_on(self) -> object: ...
    def output_off(self) -> object: ...


class Positioner(Protocol):
    """Steps a needle along three axes."""

    def step(self, axis: int, steps: int) -> object: ...
    def stop(self) -> object: ...


class FrameSource(Protocol):
    """A camera: exposure (s) and frames while it acquires."""

    @property
    def exposure(self) -> Settable[float]: ...
    def start(self) -> object: ...
    def stop(self) -> object: ...


class SpectrumSource(Protocol):
    """A spectrometer: one spectrum for each acquisition time (s)."""

    @property
    def acquisition_time(self) -> Settable[float]: ...
    def start(self) -> object: ...
    def stop(self) -> object: ...
