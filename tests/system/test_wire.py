"""The exchange of docs/reference/wire.md, said word for word over bare sockets.

Only `laboratory` below knows Coldframe; the test itself is what a stranger's program would be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import zmq

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/wire.md"
PATIENCE = 5000  # ms for any one message


@pytest.fixture
def laboratory(bench: Any) -> Iterator[dict[str, str]]:
    """A stage and its guard, just started; the addresses behind the usual ports."""
    from coldframe.daemon.rules import GuardSettings, Rule
    from coldframe.drivers.lakeshore import Lakeshore
    from coldframe.simulators.lakeshore import LakeshoreSimulator
    from tests.spine import Spine

    rule = Rule(
        id="IL-07",
        signal="stage.temperature",
        unit="K",
        above=320.0,
        max_age_s=3,
        trips=("stage.heater",),
        guidance="Switch the heater off at the instrument.",
        source="test",
    )
    rules = GuardSettings(
        simulated=True, specimen="none", devices={"stage": "lakeshore336"}, rules=(rule,)
    )
    with TemporaryDirectory(prefix="cf-") as folder:
        spine = Spine(Path(folder), rules=rules)
        _, address = bench.serve(LakeshoreSimulator, "lakeshore336")
        spine.host("stage", Lakeshore, address, limits={"setpoint": (80.0, 313.15)})
        assert spine.real_guard is not None
        addresses = spine.hub.addresses
        yield {
            "5750": addresses["commands"],
            "5751": addresses["streams"],
            "5752": spine.real_guard.it.clients,
        }
        spine.close()


def fits(pattern: Any, found: Any) -> bool:
    """Is `found` what the page says? `"…"` is anything; as a key, any further keys."""
    if pattern == "…":
        return True
    if isinstance(pattern, dict) and isinstance(found, dict):
        named = {key: value for key, value in pattern.items() if key != "…"}
        if "…" not in pattern and set(found) != set(named):
            return False
        return all(key in found and fits(value, found[key]) for key, value in named.items())
    if isinstance(pattern, list) and isinstance(found, list):
        return len(pattern) == len(found) and all(map(fits, pattern, found))
    return type(pattern) is type(found) and bool(pattern == found)


def exchange() -> list[tuple[str, str, str]]:
    """Port, direction and words of every line of the page's exchange."""
    blocks = re.findall(r"^```exchange\n(.*?)^```", PAGE.read_text("utf-8"), re.M | re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    return [tuple(line.split(" ", 2)) for line in lines]  # type: ignore[misc]


def test_the_exchange_on_the_page_happens_word_for_word(laboratory: dict[str, str]) -> None:
    with zmq.Context() as context:
        sockets = {
            "5750": context.socket(zmq.DEALER),
            "5751": context.socket(zmq.SUB),
            "5752": context.socket(zmq.REQ),
        }
        for port, socket in sockets.items():
            socket.linger, socket.rcvtimeo = 0, PATIENCE
            socket.connect(laboratory[port])
        try:
            assert len(exchange()) > 20
            for port, direction, words in exchange():
                socket = sockets[port]
                if words.startswith("subscribe "):
                    socket.subscribe(json.loads(words.removeprefix("subscribe ")).encode())
                elif direction == ">":
                    socket.send(words.encode())
                elif port == "5751":
                    topic, header = socket.recv_multipart()
                    assert fits(json.loads(words), [topic.decode(), json.loads(header)]), header
                else:
                    answer = socket.recv()
                    assert fits(json.loads(words), json.loads(answer)), answer.decode()
        finally:
            for socket in sockets.values():
                socket.close()


def test_the_page_names_every_verb_and_every_error() -> None:
    from typing import get_args

    from coldframe import errors
    from coldframe.messages import Verb

    text = PAGE.read_text("utf-8")
    said = set(re.findall(r"`([A-Za-z]+)`", text))
    later = {"pause", "resume", "bypass", "lease", "replay", "register"}  # not for clients yet
    assert set(get_args(Verb)) - later <= said
    kinds = {
        name
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.ColdframeError)
    }
    assert kinds - {"ColdframeError", "ConfigurationError", "AlreadyRunning"} <= said
