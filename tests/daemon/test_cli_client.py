"""The commands that talk to a service, as somebody types them."""

from __future__ import annotations

from typing import Any

import pytest

from coldframe.client import Lab
from coldframe.daemon.cli import run
from coldframe.errors import Disconnected, NotReady, UnknownName
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
