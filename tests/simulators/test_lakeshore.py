"""The simulated Lake Shore speaks as the manual and the vendor's own driver say it does."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import serial

from coldframe.simulators.lakeshore import LakeshoreSimulator
from coldframe.simulators.ports import Lines
from coldframe.simulators.world import World
from tests.conftest import Bench


class Talk:
    """A bare TCP client."""

    def __init__(self, address: str):
        host, port = address.removeprefix("tcp://").split(":")
        self._socket = socket.create_connection((host, int(port)), 2)
        self._file = self._socket.makefile("rb")

    def say(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, text: str) -> str:
        self.say(text.encode() + b"\n")
        line = self._file.readline()
        assert line.endswith(b"\r\n")
        return line[:-2].decode()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def talking(address: str) -> Iterator[Talk]:
    talk = Talk(address)
    try:
        yield talk
    finally:
        talk.close()


def alone(model: str = "lakeshore336") -> LakeshoreSimulator:
    made = LakeshoreSimulator(World(seed=1), model)
    made.answer("*CLS")
    return made


def test_the_vendors_transcript_on_a_real_socket(bench: Bench) -> None:
    instrument, address = bench.serve(LakeshoreSimulator, "lakeshore336")
    with talking(address) as talk:
        talk.say(b"\n")  # the vendor's driver knocks with an empty line: no answer
        assert talk.ask("*IDN?") == "LSCI,MODEL336,LSA0301/LSO0301,2.9"
        assert talk.ask("*ESR?") == "128"  # power on
        reading, events = talk.ask("KRDG? A;*ESR?").split(";")
        assert (float(reading), events) == (pytest.approx(293.15, abs=0.1), "000")
        assert talk.ask("RAMP 1,1,10.0;*ESR?") == "000"
        assert talk.ask("SETP 9,1.0;*ESR?") == "032"
        off = "RANGE 1,0;RANGE 2,0;RANGE 3,0;RANGE 4,0;*ESR?"
        assert talk.ask(off) == "000"
    assert instrument.writes[0] == "RAMP 1,1,10.0"


def test_serial_speaks_the_same_dialect(bench: Bench) -> None:
    _, address = bench.serve(LakeshoreSimulator, "lakeshore335", transport="serial")
    with serial.Serial(address.removeprefix("serial://"), 57600, timeout=2) as port:
        port.write(b"*IDN?;EMUL 0,0;*ESR?\r\n")
        assert port.readline() == b"LSCI,MODEL335,LSA0300/LSO0300,2.9;128\r\n"


@pytest.mark.parametrize(
    "line",
    [
        "KRDG?A",
        "KRDG? A",
        "krdg? a",
        ":KRDG? A",
        " KRDG?  A ",
        ";:KRDG? A",
        "SETP 1, 21.5;:KRDG? A",
    ],
)
def test_blanks_colons_and_case_mean_nothing(line: str) -> None:
    instrument = alone()

    assert instrument.answer(line) == instrument.answer("KRDG? A")
    assert instrument.answer("*ESR?") == "000"


def test_several_commands_with_a_colon_answer_on_one_line() -> None:
    instrument = alone()

    assert instrument.answer("RANGE 1,3;RANGE?1") == "3"
    assert instrument.answer("SETP 1,25;*OPC?") == "1"
    assert instrument.answer("RANGE? 1;:SETP? 1;:*ESR?") == "3;+25.0000;000"


def test_all_inputs_at_once() -> None:
    values = alone().answer("KRDG? 0")
    assert values is not None
    a, b, c, d = (float(value) for value in values.split(","))

    assert a == pytest.approx(293.15, abs=0.1)
    assert b == pytest.approx(293.45, abs=0.1)
    assert (c, d) == (0, 0)  # no sensor there
    assert alone().answer("RDGST? C") == "001"
    assert alone("lakeshore335").answer("KRDG? 0").count(",") == 1  # type: ignore[union-attr]


def test_what_is_not_understood_is_silent_and_sets_cme() -> None:
    instrument = alone()
    for nonsense in (
        "NOPE?",
        "NOPE 1",
        "KRDG? Z",
        "KRDG?",
        "SETP 1",
        "SETP 1,x",
        "SETP?",
        "?",
        "\0",
    ):
        assert instrument.answer(nonsense) is None
        assert instrument.answer("*ESR?") == "032", nonsense
    assert instrument.writes == []


def test_a_value_out_of_range_sets_exe_and_changes_nothing() -> None:
    instrument = alone()
    before = instrument.answer("PID? 1;RANGE? 1;RAMP? 1")

    for order in ("PID 1,50,20,999", "RANGE 1,4", "RAMP 1,1,1000", "RAMP 1,1,0.01", "RANGE 3,2"):
        instrument.answer(order)
        assert instrument.answer("*ESR?") == "016", order

    assert instrument.answer("PID? 1;RANGE? 1;RAMP? 1") == before
    assert alone("lakeshore350").answer("RANGE 1,5;RANGE? 1") == "5"


def test_an_empty_argument_leaves_its_field_as_it_was() -> None:
    instrument = alone()
    instrument.answer("RELAY 2,2,B,1")

    assert instrument.answer("RELAY 2,1,,;RELAY? 2;RELAYST? 2;*ESR?") == "1,B,1;1;000"


@pytest.mark.parametrize("model", LakeshoreSimulator.models)
def test_every_setting_reads_back_what_it_is(model: str) -> None:
    instrument = alone(model)
    index = {"input": "A", "output": "1", "relay": "1", "curve": "21", "point": "21,1",
             "zone": "1,1", "field": "1", "": ""}  # fmt: skip
    for head, setting in instrument._table.items():
        where = index[setting.chosen_by]
        value = instrument.answer(f"{head}? {where}")
        assert value is not None, head
        if '"' not in value and value.strip(", "):
            instrument.answer(f"{head} {where}{',' if where else ''}{value}")
            assert instrument.answer(f"{head}? {where};*ESR?") == f"{value};000", head


def test_the_loop_holds_the_stage_cold() -> None:
    world = World(seed=1)
    instrument = LakeshoreSimulator(world)
    world.stage.cooling = True
    instrument.answer("SETP 1,88.15;RANGE 1,3")

    run(instrument, 7200)

    assert world.stage.temperature == pytest.approx(88.15, abs=0.05)
    watts = []
    for _ in range(200):
        run(instrument, 1)
        watts.append(world.stage.heater_watts)
    # (T - Tb) C / tau = 5 K * 60 J/K / 1446 s = 0.21 W; the sensor's noise makes it flicker
    assert sum(watts) / len(watts) == pytest.approx(0.21, abs=0.04)
    percent = float(instrument.answer("HTR? 1") or "nan")
    assert percent == pytest.approx(100 * (world.stage.heater_watts / 50) ** 0.5, abs=0.1)


def test_a_ramp_begins_at_the_present_setpoint_and_reports_its_end() -> None:
    instrument = alone()
    instrument.answer("SETP 1,100;RAMP 1,1,60;RANGE 1,3")
    assert instrument.answer("SETP? 1;RAMPST? 1") == "+100.0000;0"

    instrument.answer("SETP 1,110;OPSTR?")
    run(instrument, 5)
    assert instrument.answer("SETP? 1;RAMPST? 1") == "+105.0000;1"
    run(instrument, 6)
    assert instrument.answer("SETP? 1;RAMPST? 1;OPSTR?") == "+110.0000;0;024"


def test_a_ramp_switched_off_stays_where_it_is() -> None:
    instrument = alone()
    instrument.answer("SETP 1,100;RAMP 1,1,60;SETP 1,110")
    run(instrument, 5)

    instrument.answer("RAMP 1,0,60")

    assert instrument.answer("SETP? 1;RAMPST? 1") == "+105.0000;0"


def test_power_returns_with_heaters_off_and_settings_kept() -> None:
    instrument = alone()
    instrument.answer("SETP 1,150;RANGE 1,3;PID 1,70,30,1;MODE 2")
    run(instrument, 1)
    assert instrument.world.stage.heater_watts == 0 or instrument.answer("RANGE? 1") == "3"

    instrument.power_on()

    assert instrument.answer("RANGE? 1;SETP? 1;MODE?;*ESR?") == "0;+150.0000;0;128"
    assert instrument.answer("PID? 1") == "+0070.0,+0030.0,+001.0"
    assert instrument.world.stage.heater_watts == 0


@pytest.mark.parametrize(("level", "watts"), [(1, 0.5), (2, 5), (3, 50)])
def test_ranges_are_decades_of_power(level: int, watts: float) -> None:
    instrument = alone()

    instrument.answer(f"SETP 1,400;RANGE 1,{level}")
    run(instrument, 2)

    assert instrument.world.stage.heater_watts == pytest.approx(watts)


def test_open_loop_and_manual_output_heat_without_a_sensor() -> None:
    instrument = alone()
    instrument.faults.switch_on("nan")

    instrument.answer("OUTMODE 1,3,1,0;MOUT 1,10;RANGE 1,3")
    run(instrument, 1)

    assert instrument.world.stage.heater_watts == pytest.approx(5)


def test_a_broken_sensor_reads_zero_with_its_status_and_takes_the_heater_away() -> None:
    instrument = alone()
    instrument.answer("SETP 1,350;RANGE 1,3")
    run(instrument, 2)
    assert instrument.world.stage.heater_watts > 0

    instrument.faults.switch_on("nan")
    run(instrument, 2)

    assert instrument.answer("KRDG? A;RDGST? A") == "+0.00000;129"
    assert instrument.world.stage.heater_watts == 0


def test_the_temperature_limit_switches_the_range_off() -> None:
    instrument = alone()
    instrument.answer("TLIMIT A,294;SETP 1,350;RANGE 1,3")

    run(instrument, 60)

    assert instrument.answer("RANGE? 1") == "0"


def test_a_frozen_sensor_shows_one_value_while_the_stage_moves() -> None:
    instrument = alone()
    instrument.world.stage.cooling = True
    instrument.faults.switch_on("frozen")
    before = instrument.answer("KRDG? A")

    run(instrument, 600)

    assert instrument.answer("KRDG? A") == before
    assert instrument.world.stage.temperature < 260


def test_a_liar_accepts_orders_and_does_nothing() -> None:
    instrument = alone()
    instrument.faults.switch_on("lie")

    assert instrument.answer("SETP 1,88.15;RANGE 1,3;*ESR?") == "000"
    assert instrument.answer("SETP? 1;RANGE? 1") == "+293.1500;0"


def test_setpoints_are_in_the_preferred_units_of_the_input() -> None:
    instrument = alone()
    instrument.answer("INTYPE A,1,0,0,0,2;SETP 1,-185")

    assert instrument.loops["1"].setpoint == pytest.approx(88.15)
    assert instrument.answer("SETP? 1") == "-185.0000"


def test_relay_one_opens_the_cold_gas() -> None:
    instrument = alone()

    instrument.answer("RELAY 1,1,,")
    assert instrument.world.stage.cooling
    instrument.answer("RELAY 1,0,,")
    assert not instrument.world.stage.cooling


def test_lines_cut_anywhere_are_put_together() -> None:
    instrument = alone()
    message = b"KRDG? A\r\nSETP? 1\n"
    for cut in range(len(message) + 1):
        heard: list[bytes] = []
        talk = Lines(heard.append, instrument.answer)
        talk.feed(message[:cut])
        talk.feed(message[cut:])
        assert len(heard) == 2


def run(instrument: LakeshoreSimulator, seconds: float) -> None:
    """Move the world as a port's pump does."""
    left = seconds
    while left > 1e-9:
        part = min(left, instrument.longest_step)
        instrument.world.step(part)
        instrument.tick()
        left -= part
