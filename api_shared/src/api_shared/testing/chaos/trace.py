"""The trace of tasks: which job began and ended in which process, also after a kill -9."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BEGAN, ENDED = "began", "ended"


@dataclass(frozen=True, slots=True)
class Trace:
    """
    `begun`: how often each job's task began. `beside_itself`: jobs that ran twice at once in one
    process.
    """

    begun: Counter[str]
    beside_itself: frozenset[str]


@contextmanager
def traced(folder: str, job_id: str) -> Iterator[None]:
    """A task's run: a line in this process's own file when it begins, another when it ends."""
    path = Path(folder) / f"{os.getpid()}.trace"
    _write(path, BEGAN, job_id)
    try:
        yield
    finally:
        _write(path, ENDED, job_id)


def read_trace(folder: Path) -> Trace:
    """The trace of all processes; the lines of one are in the order in which things happened."""
    begun: Counter[str] = Counter()
    beside: set[str] = set()
    for path in folder.glob("*.trace"):
        running: Counter[str] = Counter()
        for line in path.read_text(encoding="utf-8").splitlines():
            word, _, job_id = line.partition(" ")
            running[job_id] += 1 if word == BEGAN else -1
            begun[job_id] += word == BEGAN
            if running[job_id] > 1:
                beside.add(job_id)
    return Trace(begun, frozenset(beside))


def _write(path: Path, word: str, job_id: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{word} {job_id}\n")
