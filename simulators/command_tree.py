"""SCPI headers as manuals print them (`[:SOURce[1]]:VOLTage:ILIMit[:LEVel]`), and who obeys them.

Capitals are the short form, brackets are optional, case does not matter, `;` separates commands of
one line. A header ends in `?` when it asks. Numeric suffix 1 may always be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Action = Callable[[list[str]], str | None]
_NODE = re.compile(r"([*A-Za-z0-9]+)(\[1\])?")


class Refused(Exception):
    """The instrument's own error, as its queue numbers and words it."""

    def __init__(self, number: int, text: str):
        super().__init__(f'{number},"{text}"')
        self.number, self.text = number, text


def header_pattern(header: str) -> re.Pattern[str]:
    """The regular expression of every spelling of `header`."""
    pattern, rest = "", header.rstrip("?")
    depth_ends: list[str] = []
    while rest:
        if rest.startswith("[1]"):
            pattern, rest = pattern + "1?", rest[3:]
        elif rest[0] == "[":
            pattern, rest = pattern + "(?:", rest[1:]
            depth_ends.append(")?")
        elif rest[0] == "]":
            pattern, rest = pattern + depth_ends.pop(), rest[1:]
        elif rest[0] == ":":
            pattern, rest = pattern + ":", rest[1:]
        else:
            match = _NODE.match(rest)
            if match is None:
                raise ValueError(f"{header!r} is not a header")
            word = match[1]
            short = "".join(c for c in word if not c.islower())
            tail = word[len(short) :]
            pattern += re.escape(short) + (f"(?:{re.escape(tail)})?" if tail else "")
            rest = rest[len(word) :]
    return re.compile(pattern + (r"\?" if header.endswith("?") else ""), re.IGNORECASE)


class CommandTree:
    """Finds the action of each command of a line."""

    def __init__(self) -> None:
        self._actions: list[tuple[re.Pattern[str], Action]] = []

    def add(self, header: str, action: Action) -> None:
        """Obey `header` (with `?`: answer it) by `action(arguments)`."""
        self._actions.append((header_pattern(header), action))

    def find(self, command: str) -> tuple[Action, list[str]]:
        """The action of one command and its arguments; `Refused` -113 when there is none."""
        header, _, tail = command.strip().partition(" ")
        if not header.startswith(("*", ":")):
            header = ":" + header
        for pattern, action in self._actions:
            if pattern.fullmatch(header):
                return action, split_arguments(tail)
        raise Refused(-113, "Undefined header")


def split_arguments(tail: str) -> list[str]:
    """Arguments at commas, quotes taken off strings; a comma within quotes divides nothing."""
    parts = re.findall(r'"[^"]*"|\'[^\']*\'|[^,]+', tail)
    return [part.strip().strip("\"'") for part in parts if part.strip()]


def split_line(line: str) -> list[str]:
    """The commands of one line, at semicolons outside quotes."""
    parts = re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^;\"'])+", line)
    return [part.strip() for part in parts if part.strip()]
