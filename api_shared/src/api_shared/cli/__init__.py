"""The command line `kiq`. Data goes to stdout, messages to stderr."""

import sys
from importlib.util import find_spec

if not (find_spec("typer") and find_spec("rich")):
    print("kiq needs an extra: pip install 'api-shared[cli]'", file=sys.stderr)  # noqa: T201
    sys.exit(2)
