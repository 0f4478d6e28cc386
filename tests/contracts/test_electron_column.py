"""What every electron column owes, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from coldframe.drivers.base import Driver
from coldframe.drivers.pyjem import PyJem
from coldframe.drivers.remcon32 import RemCon32
from coldframe.errors import ColdframeError, Disconnected, NotSafe, OutOfRange
from coldframe.roles import ElectronColumn
from coldframe.simulators.ports import Instrument
from coldframe.simulators.pyjem import PyJemSimulator
from coldframe.simulators.pyjem_calls import tem3
from coldframe.simulators.remcon32 import RemCon32Simulator

KINDS: list[tuple[type[Driver], type[Instrument], str]] = [
    (RemCon32, RemCon32Simulator, "serial"),
    (PyJem, PyJemSimulator, "tcp"),
]


class Column(NamedTuple):
    driver: Any
    simulator: Any


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0].__name__)
def column(
    request: pytest.FixtureRequest, bench: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Column]:
    monkeypatch.setattr(PyJem, "calls", staticmethod(tem3))
    kind, simulated, transport = request.param
    simulator, address = bench.serve(simulated, transport=transport)
    driver = kind("column", address)
    driver.open()
    yield Column(driver, simulator)
    driver.close()


def test_it_has_what_the_role_asks(column: Column) -> None:
    role: ElectronColumn = column.driver
    assert isinstance(role.blanked.get(), bool)
    assert isinstance(role.magnification.get(), float)
    assert isinstance(role.high_voltage.get(), float)
    assert column.driver.role == "ElectronColumn"


def test_the_beam_is_an_output_with_a_fast_blanker(column: Column) -> None:
    (output,) = column.driver.outputs
    assert output.name == "beam"
    assert output.fast_blank is True
    assert output.seconds <= 0.1


def test_commands_are_classed(column: Column) -> None:
    commands = column.driver.commands
    assert (commands["blank"].hazard, commands["blank"].output) == ("safe", "beam")
    assert (commands["unblank"].hazard, commands["unblank"].output) == ("hazardous", "beam")
    for parameter in column.driver.parameters.values():
        if parameter.writable:
            assert (parameter.hazard, parameter.output) == ("hazardous", "beam")


def test_the_blanker_is_polled_ten_times_a_second(column: Column) -> None:
    assert column.driver.parameters["blanked"].poll == 0.1


def test_every_parameter_says_what_it_is(column: Column) -> None:
    for name, parameter in column.driver.parameters.items():
        assert isinstance(column.driver.get(name), parameter.kind)


def test_adopting_changes_nothing(column: Column, bench: Any) -> None:
    bench.do(lambda: setattr(bench.world.beam, "blanked", False))
    column.driver.adopt()
    assert column.simulator.writes == []
    assert column.driver.outputs_on() == ["beam"]


def test_what_has_not_been_read_back_may_be_on(column: Column) -> None:
    assert column.driver.outputs_on() == ["beam"]
    column.driver.make_safe()
    assert column.driver.outputs_on() == []
    column.driver.close()
    assert column.driver.outputs_on() == ["beam"]


def test_make_safe_blanks_the_beam_in_the_world(column: Column, bench: Any) -> None:
    column.driver.unblank()
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    column.driver.make_safe()
    bench.step(0.01)
    assert bench.world.beam.blanked_now


def test_make_safe_twice_is_safe(column: Column) -> None:
    column.driver.unblank()
    column.driver.make_safe()
    column.driver.make_safe()
    assert column.driver.blanked.get() is True


@pytest.mark.parametrize("fault", ["lie", "frozen"])
def test_an_unverified_safe_state_is_not_safe(column: Column, fault: str) -> None:
    column.driver.unblank()
    column.simulator.faults.switch_on(fault)
    assert column.driver.blanked.get() is False
    with pytest.raises(NotSafe, match="column: beam blanked not verified"):
        column.driver.make_safe()


def test_a_value_outside_its_limits_is_never_sent(column: Column) -> None:
    with pytest.raises(OutOfRange, match=r"column\.magnification"):
        column.driver.set("magnification", -1.0)
    assert column.simulator.writes == []


@pytest.mark.parametrize(
    "fault", ["silence", "late", "garbage", "half", "echo", "nan", "drop", "reboot"]
)
def test_a_bad_wire_gives_a_typed_error_or_the_truth(
    column: Column, bench: Any, fault: str
) -> None:
    truth = not bench.world.beam.blanked
    column.simulator.faults.switch_on(fault)
    try:
        assert column.driver.blanked.get() is not truth
    except ColdframeError:
        assert column.driver.outputs_on() == ["beam"]


def test_closed_is_disconnected_and_it_opens_again(column: Column) -> None:
    first = column.driver.identify()
    column.driver.close()
    column.driver.close()
    with pytest.raises(Disconnected):
        column.driver.blanked.get()
    column.driver.open()
    assert column.driver.identify() == first
