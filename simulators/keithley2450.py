"""A Keithley 2450 source-measure unit on LAN port 5025, at the leads of the bias circuit.

Written from the reference manual (2450-901-01, chapters 2 and 6). It powers up as the real one
does: output off in the off-state NORMAL, which is a voltage source at 0 V across the cell.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from coldframe.simulators.command_tree import CommandTree, Refused, split_line
from coldframe.simulators.ports import Conversation, Instrument, Lines, Send

NAN, OVERFLOW = 9.91e37, 9.9e37  # SCPI-99 volume 1, 7.2.1.4 and 7.2.1.5
OFF_STATES = {"NORM": "NORMAL", "HIMP": "HIMPEDANCE", "ZERO": "ZERO", "GUAR": "GUARD"}
FUNCTIONS = {"VOLT": "VOLTAGE", "CURR": "CURRENT"}
LEVEL_LIMIT = {"VOLT": 210.0, "CURR": 1.05}
LIMIT_RANGE = {
    "VOLT": (1e-9, 1.05),
    "CURR": (0.02, 210.0),
}  # A beside a voltage, V beside a current
QUEUE = 100


class Keithley2450Simulator(Instrument):
    """The unit's state, its SCPI tree and what it does to the circuit."""

    models: ClassVar[tuple[str, ...]] = ("keithley2450",)
    transports: ClassVar[tuple[str, ...]] = ("tcp",)

    identity = "KEITHLEY INSTRUMENTS,MODEL 2450,04089762,1.7.12b"
    language = "SCPI"

    def power_on(self) -> None:
        self.writes: list[str] = []
        self._errors: list[str] = []
        self._frozen: tuple[float, float] | None = None
        self._tree = self._build()
        self._reset()

    def converse(self, send: Send, port: int = 0) -> Conversation:
        return Lines(send, self.answer, end=b"\n")

    def answer(self, line: str) -> str | None:
        """Obey one line; the answers of its questions joined by `;`, or None."""
        answers = []
        for command in split_line(line):
            try:
                if (answer := self._obey(command)) is not None:
                    answers.append(answer)
            except Refused as refusal:
                self._errors.append(str(refusal)[:-1] + ';1,0,0"')
                del self._errors[QUEUE:]
                break  # the rest of the line is discarded
        return ";".join(answers) if answers else None

    def _obey(self, command: str) -> str | None:
        action, arguments = self._tree.find(command)
        asking = command.split(" ")[0].endswith("?")
        if not asking:
            if self.faults.on("lie"):
                return None
            self.writes.append(command)
        answer = action(arguments)
        if not asking:
            self._drive()
        return answer

    # ---- what it does to the circuit ------------------------------------------------

    def _reset(self) -> None:
        self.output = False
        self.function = "VOLT"
        self.off_state = {"VOLT": "NORM", "CURR": "NORM"}
        self.level = {"VOLT": 0.0, "CURR": 0.0}
        self.limit = {"VOLT": 1.05e-4, "CURR": 2.0}  # ILIM 105 uA, VLIM 2 V (chapter 6)
        self.readback = {"VOLT": True, "CURR": True}
        self.sense = "CURR"
        self.settings: dict[str, str] = {}
        self._drive()

    def _drive(self) -> None:
        """Connect to the circuit what the present state connects to it."""
        circuit, function = self.world.circuit, self.function
        if self.output:
            mode: Any = "voltage" if function == "VOLT" else "current"
            circuit.drive(mode, self.level[function], self.limit[function])
        elif self.off_state[function] == "HIMP":
            circuit.drive("open")  # "the output relay opens" (chapter 6, :OUTP:SMOD)
        elif self.off_state[function] == "ZERO":
            circuit.drive("voltage", 0.0, self.limit["VOLT"])
        elif self.off_state[function] == "GUAR":
            circuit.drive("current", 0.0, 2.1)  # 10 % of the 21 V range
        else:
            circuit.drive("off_normal")

    def _pair(self) -> tuple[float, float]:
        if self.faults.on("nan"):
            return NAN, NAN
        if not self.faults.on("frozen"):
            self._frozen = None
            return self.world.circuit.read()
        if self._frozen is None:
            self._frozen = self.world.circuit.read()
        return self._frozen

    # ---- the commands -----------------------------------------------------------------

    def _build(self) -> CommandTree:
        tree = CommandTree()
        add = tree.add
        add("*IDN?", lambda _: self.identity)
        add("*LANG?", lambda _: self.language)
        add("*OPC?", lambda _: "1")
        add("*RST", lambda _: self._reset())
        add("*CLS", lambda _: self._errors.clear())
        add(":SYSTem:ERRor[:NEXT]?", lambda _: self._next_error())
        add(":SYSTem:ERRor:COUNt?", lambda _: str(len(self._errors)))
        add(":SYSTem:CLEar", lambda _: self._errors.clear())
        add(":OUTPut[1][:STATe]", self._set_output)
        add(":OUTPut[1][:STATe]?", lambda _: str(int(self.output)))
        add(":OUTPut[1]:INTerlock:TRIPped?", lambda _: "1")
        add(":OUTPut[1]:SMODe", self._set_all_off_states)
        add(":OUTPut[1]:SMODe?", lambda _: self.off_state[self.function])
        add("[:SOURce[1]]:FUNCtion[:MODE]", self._set_function)
        add("[:SOURce[1]]:FUNCtion[:MODE]?", lambda _: self.function)
        add("[:SENSe[1]]:FUNCtion[:ON]", self._set_sense)
        add("[:SENSe[1]]:FUNCtion[:ON]?", lambda _: f'"{self.sense}:DC"')
        for short, header, limit in (("VOLT", "VOLTage", "ILIMit"), ("CURR", "CURRent", "VLIMit")):
            self._add_function(tree, short, header, limit)
        for header in (":READ", ":MEASure", ":FETCh"):
            add(f"{header}?", self._read)
        add(":MEASure:VOLTage[:DC]?", lambda a: self._read(a, "VOLT"))
        add(":MEASure:CURRent[:DC]?", lambda a: self._read(a, "CURR"))
        self._add_plain(tree, ":ROUTe:TERMinals", "FRON")
        self._add_plain(tree, ":FORMat[:DATA]", "ASC")
        self._add_plain(tree, ":SENSe[1]:COUNt", "1")
        return tree

    def _add_function(self, tree: CommandTree, short: str, header: str, limit: str) -> None:
        source = f"[:SOURce[1]]:{header}"

        def set_level(arguments: list[str]) -> None:
            self.level[short] = number(arguments, -LEVEL_LIMIT[short], LEVEL_LIMIT[short])

        def set_limit(arguments: list[str]) -> None:
            self.limit[short] = number(arguments, *LIMIT_RANGE[short])

        def set_readback(arguments: list[str]) -> None:
            self.readback[short] = boolean(arguments)

        def set_off_state(arguments: list[str]) -> None:
            self.off_state[short] = word(arguments, OFF_STATES)

        def tripped(_: list[str]) -> str:
            return str(int(self.output and self.world.circuit.in_compliance))

        tree.add(f"{source}[:LEVel][:IMMediate][:AMPLitude]", set_level)
        tree.add(f"{source}[:LEVel][:IMMediate][:AMPLitude]?", lambda _: show(self.level[short]))
        tree.add(f"{source}:{limit}[:LEVel]", set_limit)
        tree.add(f"{source}:{limit}[:LEVel]?", lambda _: show(self.limit[short]))
        tree.add(f"{source}:{limit}[:LEVel]:TRIPped?", tripped)
        tree.add(f"{source}:READ:BACK", set_readback)
        tree.add(f"{source}:READ:BACK?", lambda _: str(int(self.readback[short])))
        tree.add(f":OUTPut[1]:{header}:SMODe", set_off_state)
        tree.add(f":OUTPut[1]:{header}:SMODe?", lambda _: self.off_state[short])
        self._add_plain(tree, f":SOURce[1]:{header}:RANGe:AUTO", "1")
        self._add_plain(tree, f"[:SENSe[1]]:{header}:NPLCycles", "1")
        self._add_plain(tree, f"[:SENSe[1]]:{header}:RANGe:AUTO", "1")
        self._add_plain(tree, f"[:SENSe[1]]:{header}:RSENse", "0")

    def _add_plain(self, tree: CommandTree, header: str, default: str) -> None:
        """A setting that is remembered and, in this simulator, changes nothing else."""

        def remember(arguments: list[str]) -> None:
            self.settings[header] = ",".join(arguments)

        tree.add(header, remember)
        tree.add(f"{header}?", lambda _: self.settings.get(header, default))

    def _set_output(self, arguments: list[str]) -> None:
        self.output = boolean(arguments)

    def _set_all_off_states(self, arguments: list[str]) -> None:
        """Without a function in the header it sets all functions (chapter 6)."""
        chosen = word(arguments, OFF_STATES)
        self.off_state = dict.fromkeys(self.off_state, chosen)

    def _set_function(self, arguments: list[str]) -> None:
        chosen = word(arguments, FUNCTIONS)
        if chosen != self.function:
            self.output = False  # a change of source function turns the output off
        self.function = chosen

    def _set_sense(self, arguments: list[str]) -> None:
        self.sense = word([a.upper().removesuffix(":DC") for a in arguments], FUNCTIONS)

    def _next_error(self) -> str:
        return self._errors.pop(0) if self._errors else '0,"No error;0,0,0"'

    def _read(self, arguments: list[str], sense: str = "") -> str:
        if not self.output:
            raise Refused(802, "Not permitted with OUTPUT off")  # the 2400's words for it
        volts, amps = self._pair()
        values = {"VOLT": volts, "CURR": amps}
        source = values[self.function] if self.readback[self.function] else None
        elements = {
            "READ": show(values[sense or self.sense]),
            "SOUR": show(self.level[self.function] if source is None else source),
            "REL": f"{self.world.now:.6f}",
            "STAT": "0",
        }
        wanted = [a.upper() for a in arguments if not a.lower().startswith("defbuffer")]
        long = {"READING": "READ", "SOURCE": "SOUR", "RELATIVE": "REL", "STATUS": "STAT"}
        shown = [elements.get(long.get(name, name)) for name in wanted or ["READ"]]
        if any(text is None for text in shown):
            raise Refused(-224, "Illegal parameter value")
        return ",".join(text for text in shown if text is not None)


def show(value: float) -> str:
    """A number as the unit prints it."""
    return f"{value:.6E}"


def number(arguments: list[str], low: float, high: float) -> float:
    """One number within its limits; `Refused` as the unit refuses."""
    if len(arguments) != 1:
        raise Refused(-109, "Missing parameter")
    try:
        value = float(arguments[0])
    except ValueError:
        raise Refused(-104, "Data type error") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise Refused(-222, "Parameter data out of range")
    return value


def boolean(arguments: list[str]) -> bool:
    """ON, OFF, 1 or 0."""
    return word(arguments, {"1": "ON", "0": "OFF"}) == "1"


def word(arguments: list[str], known: dict[str, str]) -> str:
    """The short form of one word of `known` (short form: long form)."""
    given = arguments[0].upper() if len(arguments) == 1 else ""
    for short, long in known.items():
        if given in (short, long):
            return short
    raise Refused(-224, "Illegal parameter value")
