"""The lines of a file as bytes, decompressed, each of bounded length."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from workers_ml.documents.document import MAX_TEXT
from workers_ml.documents.errors import DocumentsUnreadable

MAX_LINE = 4 * MAX_TEXT
"""In bytes: a character takes at most four."""

BOM = b"\xef\xbb\xbf"


def open_bytes(path: Path) -> BinaryIO:
    """Decompressed if the name ends in `.gz`."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def lines_of(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """
    Number and bytes of each line, without a byte order mark; None for a line over `MAX_LINE`.

    Raises `DocumentsUnreadable` for a file that is missing or damaged.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) <= MAX_LINE:
                    yield number, line.removeprefix(BOM) if number == 1 else line
                    continue
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE)
                yield number, None
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentsUnreadable(str(path), f"after line {number:,}: {reason_of(error)}") from None


def reason_of(error: Exception) -> str:
    """What is wrong with a file, without its path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
