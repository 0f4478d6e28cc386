"""What can go wrong, one class for each thing a caller can do about it.

Three families, told apart by what a person does next: try again (`retryable`), change the request,
or fetch somebody. On the wire an error is `{class, text, retryable}`; `from_wire` makes it a Python
exception again, and an unknown class becomes plain `ColdframeError`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

MANY = 20  # more names than a person wants to read: their devices say as much


class ColdframeError(Exception):
    """Something went wrong; the text says what, where, and what to do."""

    retryable: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The name of this error on the wire."""
        return type(self).__name__


# ---- change the request -------------------------------------------------------------------


class BadRequest(ColdframeError):
    """The message or the value is malformed: wrong type, missing field, not finite."""


class UnknownName(ColdframeError):
    """No device, parameter, command, rule or stream has this name."""


class OutOfRange(ColdframeError):
    """A limit of the instrument or of the lab would be exceeded; the text names both numbers."""


class ReadOnly(ColdframeError):
    """The parameter can be read, not written."""


class TooLate(ColdframeError):
    """The command's deadline has passed: it was refused, not run late."""


class ConfigurationError(ColdframeError):
    """The laboratory's TOML is refused; the text names file, line and key."""


# ---- make it possible first, then ask again -----------------------------------------------


class Interlocked(ColdframeError):
    """The guard refuses; the text names the rule, the value, the limit and what would allow it."""


class NotPermitted(ColdframeError):
    """This identity may not do that: another role, or the control lease, is needed."""


class Busy(ColdframeError):
    """The device or the recorder is doing something else; ask again when it is done."""

    retryable = True


class NotReady(ColdframeError):
    """A part of the service is not there yet, or not any more."""

    retryable = True


class AlreadyRunning(ColdframeError):
    """Another service owns this laboratory; the text gives its process id."""


# ---- the wire and the instrument ----------------------------------------------------------


class LinkError(ColdframeError):
    """The conversation with an instrument failed; nothing was believed of it."""

    retryable = True


class Silence(LinkError):
    """The instrument did not answer in time."""


class Garbled(LinkError):
    """The answer was not whole or made no sense; the text shows it."""


class Disconnected(LinkError):
    """The cable, the port or the connection is gone."""


class InstrumentError(ColdframeError):
    """The instrument understood and refused; the text is its own."""


class WrongInstrument(ColdframeError):
    """What answered is not what the configuration names: nothing was written to it."""


class NotSafe(ColdframeError):
    """The safe state was commanded and could not be verified: a person must look."""


class StorageError(ColdframeError):
    """The session file cannot be written or read: full disk, damaged file, wrong folder."""


def _subclasses(base: type[ColdframeError]) -> dict[str, type[ColdframeError]]:
    found = {base.__name__: base}
    for child in base.__subclasses__():
        found |= _subclasses(child)
    return found


def from_wire(kind: str, text: str) -> ColdframeError:
    """The exception that `kind` names, carrying `text`."""
    return _subclasses(ColdframeError).get(kind, ColdframeError)(text)


def near(word: str, known: Iterable[str]) -> str:
    """What the writer of `word` may have meant, or all there is."""
    known = sorted(known)
    if members := [each for each in known if each.startswith(f"{word}.")]:
        return f"there is {', '.join(members)}"
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.55)
    if close:
        return f"did you mean {' or '.join(close)}?"
    if len(known) > MANY:
        known = sorted({each.partition(".")[0] for each in known})
    return f"there is {', '.join(known)}" if known else "there is none"
