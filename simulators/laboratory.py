"""Every simulated instrument of a laboratory in one process, around one world, behind real ports.

It writes the *address file* (JSON: name → address) through which `sim://NAME` is resolved, and
opens one more port, `truth`: JSON lines by which a test or the demonstration reads what really
happened and makes hazards real. No driver and no analysis is ever given that address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coldframe.clock import NS, Clock
from coldframe.errors import BadRequest, ColdframeError
from coldframe.simulators.catalogue import simulator
from coldframe.simulators.faults import Faults
from coldframe.simulators.ports import Instrument, Port, Pump
from coldframe.simulators.world import Truth, World

TRUTH = "truth"  # the name of the truth port in the address file


class Wanted(NamedTuple):
    """One instrument to imitate, and where: `tcp`/`udp` with a port number (0: any), or `serial`
    with the path of the link to make."""

    name: str
    model: str
    transport: str = ""  # empty: the first the real one has
    where: str = ""
    faults: tuple[str, ...] = ()


class Laboratory:
    """One world and the ports of its instruments."""

    def __init__(self, world: World, clock: Clock, folder: Path):
        self.world, self.clock, self._folder = world, clock, folder
        self.pump = Pump(world, lambda: clock.lab_ns() / NS)
        self.instruments: dict[str, Instrument] = {}
        self.addresses: dict[str, str] = {}
        self._ports: list[Port] = []

    async def add(self, wanted: Wanted) -> str:
        """Put an instrument behind its port(s); returns its address."""
        kind = simulator(wanted.model)
        transport = wanted.transport or kind.transports[0]
        if transport not in kind.transports:
            offers = ", ".join(kind.transports)
            raise BadRequest(f"{wanted.model} has no {transport} port; it has {offers}")
        try:
            faults = Faults.from_words(wanted.faults)
        except ValueError as error:
            raise BadRequest(str(error)) from None
        instrument = kind(self.world, wanted.model, faults)
        ports = [Port(instrument, self.pump, number) for number in range(kind.ports)]
        try:
            address = await self._listen(ports, transport, wanted)
        except (OSError, OverflowError) as error:
            where = f"{transport} {wanted.where}".strip()
            raise BadRequest(f"{wanted.model} cannot listen on {where}: {error}") from None
        self._ports += ports
        self.pump.instruments.append(instrument)
        self.instruments[wanted.name], self.addresses[wanted.name] = instrument, address
        return address

    async def _listen(self, ports: list[Port], transport: str, wanted: Wanted) -> str:
        if transport == "serial":
            link = Path(wanted.where) if wanted.where else self._folder / f"tty-{wanted.name}"
            return ports[0].listen_serial(link)
        if transport == "udp":
            return await ports[0].listen_udp(int(wanted.where or 0))
        return await _listen_tcp(ports, int(wanted.where or 0))

    async def open_truth(self) -> str:
        """The port that tells and makes the truth."""
        server = await asyncio.start_server(self._truth, "127.0.0.1", 0)
        self.addresses[TRUTH] = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self.addresses[TRUTH]

    def answer(self, request: dict[str, Any]) -> Any:
        """One request of the truth port: `truth`, `writes`, `load`, `inject`, `fault`, `step`."""
        self.pump.catch_up()
        match request:
            case {"do": "truth"}:
                return self.world.truth()
            case {"do": "writes", "device": str(device)}:
                return self.instruments[device].writes
            case {"do": "load", "specimen": str(specimen)}:
                self.world.load(specimen)
            case {"do": "inject", "hazard": str(hazard), **values}:
                values.pop("do", None)
                self.world.inject(hazard, **values)
            case {"do": "fault", "device": str(device), "name": str(name), "value": value}:
                self._fault(self.instruments[device], name, value)
            case {"do": "step", "seconds": int() | float() as seconds}:
                self.pump.skip(seconds)
            case _:
                raise BadRequest(f"the truth port does not know {request!r}")
        return None

    def _fault(self, instrument: Instrument, name: str, value: float | None) -> None:
        if name == "reboot":
            instrument.power_on()
        elif value is None:
            instrument.faults.switch_off(name)
        else:
            instrument.faults.switch_on(name, value)

    async def _truth(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                try:
                    reply = {"value": self.answer(json.loads(line))}
                except (ColdframeError, KeyError, ValueError, TypeError) as error:
                    reply = {"error": str(error)}
                writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()

    def close(self) -> None:
        for port in self._ports:
            port.close()


async def _listen_tcp(ports: list[Port], first: int) -> str:
    """PORT, PORT+1, …; with PORT 0 the first free neighbours."""
    for _ in range(50):
        address = await ports[0].listen_tcp(first)
        number = int(address.rsplit(":", 1)[1])
        try:
            for offset, port in enumerate(ports[1:], 1):
                await port.listen_tcp(number + offset)
            return address
        except OSError:
            for port in ports:
                port.close()
            if first:
                raise
    raise OSError("no free neighbouring ports")


async def run(
    wanted: list[Wanted],
    truth: Truth,
    clock: Clock,
    *,
    seed: int,
    folder: Path,
    address_file: Path | None,
    announce: Callable[[str, str, str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; `announce(name, model, address)` when a port listens."""
    lab = Laboratory(World(truth, seed=seed), clock, folder)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        for item in wanted:
            announce(item.name, item.model, await lab.add(item))
        if address_file is not None:
            await lab.open_truth()
            write_addresses(address_file, lab.addresses)
        pump = asyncio.create_task(lab.pump.run())
        waiter = asyncio.create_task(stop.wait())
        await asyncio.wait({pump, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if pump.done():
            pump.result()  # a fault of the physics ends the process, aloud
        pump.cancel()
    finally:
        lab.close()
        if address_file is not None:
            address_file.unlink(missing_ok=True)


def write_addresses(path: Path, addresses: Mapping[str, str]) -> None:
    """All at once: a reader sees the whole file or none. `pid` says whose it is."""
    scratch = path.with_suffix(f".{os.getpid()}")
    scratch.write_text(json.dumps({"pid": os.getpid(), **addresses}, indent=1))
    os.replace(scratch, path)
