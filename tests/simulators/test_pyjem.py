"""The JEOL column's calls, by a bare socket and by the stand-in for the vendor's module."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from coldframe.simulators.pyjem import PyJemSimulator
from coldframe.simulators.pyjem_calls import CALLS, Tem3, tem3


@pytest.fixture
def column(bench: Any) -> tuple[PyJemSimulator, str]:
    made: tuple[PyJemSimulator, str] = bench.serve(PyJemSimulator)
    return made


@pytest.fixture
def simulator(column: tuple[PyJemSimulator, str]) -> PyJemSimulator:
    return column[0]


@pytest.fixture
def module(column: tuple[PyJemSimulator, str]) -> Iterator[Tem3]:
    made = tem3(column[1])
    made.connect()
    yield made
    made.close()


def test_one_line_of_json_asks_and_one_answers(column: tuple[PyJemSimulator, str]) -> None:
    host, port = column[1].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), 2) as wire, wire.makefile("rwb") as lines:
        for request, answer in [
            ({"id": 1, "call": "Def3.GetBeamBlank", "args": []}, {"id": 1, "value": 1}),
            ({"id": 2, "call": "Def3.SetBeamBlank", "args": [0]}, {"id": 2, "value": None}),
            ({"id": 3, "call": "Def3.GetBeamBlank", "args": []}, {"id": 3, "value": 0}),
        ]:
            lines.write(json.dumps(request).encode() + b"\n")
            lines.flush()
            assert json.loads(lines.readline()) == answer
        lines.write(b"rubbish\n")
        lines.flush()
        assert "not a call" in json.loads(lines.readline())["error"]


def test_values_have_the_vendors_form(module: Tem3) -> None:
    assert module.Def3().GetBeamBlank() == 1
    assert module.EOS3().GetMagValue() == [50000, "X", "X50k"]
    assert module.EOS3().GetFunctionMode() == [0, "MAG"]
    assert module.EOS3().GetSpotSize() == 3
    assert module.HT3().GetHtValue() == 200_000.0
    assert module.GUN3().GetEmissionCurrentValue() == 12.0
    assert module.Detector3().GetScreen() == 2
    assert module.FEG3().GetBeamValve() == 1


def test_the_beam_obeys_and_the_world_sees_it(module: Tem3, bench: Any) -> None:
    module.Def3().SetBeamBlank(0)
    bench.step(0.1)
    assert not bench.world.beam.blanked_now
    module.EOS3().SelectSpotSize(5)
    assert bench.world.beam.spot == 6
    module.Detector3().SetScreen(0)
    assert bench.world.beam.screen_down
    module.FEG3().SetBeamValve(0)
    assert not bench.world.beam.on


def test_the_selector_steps_through_the_magnifications(module: Tem3, bench: Any) -> None:
    eos = module.EOS3()
    eos.UpSelector()
    assert eos.GetMagValue()[0] == 60_000
    eos.DownSelector()
    eos.DownSelector()
    assert bench.world.beam.magnification == 40_000
    eos.SetSelector(0)
    eos.DownSelector()
    assert eos.GetMagValue() == [2000, "X", "X2000"]


def test_in_diffraction_the_magnification_is_a_camera_length(module: Tem3) -> None:
    module.EOS3().SelectFunctionMode(4)
    assert module.EOS3().GetMagValue() == [500, "mm", "50cm"]


def test_bad_arguments_are_refused(module: Tem3, simulator: PyJemSimulator) -> None:
    for bad in (2, -1, True, "on"):
        with pytest.raises(RuntimeError):
            module.Def3().SetBeamBlank(bad)
    with pytest.raises(RuntimeError):
        module.Def3().SetBeamBlank()
    assert simulator.writes == []


def test_what_the_vendor_does_not_have_the_stand_in_has_not(module: Tem3) -> None:
    with pytest.raises(AttributeError):
        module.Def4()
    with pytest.raises(AttributeError):
        module.Def3().Explode()


def test_everything_listed_is_served(simulator: PyJemSimulator) -> None:
    for group, methods in CALLS.items():
        for method in methods:
            assert callable(getattr(simulator, f"_{group}_{method}"))


def test_some_versions_return_a_result_code_too(module: Tem3, simulator: PyJemSimulator) -> None:
    simulator.pairs = True
    assert module.Def3().GetBeamBlank() == [1, 0]
    assert module.EOS3().GetMagValue() == [50000, "X", "X50k"]


def test_an_answer_to_an_earlier_call_is_thrown_away(
    module: Tem3, simulator: PyJemSimulator
) -> None:
    simulator.faults.switch_on("late", 0.3)
    with pytest.raises(TimeoutError):
        module.EOS3().GetSpotSize()
    simulator.faults.switch_off()
    for _ in range(20):
        assert module.HT3().GetHtValue() == 200_000.0


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="tcp://HOST:PORT"):
        tem3("serial:///dev/null")


def test_without_connect_there_is_no_connection(column: tuple[PyJemSimulator, str]) -> None:
    module = tem3(column[1])
    assert not module.isconnect()
    with pytest.raises(ConnectionError):
        module.Def3().GetBeamBlank()
