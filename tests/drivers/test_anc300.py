"""The ANC300's driver against its simulator: what may step counts as moving, offsets never jump."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.drivers.anc300 import AXES, Anc300
from coldframe.errors import (
    BadRequest,
    Busy,
    ColdframeError,
    Disconnected,
    Garbled,
    InstrumentError,
    LinkError,
    NotPermitted,
    NotSafe,
    OutOfRange,
    Silence,
)
from coldframe.simulators.anc300 import Anc300Simulator

FAULTS = ["silence", "late", "garbage", "half", "echo", "frozen", "lie", "nan", "drop", "reboot"]


@pytest.fixture
def served(bench: Any) -> tuple[Anc300Simulator, str]:
    simulator, address = bench.serve(Anc300Simulator, "anc300")
    bench.do(lambda: bench.world.load("particle_5nm"))
    return simulator, address


@pytest.fixture
def simulator(served: Any) -> Anc300Simulator:
    return served[0]


@pytest.fixture
def needle(served: Any) -> Iterator[Anc300]:
    driver = Anc300("needle", served[1])
    driver.open()
    yield driver
    driver.close()


def test_it_logs_in_and_adopts_without_changing_anything(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    needle.adopt()

    assert simulator.writes == []
    assert needle.identify().endswith("ANC300B-C-1514-3006076")
    assert needle.outputs_on() == []


def test_a_wrong_password_is_refused_and_not_shown(served: Any) -> None:
    driver = Anc300("needle", served[1], options=Anc300.Options(password="guess42"))

    with pytest.raises(NotPermitted) as refusal:
        driver.open()

    assert "guess42" not in str(refusal.value) + repr(driver.options)


def test_an_axis_found_stepping_is_adopted_and_counts_as_moving(
    needle: Anc300, simulator: Anc300Simulator, bench: Any
) -> None:
    bench.do(lambda: [simulator.answer(line) for line in ("setm 1 stp", "stepu 1 c")])
    simulator.writes.clear()

    needle.adopt()

    assert simulator.writes == []
    assert simulator.axes[1].moving
    assert needle.outputs_on() == ["motion"]
    assert needle.moving.get() is True


def test_steps_move_the_needle_forward_and_back(needle: Anc300, bench: Any) -> None:
    start = bench.world.needle.gap

    needle.step(3, 10)
    bench.step(1)
    near = bench.world.needle.gap
    needle.make_safe()
    needle.step(3, -5)
    bench.step(1)

    assert near < start
    assert near < bench.world.needle.gap < start


def test_steps_while_steps_are_under_way_are_refused(needle: Anc300) -> None:
    needle.step(1, 1000)

    with pytest.raises(Busy, match="still be moving"):
        needle.step(1, 1)


def test_moving_is_said_until_the_steps_should_be_over(needle: Anc300) -> None:
    needle.step(1, 1000)

    assert needle.moving.get() is True
    needle.stop()
    assert needle.moving.get() is False


@pytest.mark.parametrize(("axis", "steps"), [(4, 1), (0, 1), (1, 0), (1, 100_001)])
def test_steps_outside_their_limits_never_reach_the_wire(
    needle: Anc300, simulator: Anc300Simulator, axis: int, steps: int
) -> None:
    with pytest.raises(OutOfRange):
        needle.step(axis, steps)

    assert simulator.writes == []


def test_the_fine_approach_moves_and_holds(needle: Anc300, bench: Any) -> None:
    needle.adopt()
    start = bench.world.needle.gap

    needle.approach(25.0)

    assert start - bench.world.needle.gap == pytest.approx(25 * 20e-9, rel=0.05)
    assert needle.mode_3.get() == "off"
    assert needle.outputs_on() == []


def test_an_offset_that_waits_on_a_grounded_axis_does_not_make_the_needle_jump(
    needle: Anc300, simulator: Anc300Simulator, bench: Any
) -> None:
    bench.do(lambda: simulator.answer("seta 3 80"))

    with pytest.raises(BadRequest, match=r"jump by 80 V"):
        needle.mode_3.set("off")
    with pytest.raises(BadRequest, match="offset_3"):
        needle.step(3, 1)
    needle.approach(1.0)

    assert simulator.axes[3].offset == 1.0


def test_stepping_keeps_the_fine_offset(needle: Anc300, simulator: Anc300Simulator) -> None:
    needle.approach(10.0)

    needle.step(3, 1)

    assert simulator.axes[3].mode == "stp+"
    assert simulator.axes[3].offset == 10.0


def test_limits_of_the_instrument_are_refused_before_the_wire(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    for name, value in (("offset_3", 151.0), ("voltage_1", -1.0), ("frequency_2", 0)):
        with pytest.raises(OutOfRange):
            needle.set(name, value)
    with pytest.raises(OutOfRange):
        needle.approach(150.1)

    assert simulator.writes == []


def test_every_parameter_can_be_set_and_read_back(needle: Anc300) -> None:
    for axis in AXES:
        needle.set(f"frequency_{axis}", 100 + axis)
        needle.set(f"voltage_{axis}", 40.5)
        assert needle.get(f"frequency_{axis}") == 100 + axis
        assert needle.get(f"voltage_{axis}") == 40.5


# ---- the safe state --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["stp", "stp+", "stp-"])
def test_the_safe_state_stops_every_axis_and_is_verified(
    needle: Anc300, simulator: Anc300Simulator, bench: Any, mode: str
) -> None:
    for axis in AXES:
        bench.do(lambda a=axis: simulator.answer(f"setm {a} {mode}"))
        bench.do(lambda a=axis: simulator.answer(f"stepu {a} c"))
    bench.step(0.1)

    needle.make_safe()
    gap = bench.world.needle.gap
    bench.step(10)

    assert bench.world.needle.gap == gap
    assert not any(axis.moving for axis in simulator.axes.values())
    assert needle.outputs_on() == []


def test_the_safe_state_keeps_the_fine_offset_and_so_the_needle_where_it_is(
    needle: Anc300, bench: Any
) -> None:
    needle.approach(60.0)
    gap = bench.world.needle.gap

    needle.make_safe()

    assert bench.world.needle.gap == gap
    assert needle.offset_3.get() == 60.0


def test_grounding_withdraws_the_fine_approach(needle: Anc300, bench: Any) -> None:
    start = bench.world.needle.gap
    needle.approach(60.0)

    needle.ground()

    assert [needle.get(f"mode_{axis}") for axis in AXES] == ["gnd"] * 3
    assert bench.world.needle.gap == pytest.approx(start)


def test_a_controller_that_does_not_obey_is_not_called_safe(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    needle.step(2, 1000)
    simulator.faults.switch_on("lie")

    with pytest.raises(NotSafe, match="every axis stopped"):
        needle.make_safe()

    assert needle.outputs_on() == ["motion"]


def test_a_controller_that_only_listens_is_still_stopped(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    needle.step(2, 1000)
    simulator.faults.switch_on("silence")

    with pytest.raises(NotSafe):
        needle.make_safe()

    assert not simulator.axes[2].moving


def test_the_safe_state_is_reached_over_a_new_session(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    needle.step(2, 1000)
    needle._console.close()

    needle.make_safe()

    assert not simulator.axes[2].moving


# ---- the fault script -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_under_every_fault_a_reading_is_right_or_an_error(
    needle: Anc300, simulator: Anc300Simulator, fault: str
) -> None:
    needle.approach(12.5)
    simulator.faults.switch_on(fault)
    got: dict[str, Any] = {}
    for name in ("offset_3", "mode_3", "frequency_1"):
        try:
            got[name] = needle.get(name)
        except ColdframeError as error:
            assert isinstance(error, LinkError)

    assert math.isnan(got.get("offset_3", math.nan)) or got["offset_3"] == 12.5
    assert got.get("mode_3", "off") == "off"
    assert got.get("frequency_1", 200) == 200


def test_half_a_reply_is_never_half_a_number(needle: Anc300, simulator: Anc300Simulator) -> None:
    length = len(b"voltage = 30.000000 V\r\nOK\r\n")
    for cut in range(length - 1):  # without its last LF, a reply is not whole either
        simulator.faults.switch_on("half", (cut + 0.5) / length)
        needle._console._until = patient(needle._console)  # type: ignore[method-assign]
        with pytest.raises((Silence, Garbled)):
            needle.get("voltage_1")
        simulator.faults.switch_off("half")
        needle.open()
        assert needle.get("voltage_1") == 30.0


def patient(console: Any) -> Any:
    """`_until` of a console that waits 10 ms, so that trying every offset stays quick."""
    import coldframe.drivers.anc300 as module

    original = type(console)._until

    def until(pattern: bytes, question: str) -> bytes:
        before, module.TIMEOUT = module.TIMEOUT, 0.02
        try:
            return original(console, pattern, question)
        finally:
            module.TIMEOUT = before

    return until


def test_a_late_answer_stays_in_the_session_that_was_given_up(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(Silence):
        needle.get("voltage_1")
    simulator.faults.switch_off("late")

    with pytest.raises(Disconnected):
        needle.get("mode_1")
    needle.open()
    assert needle.get("mode_1") == "gnd"


def test_a_setting_that_does_not_read_back_is_an_error(
    needle: Anc300, simulator: Anc300Simulator
) -> None:
    simulator.faults.switch_on("lie")

    with pytest.raises(InstrumentError, match="reads back"):
        needle.set("offset_1", 5.0)


def test_an_error_of_the_console_is_told_in_its_words(needle: Anc300) -> None:
    with pytest.raises(InstrumentError, match="Axis in wrong mode"):
        needle.tell("stepu 1 1")


def test_after_a_reboot_it_identifies_again_and_finds_the_axes_grounded(
    needle: Anc300, simulator: Anc300Simulator, bench: Any
) -> None:
    needle.approach(40.0)
    before = needle.identify()
    bench.do(simulator.power_on)
    needle.close()
    assert needle.outputs_on() == ["motion"]

    needle.open()
    needle.adopt()

    assert needle.identify() == before
    assert needle.offset_3.get() == 0.0
    assert needle.outputs_on() == []


def test_another_console_is_not_an_anc300(needle: Anc300, simulator: Anc300Simulator) -> None:
    simulator.version = ("ANC350 something", "")

    with pytest.raises(ColdframeError, match="ANC350"):
        needle.identify()
