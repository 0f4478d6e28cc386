"""A procedure's signature is the request's schema."""

from __future__ import annotations

import pytest

from coldframe.errors import BadRequest, UnknownName
from coldframe.protocols.catalogue import PROCEDURES, check_arguments, find, signature


def test_every_procedure_declares_a_type_a_default_or_need_and_says_what_it_does():
    assert {"cool_down", "warm_up", "calibrate_dose", "approach", "operando_biasing"} <= set(
        PROCEDURES
    )
    for function in PROCEDURES.values():
        assert function.__doc__
        assert all(
            each["kind"] in ("float", "int", "str", "bool") for each in signature(function).values()
        )


def test_an_int_serves_as_a_float_and_nothing_else_is_converted():
    cool = find("cool_down")
    assert check_arguments(cool, {"setpoint_K": 90}) == {"setpoint_K": 90.0}
    for value in ("90", True, None):
        with pytest.raises(BadRequest, match="setpoint_K"):
            check_arguments(cool, {"setpoint_K": value})


def test_unknown_and_missing_arguments_are_named():
    with pytest.raises(BadRequest, match="colour"):
        check_arguments(find("cool_down"), {"colour": 1})
    with pytest.raises(BadRequest, match="operator is missing"):
        check_arguments(find("approach"), {})


def test_an_unknown_procedure_names_those_there_are():
    with pytest.raises(UnknownName, match="cool_down"):
        find("cool_dwon")
