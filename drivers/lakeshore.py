"""Lake Shore 335, 336 and 350: thermometers, and the heater loop that holds the stage.

Numbers and formats from the manuals' chapter 6. Every line carries `;*ESR?` behind it, so that each
order is answered, a refused one is known, and a power cycle is seen in the next answer.
"""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from coldframe.drivers.base import Options, Output, Parameter, command, parse, retry_safe
from coldframe.drivers.lakeshore_loop import (
    STEP,
    Flatness,
    Loop,
    number_of,
    questions,
    read_loop,
    reading_faults,
    setpoint_order,
)
from coldframe.drivers.lines import LineDriver
from coldframe.drivers.links import Dialect, LineLink, SerialFraming, open_wire
from coldframe.errors import (
    Disconnected,
    Garbled,
    InstrumentError,
    NotSafe,
    OutOfRange,
    WrongInstrument,
)
from coldframe.status import Severity, Status
from coldframe.units import show

USB = SerialFraming(57600, 7, "O", 1)
DIALECT = Dialect(b"\n", b"\r\n", timeout=0.25, pace=0.05, recognise=r"LSCI,MODEL\d+,.*")
QYE, EXE, CME, PON = 4, 16, 32, 128  # standard event status register
_HEATER_FAULTS = {"1": "open load", "2": "short circuit"}


class Model(NamedTuple):
    """What differs between the models."""

    name: str
    highest_range: int
    slowest_ramp: float  # K/min


MODELS = {
    "lakeshore336": Model("MODEL336", 3, 0.1),
    "lakeshore335": Model("MODEL335", 3, 0.1),
    "lakeshore350": Model("MODEL350", 5, 0.001),
}


class LakeshoreOptions(Options):
    """Which sensor is on the stage, which loop heats it, and what is cold."""

    sensor: Literal["A", "B", "C", "D"] = "A"
    second_sensor: Literal["A", "B", "C", "D"] = "B"
    loop: Literal[1, 2] = 1
    cold_setpoint: float = Field(88.15, ge=1.4, le=300)  # K; the stage is never held above it
    coolant_relay: Literal[1, 2] = 1
    flat_s: float = Field(30.0, gt=0)  # equal readings for so long: the sensor is frozen


class Lakeshore(LineDriver):
    """A 335, 336 or 350: thermometers, and the heater loop that holds the stage."""

    models = tuple(MODELS)
    role = "Thermostat"
    outputs = (Output("heater", "at or below the cold setpoint, or heater off", 0.2),)
    Options: ClassVar[type[Options]] = LakeshoreOptions
    options: LakeshoreOptions

    temperature = Parameter(float, unit="K", poll=0.5, doc="the stage; NaN while its sensor is bad")
    temperature_b = Parameter(float, unit="K", poll=1, doc="the second sensor")
    setpoint = Parameter(float, unit="K", poll=1, limits=(1.4, 475), output="heater",
                         doc="where the loop controls now; on the way while ramping")  # fmt: skip
    heater = Parameter(float, unit="%", read="HTR? {loop}", poll=1,
                       doc="of full current or power, as HTRSET says")  # fmt: skip
    heater_range = Parameter(int, poll=2, limits=(0, 5), safe_values=(0,), output="heater",
                             doc="0 off, 1 low … 3 high (5 on the 350)")  # fmt: skip
    ramp_rate = Parameter(float, unit="K/min", limits=(0, 100), output="heater", doc="0: no ramp")
    ramping = Parameter(bool, poll=2, doc="the setpoint is on its way")
    sensor_status = Parameter(str, poll=2, doc="good, or what is wrong with the stage's sensor")
    coolant = Parameter(bool, safe_values=(True,), output="heater",
                        doc="the relay that opens the cold gas, where it is wired")  # fmt: skip

    _loop: Loop | None = None  # as last read; None: unknown
    _fresh = True  # nothing asked since the port was opened: old events are nobody's

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._flat = Flatness()

    # ---- the wire ---------------------------------------------------------------------

    def open(self) -> None:
        self.close()
        self._link = LineLink(open_wire(self.address, USB), DIALECT)
        self._fresh = True

    def close(self) -> None:
        super().close()
        self._loop = None

    def identify(self) -> str:
        identity = self.link.ask("*IDN?")
        match = re.fullmatch(r"LSCI,(MODEL\d+),([^,]+),([^,]+)", identity)
        if match is None:
            self.link.out_of_step()
            raise Garbled(f"{self.name}: *IDN? → {identity!r}")
        if match[1] != MODELS[self.model].name:
            raise WrongInstrument(f"{self.name}: {self.model} is configured, {identity} answers")
        return identity

    def ask(self, text: str) -> str:
        return self._chain(text)[0]

    def tell(self, text: str) -> None:
        self._chain(text)

    def _chain(self, *parts: str) -> list[str]:
        """Several commands in one line; returns the answers of those that ask.

        `InstrumentError` when one was refused, `Disconnected` when the power has been away: what
        was set is gone then, and all must be read again.
        """
        link, line = self.link, ";".join(parts)
        reply = link.ask(f"{line};*ESR?")
        *answers, events = reply.split(";")
        if not re.fullmatch(r"\d{1,3}", events):
            link.out_of_step()
            raise Garbled(f"{self.name}: {line} → {reply!r}")
        fresh, self._fresh, bits = self._fresh, False, int(events)
        if bits & PON and not fresh:
            self._loop = None
            raise Disconnected(f"{self.name}: the instrument was switched off and on")
        whole = len(answers) == sum("?" in part for part in parts)
        if bits & (QYE | EXE | CME) and not (fresh and whole):
            raise InstrumentError(f"{self.name}: {line} was refused, event register {bits}")
        if not whole or not all(re.fullmatch(r"[ -~]+", answer) for answer in answers):
            link.out_of_step()
            raise Garbled(f"{self.name}: {line} → {reply!r}")
        return answers

    # ---- thermometers -----------------------------------------------------------------

    def read_temperature(self) -> float:
        return self._believe(*self._chain(*self._sensor_questions()))

    def read_temperature_b(self) -> float:
        reading, status = self._chain(*self._sensor_questions(self.options.second_sensor))
        return self._number(reading) if self._whole(status) == 0 else math.nan

    def read_sensor_status(self) -> str:
        status = self._chain(f"RDGST? {self.options.sensor}")[0]
        return reading_faults(self._whole(status)) or "good"

    def _number(self, text: str) -> float:
        return parse(float, text, self.name)

    def _whole(self, text: str) -> int:
        return parse(int, text, self.name)

    def _sensor_questions(self, sensor: str = "") -> tuple[str, str]:
        sensor = sensor or self.options.sensor
        return f"KRDG? {sensor}", f"RDGST? {sensor}"

    def _believe(self, reading: str, status: str) -> float:
        """The stage's temperature, NaN when the instrument itself does not believe it. A bad
        sensor reads +0.00000, which is no temperature."""
        value = self._number(reading)
        self._flat.see(value)
        return value if self._whole(status) == 0 else math.nan

    def _frozen(self) -> float | None:
        return self._flat.too_long(self.options.flat_s)

    # ---- the loop ---------------------------------------------------------------------

    def read_setpoint(self) -> float:
        return self._order().setpoint

    def write_setpoint(self, value: float) -> None:
        before = self._order()
        if before.input != number_of(self.options.sensor):
            raise InstrumentError(
                f"{self.name}.setpoint: loop {self.options.loop} does not control on input "
                f"{self.options.sensor} (OUTMODE {before.mode},{before.input}): set it there first"
            )
        self._loop = None
        after = self._order(self._setpoint(value, before.units))
        arrives = before.ramp and after.ramping
        if not arrives and not abs(after.setpoint - value) <= STEP:
            told, reads = show(value, "K"), show(after.setpoint, "K")
            raise InstrumentError(f"{self.name}.setpoint: told {told}, reads {reads}")

    def read_heater_range(self) -> int:
        return self._order().range

    def write_heater_range(self, value: int) -> None:
        highest = MODELS[self.model].highest_range
        if value > highest:
            raise OutOfRange(f"{self.name}.heater_range: {value} is outside 0 … {highest}")
        self._loop = None
        after = self._order(f"RANGE {self.options.loop},{value}").range
        if after != value:
            raise InstrumentError(f"{self.name}.heater_range: told {value}, reads {after}")

    def read_ramp_rate(self) -> float:
        loop = self._order()
        return loop.rate if loop.ramp else 0.0

    def write_ramp_rate(self, value: float) -> None:
        slowest = MODELS[self.model].slowest_ramp
        if 0 < value < slowest:
            raise OutOfRange(
                f"{self.name}.ramp_rate: {value:g} K/min is below {slowest:g} K/min (0: no ramp)"
            )
        rate = value or self._order().rate
        self._loop = None
        after = self._order(f"RAMP {self.options.loop},{int(value > 0)},{rate:.3f}")
        if after.ramp != (value > 0) or (value and abs(after.rate - value) > 0.001):
            raise InstrumentError(f"{self.name}.ramp_rate: told {value:g}, reads {after.rate:g}")

    def read_ramping(self) -> bool:
        return self._order().ramping

    def read_coolant(self) -> bool:
        return self.ask(f"RELAYST? {self.options.coolant_relay}").strip() == "1"

    def write_coolant(self, value: bool) -> None:
        relay = self.options.coolant_relay
        _, *alarm = self.ask(f"RELAY? {relay}").split(",")
        order = ",".join([f"RELAY {relay}", str(int(value)), *alarm])
        if self._chain(order, f"RELAYST? {relay}")[0].strip() != str(int(value)):
            raise InstrumentError(f"{self.name}.coolant: relay {relay} did not switch")

    def _order(self, *orders: str) -> Loop:
        """Give `orders`, then read the whole loop, all in one line."""
        return self._describe(self._chain(*orders, *self._questions()))

    def _questions(self) -> list[str]:
        return questions(self.options.loop, self.options.sensor)

    def _describe(self, answers: list[str]) -> Loop:
        self._loop = None
        self._loop = read_loop(answers, f"{self.name} loop {self.options.loop}")
        return self._loop

    def _setpoint(self, kelvin: float, units: str) -> str:
        return setpoint_order(self.options.loop, kelvin, units, f"{self.name}.setpoint")

    def _cold(self, loop: Loop) -> bool:
        return loop.cold(self.options.sensor, self.options.cold_setpoint)

    # ---- safety -----------------------------------------------------------------------

    def make_safe(self, sensor_good: bool | None = None) -> None:
        """Stay cold: with a sensor to be believed hold, or go on to the cold setpoint; heater off
        with any other, or when the loop cannot hold. Never held above the cold setpoint."""
        if sensor_good is not False:
            with contextlib.suppress(NotSafe):
                retry_safe(self, self._stay_cold, "staying cold")
                return
        retry_safe(self, self._switch_off, "heater off")

    @command("safe", output="heater")
    def hold_cold(self) -> None:
        """Go to the cold setpoint and hold there; heater off if that cannot be."""
        self.make_safe()

    @command("safe", output="heater")
    def heater_off(self) -> None:
        """Switch the heater off, and make sure."""
        retry_safe(self, self._switch_off, "heater off")

    def outputs_on(self) -> list[str]:
        """The heater counts as on while it may heat above the cold setpoint."""
        return [] if self._loop is not None and self._cold(self._loop) else ["heater"]

    def _stay_cold(self) -> bool:
        reading, status, *answers = self._chain(*self._sensor_questions(), *self._questions())
        loop = self._describe(answers)
        if self._cold(loop) and not loop.range:
            return True
        temperature = self._believe(reading, status)
        if math.isnan(temperature) or self._frozen() or not loop.holdable(self.options.sensor):
            return self._switch_off()
        if self._cold(loop):
            return True
        still = f"RAMP {self.options.loop},0,{loop.rate:.3f}"
        return self._cold(
            self._order(still, self._setpoint(self.options.cold_setpoint, loop.units))
        )

    def _switch_off(self) -> bool:
        loop = self.options.loop
        self._loop = None
        self.link.shout(f"RANGE {loop},0")
        percent, *answers = self._chain(f"HTR? {loop}", *self._questions())
        return self._describe(answers).range == 0 and self._number(percent) == 0

    def status(self) -> Status:
        """Sensor and heater faults first, then what the loop does."""
        reading, fault, heater, *answers = self._chain(
            *self._sensor_questions(), f"HTRST? {self.options.loop}", *self._questions()
        )
        loop, now = self._describe(answers), show(self._believe(reading, fault), "K")
        if faults := reading_faults(self._whole(fault)):
            return Status(Severity.ERROR, f"sensor {self.options.sensor}: {faults}")
        if flat := self._frozen():
            return Status(
                Severity.ERROR, f"sensor {self.options.sensor} stands still: {flat:.0f} s"
            )
        if heater.strip() in _HEATER_FAULTS:
            words = _HEATER_FAULTS[heater.strip()]
            return Status(Severity.ERROR, f"heater {self.options.loop}: {words}")
        if loop.range == 0:
            return Status(Severity.IDLE, f"heater off, {now}")
        goal = show(loop.setpoint, "K")
        if loop.ramping:
            return Status(Severity.BUSY, f"ramping at {loop.rate:g} K/min, at {goal}; {now}")
        return Status(Severity.IDLE, f"controls at {goal}; {now}")
