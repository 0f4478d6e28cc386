"""`python -m benchmarks [NAME …]`: run the benchmarks and print a line for each.

A number in units of this machine means nothing on another, so each benchmark measures its own
reference in turns with it, and what counts is the ratio. `--json` prints it for programs.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys

from benchmarks import frames, messages

BENCHMARKS = {"messages": messages.measure, "frames": frames.measure}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", action="store_true", help="for programs")
    chosen = parser.parse_args(arguments)
    if unknown := sorted(set(chosen.names) - set(BENCHMARKS)):
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    results = [r for name in chosen.names or BENCHMARKS for r in BENCHMARKS[name]()]
    if chosen.json:
        print(json.dumps([result._asdict() for result in results], indent=1))
        return 0
    print(f"Python {platform.python_version()} on {platform.machine()}, medians")
    for result in results:
        print(f"{result.ratio:8.3f}  {result.what}: {result.ours} against {result.reference}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
