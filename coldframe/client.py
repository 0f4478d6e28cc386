"""The laboratory from a script: `Lab` for ordinary Python, `AsyncLab` with the same names.

    with coldframe.connect() as lab:
        lab.stage.setpoint.set("-185 degC")
        for reading in lab.watch("stage.temperature"):
            ...

With `AsyncLab` the same is `async with`, `await` and `async for`. A client belongs to one thread,
or one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from typing import Any, Self

import zmq
import zmq.asyncio

from coldframe.conversation import Ask, Lane, Request
from coldframe.errors import ColdframeError, NotReady
from coldframe.messages import Header, Reply, decode
from coldframe.runs import PEER, Report, heed
from coldframe.subscription import Frame, Kind, Subscription
from coldframe.verbs import Verbs

__all__ = ["AsyncLab", "Frame", "Lab"]

SYNC_WAIT = 1.0  # s; a source that does not know `sync` is read all the same


class Lab(Verbs):
    """A laboratory, from ordinary Python: `with coldframe.connect() as lab`.

    Nothing is asked on entering, so that `abort` works while the hub does not.
    """

    def __init__(self, address: str = "tcp://127.0.0.1:5750", **options: Any):
        super().__init__(address, **options)
        self._context = zmq.Context()
        self._lanes: dict[Lane, zmq.Socket[bytes]] = {}
        self._open: set[Stream] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every socket; a subscription ends with its client."""
        for stream in list(self._open):
            stream.close()
        for socket in self._lanes.values():
            socket.close()
        self._lanes.clear()
        self._context.term()

    def run(self, protocol: str, /, report: Report | None = None, **args: Any) -> dict[str, Any]:
        """Run an experiment procedure in the service and wait for what it measured.

        `report(fraction, words)` hears how far it is. The run goes on if this client leaves.
        """
        with self.events(f"{PEER}.{protocol}") as events:
            run_id = self.command("run", protocol, None, **args)["run"]
            for event in events:
                if (result := heed(event, run_id, report)) is not None:
                    return result
        raise NotReady(f"{protocol}: the stream of events ended before the run did")

    def _refresh(self) -> None:
        self._do(self._talk.learn())

    def _do(self, request: Request) -> Any:
        try:
            ask = next(request)
            while True:
                try:
                    reply = self._exchange(ask)
                except ColdframeError as error:
                    ask = request.throw(error)
                else:
                    ask = request.send(reply)
        except StopIteration as done:
            return done.value

    def _exchange(self, ask: Ask) -> Reply:
        timeout = self._talk.timeout if ask.timeout is None else ask.timeout
        # the hub says `TooLate` half a second after a deadline; that says more than silence
        deadline = time.monotonic() + timeout + (1.0 if ask.command.deadline_ms else 0.0)
        if ask.lane not in self._lanes:
            self._lanes[ask.lane] = self._context.socket(zmq.DEALER)
            self._prepare(self._lanes[ask.lane], ask.lane)
        socket = self._lanes[ask.lane]
        if socket.poll(round(timeout * 1000), zmq.POLLOUT):
            socket.send(ask.command.encode(), zmq.NOBLOCK)
            while (left := deadline - time.monotonic()) > 0 and socket.poll(round(left * 1000)):
                reply = decode(Reply, socket.recv())
                if reply.id == ask.command.id:  # others answer what was given up before
                    return reply
        raise self._talk.silent(ask.lane, timeout)

    def _stream(self, kind: Kind, names: tuple[str, ...], timeout: float | None) -> Stream:
        self._do(self._before(kind, names))
        return Stream(self, Subscription(kind, names), timeout)


class Stream:
    """What a subscription brings, one at a time; in force from the moment it is made.

    A `for` loop ends the subscription when the loop ends; `next` leaves it open.
    """

    def __init__(self, lab: Lab, subscription: Subscription, timeout: float | None):
        self._lab, self._subscription, self._timeout = lab, subscription, timeout
        self._socket = lab._context.socket(zmq.SUB)
        lab._open.add(self)
        self._early: deque[Header | Frame] = deque()
        try:
            lab._subscribe(self._socket, subscription)
            held = []
            end = time.monotonic() + SYNC_WAIT
            while (left := end - time.monotonic()) > 0 and self._socket.poll(round(left * 1000)):
                frames = self._socket.recv_multipart()
                if frames[0] == subscription.sync:
                    break
                held.append(frames)
            self._early.extend(lab._do(lab._preface(subscription)))
            self._early.extend(new for frames in held if (new := subscription.take(frames)))
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        try:
            while not self._socket.closed:
                yield next(self)
        finally:
            self.close()

    def __next__(self) -> Any:
        while not self._socket.closed:
            if self._early:
                return self._early.popleft()
            wait = None if self._timeout is None else round(self._timeout * 1000)
            if not self._socket.poll(wait):
                raise _nothing(self._lab, self._timeout)
            if (new := self._subscription.take(self._socket.recv_multipart())) is not None:
                return new
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        self._socket.close()
        self._lab._open.discard(self)


class AsyncLab(Verbs):
    """The same laboratory from asyncio: `async with AsyncLab() as lab`, and `await` each verb.

    Commands may overlap: each answer finds who waits for it. Entering asks what there is, because
    an attribute cannot wait.
    """

    def __init__(self, address: str = "tcp://127.0.0.1:5750", **options: Any):
        super().__init__(address, **options)
        self._context = zmq.asyncio.Context()
        self._lanes: dict[Lane, zmq.asyncio.Socket] = {}
        self._readers: list[asyncio.Task[None]] = []
        self._waiting: dict[str, asyncio.Future[Reply]] = {}
        self._open: set[AsyncStream] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._do(self._talk.learn())
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of every socket; a subscription ends with its client."""
        for stream in list(self._open):
            stream.close()
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for socket in self._lanes.values():
            socket.close()
        self._lanes.clear()
        self._context.term()

    async def run(
        self, protocol: str, /, report: Report | None = None, **args: Any
    ) -> dict[str, Any]:
        """Run an experiment procedure in the service and wait for what it measured."""
        async with self.events(f"{PEER}.{protocol}") as events:
            run_id = (await self.command("run", protocol, None, **args))["run"]
            async for event in events:
                if (result := heed(event, run_id, report)) is not None:
                    return result
        raise NotReady(f"{protocol}: the stream of events ended before the run did")

    async def _do(self, request: Request) -> Any:
        try:
            ask = next(request)
            while True:
                try:
                    reply = await self._exchange(ask)
                except ColdframeError as error:
                    ask = request.throw(error)
                else:
                    ask = request.send(reply)
        except StopIteration as done:
            return done.value

    async def _exchange(self, ask: Ask) -> Reply:
        timeout = self._talk.timeout if ask.timeout is None else ask.timeout
        if ask.lane not in self._lanes:
            self._lanes[ask.lane] = self._context.socket(zmq.DEALER)
            self._prepare(self._lanes[ask.lane], ask.lane)
            self._readers.append(asyncio.create_task(self._read(self._lanes[ask.lane])))
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[ask.command.id] = answer
        try:
            async with asyncio.timeout(timeout + (1.0 if ask.command.deadline_ms else 0.0)):
                await self._lanes[ask.lane].send(ask.command.encode())
                return await answer
        except TimeoutError:
            raise self._talk.silent(ask.lane, timeout) from None
        finally:
            del self._waiting[ask.command.id]

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            reply = decode(Reply, await socket.recv())
            waiting = self._waiting.get(reply.id)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    def _stream(self, kind: Kind, names: tuple[str, ...], timeout: float | None) -> AsyncStream:
        return AsyncStream(self, Subscription(kind, names), timeout)


class AsyncStream:
    """What a subscription brings, for `async for`; in force from `async with` or the first item."""

    def __init__(self, lab: AsyncLab, subscription: Subscription, timeout: float | None):
        self._lab, self._subscription, self._timeout = lab, subscription, timeout
        self._socket: zmq.asyncio.Socket | None = None
        self._early: deque[Header | Frame] = deque()

    async def _begin(self) -> zmq.asyncio.Socket:
        lab, subscription = self._lab, self._subscription
        await lab._do(lab._before(subscription.kind, subscription.names))
        self._socket = lab._context.socket(zmq.SUB)
        lab._open.add(self)
        lab._subscribe(self._socket, subscription)
        held: list[list[bytes]] = []
        try:
            async with asyncio.timeout(SYNC_WAIT):
                while (frames := await self._socket.recv_multipart())[0] != subscription.sync:
                    held.append(frames)
        except TimeoutError:
            pass
        self._early.extend(await lab._do(lab._preface(subscription)))
        self._early.extend(new for frames in held if (new := subscription.take(frames)))
        return self._socket

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        socket = self._socket or await self._begin()
        while not socket.closed:
            if self._early:
                return self._early.popleft()
            try:
                async with asyncio.timeout(self._timeout):
                    frames = await socket.recv_multipart()
            except TimeoutError:
                raise _nothing(self._lab, self._timeout) from None
            if (new := self._subscription.take(frames)) is not None:
                return new
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscription."""
        if self._socket is not None:
            self._socket.close()
        self._lab._open.discard(self)


def _nothing(lab: Verbs, timeout: float | None) -> NotReady:
    return NotReady(f"{lab._talk.addresses.streams}: nothing came for {timeout:g} s")
