"""What every driver is made of: declared parameters, classed commands, outputs with a safe state.

A driver reads like the manual's table of commands::

    class Lakeshore(Driver):
        temperature = Parameter(float, unit="K", read="KRDG? {sensor}", poll=0.5)
        setpoint = Parameter(float, unit="K", read="SETP? {loop}", write="SETP {loop},{value:.3f}",
                             limits=(1.4, 475), output="heater")

        @command("safe")
        def heater_off(self) -> None: ...

`read` and `write` are templates for the driver's `ask` and `tell`, filled with its options; where a
template does not say it, the driver has a method `read_NAME` or `write_NAME(value)` instead. Limits
here are the instrument's; the laboratory's narrower ones come from its TOML.
"""

from __future__ import annotations

import inspect
import math
import re
import time
from collections.abc import Callable
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict

from coldframe.errors import (
    BadRequest,
    ColdframeError,
    Garbled,
    NotSafe,
    OutOfRange,
    ReadOnly,
    UnknownName,
)
from coldframe.status import Status
from coldframe.units import show

Hazard = Literal["safe", "neutral", "hazardous"]
Value = float | int | bool | str
V = TypeVar("V", bound=float | int | bool | str)
F = TypeVar("F", bound=Callable[..., Any])

_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


class Options(BaseModel):
    """A driver's own keys in the laboratory's TOML; each driver extends it."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Output(NamedTuple):
    """Something an instrument can put on, and how it is made safe."""

    name: str
    safe_state: str  # in words, e.g. "beam blanked"
    seconds: float  # how long the safe state takes to reach, measured or from the manual
    fast_blank: bool | None = None  # for beams only: is there a blanker on this wire?


class Stream(NamedTuple):
    """The arrays a driver sends."""

    kind: Literal["frame", "spectrum"]
    dtype: str  # numpy's, little-endian: "<u2"
    shape: tuple[int, ...]
    unit: str = "counts"
    axes: dict[str, float] = {}  # noqa: RUF012  step of each axis: {"energy_eV": 10.0}


class Sample(NamedTuple):
    """One frame or spectrum, stamped when its last byte arrived."""

    data: np.ndarray[Any, np.dtype[Any]]
    mono_ns: int
    details: dict[str, Any]  # exposure_s, number, the device's own stamp …


class Parameter(Generic[V]):
    """One named quantity, declared in one line; see the module's docstring."""

    def __init__(
        self,
        kind: type[V],
        *,
        unit: str = "",
        read: str | None = None,
        write: str | None = None,
        poll: float | None = None,
        limits: tuple[float, float] | None = None,
        choices: tuple[V, ...] | None = None,
        hazard: Hazard = "hazardous",
        safe_values: tuple[V, ...] = (),
        output: str | None = None,
        doc: str = "",
    ):
        self.kind, self.unit, self.read, self.write = kind, unit, read, write
        self.poll, self.limits, self.choices = poll, limits, choices
        self.hazard, self.safe_values, self.output, self.doc = hazard, safe_values, output, doc
        self.name = ""
        self.writable = write is not None

    def __set_name__(self, owner: type[Driver], name: str) -> None:
        self.name = name
        self.writable = self.write is not None or hasattr(owner, f"write_{name}")

    def __get__(self, driver: Driver, owner: type[Driver]) -> Bound[V]:
        return Bound(self, driver)

    def check(self, value: Any, where: str) -> V:
        """`value` as this parameter's kind and within the instrument's limits, or the error that
        names parameter, value and limit. Nothing is clipped."""
        checked: V = coerce(self.kind, value, where)
        number: Any = checked
        if self.limits is not None and not self.limits[0] <= number <= self.limits[1]:
            low, high = (show(limit, self.unit) for limit in self.limits)
            raise OutOfRange(f"{where}: {show(checked, self.unit)} is outside {low} … {high}")
        if self.choices is not None and checked not in self.choices:
            raise OutOfRange(f"{where}: {checked!r} is none of {', '.join(map(str, self.choices))}")
        return checked


class Bound(Generic[V]):
    """A parameter of one driver: `get()`, `set(value)`."""

    def __init__(self, parameter: Parameter[V], driver: Driver):
        self._parameter, self._driver = parameter, driver

    def get(self) -> V:
        """Ask the instrument."""
        parameter, driver = self._parameter, self._driver
        if parameter.read is None:
            value = getattr(driver, f"read_{parameter.name}")()
        else:
            value = driver.ask(driver.fill(parameter.read))
        try:
            return parse(parameter.kind, value, f"{driver.name}.{parameter.name}")
        except Garbled:
            driver.doubt()
            raise

    def set(self, value: V) -> None:
        """Check the value, tell the instrument; the driver verifies where the wire allows it."""
        parameter, driver = self._parameter, self._driver
        where = f"{driver.name}.{parameter.name}"
        if not parameter.writable:
            raise ReadOnly(f"{where} can be read, not set")
        checked = parameter.check(value, where)
        if parameter.write is None:
            getattr(driver, f"write_{parameter.name}")(checked)
        else:
            driver.tell(driver.fill(parameter.write, value=checked))


def coerce(kind: type[Any], value: Any, where: str) -> Any:
    """A request's value as `kind`; an int serves as a float, nothing else is converted."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise BadRequest(f"{where}: {value!r} is not a {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise BadRequest(f"{where}: {value!r} is not a finite number")
    return value


def parse(kind: type[V], reply: Any, where: str) -> V:
    """An instrument's reply as `kind`, or `Garbled` with the reply in it. Numbers are matched as a
    whole: `-15` of a cut `-150.2` still parses, which is why links refuse unfinished lines."""
    value: V | None = _understood(kind, reply)
    if value is None:
        raise Garbled(f"{where}: {reply!r} is not a {kind.__name__}")
    return value


def _understood(kind: type[Any], reply: Any) -> Any:
    if type(reply) is kind:
        return reply
    if not isinstance(reply, str):
        return float(reply) if kind is float and isinstance(reply, int) else None
    text = reply.strip()
    if kind is bool:
        return {"0": False, "+0": False, "OFF": False, "1": True, "+1": True, "ON": True}.get(text)
    if text.lower() in ("nan", "+nan", "-nan"):
        return math.nan
    if kind is float and _NUMBER.fullmatch(text):
        return float(text)
    return int(text) if re.fullmatch(r"[+-]?\d+", text) else None


def agrees(found: str, wanted: str, relative: float, absolute: float) -> bool:
    """Whether a read-back says what was set, whatever the number of digits."""
    try:
        return math.isclose(float(found), float(wanted), rel_tol=relative, abs_tol=absolute)
    except ValueError:
        return found.strip() == wanted.strip()


class CommandSpec(NamedTuple):
    """A verb of a driver, as its decorator and signature declare it."""

    name: str
    hazard: Hazard
    output: str | None
    arguments: dict[str, tuple[type[Any], Any]]  # name: (kind, default or inspect.Parameter.empty)
    doc: str
    bounds: dict[str, str] = {}  # noqa: RUF012  argument: the parameter whose limits hold for it


def command(
    hazard: Hazard = "hazardous", output: str | None = None, **bounds: str
) -> Callable[[F], F]:
    """Make a method a command. Unclassified means hazardous.

    `volts="offset_3"`: what the laboratory's file allows as `offset_3` holds for `volts`, too; a
    name may be filled with options, like a template.
    """

    def mark(method: F) -> F:
        method._command = (hazard, output, bounds)  # type: ignore[attr-defined]
        return method

    return mark


class Device(Protocol):
    """What the service asks of any driver, ours or a plug-in's."""

    name: str

    def status(self) -> Status: ...
    def adopt(self) -> None: ...
    def make_safe(self, sensor_good: bool | None = None) -> None: ...


class Driver:
    """An instrument on its wire. Subclasses declare; this class reads the declarations.

    `open()` connects, `adopt()` learns the state and changes nothing, `prepare()` sets what must
    hold before use while everything is off, `make_safe()` reaches the safe state of every output
    and verifies it or raises `NotSafe`, `close()` always succeeds.
    """

    models: ClassVar[tuple[str, ...]] = ()  # the names a laboratory's TOML uses
    role: ClassVar[str] = ""  # the Protocol of coldframe.roles it fits
    outputs: ClassVar[tuple[Output, ...]] = ()
    Options: ClassVar[type[Options]] = Options
    parameters: ClassVar[dict[str, Parameter[Any]]] = {}
    commands: ClassVar[dict[str, CommandSpec]] = {}

    def __init__(self, name: str, address: str, model: str = "", options: Any = None):
        self.name, self.address = name, address
        self.model = model or self.models[0]
        self.options: Any = options if options is not None else self.Options()
        self.between: Callable[[], None] = lambda: None  # its host's, between two exchanges

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        members = {name: inspect.getattr_static(cls, name) for name in dir(cls)}
        declared = {n: p for n, p in members.items() if isinstance(p, Parameter)}
        order = {name: i for base in reversed(cls.__mro__) for i, name in enumerate(vars(base))}
        cls.parameters = dict(sorted(declared.items(), key=lambda item: order[item[0]]))
        cls.commands = {
            name: _spec(name, member)
            for name, member in members.items()
            if hasattr(member, "_command")
        }

    # what a subclass provides ----------------------------------------------------------

    def open(self) -> None:
        """Connect; raises `Disconnected`. May be called again after `close`."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the wire; never raises, never changes the instrument."""
        raise NotImplementedError

    def ask(self, text: str) -> str:
        """One question, one whole answer."""
        raise NotImplementedError

    def tell(self, text: str) -> None:
        """One order, verified as far as the wire allows."""
        raise NotImplementedError

    def doubt(self) -> None:
        """An answer did not fit its question (`LineDriver`)."""

    def identify(self) -> str:
        """Model and serial number as the instrument says them; `WrongInstrument` if another."""
        raise NotImplementedError

    def status(self) -> Status:
        """How it is, in words."""
        raise NotImplementedError

    def make_safe(self, sensor_good: bool | None = None) -> None:
        """Reach the safe state of every output and verify it; raises `NotSafe` when unverified.

        `sensor_good` matters to thermostats only: what the guard thinks of the sensor, or None when
        the driver must judge for itself. An instrument without outputs has nothing to do.
        """
        if self.outputs:
            raise NotImplementedError

    def prepare(self) -> None:
        """Set what must hold before anything is used, e.g. what off means; once after `adopt`.

        Only while every output is off: with one on, change nothing and raise `Busy`.
        """

    def outputs_on(self) -> list[str]:
        """The outputs that are on or may be on, by the last read-back; what is unknown is on."""
        return [output.name for output in self.outputs]

    def stream(self) -> Stream | None:
        """The arrays this instrument sends, if it does."""
        return None

    def take(self) -> list[Sample]:
        """The frames or spectra that arrived since the last call; never blocks."""
        return []

    # what follows from the declarations -------------------------------------------------

    def adopt(self) -> None:
        """Check who is there and read everything once, changing nothing."""
        self.identify()
        for name in self.parameters:
            self.between()
            self.get(name)

    def get(self, name: str) -> Value:
        """Ask the instrument for parameter `name`."""
        value: Value = getattr(self, self._parameter(name).name).get()
        return value

    def set(self, name: str, value: Any) -> None:
        """Set parameter `name`; `OutOfRange`, `ReadOnly`, `BadRequest` before anything is sent."""
        getattr(self, self._parameter(name).name).set(value)

    def call(self, name: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run command `name` with checked arguments."""
        spec = self.commands.get(name)
        if spec is None:
            raise UnknownName(f"{self.name} has no command {name!r}; it has {_list(self.commands)}")
        return getattr(self, name)(**check_arguments(spec, arguments or {}, f"{self.name}.{name}"))

    def fill(self, template: str, **values: Any) -> str:
        """A template of the declarations with this driver's options (and a value) in it."""
        return template.format(**{**self.options.model_dump(), **values})

    def _parameter(self, name: str) -> Parameter[Any]:
        if name not in self.parameters:
            raise UnknownName(
                f"{self.name} has no parameter {name!r}; it has {_list(self.parameters)}"
            )
        return self.parameters[name]


def check_arguments(spec: CommandSpec, given: dict[str, Any], where: str) -> dict[str, Any]:
    """The arguments of a call, each of the declared kind, none missing, none unknown."""
    if unknown := set(given) - set(spec.arguments):
        takes = _list(spec.arguments) or "none"
        raise BadRequest(f"{where}: unknown argument {_list(unknown)}; it takes {takes}")
    checked = {}
    for name, (kind, default) in spec.arguments.items():
        if name in given:
            checked[name] = coerce(kind, given[name], f"{where}({name})")
        elif default is inspect.Parameter.empty:
            raise BadRequest(f"{where}: argument {name!r} is missing")
    return checked


def _spec(name: str, method: Any) -> CommandSpec:
    hazard, output, bounds = method._command
    hints = get_type_hints(method)
    arguments = {
        p.name: (hints[p.name], p.default)
        for p in list(inspect.signature(method).parameters.values())[1:]
    }
    return CommandSpec(name, hazard, output, arguments, inspect.getdoc(method) or "", bounds)


def _list(names: Any) -> str:
    return ", ".join(sorted(names))


def retry_safe(driver: Driver, attempt: Callable[[], bool], words: str, times: int = 3) -> None:
    """Do `attempt` until it reports the verified safe state; `NotSafe` after `times`.

    A link error in one attempt is not the end: the next one starts with a link back in step.
    """
    last = "the read-back disagreed"
    for _ in range(times):
        driver.between()
        try:
            if attempt():
                return
        except ColdframeError as error:
            last = str(error)
            time.sleep(0.02)
    raise NotSafe(f"{driver.name}: {words} not verified after {times} tries: {last}")
