"""Where a key stands in a TOML file, so that a refusal can name the line."""

from __future__ import annotations

import re
from collections.abc import Sequence

_TABLE = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)


def _parts(dotted: str) -> tuple[str, ...]:
    found = re.findall(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""", dotted)
    return tuple(part.strip("\"'") for part in found)


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of the key at `path`, or of the nearest table around it that is written.

    Elements of arrays of tables count from 0, as in the parsed document. Values of several lines
    are not entered: a key inside an inline table is found at the line of its outer key.
    """
    wanted = tuple(path)
    best, best_length = 1, 0
    table: tuple[str | int, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if match := _TABLE.match(line):
            names = _parts(match[2])
            if match[1] == "[[":
                counts[names] = counts.get(names, -1) + 1
                table = (*names, counts[names])
            else:
                table = names
            here = table
        elif match := _KEY.match(line):
            here = (*table, *_parts(match[1]))
        else:
            continue
        common = 0
        while common < min(len(here), len(wanted)) and here[common] == wanted[common]:
            common += 1
        if common in (len(here), len(wanted)) and common > best_length:
            best, best_length = number, common
    return best
