"""Question and answer by lines over a wire: whole answers, each to its own question.

No answer is ever believed that was not whole, and none that may belong to an earlier question:
after a silence the link is *out of step*, and the next question first asks for the identity and
throws away everything before the identity's answer. Buffers are bounded; every wait ends.
"""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from coldframe.drivers.wires import BUFFER_LIMIT, SerialFraming, Wire, open_wire
from coldframe.errors import BadRequest, Garbled, Silence

__all__ = ["BUFFER_LIMIT", "Dialect", "LineLink", "SerialFraming", "Wire", "open_wire"]

MOST_OWED = 32  # unanswered identities remembered


class Dialect(NamedTuple):
    """How an instrument ends its lines, how fast it may be talked to, how it says who it is."""

    write_end: bytes = b"\n"
    read_end: bytes = b"\n"
    timeout: float = 0.25  # s for one answer; hazardous ports stay at or below this
    pace: float = 0.0  # s of quiet the instrument needs between messages
    probe: str = "*IDN?"  # a harmless question whose answer …
    recognise: str = r".+,.+,.*,.*"  # … looks like nothing else
    encoding: str = "ascii"


class LineLink:
    """Questions and answers by lines, never out of step for longer than one question."""

    def __init__(self, wire: Wire, dialect: Dialect):
        self.wire, self.dialect = wire, dialect
        self._identity = re.compile(dialect.recognise)
        self._patience = max(0.5, 2 * dialect.timeout)
        self._buffer = b""
        self._in_step = True
        self._owed = 0  # identities asked for and not heard: they may still come
        self._ahead = 0  # how many of those were owed before the last question was asked
        self._heard = 0  # identities heard since then, by a link out of step
        self._quiet_until = 0.0

    def tell(self, text: str) -> None:
        """Send a line that has no answer."""
        self._send(text)

    def shout(self, text: str) -> None:
        """Send a line at once, in step or not, and believe nothing until asked again.

        For safe orders alone: an instrument whose answers are lost may still hear.
        """
        try:
            self._quiet()
        except Garbled:
            pass  # it talks on; it is told all the same
        self._in_step = False
        self._write(text)

    def ask(self, text: str, timeout: float | None = None) -> str:
        """Send a line, return its one-line answer without the end of line.

        Raises `Silence`, `Garbled` or `Disconnected`; after any of them the link gets back into
        step before it sends anything else.
        """
        limit = self.dialect.timeout if timeout is None else timeout
        self._send(text)
        deadline = time.monotonic() + limit
        answer = self.read_line(limit, text)
        if text == self.dialect.probe:
            self._owed -= 1
            return answer
        while self._owed and self._identity.fullmatch(answer):  # it answers an earlier probe
            self._owed -= 1
            answer = self.read_line(max(0.0, deadline - time.monotonic()), text)
        if self._owed and self._identity.search(answer):
            self._in_step = False
            raise Garbled(f"{text} → {answer!r}: part of it answers {self.dialect.probe}")
        if answer == text:
            self._in_step = False
            raise Garbled(f"{text} came back as its own answer: the instrument echoes")
        self._owed = 0  # answers come in order: what was asked before this was lost
        return answer

    def read_line(self, timeout: float | None = None, question: str = "") -> str:
        """The next whole line; for instruments that answer in several."""
        limit = self.dialect.timeout if timeout is None else timeout
        deadline = time.monotonic() + limit
        self._in_step = False
        end = self.dialect.read_end
        while end not in self._buffer:
            remaining = deadline - time.monotonic()
            data = self.wire.read(remaining) if remaining > 0 else b""
            if not data and remaining <= 0:
                got = f" (only {self._buffer[:60]!r})" if self._buffer else ""
                raise Silence(f"{question or 'answer'}: nothing whole in {limit:g} s{got}")
            self._buffer += data
            if len(self._buffer) > BUFFER_LIMIT:
                self._buffer = b""
                raise Garbled(f"{question}: {BUFFER_LIMIT} bytes and no end of line")
        line, self._buffer = self._buffer.split(end, 1)
        self._quiet_until = time.monotonic() + self.dialect.pace
        try:
            answer = line.decode(self.dialect.encoding)
        except UnicodeDecodeError:
            raise Garbled(f"{question} → {line[:80]!r}") from None
        self._in_step = True
        return answer

    def out_of_step(self) -> None:
        """Say that what comes next cannot be trusted: an answer did not fit its question."""
        self._in_step = False

    def close(self) -> None:
        self.wire.close()

    def _send(self, text: str) -> None:
        if not self._quiet():  # somebody talks without being asked
            self._in_step = False
        if not self._in_step:
            self._fall_into_step()
            self._quiet()
        self._write(text)

    def _write(self, text: str) -> None:
        """Something that may be answered: what is owed now would come before its answer."""
        self._ahead, self._heard = self._owed, 0
        self._put(text)

    def _put(self, text: str) -> None:
        try:
            line = text.encode(self.dialect.encoding) + self.dialect.write_end
        except UnicodeEncodeError:
            raise BadRequest(f"{text!r} cannot be written in {self.dialect.encoding}") from None
        self._rest()
        if text == self.dialect.probe:
            self._owed = min(self._owed + 1, MOST_OWED)
        self.wire.write(line)
        self._quiet_until = time.monotonic() + self.dialect.pace

    def _rest(self) -> None:
        """Wait as long as the instrument needs between messages."""
        wait = self._quiet_until - time.monotonic()
        if wait > 0:
            time.sleep(wait)

    def _quiet(self) -> bool:
        """Throw away what came before the question: it cannot be its answer. False when there was
        anything but ends of lines."""
        self._rest()
        blank = not self._buffer.strip()
        self._buffer = b""
        deadline = time.monotonic() + self._patience
        while data := self.wire.read(0):
            blank = blank and not data.strip()
            if time.monotonic() > deadline:
                self._in_step = False
                raise Garbled("it talks without being asked and does not stop")
        return blank

    def _fall_into_step(self) -> None:
        """Ask who is there, and throw away all that comes before the answer to that.

        Instruments answer in order, so behind the identity nothing old can follow, if it is the
        one asked for *after* the last question. Earlier ones may have been lost or may be late;
        they all look alike, so as many are counted off as were owed when that question was asked.
        Identities that follow then are known by their looks (`ask`).
        """
        probe = self.dialect.probe
        self._put(probe)
        deadline = time.monotonic() + self._patience
        while True:
            left = deadline - time.monotonic()
            try:
                line = self.read_line(max(left, 0.0), probe)
            except Garbled:
                line = ""
            if self._identity.fullmatch(line):
                self._owed = max(0, self._owed - 1)
                self._heard += 1
                if self._heard > self._ahead:
                    break
                self._put(probe)
                deadline = time.monotonic() + self._patience
            elif left <= 0:
                self._in_step = False
                raise Garbled(f"{probe}: it talks on and does not say who it is")
        self._in_step = True
