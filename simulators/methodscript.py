"""MethodSCRIPT as the instrument runs it: a checker and an interpreter of the part in use here.

A script is checked when its empty line arrives and then runs as a generator that yields the
seconds it wants to wait, so the world's time drives it. What it does to the cell goes through a
`Bench`, what it says through `send`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterator
from typing import NamedTuple, Protocol

OFFSET = 1 << 27
SCALES = {
    "a": 1e-18, "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "i": 1.0,
    "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_LITERAL = re.compile(r"([+-]?\d+)([afpnumkMGTPEi]?)")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
TIMING, OVERLOAD = 1, 2
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}

# Argument kinds: n a new name, r a declared name, v a value or name, t a type, o an operator,
# s a string
SYNTAX = {
    "var": "n", "store_var": "rvt", "copy_var": "rr", "add_var": "rv", "sub_var": "rv",
    "set_pgstat_chan": "v", "set_pgstat_mode": "v", "set_max_bandwidth": "v", "set_e": "v",
    "set_range": "tv", "set_autoranging": "tvv", "set_range_minmax": "tvv",
    "cell_on": "", "cell_off": "", "timer_start": "", "timer_get": "r", "wait": "v",
    "meas": "vrt", "meas_loop_ocp": "rvv", "meas_loop_ca": "rrvvv",
    "pck_start": "", "pck_add": "r", "pck_end": "", "send_string": "s",
    "if": "vov", "else": "", "endif": "", "loop": "vov", "endloop": "", "breakloop": "",
    "abort": "",
}  # fmt: skip
LOOPS = {"meas_loop_ocp": "M000B", "meas_loop_ca": "M0007", "loop": "L"}


class ScriptError(Exception):
    """`!XXXX: Line n, Col m`; the cell stays as it is and `on_finished:` is not reached."""

    def __init__(self, code: int, line: int, column: int | None = None):
        self.text = f"!{code:04X}: Line {line}" + (f", Col {column}" if column else "")
        super().__init__(self.text)


class Aborted(Exception):
    """`Z`: measurement loops close, then `on_finished:` runs."""


class BreakLoop(Exception):
    """`breakloop`."""


class Value(NamedTuple):
    """A variable's content, as a package shows it."""

    number: float
    kind: str = "aa"
    status: int = 0
    range_index: int | None = None

    def show(self) -> str:
        """`ba9F70730p,10,207`."""
        text = self.kind + encode(self.number)
        return (
            text if self.range_index is None else f"{text},1{self.status:X},2{self.range_index:02X}"
        )


class Bench(Protocol):
    """What a script can do to the instrument."""

    cell_on: bool

    def set_e(self, volts: float) -> None: ...
    def switch(self, on: bool) -> None: ...
    def configure(self, name: str, arguments: list[float]) -> None: ...
    def measure(self, kind: str) -> Value: ...
    def in_range(self, volts: float) -> bool: ...


class Statement(NamedTuple):
    """One command, its arguments, and the commands inside it when it is a block."""

    line: int
    name: str
    arguments: list[str]
    body: list[Statement]
    otherwise: list[Statement]


class Script(NamedTuple):
    main: list[Statement]
    finish: list[Statement]


def encode(number: float) -> str:
    """Seven hexadecimal digits and the finest prefix that holds the number."""
    if math.isnan(number):
        return "     nan"
    if number == 0:
        return f"{OFFSET:07X} "
    for prefix, scale in SCALES.items():
        whole = round(number / scale)
        if prefix not in ("", "i") and abs(whole) < OFFSET:
            return f"{whole + OFFSET:07X}{prefix}"
        if prefix == "" and abs(whole) < OFFSET:
            return f"{whole + OFFSET:07X} "
    raise ValueError(f"{number!r} does not fit into a package")


def number_of(text: str) -> float | None:
    """The number a literal says, or None when it is no literal."""
    match = _LITERAL.fullmatch(text)
    return int(match[1]) * SCALES[match[2]] if match else None


def check(lines: list[str]) -> Script:
    """The script in `lines`; `ScriptError` says what is wrong where."""
    names: set[str] = set()
    main: list[Statement] = []
    finish: list[Statement] = []
    blocks: list[tuple[str, list[Statement]]] = [("", main)]
    for number, raw in enumerate(lines, 1):
        text = raw.split("#")[0].strip()
        if not text:
            continue
        if text == "on_finished:":
            if len(blocks) > 1:
                raise ScriptError(0x400C, number, 1)
            blocks = [("finish", finish)]
            continue
        name, *arguments = text.split()
        if name == "send_string":
            arguments = [text.removeprefix(name).strip().strip('"')]
        _check_arguments(number, raw, name, arguments, names)
        kind, inside = blocks[-1]
        if name in ("endloop", "endif", "else"):
            if kind != ("loop" if name == "endloop" else "if"):
                raise ScriptError(0x400E, number, 1)
            blocks.pop()
            if name == "else":
                blocks.append(("if", blocks[-1][1][-1].otherwise))
            continue
        statement = Statement(number, name, arguments, [], [])
        inside.append(statement)
        if name in LOOPS:
            blocks.append(("loop", statement.body))
        elif name == "if":
            blocks.append(("if", statement.body))
    if len(blocks) > 1:
        raise ScriptError(0x4018, len(lines), 1)
    return Script(main, finish)


def _check_arguments(
    number: int, raw: str, name: str, arguments: list[str], names: set[str]
) -> None:
    if name not in SYNTAX:
        raise ScriptError(0x4001, number, 1)
    if len(arguments) != len(SYNTAX[name]):
        raise ScriptError(0x4004, number, len(raw.rstrip()) + 1)
    for kind, argument in zip(SYNTAX[name], arguments, strict=True):
        column = raw.find(argument) + 1
        if kind == "n":
            if not _NAME.fullmatch(argument) or argument in names:
                raise ScriptError(0x4026, number, column)
            names.add(argument)
        elif kind == "r" or (kind == "v" and _NAME.fullmatch(argument)):
            if argument not in names:
                raise ScriptError(0x420B, number, column)
        elif (
            (kind == "v" and number_of(argument) is None)
            or (kind == "o" and argument not in OPERATORS)
            or (kind == "t" and not re.fullmatch(r"[a-j][a-z]", argument))
        ):
            raise ScriptError(0x4004, number, column)


class Run:
    """One execution of a script; iterating gives the seconds it waits for."""

    def __init__(self, script: Script, bench: Bench, send: Callable[[str], None]):
        self._script, self._bench, self._send = script, bench, send
        self._values: dict[str, Value] = {}
        self._package: list[str] = []
        self.finishing = False  # in on_finished, which cannot be aborted
        self._clock = 0.0  # the script's own time: the sum of what it has waited
        self._timer = 0.0

    def steps(self) -> Generator[float, None, None]:
        """Run to the end. Throw `Aborted` into it to end it early, unless it is `finishing`; a
        `ScriptError` ends it badly."""
        try:
            yield from self._block(self._script.main)
        except Aborted:
            pass
        self.finishing = True
        yield from self._block(self._script.finish)

    def _block(self, statements: list[Statement]) -> Iterator[float]:
        for statement in statements:
            if statement.name in LOOPS:
                yield from self._loop(statement)
            elif statement.name == "if":
                left, operator, right = statement.arguments
                true = OPERATORS[operator](self._number(left), self._number(right))
                yield from self._block(statement.body if true else statement.otherwise)
            elif statement.name in ("wait", "meas"):
                yield from self._wait(self._number(statement.arguments[0]))
                if statement.name == "meas":
                    _, name, kind = statement.arguments
                    self._values[name] = self._bench.measure(kind)
            else:
                self._simple(statement)

    def _loop(self, statement: Statement) -> Iterator[float]:
        self._send(LOOPS[statement.name])
        passes, end = self._passes(statement), "+" if statement.name == "loop" else "*"
        try:
            for seconds in passes:
                yield from self._wait(seconds)
                self._sample(statement)
                yield from self._block(statement.body)
        except BreakLoop:
            pass
        except Aborted:
            self._send(end)
            raise
        self._send(end)

    def _passes(self, statement: Statement) -> Iterator[float]:
        """The wait before each pass of a loop."""
        if statement.name == "loop":
            left, operator, right = statement.arguments
            while OPERATORS[operator](self._number(left), self._number(right)):
                yield 0.0
            return
        *head, interval, seconds = (self._number_or_zero(a) for a in statement.arguments)
        if interval <= 0 or seconds <= 0:
            raise ScriptError(0x4204, statement.line)
        if statement.name == "meas_loop_ocp" and self._bench.cell_on:
            raise ScriptError(0x0014, statement.line)
        if statement.name == "meas_loop_ca":
            self._apply(head[-1], statement.line)
        for _ in range(max(1, math.floor(seconds / interval + 1e-9))):
            yield interval

    def _sample(self, statement: Statement) -> None:
        if statement.name == "meas_loop_ocp":
            self._values[statement.arguments[0]] = self._bench.measure("ab")
        elif statement.name == "meas_loop_ca":
            potential, current, volts = statement.arguments[:3]
            self._values[potential] = Value(self._number(volts), "da")
            self._values[current] = self._bench.measure("ba")

    def _simple(self, statement: Statement) -> None:
        name, arguments = statement.name, statement.arguments
        if name == "var":
            self._values[arguments[0]] = Value(0.0)
        elif name == "store_var":
            self._values[arguments[0]] = Value(self._number(arguments[1]), arguments[2])
        elif name == "copy_var":
            self._values[arguments[1]] = self._values[arguments[0]]
        elif name in ("add_var", "sub_var"):
            old, sign = self._values[arguments[0]], 1 if name == "add_var" else -1
            total = old.number + sign * self._number(arguments[1])
            self._values[arguments[0]] = old._replace(number=total)
        elif name in ("cell_on", "cell_off"):
            self._bench.switch(name == "cell_on")
        elif name == "set_e":
            self._apply(self._number(arguments[0]), statement.line)
        elif name == "timer_start":
            self._timer = self._clock
        elif name == "timer_get":
            self._values[arguments[0]] = Value(self._clock - self._timer, "eb")
        elif name == "pck_start":
            self._package = []
        elif name == "pck_add":
            self._package.append(self._values[arguments[0]].show())
        elif name == "pck_end":
            self._send("P" + ";".join(self._package))
        elif name == "send_string":
            self._send("T" + arguments[0])
        elif name == "breakloop":
            raise BreakLoop
        elif name == "abort":
            raise Aborted
        else:
            self._bench.configure(name, [self._number_or_zero(a) for a in arguments])

    def _apply(self, volts: float, line: int) -> None:
        if not self._bench.in_range(volts):
            raise ScriptError(0x000F, line)
        self._bench.set_e(volts)

    def _wait(self, seconds: float) -> Iterator[float]:
        self._clock += seconds
        if seconds > 0:
            yield seconds

    def _number(self, text: str) -> float:
        literal = number_of(text)
        return self._values[text].number if literal is None else literal

    def _number_or_zero(self, text: str) -> float:
        literal = number_of(text)
        if literal is not None:
            return literal
        return self._values[text].number if text in self._values else 0.0
