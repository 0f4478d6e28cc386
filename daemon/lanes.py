"""The three sockets of a device: to the guard first, to the recorder without loss, to the hub."""

from __future__ import annotations

from collections import deque
from typing import Literal

import zmq

from coldframe.messages import Message

Lane = Literal["guard", "hub", "recorder"]
LANE_BYTES = 64 << 20  # what a lane may hold of arrays when the other side is slow
LANE_MESSAGES = 1000
ARRAY_LIMIT = 256 << 20  # bytes; no message of the service is larger
BATCH = 200  # messages taken from a lane in one turn


def inner_router(context: zmq.Context[zmq.Socket[bytes]], address: str) -> zmq.Socket[bytes]:
    """The other end: a ROUTER that hosts and the service's own parts connect to."""
    socket = context.socket(zmq.ROUTER)
    socket.linger = 0
    socket.maxmsgsize = ARRAY_LIMIT
    socket.router_mandatory = 1  # an absent peer is an error, not a message lost in silence
    socket.router_handover = 1  # a restarted peer takes its name back at once
    socket.bind(address)
    return socket


def dealer(
    context: zmq.Context[zmq.Socket[bytes]], name: str, address: str, messages: int = LANE_MESSAGES
) -> zmq.Socket[bytes]:
    """A DEALER with its name as identity; reconnects by itself, and quickly."""
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.ROUTING_ID, name.encode())
    socket.linger = 200  # ms: the last words of a host that stops
    socket.sndhwm = messages
    socket.maxmsgsize = ARRAY_LIMIT
    socket.reconnect_ivl = 20
    socket.reconnect_ivl_max = 500
    socket.connect(address)
    return socket


class Lanes:
    """Sends never block: the wire's work goes on whoever is slow.

    Readings that the recorder cannot take are counted (their numbers show the gap); arrays of a
    session wait here, and while they wait no more are taken from the instrument. The hub's copies
    are for looking at: what does not fit is dropped.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        device: str,
        addresses: dict[Lane, str],
        array_bytes: int = 0,
    ):
        fits = max(16, LANE_BYTES // array_bytes) if array_bytes else LANE_MESSAGES
        messages = min(LANE_MESSAGES, fits)
        self.sockets: dict[Lane, zmq.Socket[bytes]] = {
            lane: dealer(context, device, address, LANE_MESSAGES if lane == "guard" else messages)
            for lane, address in addresses.items()
        }
        self._waiting: deque[list[bytes]] = deque()
        self._lost = 0

    def publish(self, frames: list[bytes], *, in_session: bool = False) -> None:
        """Guard, recorder, hub: the same bytes to each. Arrays are nothing to the guard, and only
        a session has use for them in the recorder."""
        is_array = len(frames) > 2
        if not is_array:
            self._try("guard", frames)
            if not self._try("recorder", frames):
                self._lost += 1
        elif in_session and (self._waiting or not self._try("recorder", frames)):
            self._waiting.append(frames)
        self._try("hub", frames)

    def send(self, lane: Lane, message: Message) -> bool:
        """A control message; False when the lane is full."""
        return self._try(lane, [message.encode()])

    def receive(self, lane: Lane) -> list[bytes]:
        """The control messages that have arrived on this lane, oldest first."""
        arrived: list[bytes] = []
        socket = self.sockets[lane]
        while len(arrived) < BATCH:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            arrived += frames if len(frames) == 1 else []
        return arrived

    @property
    def congested(self) -> bool:
        """Arrays are waiting for the recorder: take no more from the instrument."""
        return bool(self._waiting)

    def flush(self) -> bool:
        """Send the arrays that wait; True when none is left."""
        while self._waiting and self._try("recorder", self._waiting[0]):
            self._waiting.popleft()
        return not self._waiting

    def take_lost(self) -> int:
        """Readings the recorder did not get, to be told once it takes again."""
        lost = self._lost
        if not lost or not self.sockets["recorder"].poll(0, zmq.POLLOUT):
            return 0
        self._lost = 0
        return lost

    def close(self) -> None:
        for socket in self.sockets.values():
            socket.close()

    def _try(self, lane: Lane, frames: list[bytes]) -> bool:
        try:
            self.sockets[lane].send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True
