"""How a worker that must not start ends: taskiq's main process would only restart it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def refuse(problems: Sequence[str]) -> NoReturn:
    """Print what is wrong and end this process, and its main process too."""
    print("This worker does not start:", file=sys.stderr)  # noqa: T201 - for the operator
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
    logging.shutdown()
    parent = os.getppid()
    if parent > 1 and os.environ.get("API_WORKERS_REFUSE_ALONE") is None:
        os.kill(parent, signal.SIGTERM)
    os._exit(1)
