"""How a process of the service ends: told to by a signal, or by the end of the service. No orphans.

Guard and last hand watch the service themselves, because they have something to do before they end.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable


def at_the_end(stop: Callable[[], None]) -> None:
    """Call `stop` when this process is told to end: SIGTERM, or Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())


def end_with(parent: int, grace: float = 0.0) -> None:
    """From now on this process gets SIGTERM `grace` seconds after its `parent` has ended.

    A process that finds itself orphaned already ends here, with nothing opened yet.
    """
    try:
        handle = os.pidfd_open(parent)
    except ProcessLookupError:
        sys.exit(1)
    if os.getppid() != parent:  # the number has come to mean another process
        sys.exit(1)

    def wait() -> None:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        poll.poll()
        time.sleep(grace)
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
