"""A Keithley 6485 picoammeter at the Faraday cup: RS-232 9600 8N1, or the same bytes over TCP.

Written from the instruction manual (6485-901-01, chapters 3, 9, 13 to 16) and from what public
clients send it. Zero check is on after power-up: the input is disconnected, and what it reads then
is its own offset. Lines end as the menu says; unless told, as the client's own lines end.
"""

from __future__ import annotations

from collections.abc import Callable

from coldframe.simulators.command_tree import Action, CommandTree, Refused, split_line
from coldframe.simulators.faults import Faults
from coldframe.simulators.keithley6485_settings import (
    CHOICES,
    CURRENT,
    KEPT,
    number_in,
    switch,
    word_of,
)
from coldframe.simulators.ports import Conversation, Instrument, Lines, Send
from coldframe.simulators.world import World

OVERFLOW, NAN = 9.9e37, 9.91e37  # manual 13-6
RANGES = tuple(2 * 10.0**power for power in range(-9, -1))  # 2 nA … 20 mA
OVERRANGE = 1.05  # full scale is 105 % of the range
OFFSET = 1e-4  # of the range: its own input offset, what zero correct takes away
WRAP = 100_000.0  # s: the timestamp begins anew
STAT_OVERFLOW, STAT_FILTER, STAT_NULL, STAT_ZCHECK, STAT_ZCORRECT = 1, 2, 8, 512, 1024
ELEMENTS = ("READ", "UNIT", "TIME", "STAT")
ENDS = {"CR": b"\r", "LF": b"\n", "CRLF": b"\r\n"}
QUEUE = 10  # messages (manual 10)


class Keithley6485Simulator(Instrument):
    """The meter's settings, its zero check, and the current that falls into the cup."""

    models = ("keithley6485",)
    transports = ("serial", "tcp")

    range: float  # A
    auto: bool
    elements: tuple[str, ...]
    correction: float  # of the range
    reading: tuple[float, bool] | None  # the last: A, overflow
    _last: dict[str, str]

    identity = "KEITHLEY INSTRUMENTS INC.,MODEL 6485,4126216,C01   Jun 23 2010 12:22:00/A02  /J"

    def __init__(
        self, world: World, model: str = "", faults: Faults | None = None, *, terminator: str = ""
    ):
        self.terminator = terminator  # the menu's: CR, LF or CRLF; empty: as the client's
        self.writes: list[str] = []
        self._tree = self._build()
        super().__init__(world, model, faults)

    def power_on(self) -> None:
        self.errors: list[str] = []
        self.events = 128
        self.state = {name: choice.first for name, choice in CHOICES.items()}
        self._began = self.world.now
        self._reset()

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Talk(send, self.answer, ENDS.get(self.terminator))

    def answer(self, line: str) -> str | None:
        """Obey one line; the answers of its questions joined by `;`, or None."""
        answers, path = [], ""
        for command in split_line(line):
            try:
                action, arguments, path = self._find(command, path)
                if (answer := self._obey(command, action, arguments)) is not None:
                    answers.append(answer)
            except Refused as refusal:
                self._complain(refusal)
                if refusal.number > -200:
                    break  # after a command error the rest of the line is discarded
        return ";".join(answers) if answers else None

    def _find(self, command: str, path: str) -> tuple[Action, list[str], str]:
        """The action of a command, looked for beside the one before it in the line, then at the
        root; and where the next is looked for."""
        if path and not command.startswith((":", "*")):
            try:
                beside = f"{path}:{command}"
                return *self._tree.find(beside), path + _stem(f":{command}")
            except Refused:
                pass
        action, arguments = self._tree.find(command)
        if command.startswith("*"):
            return action, arguments, path
        return action, arguments, _stem(command if command.startswith(":") else f":{command}")

    def _obey(self, command: str, action: Action, arguments: list[str]) -> str | None:
        asking = "?" in command.split(" ")[0]
        harmless = command.upper().lstrip(":").startswith(("*CLS", "*WAI", "*OPC", "INIT", "ABOR"))
        if not asking and not harmless:
            self.writes.append(command)
            if self.faults.on("lie"):
                return None
        return action(arguments)

    def _complain(self, refusal: Refused) -> None:
        self.events |= 32 if -200 < refusal.number <= -100 else 16
        self.errors.append(str(refusal))
        if len(self.errors) > QUEUE:
            self.errors[QUEUE - 1 :] = ['-350,"Queue overflow"']

    # ---- what it measures ---------------------------------------------------------------

    def _measure(self) -> str:
        """One reading as FORMat:ELEMents lays it out; it is also what FETCh? repeats."""
        frozen = self.faults.on("frozen") and self.reading is not None
        if not frozen:
            self.reading = self._sample()
        value, overflow = self.reading or (0.0, False)
        if self.faults.on("nan"):
            value = NAN
        status = STAT_OVERFLOW if overflow else 0
        for name, bit in (("average", STAT_FILTER), ("null", STAT_NULL),
                          ("zcheck", STAT_ZCHECK), ("zcorrect", STAT_ZCORRECT)):  # fmt: skip
            status |= bit if self.state[name] == "1" else 0
        stamp = (self.world.now - self._began) % WRAP
        self._last = {
            "READ": f"{value:+.6E}" + ("A" if "UNIT" in self.elements else ""),
            "TIME": f"{stamp:+.6E}",
            "STAT": f"{float(status):+.6E}",
        }
        return self._show()

    def _sample(self) -> tuple[float, bool]:
        checked = self.state["zcheck"] == "1"
        samples = int(self.state["count"]) if self.state["average"] == "1" else 1
        currents = [0.0 if checked else self.world.cup.current() for _ in range(samples)]
        current = sum(currents) / samples
        if self.auto and not checked:
            lower, upper = float(self.state["lower"]), float(self.state["upper"])
            fit = [r for r in RANGES if lower <= r <= upper and abs(current) <= r * OVERRANGE]
            self.range = min(fit, default=min(RANGES, key=lambda r: abs(r - upper)))
        if abs(current) > self.range * OVERRANGE:
            return (OVERFLOW if current > 0 else -OVERFLOW), True
        value = current + OFFSET * self.range
        if self.state["zcorrect"] == "1":
            value -= self.correction * self.range
        if self.state["null"] == "1":
            value -= float(self.state["offset"])
        return value, False

    def _show(self) -> str:
        return ",".join(self._last[name] for name in self.elements if name in self._last)

    # ---- the tree -----------------------------------------------------------------------

    def _build(self) -> CommandTree:
        tree = CommandTree()
        for name, choice in CHOICES.items():
            tree.add(choice.header, self._setter(name))
            tree.add(f"{choice.header}?", self._getter(name))
        orders: dict[str, Action] = {
            "*IDN?": lambda _: self.identity,
            "*OPC?": lambda _: "1",
            "*TST?": lambda _: "0",
            "*ESR?": self._esr,
            "*STB?": lambda _: "4" if self.errors else "0",
            "*RST": lambda _: self._reset(),
            ":SYSTem:PRESet": lambda _: self._reset(),
            "*CLS": lambda _: self._clear(),
            ":SYSTem:CLEar": lambda _: self.errors.clear(),
            ":SYSTem:ERRor[:NEXT]?": self._error,
            ":STATus:QUEue[:NEXT]?": self._error,
            ":SYSTem:ERRor:COUNt?": lambda _: str(len(self.errors)),
            ":SYSTem:VERSion?": lambda _: "1996.0",
            ":SYSTem:TIME:RESet": self._restart_time,
            ":SYSTem:ZCORrect:ACQuire": self._acquire,
            ":CALCulate2:NULL:ACQuire": self._acquire_null,
            f"{CURRENT}:RANGe[:UPPer]": self._set_range,
            f"{CURRENT}:RANGe[:UPPer]?": lambda _: f"{self.range:.6E}",
            f"{CURRENT}:RANGe:AUTO": self._set_auto,
            f"{CURRENT}:RANGe:AUTO?": lambda _: str(int(self.auto)),
            ":FORMat:ELEMents": self._set_elements,
            ":FORMat:ELEMents?": lambda _: ",".join(self.elements),
            ":INITiate[:IMMediate]": self._initiate,
            ":READ?": self._read,
            ":MEASure[:CURRent[:DC]]?": self._measure_once,
            ":CONFigure[:CURRent[:DC]]": lambda _: self._configure(),
            ":CONFigure?": lambda _: '"CURR:DC"',
            ":FETCh?": self._fetch,
            ":SENSe[1]:DATA[:LATest]?": self._fetch,
            ":STATus:MEASurement[:EVENt]?": lambda _: "0",
            ":STATus:OPERation[:EVENt]?": lambda _: "0",
            ":STATus:QUEStionable[:EVENt]?": lambda _: "0",
        }
        quiet = ("*OPC", "*WAI", "*TRG", ":ABORt", ":SYSTem:LOCal", ":SYSTem:REMote", ":SYSTem:KEY",
                 ":SYSTem:RWLock", ":STATus:PRESet")  # fmt: skip
        orders |= {header: lambda _: None for header in quiet}
        for header, action in orders.items():
            tree.add(header, action)
        return tree

    def _getter(self, name: str) -> Action:
        return lambda _: self.state[name]

    def _setter(self, name: str) -> Callable[[list[str]], None]:
        def obey(arguments: list[str]) -> None:
            self.state[name] = CHOICES[name].read(_only(arguments))

        return obey

    def _reset(self) -> None:
        self.state |= {n: choice.first for n, choice in CHOICES.items() if n not in KEPT}
        self.range, self.auto = RANGES[0], True
        self.elements, self.correction = ELEMENTS, 0.0
        self.reading, self._last = None, {}

    def _clear(self) -> None:
        self.errors.clear()
        self.events = 0

    def _esr(self, arguments: list[str]) -> str:
        events, self.events = self.events, 0
        return str(events)

    def _error(self, arguments: list[str]) -> str:
        return self.errors.pop(0) if self.errors else '0,"No error"'

    def _restart_time(self, arguments: list[str]) -> None:
        self._began = self.world.now

    def _acquire(self, arguments: list[str]) -> None:
        """Zero correct takes the last reading, and only while zero check is on."""
        if self.state["zcheck"] == "0" or self.reading is None:
            raise Refused(-221, "Settings conflict")
        self.correction = self.reading[0] / self.range

    def _acquire_null(self, arguments: list[str]) -> None:
        if self.reading is None:
            raise Refused(-230, "Data corrupt or stale")
        self.state["offset"] = f"{self.reading[0]:+.6E}"

    def _set_range(self, arguments: list[str]) -> None:
        wanted = float(number_in(-0.021, 0.021, ".6E")(_only(arguments)))
        # the range that holds the value; a hair of tolerance for decimals
        self.range = next(r for r in RANGES if abs(wanted) <= r * OVERRANGE * (1 + 1e-9))
        self.auto = False

    def _set_auto(self, arguments: list[str]) -> None:
        self.auto = switch(_only(arguments)) == "1"

    def _set_elements(self, arguments: list[str]) -> None:
        known = word_of("READing", "UNITs", "TIME", "STATus")
        chosen = {known(argument) for argument in arguments}
        if not chosen:
            raise Refused(-109, "Missing parameter")
        self.elements = tuple(name for name in ELEMENTS if name in chosen)

    def _initiate(self, arguments: list[str]) -> None:
        for _ in range(int(self.state["trigger_count"])):
            self._measure()

    def _read(self, arguments: list[str]) -> str:
        return ",".join(self._measure() for _ in range(int(self.state["trigger_count"])))

    def _measure_once(self, arguments: list[str]) -> str:
        self._configure()
        return self._measure()

    def _configure(self) -> None:
        self.state |= {"trigger_count": "1", "trigger_delay": "0.0000", "arm_count": "1"}
        self.auto = True

    def _fetch(self, arguments: list[str]) -> str:
        if not self._last:
            raise Refused(-230, "Data corrupt or stale")
        return self._show()


class Talk(Lines):
    """Lines whose answers end as the questions do; ^C and ^X clear what was begun."""

    def __init__(self, send: Send, answer: Callable[[str], str | None], end: bytes | None):
        super().__init__(send, answer, end or b"\r")
        self._mirror = end is None

    def feed(self, data: bytes) -> None:
        if self._mirror and (b"\r" in data or b"\n" in data):
            ends = (b"\r\n", b"\r", b"\n")
            self._end = next(end for end in ends if end in data)
        for stop in (b"\x03", b"\x18"):
            if stop in data:
                self._buffer, data = b"", data.rpartition(stop)[2]
        super().feed(data)


def _only(arguments: list[str]) -> str:
    if len(arguments) != 1:
        missing = not arguments
        raise Refused(
            *((-109, "Missing parameter") if missing else (-108, "Parameter not allowed"))
        )
    return arguments[0]


def _stem(command: str) -> str:
    """The path of a command without its last node."""
    return command.split(" ")[0].rpartition(":")[0]
