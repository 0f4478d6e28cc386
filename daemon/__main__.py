"""`python -m coldframe.daemon`: the command line, or one process of the service by its name."""

from __future__ import annotations

import sys

from coldframe.daemon import processes

if sys.argv[1:2] and sys.argv[1] in processes.NAMES:
    sys.exit(processes.main(sys.argv[1:]))

from coldframe.daemon.cli import main

main()
