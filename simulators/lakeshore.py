"""A Lake Shore 335, 336 or 350 on the far side of its wire: TCP 7777 (not the 335) or USB serial.

Written from the manuals' chapter 6 and a transcript of the vendor's own Python driver: `;` and `;:`
chain, the replies of one line come back on one line joined by `;`, blanks mean nothing, an empty
line has no answer, and what it does not understand sets CME in the event register and is silent.

Output 1 feeds the stage's heater, input A is on the stage, input B on the gas line, and relay 1
opens the valve of the cold gas.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from coldframe.simulators.heater_loop import FULL, HeaterLoop
from coldframe.simulators.lakeshore_sensors import WIRED, Sensors, six, volts
from coldframe.simulators.lakeshore_settings import (
    FAMILIES,
    VOLATILE,
    BadCommand,
    CannotExecute,
    settings,
)
from coldframe.simulators.ports import Conversation, Instrument, Lines, Send
from coldframe.units import ZERO_CELSIUS

OPC, EXE, CME, PON = 1, 16, 32, 128  # standard event status register
NEW_READING, RAMP_DONE = 16, {1: 8, 2: 4}  # operation event register
CONTROL_PERIOD = 0.5  # lab s; the real one works its loops 10 times a second
PRESET_CURRENTS = (1.0, 0.707, 1.0, 1.141, 2.0)  # A, by code; 0 is user-set

ORDERS = ("*RST", "DFLT", "MNMXRST", "ALMRST", "CRVDEL", "ATUNE")  # that are no settings
FIXED = {
    "*OPC": "1",
    "*TST": "0",
    "TEMP": "+295.000",  # K, of the thermocouples' junction
    "TUNEST": "0,1,0,0",
    "NETID": "6,127.0.0.1,255.0.0.0,0.0.0.0,0.0.0.0,0.0.0.0,000000000000,LSCI,local",
}

_COMMAND = re.compile(r"\s*:?\s*(\*?[A-Za-z]+)\s*(\??)(.*)", re.DOTALL)
Query = Callable[[list[str]], str]


class LakeshoreSimulator(Instrument):
    """Thermometers, heater loops and everything the vendor's driver asks about."""

    models = ("lakeshore336", "lakeshore335", "lakeshore350")
    transports = ("tcp", "serial")

    def power_on(self) -> None:
        """Heaters off (unless their power-up bit is set), settings as they were, PON in the ESR."""
        self.family = FAMILIES[self.model]
        self._table = settings(self.family)
        if not hasattr(self, "memory"):
            self.writes: list[str] = []
            self.memory: dict[tuple[str, ...], list[str]] = {}
            self._factory()
        for head in VOLATILE:
            for key in [key for key in self.memory if key[0] == head]:
                if head == "MODE" or self._stored("OUTMODE", *key[1:])[2] == "0":
                    del self.memory[key]
        self.loops = {
            str(n): HeaterLoop(*[float(self._stored("SETP", str(n))[0])] * 2)
            for n in range(1, self.family.outputs + 1)
        }
        self.events, self.operation = PON, 0
        self._time = self.world.now
        self.sensors = Sensors(self.world.stage, self.family.inputs, self.faults)
        self._drive()

    @property
    def longest_step(self) -> float:
        """How long the world may move between two looks: shorter while a loop controls."""
        busy = any(loop.ramping or self._range(n) for n, loop in self.loops.items())
        return CONTROL_PERIOD if busy else math.inf

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Lines(send, self.answer)

    def tick(self) -> None:
        dt, self._time = self.world.now - self._time, self.world.now
        if dt <= 0:
            return
        self.sensors.sample()
        for n, loop in self.loops.items():
            if loop.follow(float(self._stored("RAMP", n)[1]), dt):
                self.operation |= RAMP_DONE.get(int(n), 0)
            self._work(n, loop, dt)
        self._drive()

    # ---- the dialect ------------------------------------------------------------------

    def answer(self, line: str) -> str | None:
        """The reply to one line, or None: an order, or something not understood."""
        replies = []
        for part in re.findall(r'(?:"[^"]*"|[^;"]|")+', line):
            try:
                reply = self._obey(part)
            except BadCommand:
                self.events |= CME
            except CannotExecute:
                self.events |= EXE
            else:
                if reply is not None:
                    replies.append(reply)
        return ";".join(replies) if replies else None

    def _obey(self, part: str) -> str | None:
        if not part.strip():
            return None
        match = _COMMAND.fullmatch(part)
        if match is None:
            raise BadCommand(part)
        head, asks = match[1].upper(), bool(match[2])
        words = [word.strip() for word in match[3].split(",")] if match[3].strip() else []
        if asks:
            return self._query(head, words)
        self._order(head, words, part.strip())
        return None

    def _query(self, head: str, words: list[str]) -> str:
        if head in FIXED:
            return FIXED[head]
        special: Query | None = getattr(self, f"_ask_{head.lower().lstrip('*')}", None)
        if special is not None:
            return special(words)
        key, rest = self._key(head, words)
        if rest:
            raise BadCommand(f"{head}? takes no {rest}")
        return ",".join(self._stored(*key))

    def _order(self, head: str, words: list[str], text: str) -> None:
        if head == "*CLS":
            self.events = self.operation = 0
            return
        if head == "*OPC":
            self.events |= OPC
            return
        if head == "*WAI":
            return
        known = head in self._table
        if not known and head not in ORDERS:
            raise BadCommand(head)
        values = self._check(head, words) if known else []
        self.writes.append(text)
        if self.faults.on("lie"):
            return
        if known:
            key, _ = self._key(head, words)
            self._store(key, values)
        elif head == "*RST":
            self.power_on()
        elif head == "DFLT":
            self._factory()
            self.power_on()
        elif head == "MNMXRST":
            self.sensors.forget_extremes()
        elif head == "CRVDEL":
            self.memory = {k: v for k, v in self.memory.items() if k[0] != "CRVPT"}

    def _check(self, head: str, words: list[str]) -> list[str]:
        key, rest = self._key(head, words)
        fields = self._table[head].fields
        if len(rest) != len(fields):
            raise BadCommand(f"{head} takes {len(fields)} values")
        old = self._stored(*key)
        values = [field(w) if w else o for field, w, o in zip(fields, rest, old, strict=True)]
        if head == "SETP" and self._kelvin(key[1], float(values[0])) < 0:
            raise CannotExecute("below absolute zero")
        if head == "RANGE" and int(key[1]) > 2 and int(values[0]) > 1:
            raise CannotExecute("an analog output is on or off")
        if head == "RAMP" and 0 < float(values[1]) < self.family.slowest_ramp:
            raise CannotExecute("too slow a ramp")
        return values

    def _store(self, key: tuple[str, ...], values: list[str]) -> None:
        head = key[0]
        self.memory[key] = values
        if head == "SETP":
            on = self._stored("RAMP", key[1])[0] == "1"
            self.loops[key[1]].aim(self._kelvin(key[1], float(values[0])), on)
        elif head == "RAMP" and values[0] == "0":
            self.loops[key[1]].stand()
        elif head in ("RANGE", "OUTMODE"):
            self.loops[key[1]].rest()
        elif head == "RELAY" and key[1] == "1" and values[0] != "2":
            self.world.stage.cooling = values[0] == "1"
        self._drive()

    def _key(self, head: str, words: list[str]) -> tuple[tuple[str, ...], list[str]]:
        """Which of its settings `head` means, and the words left over."""
        setting = self._table.get(head)
        if setting is None:
            raise BadCommand(head)
        outputs = 2 if head in ("HTRSET", "RAMP") and self.family.outputs == 4 else None
        if head == "RAMP" and self.family.name == "MODEL350":
            outputs = 4
        count = {"": 0, "point": 2, "zone": 2}.get(setting.chosen_by, 1)
        index = [word.upper() for word in words[:count]]
        most = {
            "output": (outputs or self.family.outputs,), "relay": (2,), "field": (8,),
            "curve": (59,), "point": (59, 200), "zone": (2, 10),
        }.get(setting.chosen_by, ())  # fmt: skip
        if len(index) < count or (
            setting.chosen_by == "input" and index[0] not in self.family.inputs
        ):
            raise BadCommand(f"{head} {words}")
        for i, limit in enumerate(most):
            if not index[i].isdecimal() or not 1 <= int(index[i]) <= limit:
                raise BadCommand(f"{head} {index[i]}")
            index[i] = str(int(index[i]))
        return (head, *index), words[count:]

    def _stored(self, *key: str) -> list[str]:
        if key not in self.memory:
            fields, first, _ = self._table[key[0]]
            self.memory[key] = [f(t) for f, t in zip(fields, first.split(","), strict=True)]
        return self.memory[key]

    def _factory(self) -> None:
        self.memory.clear()
        for n, name in ((1, "A"), (2, "B")):
            self.memory["OUTMODE", str(n)] = ["1", str(n), "0"]
            self.memory["INNAME", name] = [f"Input {name}".ljust(15)]
        for name in self.family.inputs:
            if name not in WIRED:
                self.memory["INTYPE", name] = ["0", *self._stored("INTYPE", name)[1:]]

    # ---- questions that are no settings -------------------------------------------------

    def _ask_idn(self, words: list[str]) -> str:
        return f"LSCI,{self.family.name},LSA{self.family.usb:04X}/LSO{self.family.usb:04X},2.9"

    def _ask_esr(self, words: list[str]) -> str:
        events, self.events = self.events, 0
        return f"{events:03d}"

    def _ask_stb(self, words: list[str]) -> str:
        standard = 32 if self.events & int(self._stored("*ESE")[0]) else 0
        operation = 128 if self.operation & int(self._stored("OPSTE")[0]) else 0
        return f"{standard | operation:03d}"

    def _ask_opst(self, words: list[str]) -> str:
        return f"{self.operation | NEW_READING:03d}"

    def _ask_opstr(self, words: list[str]) -> str:
        events, self.operation = self.operation | NEW_READING, 0
        return f"{events:03d}"

    def _ask_krdg(self, words: list[str]) -> str:
        return self._each(words, lambda kelvin: kelvin)

    def _ask_crdg(self, words: list[str]) -> str:
        return self._each(words, lambda kelvin: kelvin - ZERO_CELSIUS)

    def _ask_srdg(self, words: list[str]) -> str:
        return self._each(words, volts)

    def _ask_rdgst(self, words: list[str]) -> str:
        return f"{self.sensors.status(self._input(words)):03d}"

    def _ask_setp(self, words: list[str]) -> str:
        (_, n), _ = self._key("SETP", words)
        return f"{self._preferred(n, self.loops[n].setpoint):+.4f}"

    def _ask_rampst(self, words: list[str]) -> str:
        (_, n), _ = self._key("RAMP", words)
        return str(int(self.loops[n].ramping))

    def _ask_htr(self, words: list[str]) -> str:
        (_, n), _ = self._key("HTRSET", words)
        share = self.loops[n].percent / FULL
        shown = math.sqrt(share) if self._stored("HTRSET", n)[-1] == "1" else share
        return f"{shown * FULL:+.1f}"

    def _ask_htrst(self, words: list[str]) -> str:
        self._key("HTRSET", words)
        return "0"

    def _ask_aout(self, words: list[str]) -> str:
        (_, n), _ = self._key("RANGE", words)
        return f"{self.loops[n].percent:+.3f}"

    def _ask_mdat(self, words: list[str]) -> str:
        low, high = self.sensors.extremes.get(self._input(words), (0.0, 0.0))
        return f"{six(low)},{six(high)}"

    def _ask_alarmst(self, words: list[str]) -> str:
        self._input(words)
        return "0,0"

    def _ask_relayst(self, words: list[str]) -> str:
        (_, n), _ = self._key("RELAY", words)
        return str(int(self._stored("RELAY", n)[0] == "1"))

    def _each(self, words: list[str], show: Callable[[float], float]) -> str:
        names = self.family.inputs if words == ["0"] else self._input(words)
        readings = [self.sensors.readings[name] for name in names]
        return ",".join(six(0.0 if value is None else show(value)) for value in readings)

    def _input(self, words: list[str]) -> str:
        if len(words) != 1 or words[0].upper() not in self.family.inputs:
            raise BadCommand(f"no input {words}")
        return words[0].upper()

    # ---- loops -------------------------------------------------------------------------

    def _range(self, n: str) -> int:
        return int(self._stored("RANGE", n)[0])

    def _control_input(self, n: str) -> str | None:
        number = int(self._stored("OUTMODE", n)[1])
        return self.family.inputs[number - 1] if number else None

    def _work(self, n: str, loop: HeaterLoop, dt: float) -> None:
        mode, name = self._stored("OUTMODE", n)[0], self._control_input(n)
        reading = self.sensors.readings[name] if name else None
        manual = float(self._stored("MOUT", n)[0])
        if not self._range(n) or mode in ("0", "4", "5", "6"):
            loop.rest()
        elif mode == "3":
            loop.rest(manual)
        elif reading is None:  # a sensor fault takes the output away
            loop.rest()
        else:
            p, i, d = (float(value) for value in self._stored("PID", n))
            loop.control(reading, (p, i, d), manual, dt)
        limit = float(self._stored("TLIMIT", name)[0]) if name else 0.0
        if limit and reading is not None and reading > limit:
            self.memory["RANGE", n] = ["0"]
            loop.rest()

    def _drive(self) -> None:
        """Output 1's share of its range's power goes to the stage."""
        setup = self._stored("HTRSET", "1")[-4:]
        ohms = 25.0 if setup[0] == "1" else 50.0
        amperes = float(setup[2]) if setup[1] == "0" else PRESET_CURRENTS[int(setup[1])]
        power, level = amperes**2 * ohms, self._range("1")
        if level:
            power *= self.family.range_step ** (level - self.family.ranges)
        self.world.stage.heater_watts = power * self.loops["1"].percent / FULL if level else 0.0

    def _preferred(self, n: str, kelvin: float) -> float:
        """A setpoint in the preferred units of the loop's input."""
        name = self._control_input(n)
        return kelvin - ZERO_CELSIUS if name and self._stored("INTYPE", name)[4] == "2" else kelvin

    def _kelvin(self, n: str, value: float) -> float:
        return value + value - self._preferred(n, value)
