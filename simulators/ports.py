"""Real ports for simulated instruments: TCP, UDP and pty, with the fault script on the way out.

An instrument is bytes in, bytes out; it owns no socket and no time. A port gives it clients, the
pump gives it time. All instruments of a laboratory live in one event loop around one world, so a
reply always speaks of the world as it is at that instant.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import pty
import socket
import tty
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Protocol, cast

from coldframe.simulators.faults import Faults
from coldframe.simulators.world import World

TICK = 0.01  # s between two looks at the world; cut-offs inside are exact (the world substeps)
LINE_LIMIT = 65536


class Send(Protocol):
    """The way to one client."""

    def __call__(self, data: bytes, /) -> None: ...

    def waiting(self) -> int:
        """Bytes that the client has not taken yet: a stream must not outrun a slow reader."""
        ...


class _Line:
    """What a port hands an instrument as its `Send`."""

    def __init__(self, send: Callable[[bytes], None], waiting: Callable[[], int]):
        self._send, self.waiting = send, waiting

    def __call__(self, data: bytes, /) -> None:
        self._send(data)


class Conversation(Protocol):
    """What an instrument remembers of one client."""

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        ...


class Instrument:
    """A simulated instrument, written from its manual. Subclasses speak one family's dialect."""

    models: ClassVar[tuple[str, ...]] = ()
    transports: ClassVar[tuple[str, ...]] = ("tcp",)  # what the real one has: tcp, udp, serial
    ports: ClassVar[int] = 1  # Merlin has two: PORT and PORT+1
    writes: list[str]  # the orders it obeyed, as they came over the wire

    def __init__(self, world: World, model: str = "", faults: Faults | None = None):
        self.world = world
        self.model = model or self.models[0]
        self.faults = faults if faults is not None else Faults()
        self.power_on()

    def power_on(self) -> None:
        """The state after a reset of its mains switch."""
        raise NotImplementedError

    def converse(self, send: Send, port: int = 0) -> Conversation:
        """A client has come to port number `port`; `send` reaches it."""
        raise NotImplementedError

    @property
    def longest_step(self) -> float:
        """Lab seconds the world may move at once without a look: short while a loop controls."""
        return math.inf

    def tick(self) -> None:
        """The world has moved: control loops, streams, whatever happens without being asked."""


class Lines:
    """A conversation in lines: any of CR, LF and CR LF ends one, as on most instruments."""

    def __init__(self, send: Send, answer: Callable[[str], str | None], end: bytes = b"\r\n"):
        self._send, self._answer, self._end = send, answer, end
        self._buffer = b""

    def feed(self, data: bytes) -> None:
        self._buffer = (self._buffer + data)[-LINE_LIMIT:]
        *lines, self._buffer = self._buffer.replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line and (reply := self._answer(line.decode("latin-1"))) is not None:
                self._send(reply.encode("latin-1") + self._end)


class Pump:
    """Moves the world: to lab time when told where lab time is, or by hand in a test."""

    def __init__(self, world: World, lab_seconds: Callable[[], float] | None = None):
        self.world = world
        self.instruments: list[Instrument] = []
        self._lab_seconds = lab_seconds
        self._origin = lab_seconds() - world.now if lab_seconds else 0.0

    def catch_up(self) -> None:
        """Bring the world to the present."""
        if self._lab_seconds is not None:
            behind = self._lab_seconds() - self._origin - self.world.now
            if behind > 0:
                self.step(behind)

    def skip(self, seconds: float) -> None:
        """Move the world ahead of lab time; it goes on from there."""
        self._origin -= seconds
        self.catch_up()

    def step(self, seconds: float) -> None:
        """Move the world, and let every instrument see it."""
        while True:
            part = min([seconds, *[instrument.longest_step for instrument in self.instruments]])
            self.world.step(part)
            for instrument in self.instruments:
                instrument.tick()
            seconds -= part
            if seconds <= 0:
                return

    async def run(self) -> None:
        """Keep up until cancelled."""
        while True:
            self.catch_up()
            await asyncio.sleep(TICK)


class Port:
    """One address of one instrument; `close` frees it. Faults act on everything sent."""

    def __init__(self, instrument: Instrument, pump: Pump, number: int = 0):
        self.instrument, self.pump, self.number = instrument, pump, number
        self.address = ""
        self._heard = b""  # what a client sent last: the fault `echo` sends it back
        self._close: list[Callable[[], None]] = []

    async def listen_tcp(self, port: int = 0) -> str:
        """Listen on loopback; returns the address."""
        server = await asyncio.start_server(self._serve_tcp, "127.0.0.1", port)
        self._close.append(server.close)
        self.address = f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return self.address

    async def listen_udp(self, port: int = 0) -> str:
        """Take datagrams on loopback; each sender is a conversation."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            lambda: _Datagrams(self), local_addr=("127.0.0.1", port)
        )
        self._close.append(transport.close)
        self.address = f"udp://127.0.0.1:{transport.get_extra_info('sockname')[1]}"
        return self.address

    def listen_serial(self, link: Path) -> str:
        """Make `link` a symbolic link to a pty in raw mode.

        One slave descriptor stays open here, so that a client that leaves does not turn the
        master's reads into EIO.
        """
        master, slave = pty.openpty()
        tty.setraw(master)
        tty.setraw(slave)
        os.set_blocking(master, False)
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(os.ttyname(slave))
        loop = asyncio.get_running_loop()
        conversation = self._converse(lambda data: _write_all(master, data), lambda: None)

        def readable() -> None:
            with contextlib.suppress(BlockingIOError):
                self._feed(conversation, os.read(master, 65536))

        loop.add_reader(master, readable)

        def close() -> None:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)
            with contextlib.suppress(FileNotFoundError):
                link.unlink()

        self._close.append(close)
        self.address = f"serial://{link}"
        return self.address

    def close(self) -> None:
        for close in self._close:
            close()
        self._close.clear()

    # ---------------------------------------------------------------------------------

    def _converse(
        self,
        write: Callable[[bytes], None],
        cut: Callable[[], None],
        waiting: Callable[[], int] = lambda: 0,
    ) -> Conversation:
        queue = _Queue(write)
        self._close.append(queue.clear)

        def send(reply: bytes) -> None:
            faults = self.instrument.faults
            if faults.on("drop"):
                cut()
                return
            for delay, data in faults.transform(reply, self._heard):
                queue.put(delay, data)

        return self.instrument.converse(_Line(send, waiting), self.number)

    def _feed(self, conversation: Conversation, data: bytes) -> bool:
        """Let the instrument hear `data`; False when it lost its power instead."""
        self.pump.catch_up()
        self._heard = data
        rebooted = self.instrument.faults.take("reboot")
        if rebooted:
            self.instrument.power_on()  # what it was told last is lost with the rest
        else:
            conversation.feed(data)
        for instrument in self.pump.instruments:  # an order acts at once, not at the next tick
            instrument.tick()
        return not rebooted

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stream: socket.socket = writer.get_extra_info("socket")
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def write(data: bytes) -> None:
            if not writer.is_closing():
                writer.write(data)

        def waiting() -> int:
            return writer.transport.get_write_buffer_size()

        conversation = self._converse(write, writer.close, waiting)
        self._close.append(writer.close)
        try:
            while data := await reader.read(65536):
                if self.instrument.faults.on("drop") or not self._feed(conversation, data):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._close.remove(writer.close) if writer.close in self._close else None
            writer.close()


class _Queue:
    """Replies on their way: some are late, none overtakes an earlier one."""

    def __init__(self, write: Callable[[bytes], None]):
        self._write, self._due = write, 0.0
        self._waiting: list[asyncio.TimerHandle] = []

    def put(self, delay: float, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        late = self._due > now  # something is still on its way
        if delay <= 0 and not late:
            self._write(data)
            return
        # a microsecond apart: timers due at the same instant run in any order
        self._due = max(now + delay, self._due + 1e-6)
        self._waiting = [timer for timer in self._waiting if timer.when() > now]
        self._waiting.append(loop.call_at(self._due, self._write, data))

    def clear(self) -> None:
        for timer in self._waiting:
            timer.cancel()
        self._waiting.clear()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, port: Port):
        self._port = port
        self._talks: dict[tuple[str, int], Conversation] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)  # not a subclass of it in 3.11

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr not in self._talks:

            def write(reply: bytes) -> None:
                self._transport.sendto(reply, addr)

            self._talks[addr] = self._port._converse(write, lambda: None)
        self._port._feed(self._talks[addr], data)


def _write_all(descriptor: int, data: bytes) -> None:
    """A pty's buffer is small; what does not fit when nobody reads is lost, as on a real UART."""
    with contextlib.suppress(BlockingIOError):
        while data:
            data = data[os.write(descriptor, data) :]
