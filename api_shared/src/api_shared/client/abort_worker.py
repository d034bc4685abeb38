"""How a worker that must not start ends: taskiq's main process would only restart it."""

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
    Print what is wrong and end this process, and its main process too.

    Taskiq's main process exits with 0 on SIGTERM, as if all were well. SIGUSR1 is none of its own:
    it dies of it, which a supervisor sees (138 in a shell). Only where it is a container's first
    process, which no signal ends that it does not handle, it is SIGTERM after all.
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
