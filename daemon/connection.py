"""A driver's link: opened, believed when the same instrument answers, lost, tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

from coldframe.clock import NS
from coldframe.drivers.base import Driver
from coldframe.errors import ColdframeError, Disconnected, LinkError, WrongInstrument

FIRST_WAIT, LONGEST_WAIT = 0.2, 5.0  # s between two tries to open
PATIENCE = 3  # silent or garbled answers in a row that are a lost link


class Connection:
    """Is the instrument there, and is it the one it was?

    `open` may be called again and again; between failures the wait grows from 0.2 to 5 s, with some
    jitter so that many hosts do not knock in step. Nothing is written to an instrument whose
    identity is not the one first seen.
    """

    def __init__(self, driver: Driver, mono: Callable[[], int]):
        self.driver = driver
        self.up = False
        self.identity = ""
        self.next_try_ns = mono()
        self._mono = mono
        self._wait = FIRST_WAIT
        self._failures = 0
        self._jitter = random.Random()

    def due(self) -> bool:
        """Is it time to try to open?"""
        return not self.up and self._mono() >= self.next_try_ns

    def open(self) -> None:
        """Open, identify, compare; any failure closes again, sets the next try and is raised."""
        try:
            self.driver.open()
            identity = self.driver.identify()
            if self.identity and identity != self.identity:
                raise WrongInstrument(
                    f"{self.driver.name}: {identity!r} answers where {self.identity!r} was: "
                    "put the right one back, or restart its host to accept the new one"
                )
        except ColdframeError:
            self.drop()
            raise
        self.identity = identity
        self.up = True
        self._wait, self._failures = FIRST_WAIT, 0

    def drop(self) -> None:
        """Let go of the wire; the next try comes after the back-off."""
        self.driver.close()
        self.up = False
        self.next_try_ns = self._mono() + round(self._wait * self._jitter.uniform(0.8, 1.0) * NS)
        self._wait = min(2 * self._wait, LONGEST_WAIT)

    def worked(self) -> None:
        """An exchange went well."""
        self._failures = 0

    def failed(self, error: ColdframeError) -> bool:
        """An exchange went wrong; True when that means the link is lost."""
        if not isinstance(error, LinkError):
            return False
        self._failures += 1
        return isinstance(error, Disconnected) or self._failures >= PATIENCE
