"""The commands that talk to a service, as somebody types them."""

from __future__ import annotations

from typing import Any

import pytest

from coldframe.client import Lab
from coldframe.daemon.cli import run
from coldframe.daemon.cli_client import wanted
from coldframe.errors import BadRequest, Disconnected, NotReady, UnknownName
from tests.spine import Lamp, LampSimulator, Spine, wait


@pytest.fixture
def lamp(spine: Spine, bench: Any) -> str:
    _, address = bench.serve(LampSimulator)
    spine.host("lamp", Lamp, address)
    with Lab(spine.address, timeout=3) as lab:

        def up() -> bool:
            try:
                return lab.get("lamp.level") is not None
            except (NotReady, UnknownName, Disconnected):
                return False

        wait(up)
    return spine.address


def test_arguments_are_what_the_command_declares_them_to_be(
    lamp: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["call", "lamp.nap", "seconds=0", "note=7", "--json", "--address", lamp]) == 0
    assert capsys.readouterr().out == '{"slept": 0.0, "note": "7"}\n'
    assert run(["call", "lamp.nap", "seconds=soon", "--address", lamp]) == 1
    assert "lamp.nap(seconds): 'soon' is not a float" in capsys.readouterr().err
    assert run(["call", "lamp.nap", "seconds", "--address", lamp]) == 1
    assert "write arguments as name=value" in capsys.readouterr().err


def test_one_parameter_is_described_by_its_name(
    lamp: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["describe", "lamp.level", "--address", lamp]) == 0
    said = capsys.readouterr().out
    assert "level" in said and "W" in said and "neutral" in said
    assert run(["describe", "lamp", "--address", lamp]) == 0
    assert "turn_on()" in capsys.readouterr().out


def test_arguments_of_a_procedure_are_what_it_declares_them_to_be() -> None:
    assert wanted("calibrate_dose", ["spots=6", "readings=3", "diameter_m=1 um"]) == {
        "spots": "6",
        "readings": 3,
        "diameter_m": pytest.approx(1e-6),
    }
    assert wanted("cool_down", ["setpoint_K=-185degC"])["setpoint_K"] == pytest.approx(88.15)
    assert wanted("cool_down", ["colour=blue"]) == {"colour": "blue"}  # the service names it
    with pytest.raises(BadRequest, match=r"cool_down\(setpoint_K\): '-185': say degC or K"):
        wanted("cool_down", ["setpoint_K=-185"])
    with pytest.raises(BadRequest, match=r"calibrate_dose\(readings\): 'some' is not a int"):
        wanted("calibrate_dose", ["readings=some"])
    with pytest.raises(UnknownName, match="calibrate_dose, cool_down"):
        wanted("levitate", [])


def test_what_a_procedure_measured_is_shown_with_its_unit(
    lamp: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"temperature_K": 88.15, "spot_6_A": 1.258e-11, "steps": 3, "evidence": "contrast"}
    monkeypatch.setattr(Lab, "run", lambda *_, **__: found)

    assert run(["run", "cool_down", "--address", lamp]) == 0

    said = capsys.readouterr().out.splitlines()
    assert "temperature_K: -185.00 °C (88.15 K)" in said and "spot_6_A: 12.58 pA" in said
    assert "steps: 3" in said and "evidence: contrast" in said
