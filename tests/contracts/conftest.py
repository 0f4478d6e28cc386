"""Each model of a role, its driver talking to its simulator over the wire the real one has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Bench
from tests.contracts.discovered import models, simulator_of


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """`ROLE` in a module: whatever there asks for a `pair` is run with each model of that role."""
    if "pair" in metafunc.fixturenames:
        found = models(metafunc.module.ROLE.__name__)
        metafunc.parametrize("pair", found, ids=[model for _, model in found], indirect=True)


@pytest.fixture
def pair(request: Any, bench: Bench) -> Iterator[tuple[Any, Any]]:
    """The driver, open, and the instrument at the other end."""
    kind, model = request.param
    imitation = simulator_of(model)
    instrument, address = bench.serve(imitation, model, imitation.transports[0])
    driver = kind(request.module.NAME, address, model)
    driver.open()
    driver.identify()
    yield driver, instrument
    driver.close()
