"""TESCAN's SharkSEM messages: a 32-byte header, 4-byte fields, and answers told apart by number.

Header, little-endian: `name[16]` ASCII with NULs, u32 body size, u32 message id, u16 flags, u16
queue, u32 reserved. In a body an integer is i32; text is u32 length, the text with its NUL, and
NULs to the next multiple of 4; a floating-point number travels as such a text. Without flag 1 the
microscope sends no answer.

TCP carries no message boundaries: once an answer is not whole, or its header makes no sense,
nothing behind it on this connection can be believed, and the link is broken until it is opened
anew.
"""

from __future__ import annotations

import struct
import time
from typing import NamedTuple

from coldframe.drivers.base import parse
from coldframe.drivers.links import Wire
from coldframe.errors import Disconnected, Garbled, Silence

HEADER = struct.Struct("<16sIIHHI")
ANSWER = 0x0001  # flag: send a response
BODY_LIMIT = 1 << 20  # bytes; the longest answer on the control channel is a few kilobytes
DISCARD_LIMIT = 1000  # messages that may come before the answer

Field = int | float | str


class Message(NamedTuple):
    """One message as it stands on the wire."""

    name: str
    number: int
    flags: int
    body: bytes


def encode(message: Message) -> bytes:
    """The bytes of `message`."""
    name = message.name.encode("ascii")
    if not 1 <= len(name) <= 16:
        raise ValueError(f"{message.name!r}: a message's name has 1 to 16 characters")
    header = HEADER.pack(name, len(message.body), message.number, message.flags, 0, 0)
    return header + message.body


def take(buffer: bytes) -> tuple[Message, bytes] | None:
    """The first message in `buffer` and what follows it; None while it is not whole.

    Raises `Garbled` as soon as the header can be no header.
    """
    name_field = buffer[:16]
    name, _, rest = name_field.partition(b"\0")
    if name_field and (not name or not name.isalnum() or rest.strip(b"\0")):
        raise Garbled(f"SharkSEM: {name_field!r} is no message's name")
    if len(buffer) < HEADER.size:
        return None
    _, size, number, flags, _, _ = HEADER.unpack_from(buffer)
    if size > BODY_LIMIT:
        raise Garbled(f"SharkSEM: {name.decode()} announces {size} bytes")
    end = HEADER.size + size
    if len(buffer) < end:
        return None
    return Message(name.decode(), number, flags, buffer[HEADER.size : end]), buffer[end:]


def pack(*fields: Field) -> bytes:
    """A body made of `fields`."""
    return b"".join(
        struct.pack("<i", field)
        if isinstance(field, int)
        else _text(field if isinstance(field, str) else repr(field))
        for field in fields
    )


def _text(text: str) -> bytes:
    data = text.encode("ascii") + b"\0"
    return struct.pack("<I", len(data)) + data + b"\0" * (-len(data) % 4)


class Fields:
    """The fields of an answer, taken in order; `Garbled` when they are not there."""

    def __init__(self, body: bytes, where: str):
        self._body, self._where, self._at = body, where, 0

    def integer(self) -> int:
        value: int = struct.unpack("<i", self._take(4))[0]
        return value

    def text(self) -> str:
        """Text up to its NUL; some versions leave rubbish behind it."""
        size = struct.unpack("<I", self._take(4))[0]
        data = self._take(size)
        self._take(min(-size % 4, len(self._body) - self._at))
        text, nul, _ = data.partition(b"\0")
        if not nul:
            raise Garbled(f"{self._where}: {data[:80]!r} has no end")
        try:
            return text.decode("ascii")
        except UnicodeDecodeError:
            raise Garbled(f"{self._where}: {text[:80]!r} is no text") from None

    def number(self) -> float:
        return parse(float, self.text(), self._where)

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._body):
            raise Garbled(f"{self._where}: {len(self._body)} bytes, {end} needed")
        data, self._at = self._body[self._at : end], end
        return data


class SharkLink:
    """Questions and orders on the control channel of one microscope."""

    def __init__(self, wire: Wire, timeout: float = 0.25):
        self._wire, self._timeout = wire, timeout
        self._buffer = b""
        self._number = 0
        self.broken = False

    def tell(self, name: str, *fields: Field) -> None:
        """An order without an answer; the next question tells what came of it."""
        self._send(name, 0, fields)

    def ask(self, name: str, *fields: Field) -> Fields:
        """A question and its answer; answers to earlier questions are thrown away.

        Raises `Silence`, `Garbled` or `Disconnected`.
        """
        question = self._send(name, ANSWER, fields)
        deadline = time.monotonic() + self._timeout
        for _ in range(DISCARD_LIMIT):
            message = self._next(name, deadline)
            if message.number != self._number or message == question:
                continue  # an answer to something else, or our own words sent back
            if message.name != name:
                self.broken = True
                raise Garbled(f"{name} was answered by {message.name}")
            return Fields(message.body, name)
        self.broken = True
        raise Garbled(f"{name}: {DISCARD_LIMIT} messages and none is the answer")

    def close(self) -> None:
        self.broken = True
        self._wire.close()

    def _send(self, name: str, flags: int, fields: tuple[Field, ...]) -> Message:
        if self.broken:
            raise Disconnected(f"{name}: the connection has to be opened anew")
        self._number = (self._number + 1) & 0xFFFFFFFF
        message = Message(name, self._number, flags, pack(*fields))
        try:
            self._wire.write(encode(message))
        except Disconnected:
            self.broken = True
            raise
        return message

    def _next(self, question: str, deadline: float) -> Message:
        while True:
            try:
                found = take(self._buffer)
                if found is None:
                    data = self._wire.read(max(0.0, deadline - time.monotonic()))
            except (Garbled, Disconnected):
                self.broken = True
                raise
            if found is not None:
                message, self._buffer = found
                return message
            self._buffer += data
            if not data and time.monotonic() >= deadline:
                part = f" (only {len(self._buffer)} bytes)" if self._buffer else ""
                self.broken = bool(self._buffer)  # the rest would be taken for a header
                raise Silence(f"{question}: nothing whole in {self._timeout:g} s{part}")
