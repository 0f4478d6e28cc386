"""The simulated picoammeter speaks as its manual says, and as public clients expect."""

from __future__ import annotations

import pytest
import serial

from coldframe.simulators.keithley6485 import Keithley6485Simulator, Talk
from coldframe.simulators.world import World
from tests.conftest import Bench

ZERO = (
    "*RST", "SYST:ZCH ON", "CURR:RANG 2E-9", "INIT", "SYST:ZCOR:ACQ", "SYST:ZCOR ON",
    "CURR:RANG:AUTO ON", "SYST:ZCH OFF",
)  # fmt: skip


def alone() -> Keithley6485Simulator:
    """A meter with a beam of 125.8 pA in its cup."""
    world = World(seed=1)
    world.beam.blanked = False
    world.beam.screen_down = True
    world.step(1)
    meter = Keithley6485Simulator(world)
    meter.answer("*CLS")
    return meter


def ask(meter: Keithley6485Simulator, line: str) -> str:
    reply = meter.answer(line)
    assert reply is not None, line
    return reply


def reading(meter: Keithley6485Simulator) -> tuple[float, int]:
    value, _, status = ask(meter, "READ?").split(",")
    assert value.endswith("A")
    return float(value[:-1]), int(float(status))


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_serial_lines_end_as_the_client_ends_them(bench: Bench, end: bytes) -> None:
    _, address = bench.serve(Keithley6485Simulator, transport="serial")
    with serial.Serial(address.removeprefix("serial://"), 9600, timeout=2) as port:
        port.write(b"*IDN?" + end)
        reply = port.read_until(end)
    assert reply.startswith(b"KEITHLEY INSTRUMENTS INC.,MODEL 6485,") and reply.endswith(end)


def test_a_terminator_set_in_the_menu_stays() -> None:
    meter = alone()
    heard: list[bytes] = []
    Talk(heard.append, meter.answer, b"\r\n").feed(b"*OPC?\r")
    assert heard == [b"1\r\n"]


def test_power_up_is_with_zero_check_on_and_the_input_apart() -> None:
    value, status = reading(alone())

    assert status == 512
    assert value == pytest.approx(2e-13, rel=0.01)  # its own offset, no beam


def test_the_zero_sequence_leaves_the_beam_alone_in_the_reading() -> None:
    meter = alone()
    for line in ZERO:
        meter.answer(line)

    value, status = reading(meter)

    assert ask(meter, "SYST:ERR?") == '0,"No error"'
    assert status == 1024
    assert value == pytest.approx(-meter.world.beam.current, rel=5e-3)  # a cup catches 99.8 %


def test_without_zero_correct_its_offset_is_in_the_reading() -> None:
    meter = alone()
    meter.answer("SYST:ZCH OFF")
    raw = sum(reading(meter)[0] for _ in range(30)) / 30
    for line in ZERO:
        meter.answer(line)
    corrected = sum(reading(meter)[0] for _ in range(30)) / 30

    assert raw - corrected == pytest.approx(2e-13, rel=0.3)


def test_zero_correct_wants_zero_check_on() -> None:
    meter = alone()
    meter.answer("SYST:ZCH OFF;:INIT;:SYST:ZCOR:ACQ")
    assert ask(meter, "STAT:QUE?") == '-221,"Settings conflict"'


def test_a_fixed_range_overflows() -> None:
    meter = alone()
    meter.world.beam.spot = 1
    meter.answer("SYST:ZCH OFF;:CURR:RANG 2E-9")

    assert reading(meter) == (-9.9e37, 1)  # electrons
    meter.answer("CURR:RANG:AUTO ON")
    assert reading(meter)[0] == pytest.approx(-3.98e-9, rel=0.05)
    assert float(ask(meter, "CURR:RANG?")) == 2e-8


def test_not_a_number_is_9_91e37() -> None:
    meter = alone()
    meter.faults.switch_on("nan")
    assert reading(meter)[0] == 9.91e37


def test_elements_choose_the_fields() -> None:
    meter = alone()
    assert ask(meter, "FORM:ELEM?") == "READ,UNIT,TIME,STAT"
    meter.answer("FORMAT:ELEMENTS READING,UNITS")
    assert ask(meter, "READ?").endswith("A")
    meter.answer("FORM:ELEM STAT, READ")
    assert [float(field) for field in ask(meter, "READ?").split(",")][1] == 512


def test_the_time_wraps_and_can_be_set_to_zero() -> None:
    meter = alone()
    meter.world.step(99_990)
    assert float(ask(meter, "READ?").split(",")[1]) == pytest.approx(99_990)
    meter.world.step(20)
    assert float(ask(meter, "READ?").split(",")[1]) == pytest.approx(10)
    meter.answer("SYST:TIME:RES")
    assert float(ask(meter, "READ?").split(",")[1]) == 0


@pytest.mark.parametrize(
    "line",
    [":READ?", "FETC?", ":fetch?", "MEAS:CURR?", "CONF:CURR;:READ?", "INITIATE;:FETC?", "RANG?",
     "RANG:AUTO?", "RANG 2.000000e-08;:RANG?", ":SENS:CURR:DC:RANG:UPP?", "CURR:NPLC 6;NPLC?",
     "CALC2:NULL:ACQ;STAT 1;OFFS?", ":SENSE:AVERAGE:COUNT 5; STATE ON;TCON REP;COUN?",
     "SYST:ZCH?;ZCOR?", "SYST:PRES;LOC;KEY 2;LFR?", "*RST;*OPC?", "SYST:AZER OFF;:SYST:AZER?"],
)  # fmt: skip
def test_forms_that_public_clients_send_are_understood(line: str) -> None:
    meter = alone()
    meter.answer("INIT")

    assert meter.answer(line) is not None
    assert ask(meter, "SYST:ERR?") == '0,"No error"'


@pytest.mark.parametrize(
    ("line", "error"),
    [("NOPE?", -113), ("CURR:RANG 1", -222), ("CURR:NPLC 0", -222), ("SYST:ZCH MAYBE", -224),
     ("CURR:RANG", -109), ("CURR:NPLC abc", -104), ("FETC?", -230), ("SYST:ZCH ON,OFF", -108)],
)  # fmt: skip
def test_what_is_wrong_is_silent_and_queued(line: str, error: int) -> None:
    meter = alone()

    assert meter.answer(line) is None
    assert ask(meter, "SYST:ERR?").startswith(f"{error},")
    assert ask(meter, "SYST:ERR?") == '0,"No error"'


def test_the_queue_is_bounded() -> None:
    meter = alone()
    for _ in range(50):
        meter.answer("NOPE")
    errors = [ask(meter, "SYST:ERR?") for _ in range(11)]
    assert errors[9] == '-350,"Queue overflow"'
    assert errors[10] == '0,"No error"'


def test_control_c_clears_what_was_begun() -> None:
    meter = alone()
    heard: list[bytes] = []
    talk = Talk(heard.append, meter.answer, None)
    talk.feed(b"NOP\x03*OPC?\r")
    assert heard == [b"1\r"]
    assert ask(meter, "SYST:ERR?") == '0,"No error"'


def test_averaging_lowers_the_noise() -> None:
    meter = alone()
    for line in ZERO:
        meter.answer(line)
    single = spread([reading(meter)[0] for _ in range(100)])
    meter.answer("AVER:COUN 25;TCON REP;STAT ON")
    averaged = spread([reading(meter)[0] for _ in range(100)])

    assert averaged < single / 3
    assert reading(meter)[1] == 1024 + 2


def test_a_liar_says_no_error_and_does_nothing() -> None:
    meter = alone()
    meter.faults.switch_on("lie")
    assert ask(meter, "SYST:ZCH OFF;:SYST:ERR?") == '0,"No error"'
    assert ask(meter, "SYST:ZCH?") == "1"


def test_a_frozen_reading_stands() -> None:
    meter = alone()
    for line in ZERO:
        meter.answer(line)
    before = reading(meter)
    meter.faults.switch_on("frozen")
    meter.world.beam.spot = 1
    assert reading(meter) == before


def spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return float((sum((v - mean) ** 2 for v in values) / len(values)) ** 0.5)
