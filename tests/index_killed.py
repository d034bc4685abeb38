"""
Index one state of a corpus after the other, until somebody kills this process.

`python tests/index_killed.py FOLDER FIRST` says `begin N` before and `done N` after each.
"""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

from fixtures.indexes import files_in, index, random_texts

SIZE = 60


def main(folder: Path, first: int) -> None:
    with TemporaryDirectory() as other:
        index(files_in(Path(other)), random_texts(0, SIZE))  # what is slow once is over then
    files = files_in(folder)
    for step in count(first):
        print("begin", step, flush=True)  # noqa: T201 - the test listens
        index(files, random_texts(step, SIZE), is_incremental=step % 4 != 0)
        print("done", step, flush=True)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
