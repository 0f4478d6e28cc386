"""Prints the versions of the distributions named as JSON."""

import json
import sys
from importlib.metadata import version

print(json.dumps({name: version(name) for name in sys.argv[1:]}))
