"""The simulated 2450, spoken to as its manual says and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coldframe.simulators.command_tree import header_pattern, split_arguments
from coldframe.simulators.keithley2450 import Keithley2450Simulator

Say = Callable[[str], str]


class Plain:
    """A bare socket: lines out, lines in."""

    def __init__(self, address: str):
        host, port = address.removeprefix("tcp://").split(":")
        self.socket = socket.create_connection((host, int(port)), 2)
        self.socket.settimeout(2)
        self.file = self.socket.makefile("rwb")

    def tell(self, text: str) -> None:
        self.file.write(text.encode() + b"\n")
        self.file.flush()

    def ask(self, text: str) -> str:
        self.tell(text)
        return self.file.readline().decode().rstrip("\n")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.fixture
def unit(bench: Any) -> Iterator[tuple[Keithley2450Simulator, Plain]]:
    simulator, address = bench.serve(Keithley2450Simulator, "keithley2450")
    plain = Plain(address)
    yield simulator, plain
    plain.close()


def test_it_says_who_it_is_and_what_it_speaks(unit: Any) -> None:
    _, plain = unit

    assert plain.ask("*IDN?").startswith("KEITHLEY INSTRUMENTS,MODEL 2450,")
    assert plain.ask("*LANG?") == "SCPI"


def test_it_powers_up_off_at_zero_volts(unit: Any, bench: Any) -> None:
    _, plain = unit

    assert plain.ask(":OUTP?") == "0"
    assert plain.ask(":OUTP:VOLT:SMOD?") == "NORM"
    assert plain.ask(":OUTP:CURR:SMOD?") == "NORM"
    assert bench.world.circuit.mode == "off_normal"


def test_an_off_state_belongs_to_its_source_function(unit: Any, bench: Any) -> None:
    _, plain = unit

    plain.tell(":OUTP:VOLT:SMOD HIMP")
    plain.ask("*OPC?")
    open_with_voltage = bench.world.circuit.mode
    plain.tell(":SOUR:FUNC CURR")

    assert open_with_voltage == "open"
    assert plain.ask(":OUTP:SMOD?") == "NORM"
    assert bench.world.circuit.mode == "off_normal"


def test_every_spelling_of_a_header_is_the_same_command(unit: Any) -> None:
    _, plain = unit

    plain.tell("source1:voltage:level:immediate:amplitude 1.5")
    assert float(plain.ask(":SOUR:VOLT?")) == 1.5
    plain.tell("SOUR:VOLT:ILIM 1e-7;:SOUR:VOLT 2")
    assert plain.ask(":sour:volt:ilimit:level?;:SOUR:VOLT:LEV?") == "1.000000E-07;2.000000E+00"


def test_the_error_queue_has_three_extra_fields(unit: Any) -> None:
    _, plain = unit

    assert plain.ask("SYST:ERR?") == '0,"No error;0,0,0"'
    plain.tell("NONSENSE 1")
    plain.tell(":SOUR:VOLT 500")
    assert plain.ask(":SYSTem:ERRor:COUNt?") == "2"
    assert plain.ask(":SYST:ERR?") == '-113,"Undefined header;1,0,0"'
    assert plain.ask(":SYST:ERR?").startswith("-222,")


@pytest.mark.parametrize(
    "bad", [":SOUR:VOLT", ":SOUR:VOLT abc", ":SOUR:VOLT nan", ":OUTP maybe", ":OUTP:SMOD OPEN"]
)
def test_a_bad_value_changes_nothing(unit: Any, bad: str) -> None:
    _, plain = unit

    plain.tell(bad)

    assert not plain.ask("SYST:ERR?").startswith("0,")
    assert plain.ask(":SOUR:VOLT?;:OUTP?;:OUTP:SMOD?") == "0.000000E+00;0;NORM"


def test_one_read_gives_source_and_reading(unit: Any, bench: Any) -> None:
    _, plain = unit
    plain.tell(":OUTP:SMOD HIMP;:SOUR:VOLT 2;:OUTP ON")
    plain.ask("*OPC?")
    bench.step(1.0)

    volts, amps = plain.ask(':READ? "defbuffer1",SOUR,READ').split(",")

    assert float(volts) == pytest.approx(2, abs=1e-3)
    assert abs(float(amps)) < 1e-11
    assert float(plain.ask(":MEASure? 'defbuffer1'")) == pytest.approx(0, abs=1e-11)
    assert float(plain.ask(":MEAS:VOLT?")) == pytest.approx(2, abs=1e-3)


def test_a_read_with_the_output_off_answers_nothing(unit: Any) -> None:
    _, plain = unit

    plain.tell(":READ?")

    assert plain.ask("*OPC?") == "1"
    assert plain.ask("SYST:ERR?").startswith("802,")


def test_changing_the_function_turns_the_output_off(unit: Any) -> None:
    _, plain = unit
    plain.tell(":OUTP ON")

    plain.tell(":SOUR:FUNC CURR")

    assert plain.ask(":OUTP?") == "0"


def test_reset_brings_the_dangerous_off_state_back(unit: Any) -> None:
    simulator, plain = unit
    plain.tell(":OUTP:SMOD HIMP")

    plain.tell("*RST")

    assert plain.ask(":OUTP:SMOD?") == "NORM"
    assert simulator.writes == [":OUTP:SMOD HIMP", "*RST"]


def test_it_keeps_to_its_compliance(unit: Any, bench: Any) -> None:
    _, plain = unit
    bench.do(lambda: bench.world.circuit.drive("voltage", -2, 1e-3))
    bench.step(1.0)
    plain.tell(":OUTP:SMOD HIMP;:SOUR:VOLT:ILIM 1e-9;:SOUR:VOLT 2;:OUTP ON")
    plain.ask("*OPC?")

    bench.step(0.05)

    assert plain.ask(":SOUR:VOLT:ILIM:TRIP?") == "1"


def test_header_patterns_take_long_short_and_nothing_between() -> None:
    pattern = header_pattern("[:SOURce[1]]:VOLTage[:LEVel]?")

    for good in (":SOUR:VOLT?", ":source1:voltage:level?", ":VOLT?", ":SOURCE:VOLT:LEV?"):
        assert pattern.fullmatch(good), good
    for bad in (":SOURC:VOLT?", ":SOUR:VOLT", ":SOUR2:VOLT?", ":VOLTA?"):
        assert not pattern.fullmatch(bad), bad


def test_a_comma_in_quotes_divides_nothing() -> None:
    assert split_arguments("\"a,b\",SOUR, 'c'") == ["a,b", "SOUR", "c"]
