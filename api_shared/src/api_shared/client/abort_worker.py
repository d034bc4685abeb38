"""The end of a worker that must not start, and of taskiq's main process, which would restart it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def abort_worker(problems: Sequence[str]) -> NoReturn:
    """
    Print the problems, then end this process and its main process too.

    Taskiq's main process exits with 0 on SIGTERM, as if nothing were wrong. It does not handle
    SIGUSR1, so that this signal ends it, which a supervisor sees (138 in a shell). The first
    process of a container gets SIGTERM after all: a signal that it does not handle cannot end it.
    """
    print("This worker does not start:", file=sys.stderr)  # noqa: T201 - for the operator
    for problem in problems:
        print(f"  - {problem}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
    logging.shutdown()
    main = multiprocessing.parent_process()
    if main is not None and main.pid is not None and main.pid == os.getppid():
        os.kill(main.pid, signal.SIGTERM if main.pid == 1 else signal.SIGUSR1)
    os._exit(1)
