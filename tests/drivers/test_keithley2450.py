"""The 2450's driver against its simulator on a real socket: off must mean open, always verified."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.drivers.keithley2450 import Keithley2450
from coldframe.errors import (
    Busy,
    ColdframeError,
    Disconnected,
    InstrumentError,
    LinkError,
    NotReady,
    NotSafe,
    OutOfRange,
    Silence,
    WrongInstrument,
)
from coldframe.simulators.keithley2450 import Keithley2450Simulator
from coldframe.status import Severity

PICOCOULOMB = 1e-12
FAULTS = ["silence", "late", "garbage", "half", "echo", "frozen", "lie", "nan", "drop", "reboot"]


@pytest.fixture
def served(bench: Any) -> tuple[Keithley2450Simulator, str]:
    simulator, address = bench.serve(Keithley2450Simulator, "keithley2450")
    return simulator, address


@pytest.fixture
def simulator(served: Any) -> Keithley2450Simulator:
    return served[0]


def visa(address: str) -> str:
    host, port = address.removeprefix("tcp://").split(":")
    return f"visa://TCPIP0::{host}::{port}::SOCKET"


@pytest.fixture(params=["tcp", "visa"])
def any_bias(request: Any, served: Any) -> Iterator[Keithley2450]:
    address = served[1] if request.param == "tcp" else visa(served[1])
    driver = Keithley2450("bias", address)
    driver.open()
    driver.identify()
    yield driver
    driver.close()


@pytest.fixture
def bias(served: Any) -> Iterator[Keithley2450]:
    driver = Keithley2450("bias", served[1], options=Keithley2450.Options(ocv_settle=0.0))
    driver.open()
    driver.identify()
    yield driver
    driver.close()


def touch(bench: Any) -> None:
    """Put the needle on a fresh particle."""

    def approach() -> None:
        world = bench.world
        world.load("particle_5nm")
        for _ in range(100_000):
            if world.needle.contact:
                return
            world.needle.step(3, 1, 10.5)
        raise AssertionError("no contact")

    bench.do(approach)


# ---- connecting ----------------------------------------------------------------------------


def test_it_adopts_without_changing_anything(
    any_bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    any_bias.adopt()

    assert simulator.writes == []
    assert "MODEL 2450" in any_bias.identify()


def test_an_output_found_on_is_adopted_not_reset(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bench.do(lambda: [simulator.answer(line) for line in (":SOUR:VOLT 1.5", ":OUTP ON")])
    simulator.writes.clear()

    bias.adopt()

    assert simulator.writes == []
    assert simulator.output
    assert bias.outputs_on() == ["bias"]
    assert bias.status().severity is Severity.BUSY


def test_off_in_the_normal_state_counts_as_on(bias: Keithley2450) -> None:
    bias.adopt()

    assert bias.outputs_on() == ["bias"]
    assert bias.off_state.get() == "NORM"
    assert "0 V" in str(bias.status())


def test_prepare_opens_the_relay_for_both_functions(
    any_bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    any_bias.prepare()

    assert simulator.off_state == {"VOLT": "HIMP", "CURR": "HIMP"}
    assert bench.world.circuit.mode == "open"
    assert any_bias.outputs_on() == []
    assert any_bias.status().severity is Severity.IDLE


def test_prepare_leaves_an_output_that_is_on_alone(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bench.do(lambda: simulator.answer(":OUTP ON"))
    simulator.writes.clear()

    with pytest.raises(Busy, match="output is on"):
        bias.prepare()

    assert simulator.writes == []


def test_a_unit_that_speaks_another_command_set_is_refused(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    simulator.language = "TSP"

    with pytest.raises(WrongInstrument, match="TSP"):
        bias.identify()


def test_another_instrument_is_refused(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    simulator.identity = "KEITHLEY INSTRUMENTS,MODEL 2461,04089762,1.7.12b"

    with pytest.raises(WrongInstrument, match="2461"):
        bias.adopt()

    assert simulator.writes == []


# ---- biasing -------------------------------------------------------------------------------


def test_it_sources_a_voltage_within_a_current_limit(any_bias: Keithley2450, bench: Any) -> None:
    any_bias.function.set("voltage")
    any_bias.level.set(-2.0)
    any_bias.current_limit.set(100e-9)
    any_bias.output_on()
    bench.step(0.5)

    assert any_bias.voltage.get() == pytest.approx(-2.0, abs=1e-3)
    assert abs(any_bias.current.get()) < 1e-11
    assert any_bias.output.get() is True
    assert bench.world.circuit.mode == "voltage"
    assert any_bias.outputs_on() == ["bias"]


def test_it_sources_a_current_within_a_voltage_limit(bias: Keithley2450, bench: Any) -> None:
    bias.function.set("current")
    bias.level_current.set(-50e-9)
    bias.voltage_limit.set(4.0)
    bias.output_on()
    bench.step(0.5)

    assert bench.world.circuit.mode == "current"
    assert bias.in_limit.get() is True
    assert bias.voltage.get() == pytest.approx(-4.0, abs=1e-2)


def test_the_relay_never_closes_in_a_low_impedance_off_state(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    bias.output_on()

    assert simulator.writes.index(":OUTP:CURR:SMOD HIMP") < simulator.writes.index(":OUTP 1")
    assert simulator.writes.index(":OUTP:VOLT:SMOD HIMP") < simulator.writes.index(":OUTP 1")


def test_an_off_state_that_does_not_read_back_keeps_the_output_off(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    simulator.faults.switch_on("lie")

    with pytest.raises((InstrumentError, NotSafe)):
        bias.output_on()

    assert not simulator.output


def test_the_off_state_is_set_again_after_a_reset_at_the_front_panel(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bias.prepare()
    bench.do(lambda: simulator.answer("*RST"))

    bias.function.set("current")

    assert simulator.off_state == {"VOLT": "HIMP", "CURR": "HIMP"}


def test_the_function_cannot_change_while_the_output_is_on(bias: Keithley2450) -> None:
    bias.output_on()

    with pytest.raises(Busy, match="turn it off"):
        bias.function.set("current")


def test_positive_current_is_oxidation(bias: Keithley2450, bench: Any) -> None:
    """Charging the cable upwards is a positive current, and `invert` turns both signs."""
    bias.function.set("current")
    bias.level_current.set(1e-9)
    bias.voltage_limit.set(20.0)
    bias.output_on()
    bench.step(0.1)

    assert bias.current.get() > 0
    assert bias.voltage.get() > 0
    assert bench.world.circuit.charge > 0


def test_an_inverted_wiring_is_told_to_the_driver_not_to_the_scientist(
    served: Any, bench: Any
) -> None:
    driver = Keithley2450("bias", served[1], options=Keithley2450.Options(invert=True))
    driver.open()
    driver.level.set(-2.0)
    driver.output_on()
    bench.step(0.5)

    assert driver.level.get() == -2.0
    assert driver.voltage.get() == pytest.approx(-2.0, abs=1e-3)
    assert bench.world.circuit.voltage == pytest.approx(2.0, abs=1e-3)
    driver.close()


def test_voltage_and_current_come_from_one_read(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    asked: list[str] = []
    answer = simulator.answer
    bias.output_on()
    simulator.answer = lambda line: asked.append(line) or answer(line)  # type: ignore
    again = Keithley2450("bias", bias.address)
    again.open()

    again.voltage.get(), again.current.get()

    assert len([line for line in asked if line.startswith(":READ?")]) == 1
    again.close()


def test_nothing_is_measured_through_an_open_relay(bias: Keithley2450) -> None:
    bias.prepare()

    assert math.isnan(bias.voltage.get())
    assert math.isnan(bias.current.get())


@pytest.mark.parametrize(
    ("name", "value"),
    [("level", 211.0), ("current_limit", 0.0), ("level_current", -1.1), ("voltage_limit", 300.0)],
)
def test_a_setpoint_outside_its_limits_never_reaches_the_wire(
    bias: Keithley2450, simulator: Keithley2450Simulator, name: str, value: float
) -> None:
    with pytest.raises(OutOfRange):
        bias.set(name, value)

    assert simulator.writes == []


def test_a_setting_that_does_not_read_back_is_an_error(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    simulator.faults.switch_on("lie")

    with pytest.raises(InstrumentError, match="reads back"):
        bias.level.set(1.0)


def test_an_old_error_in_the_queue_is_not_our_order_s(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bench.do(lambda: simulator.answer("NONSENSE"))

    bias.level.set(0.5)

    assert bias.level.get() == 0.5


def test_ocv_is_measured_at_zero_ampere_and_leaves_the_relay_open(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bias.function.set("voltage")
    bias.level_current.set(1e-6)
    bias.voltage_limit.set(10.0)
    bench.do(lambda: setattr(bench.world.circuit, "voltage", 2.5))

    ocv = bias.measure_ocv()

    assert ocv == pytest.approx(2.5, abs=1e-3)
    assert not simulator.output
    assert bench.world.circuit.mode == "open"
    assert bias.function.get() == "voltage"
    assert bias.level_current.get() == 1e-6
    assert ":SOUR:CURR 0.000000E+00" in simulator.writes


def test_an_ocv_at_the_voltage_limit_is_not_believed(bias: Keithley2450, bench: Any) -> None:
    bias.voltage_limit.set(1.0)
    bench.do(lambda: setattr(bench.world.circuit, "in_compliance", True))
    bias.output_on()
    bias.output_off()

    def hold_limit() -> None:
        circuit = bench.world.circuit
        drive = circuit.drive

        def at_limit(*args: Any) -> None:
            drive(*args)
            circuit.in_compliance = True

        circuit.drive = at_limit

    bench.do(hold_limit)
    with pytest.raises(NotReady, match="voltage_limit"):
        bias.measure_ocv()
    assert bias.outputs_on() == []


# ---- the safe state ------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["voltage", "current"])
def test_the_safe_state_is_open_and_verified(
    any_bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any, function: str
) -> None:
    any_bias.function.set(function)
    any_bias.output_on()

    any_bias.make_safe()

    assert not simulator.output
    assert bench.world.circuit.mode == "open"
    assert any_bias.outputs_on() == []


def test_the_safe_state_passes_less_than_a_picocoulomb_through_a_charged_cell(
    bias: Keithley2450, bench: Any
) -> None:
    touch(bench)
    bias.make_safe()
    bench.step(30)  # the open needle finds the cell's rest potential
    cell, circuit = bench.world.particle, bench.world.circuit
    before, passed = cell.charge, circuit.charge
    assert circuit.voltage > 1.0

    bench.step(60)

    assert abs(cell.charge - before) < PICOCOULOMB
    assert abs(circuit.charge - passed) < PICOCOULOMB


def test_plain_output_off_in_the_normal_state_would_have_passed_more(bench: Any) -> None:
    """What the driver prevents: the same cell, the same minute, `OUTP?` says 0 all the time."""
    simulator, _ = bench.serve(Keithley2450Simulator, "keithley2450")
    touch(bench)
    before = bench.world.particle.charge

    bench.step(60)

    assert not simulator.output
    assert bench.world.particle.charge - before > PICOCOULOMB


def test_turning_off_never_passes_through_zero_volts(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    modes: list[str] = []
    bench.do(lambda: [simulator.answer(line) for line in (":SOUR:VOLT 2", ":OUTP ON")])
    drive = bench.world.circuit.drive
    bench.world.circuit.drive = lambda mode, *rest: modes.append(mode) or drive(mode, *rest)

    bias.make_safe()

    assert "off_normal" not in modes
    assert modes[-1] == "open"


def test_a_unit_that_does_not_obey_is_not_called_safe(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    bias.output_on()
    simulator.faults.switch_on("lie")

    with pytest.raises(NotSafe, match="HIMP"):
        bias.make_safe()

    assert bias.outputs_on() == ["bias"]


def test_a_unit_that_only_listens_is_still_turned_off(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bias.output_on()
    simulator.faults.switch_on("silence")

    with pytest.raises(NotSafe):
        bias.make_safe()

    assert not simulator.output
    assert bench.world.circuit.mode == "open"


def test_the_safe_state_is_reached_over_a_new_connection_when_the_old_is_cut(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    bias.output_on()
    assert bias._link is not None
    bias._link.wire.close()

    bias.make_safe()

    assert not simulator.output


# ---- the fault script ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_under_every_fault_a_reading_is_right_or_an_error(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any, fault: str
) -> None:
    bias.level.set(2.0)
    bias.output_on()
    bench.step(0.5)
    simulator.faults.switch_on(fault)

    def read(name: str) -> float | str | None:
        try:
            return bias.get(name)  # type: ignore[return-value]
        except ColdframeError as error:
            assert isinstance(error, LinkError | WrongInstrument)
            return None

    voltage, function = read("voltage"), read("function")

    assert voltage is None or math.isnan(float(voltage)) or abs(float(voltage) - 2.0) < 1e-3
    assert function in (None, "voltage")


def test_half_a_reply_is_never_half_a_number(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bias.level.set(-1.234567)
    length = len(b"-1.234567E+00\n")
    for cut in range(length):
        simulator.faults.switch_on("half", (cut + 0.5) / length)
        bias.link.dialect = bias.link.dialect._replace(timeout=0.01)
        with pytest.raises(LinkError):
            bias.level.get()
        simulator.faults.switch_off("half")
        assert bias.level.get() == -1.234567


def test_a_late_answer_is_not_taken_for_the_next_question_s(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    bias.level.set(1.0)
    bias.current_limit.set(2e-7)
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(LinkError):
        bias.level.get()
    simulator.faults.switch_off("late")

    assert bias.current_limit.get() == pytest.approx(2e-7)


def test_after_a_cut_connection_it_opens_and_identifies_again(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    before = bias.identify()
    simulator.faults.switch_on("drop")
    with pytest.raises(LinkError):
        bias.level.get()
    simulator.faults.switch_off("drop")

    bias.close()
    bias.open()

    assert bias.identify() == before


def test_after_a_reboot_off_is_zero_volts_again_and_seen_to_be(
    bias: Keithley2450, simulator: Keithley2450Simulator, bench: Any
) -> None:
    bias.prepare()
    bench.do(simulator.power_on)
    bias.close()
    bias.open()

    bias.adopt()

    assert bias.outputs_on() == ["bias"]
    bias.make_safe()
    assert bench.world.circuit.mode == "open"


def test_a_port_nobody_listens_at_is_disconnected() -> None:
    driver = Keithley2450("bias", "tcp://127.0.0.1:9")

    with pytest.raises(Disconnected):
        driver.open()
    with pytest.raises(Disconnected):
        driver.identify()


def test_it_waits_no_longer_than_a_hazardous_port_may(
    bias: Keithley2450, simulator: Keithley2450Simulator
) -> None:
    simulator.faults.switch_on("silence")
    begin = time.monotonic()

    with pytest.raises(Silence):
        bias.level.get()

    assert time.monotonic() - begin < 0.4
