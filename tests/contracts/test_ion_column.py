"""What every ion column owes, whoever made it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from coldframe.drivers.base import Driver
from coldframe.drivers.sharksem import SharkSem
from coldframe.errors import ColdframeError, Disconnected, NotSafe, OutOfRange
from coldframe.roles import IonColumn
from coldframe.simulators.ports import Instrument
from coldframe.simulators.sharksem import SharkSemSimulator

KINDS: list[tuple[type[Driver], type[Instrument], str]] = [
    (SharkSem, SharkSemSimulator, "tcp"),
]


class Column(NamedTuple):
    driver: Any
    simulator: Any


@pytest.fixture(params=KINDS, ids=lambda kind: kind[0].__name__)
def column(request: pytest.FixtureRequest, bench: Any) -> Iterator[Column]:
    kind, simulated, transport = request.param
    simulator, address = bench.serve(simulated, transport=transport)
    driver = kind("ion", address)
    driver.open()
    driver.identify()
    yield Column(driver, simulator)
    driver.close()


def test_it_has_what_the_role_asks(column: Column) -> None:
    role: IonColumn = column.driver
    assert isinstance(role.current.get(), float)
    assert isinstance(role.preset.get(), str)
    assert isinstance(role.beam_on.get(), bool)
    assert column.driver.role == "IonColumn"


def test_the_beam_is_an_output_and_says_whether_it_can_be_blanked_fast(column: Column) -> None:
    outputs = {output.name: output for output in column.driver.outputs}
    assert outputs["ion_beam"].fast_blank in (True, False)
    assert outputs["ion_beam"].seconds > 0


def test_commands_are_classed(column: Column) -> None:
    commands = column.driver.commands
    assert (commands["turn_off"].hazard, commands["turn_off"].output) == ("safe", "ion_beam")
    assert (commands["turn_on"].hazard, commands["turn_on"].output) == ("hazardous", "ion_beam")
    assert column.driver.parameters["preset"].output == "ion_beam"


def test_every_parameter_says_what_it_is(column: Column) -> None:
    for name, parameter in column.driver.parameters.items():
        assert isinstance(column.driver.get(name), parameter.kind)


def test_adopting_changes_nothing(column: Column, bench: Any) -> None:
    bench.do(lambda: setattr(bench.world.ion, "on", True))
    column.driver.adopt()
    assert column.simulator.writes == []
    assert bench.world.ion.on
    assert column.driver.outputs_on() == ["ion_beam"]


def test_what_has_not_been_read_back_may_be_on(column: Column) -> None:
    assert column.driver.outputs_on() == ["ion_beam"]
    column.driver.make_safe()
    assert column.driver.outputs_on() == []
    column.driver.close()
    assert column.driver.outputs_on() == ["ion_beam"]


def test_make_safe_of_a_beam_that_is_off_verifies_it(column: Column, bench: Any) -> None:
    column.driver.make_safe()
    column.driver.turn_off()
    assert not bench.world.ion.on


@pytest.mark.parametrize("fault", ["lie", "frozen"])
def test_an_unverified_safe_state_is_not_safe(column: Column, bench: Any, fault: str) -> None:
    bench.do(lambda: setattr(bench.world.ion, "on", True))
    column.simulator.faults.switch_on(fault)
    assert column.driver.beam_on.get() is True
    with pytest.raises(NotSafe, match="ion: ion beam off not verified"):
        column.driver.make_safe()


def test_a_preset_that_does_not_exist_is_never_sent(column: Column) -> None:
    with pytest.raises(OutOfRange, match=r"ion\.preset"):
        column.driver.set("preset", "no such preset")
    assert column.simulator.writes == []


@pytest.mark.parametrize(
    "fault", ["silence", "late", "garbage", "half", "echo", "nan", "drop", "frozen", "reboot"]
)
def test_a_bad_wire_gives_a_typed_error_or_the_truth(
    column: Column, bench: Any, fault: str
) -> None:
    column.simulator.faults.switch_on(fault)
    try:
        assert column.driver.beam_on.get() is bench.world.ion.on
    except ColdframeError:
        assert column.driver.outputs_on() == ["ion_beam"]


def test_closed_is_disconnected_and_it_opens_again(column: Column) -> None:
    first = column.driver.identify()
    column.driver.close()
    column.driver.close()
    with pytest.raises(Disconnected):
        column.driver.beam_on.get()
    column.driver.open()
    assert column.driver.identify() == first
