"""`coldframe simulate`: one instrument, or a whole laboratory, as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from coldframe.clock import SharedClock
from coldframe.daemon.configuration import load
from coldframe.daemon.folders import run_folder
from coldframe.daemon.lab_models import Lab
from coldframe.errors import AlreadyRunning, ColdframeError, ConfigurationError
from coldframe.simulators.laboratory import Wanted, run
from coldframe.simulators.world import Truth

ADDRESSES, CLOCK = "simulated.json", "clock"


def instrument(
    model: str, transport: str, where: str, *, speed: float, faults: tuple[str, ...], as_json: bool
) -> None:
    """Serve one `model` until SIGTERM."""
    with tempfile.TemporaryDirectory(prefix="coldframe-") as folder:
        clock = SharedClock.create(Path(folder) / CLOCK, speed=speed)
        wanted = [Wanted(model, model, transport, where, faults)]
        asyncio.run(
            run(
                wanted,
                Truth(),
                clock,
                seed=0,
                folder=Path(folder),
                address_file=None,
                announce=_announce_json if as_json else _announce,
            )
        )
        clock.close()


def laboratory(path: Path, *, speed: float, as_json: bool = False) -> None:
    """Serve every simulated instrument of the laboratory at `path`, in one world, until SIGTERM."""
    lab = load(path).lab
    folder = run_folder(lab.lab.name)
    if (pid := living(folder)) is not None:
        raise AlreadyRunning(f"{lab.lab.name} is being simulated already, by process {pid}")
    clock = SharedClock.create(folder / CLOCK, speed=speed)
    asyncio.run(
        run(
            wanted_of(lab),
            lab.world,
            clock,
            seed=lab.lab.seed,
            folder=folder,
            address_file=folder / ADDRESSES,
            announce=_announce_json if as_json else _announce,
        )
    )
    clock.close()


def wanted_of(lab: Lab) -> list[Wanted]:
    """The instruments a simulated laboratory asks for: `sim://NAME`, optionally `?serial`."""
    wanted = []
    for device in lab.device.values():
        if device.address.startswith("sim://"):
            name, _, transport = device.address.removeprefix("sim://").partition("?")
            wanted.append(Wanted(name, device.model, transport))
    if not wanted:
        raise ConfigurationError(f"{lab.lab.name}: no device has an address sim://NAME")
    return wanted


def addresses(folder: Path) -> dict[str, str]:
    """The address of each simulated instrument that runs now; empty when none does."""
    if living(folder) is None:
        return {}
    found = json.loads((folder / ADDRESSES).read_text())
    return {name: address for name, address in found.items() if isinstance(address, str)}


def living(folder: Path) -> int | None:
    """The process that simulates the laboratory of this run folder, if it lives."""
    try:
        pid = int(json.loads((folder / ADDRESSES).read_text())["pid"])
        os.kill(pid, 0)
    except (OSError, ValueError, KeyError):
        return None
    return pid


class TruthPort:
    """The simulated world's own port: what really happened, and hazards made real."""

    def __init__(self, folder: Path):
        host, port = addresses(folder)["truth"].removeprefix("tcp://").split(":")
        self._socket = socket.create_connection((host, int(port)), 5)
        self._file = self._socket.makefile("rb")

    def __enter__(self) -> TruthPort:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        self._socket.close()

    def ask(self, **request: Any) -> Any:
        """One request, one answer."""
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(self._file.readline())
        if "error" in reply:
            raise ColdframeError(f"the simulated world: {reply['error']}")
        return reply["value"]

    def events(self) -> list[tuple[float, str, str]]:
        """(lab s since the world began, what happened, detail)."""
        found = self.ask(do="truth")["events"]
        return [(event["t"], event["name"], event["detail"]) for event in found]

    def now(self) -> float:
        """Lab seconds since the world began."""
        return float(self.ask(do="truth")["now"])


def _announce(name: str, model: str, address: str) -> None:
    print(f"ready {model} {address}", flush=True)


def _announce_json(name: str, model: str, address: str) -> None:
    ready = {"ready": model, "name": name, "address": address}
    print(json.dumps(ready), flush=True)
