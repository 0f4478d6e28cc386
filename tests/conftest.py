"""What many tests need: simulated instruments behind real ports, in one world a test moves."""

from __future__ import annotations

import asyncio
import fcntl
import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import hypothesis
import pytest

from coldframe.simulators.ports import Instrument, Port, Pump
from coldframe.simulators.world import World

# the same examples each time where a red run would stop somebody else's work; new ones at a desk
hypothesis.settings.register_profile("ci", derandomize=True)
if "CI" in os.environ:
    hypothesis.settings.load_profile("ci")

ROOT = Path(__file__).resolve().parents[1]
T = TypeVar("T")
I = TypeVar("I", bound=Instrument)  # noqa: E741


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits longest begins first, so that nothing is left to wait for alone at the end."""
    first = [ROOT / "tests" / room for room in ("interop", "system")]
    items.sort(key=lambda item: not any(item.path.is_relative_to(room) for room in first))


class Bench:
    """One world and its instruments in an event loop of its own; the test drives from outside."""

    def __init__(self, folder: Path):
        self.world = World(seed=7)
        self.pump = Pump(self.world)
        self._folder = folder
        self._ports: list[Port] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bench", daemon=True)
        self._thread.start()

    def serve(
        self, instrument: type[I], model: str = "", transport: str = "tcp", **options: Any
    ) -> tuple[I, str]:
        """Put a new `instrument` behind a real port; returns it and its address."""

        async def listen() -> tuple[I, str]:
            made = instrument(self.world, model, **options)
            self.pump.instruments.append(made)
            ports = [Port(made, self.pump, number) for number in range(instrument.ports)]
            self._ports += ports
            if transport == "serial":
                link = self._folder / f"tty-{len(self._ports)}"
                return made, ports[0].listen_serial(link)
            if transport == "udp":
                return made, await ports[0].listen_udp()
            return made, await listen_consecutive(ports)

        return self._wait(listen())

    def do(self, action: Callable[[], T]) -> T:
        """Run `action` where the world lives."""

        async def run() -> T:
            return action()

        return self._wait(run())

    def step(self, seconds: float) -> None:
        """Move the world."""
        self.do(lambda: self.pump.step(seconds))

    def close(self) -> None:
        async def stop() -> None:
            await self._turns()  # a closed server leaks what it has accepted and not yet begun
            for port in self._ports:
                port.close()
            await self._turns()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self._turns()

        self._wait(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    @staticmethod
    async def _turns() -> None:
        """Let what has begun go on: a connection takes three turns of the loop to be served."""
        for _ in range(5):
            await asyncio.sleep(0)

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)


async def listen_consecutive(ports: list[Port]) -> str:
    """Listen on PORT, PORT+1, … and return the address of the first."""
    for _ in range(20):
        address = await ports[0].listen_tcp()
        first = int(address.rsplit(":", 1)[1])
        try:
            for offset, port in enumerate(ports[1:], 1):
                await port.listen_tcp(first + offset)
        except OSError:
            for port in ports:
                port.close()
            continue
        return address
    raise RuntimeError("no free neighbouring ports")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture
def lend() -> Callable[[Path], None]:
    """Lend what is installed here, Coldframe and pip left out, to another virtual environment: a
    test can then install Coldframe into a clean place without a network."""

    def lend_to(venv: Path) -> None:
        lent = venv / "lent"
        lent.mkdir()
        for kind in ("purelib", "platlib"):
            for entry in Path(sysconfig.get_path(kind)).iterdir():
                ours = "coldframe" in entry.name or entry.name.startswith("pip")
                if not ours and not (lent / entry.name).exists():
                    (lent / entry.name).symlink_to(entry)
        site = next(venv.glob("lib/python*/site-packages"))
        (site / "lent.pth").write_text(f"import sys; sys.path.insert(0, {str(lent)!r})\n")

    return lend_to


@pytest.fixture(scope="session")
def can_build() -> None:
    """Skips where this environment cannot build Coldframe without a network."""
    found = list(importlib.metadata.distributions(name="setuptools"))
    if not found or int(found[0].version.split(".")[0]) < 77:
        pytest.skip("setuptools >= 77 is not installed here: nothing can be built offline")


class Demo(NamedTuple):
    """What a run of the demonstration left."""

    status: int
    said: str
    session: Path
    picture: Path


@pytest.fixture(scope="session")
def demo_command() -> list[str]:
    """`coldframe demo`, unbuffered, from this checkout."""
    return [sys.executable, "-u", "-m", "coldframe.daemon", "demo"]


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory, demo_command: list[str]) -> Demo:
    """The whole demonstration, once for all tests that look at it, in whichever process they run:
    three to four minutes."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # shared by the processes of one test run
    with open(folder / "demo.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        out, said = folder / "demo", folder / "demo.json"
        if not said.exists():
            done = subprocess.run(
                [*demo_command, "--out", str(out)],
                capture_output=True,
                text=True,
                timeout=600,
                cwd=ROOT,
                env={**os.environ, "COLUMNS": "200"},
                check=False,
            )
            said.write_text(json.dumps([done.returncode, done.stdout + done.stderr]))
    status, text = json.loads(said.read_text())
    session = next(out.glob("*.nxs"), out / "none.nxs")
    return Demo(status, text, session, session.with_suffix(".png"))
