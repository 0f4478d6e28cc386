"""House rules for every driver there is, whoever wrote it."""

from __future__ import annotations

import inspect
import re
import typing
from typing import Any

import pytest

from coldframe import roles
from coldframe.drivers.base import Driver, Options, Parameter
from coldframe.drivers.catalogue import MODELS, driver
from coldframe.errors import ColdframeError, NotSafe
from coldframe.simulators.catalogue import simulator
from tests.contracts.discovered import drivers

DRIVERS = drivers()
NAME = re.compile(r"[a-z][a-z0-9_]*")
every_driver = pytest.mark.parametrize("kind", DRIVERS, ids=lambda kind: kind.__name__)


def members(role: str) -> dict[str, Any]:
    """What a role asks for by name: a property's return type, or a method."""
    protocol = getattr(roles, role)
    return {name: member for name, member in vars(protocol).items() if not name.startswith("_")}


def alone(kind: type[Driver]) -> Driver:
    """A driver of an instrument that is not there."""
    return kind("alone", "tcp://127.0.0.1:1")


def test_there_are_drivers() -> None:
    assert len(DRIVERS) >= 10


def test_each_model_has_one_driver_and_the_catalogue_knows_it() -> None:
    models = [model for kind in DRIVERS for model in kind.models]

    assert len(models) == len(set(models))
    assert set(models) == set(MODELS)
    for kind in DRIVERS:
        for model in kind.models:
            assert driver(model) is kind


@every_driver
def test_each_model_has_a_simulator(kind: type[Driver]) -> None:
    for model in kind.models:
        assert model in simulator(model).models


@every_driver
def test_it_says_what_it_is(kind: type[Driver]) -> None:
    module = inspect.getmodule(kind)
    assert module is not None and module.__doc__
    assert kind.__doc__ and kind.__doc__ != Driver.__doc__
    for spec in kind.commands.values():
        assert spec.doc, f"{kind.__name__}.{spec.name} has no docstring"


@every_driver
def test_it_fits_its_role(kind: type[Driver]) -> None:
    for name, member in members(kind.role).items():
        where = f"{kind.__name__}.{name}, asked for by {kind.role}"
        if isinstance(member, property):
            asked = typing.get_type_hints(member.fget)["return"]
            parameter = kind.parameters.get(name)
            assert parameter is not None, where
            assert parameter.kind in typing.get_args(asked), where
            if typing.get_origin(asked) is roles.Settable:
                assert parameter.writable, where
        else:
            spec = kind.commands.get(name)
            assert spec is not None, where
            wanted = [p for p in inspect.signature(member).parameters if p != "self"]
            assert list(spec.arguments)[: len(wanted)] == wanted, where


@every_driver
def test_names_are_those_of_the_wire(kind: type[Driver]) -> None:
    names = [*kind.parameters, *kind.commands, *[output.name for output in kind.outputs]]
    for name in names:
        assert NAME.fullmatch(name), name
    assert not set(kind.parameters) & set(kind.commands)
    assert len(kind.outputs) == len({output.name for output in kind.outputs})


@every_driver
def test_each_output_says_its_safe_state_and_how_fast(kind: type[Driver]) -> None:
    for output in kind.outputs:
        assert len(output.safe_state) > 3, output
        assert 0 < output.seconds < 60, output
        if kind.role in ("ElectronColumn", "IonColumn"):
            assert output.fast_blank is not None, f"{output}: is there a blanker on this wire?"


@every_driver
def test_whatever_has_an_output_can_be_made_safe_at_any_time(kind: type[Driver]) -> None:
    if not kind.outputs:
        return
    assert kind.make_safe is not Driver.make_safe
    assert kind.outputs_on is not Driver.outputs_on
    safe = [spec for spec in kind.commands.values() if spec.hazard == "safe"]
    for output in kind.outputs:
        named = [spec for spec in safe if spec.output in (output.name, None)]
        assert named, f"{kind.__name__}: no safe command for {output.name}"
        for spec in named:
            required = [d for _, d in spec.arguments.values() if d is inspect.Parameter.empty]
            assert not required, f"{spec.name} wants arguments: it must work in a hurry"


@every_driver
def test_what_is_hazardous_names_its_output(kind: type[Driver]) -> None:
    outputs = {output.name for output in kind.outputs}
    for spec in kind.commands.values():
        assert spec.hazard in ("safe", "neutral", "hazardous")
        if spec.hazard == "hazardous":
            assert spec.output in outputs, f"{kind.__name__}.{spec.name}"
    for name, parameter in kind.parameters.items():
        if parameter.writable and parameter.hazard == "hazardous":
            assert parameter.output in outputs, f"{kind.__name__}.{name}"
        assert parameter.output in outputs | {None}, f"{kind.__name__}.{name}"


@every_driver
def test_each_parameter_can_be_read_and_its_limits_make_sense(kind: type[Driver]) -> None:
    for name, parameter in kind.parameters.items():
        where = f"{kind.__name__}.{name}"
        assert parameter.kind in (float, int, bool, str), where
        assert parameter.read is not None or hasattr(kind, f"read_{name}"), where
        assert parameter.poll is None or 0.02 <= parameter.poll <= 60, where
        if parameter.limits is not None:
            assert parameter.limits[0] < parameter.limits[1], where
        for value in parameter.safe_values:
            assert type(value) is parameter.kind, where


@every_driver
def test_each_parameter_comes_into_every_session(kind: type[Driver]) -> None:
    """Read at intervals, or a setting: its host reads all of them when a session begins."""
    disturbs = {("IonColumn", "current")}  # reading it moves the Faraday cup
    for name, parameter in kind.parameters.items():
        if (kind.role, name) not in disturbs:
            assert parameter.poll is not None or parameter.writable, f"{kind.__name__}.{name}"


@every_driver
def test_templates_are_filled_by_the_options(kind: type[Driver]) -> None:
    made = alone(kind)
    for parameter in kind.parameters.values():
        for template in (parameter.read, parameter.write):
            if template is not None:
                assert made.fill(template, value=_example(parameter))


def _example(parameter: Parameter[Any]) -> Any:
    return parameter.choices[0] if parameter.choices else parameter.kind(1)


@every_driver
def test_options_are_frozen_and_refuse_unknown_keys(kind: type[Driver]) -> None:
    assert issubclass(kind.Options, Options)
    config = kind.Options.model_config
    assert config.get("frozen") is True
    assert config.get("extra") == "forbid"


@every_driver
def test_what_is_not_open_closes_and_counts_as_on(kind: type[Driver]) -> None:
    made = alone(kind)

    made.close()
    made.close()

    assert made.outputs_on() == [output.name for output in kind.outputs]


@every_driver
def test_nobody_there_is_a_typed_error(kind: type[Driver]) -> None:
    made = alone(kind)
    with pytest.raises(ColdframeError):
        made.open()
    if kind.outputs:
        with pytest.raises(NotSafe):
            made.make_safe(False)
    made.close()
