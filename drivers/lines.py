"""What drivers share whose instrument is asked by lines: the link, open, doubted or let go."""

from __future__ import annotations

import contextlib

from coldframe.drivers.base import Driver
from coldframe.drivers.links import LineLink
from coldframe.errors import ColdframeError, Disconnected


class LineDriver(Driver):
    """A driver that talks through one `LineLink`; `open` puts it into `_link`."""

    _link: LineLink | None = None

    def close(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            with contextlib.suppress(ColdframeError, OSError):
                link.close()

    def doubt(self) -> None:
        """The right answer, should it still come, is not taken for that of the next question."""
        if self._link is not None:
            self._link.out_of_step()

    @property
    def link(self) -> LineLink:
        """The open link; `Disconnected` when there is none."""
        if self._link is None:
            raise Disconnected(f"{self.name}: {self.address} is not open")
        return self._link
