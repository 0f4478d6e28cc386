"""House rules for every simulated instrument: it survives any client, and counts what it obeys."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coldframe.simulators.catalogue import MODELS, simulator
from coldframe.simulators.faults import FAULTS
from coldframe.simulators.ports import Instrument
from coldframe.simulators.world import World
from tests.contracts.discovered import simulators

SIMULATORS = simulators()
every_simulator = pytest.mark.parametrize("kind", SIMULATORS, ids=lambda kind: kind.__name__)
every_model = pytest.mark.parametrize("model", sorted(MODELS))


class Client:
    """The far end of a conversation that takes everything."""

    def __init__(self) -> None:
        self.heard = b""

    def __call__(self, data: bytes, /) -> None:
        self.heard += data

    def waiting(self) -> int:
        return 0


def test_each_model_has_one_simulator_and_the_catalogue_knows_it() -> None:
    models = [model for kind in SIMULATORS for model in kind.models]

    assert len(models) == len(set(models))
    assert set(models) == set(MODELS)
    for kind in SIMULATORS:
        for model in kind.models:
            assert simulator(model) is kind


@every_simulator
def test_it_says_what_it_is_and_where_it_was_read(kind: type[Instrument]) -> None:
    module = inspect.getmodule(kind)
    assert module is not None and module.__doc__
    assert kind.__doc__ and kind.__doc__ != Instrument.__doc__
    assert set(kind.transports) <= {"tcp", "udp", "serial"} and kind.transports
    assert kind.ports >= 1


@every_simulator
def test_it_knows_no_driver(kind: type[Instrument]) -> None:
    module = inspect.getmodule(kind)
    assert module is not None
    assert "coldframe.drivers" not in inspect.getsource(module)


@every_model
def test_it_wakes_and_wakes_again(model: str) -> None:
    instrument = simulator(model)(World(seed=1), model)
    instrument.tick()
    instrument.power_on()
    instrument.tick()
    assert instrument.longest_step > 0


@every_model
def test_it_counts_the_orders_it_obeyed(model: str) -> None:
    instrument = simulator(model)(World(seed=1), model)
    assert list(instrument.writes) == []  # type: ignore[attr-defined]


@every_model
def test_waking_leaves_the_world_as_it_was(model: str) -> None:
    """Somebody may be at work in the world when one more instrument is plugged in."""
    world = World(seed=1)
    simulator(model)(world, model)
    world.step(1)

    truth = world.truth()
    assert (truth["fluence"], truth["ions"], truth["circuit_charge"]) == (0, 0, 0)
    assert truth["blanked"]


# bytes that begin like something: half of them printable, with ends of lines strewn in
talk = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(st.characters(codec="ascii"), max_size=40).map(str.encode),
        st.sampled_from([b"\r", b"\n", b"\r\n", b";", b"?", b"*IDN?\n", b"\0" * 16, b"\xf5\xfa"]),
    ),
    max_size=8,
)


@every_model
@given(chunks=talk)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_client_can_break_it(model: str, chunks: list[bytes]) -> None:
    kind = simulator(model)
    world = World(seed=1)
    instrument = kind(world, model)
    for number in range(kind.ports):
        conversation = instrument.converse(Client(), number)
        for chunk in chunks:
            conversation.feed(chunk)
            world.step(0.01)
            instrument.tick()


@every_model
def test_it_bears_every_fault(model: str) -> None:
    kind = simulator(model)
    instrument = kind(World(seed=1), model)
    for fault in FAULTS:
        instrument.faults.switch_on(fault)
        conversation = instrument.converse(Client(), 0)
        conversation.feed(b"*IDN?\r\n")
        instrument.world.step(0.1)
        instrument.tick()
        instrument.faults.switch_off()
