"""The reader of documents from a path, in any supported format, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from workers_ml.documents.document import Fields, Malformed, Row
from workers_ml.documents.errors import DocumentsUnreadable
from workers_ml.documents.json_lines import read_json_lines
from workers_ml.documents.parquet import read_parquet
from workers_ml.documents.table import read_csv, read_tsv
from workers_ml.documents.text_file import read_text_file

Reader = Callable[[Path, str, Fields], Iterator[Row]]

FORMATS: dict[str, Reader] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".parquet": read_parquet,
    ".txt": read_text_file,
    ".md": read_text_file,
}
"""By file extension; all but Parquet, which is compressed itself, may be gzipped: `.jsonl.gz`."""


def read_documents(path: str | Path, fields: Fields | None = None) -> Iterator[Row]:
    """
    Each document of a file, or of all files below a folder, in the order of their names.

    A text file is one document; its id is the path below the folder, without `.gz`. Hidden files
    are skipped; a file of an unknown kind is a malformed row. Raises `DocumentsUnreadable` where a
    file is missing, truncated or damaged, or lacks a needed column.
    """
    path, fields = Path(path), fields or Fields()
    if path.is_dir():
        for file in _files_below(path):
            name = file.relative_to(path).as_posix()
            reader = _reader_of(file)
            if reader is None or not file.is_file():
                yield Malformed(name, 0, f"not a file of a known kind ({', '.join(FORMATS)})")
            else:
                yield from reader(file, name, fields)
        return
    if not path.exists():
        raise DocumentsUnreadable(str(path), "there is no such file or folder on this worker")
    reader = _reader_of(path)
    if reader is None or not path.is_file():
        expected = f"expected a folder, or a file that ends in {', '.join(FORMATS)}"
        raise DocumentsUnreadable(str(path), expected)
    yield from reader(path, path.name, fields)


def _reader_of(path: Path) -> Reader | None:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        suffix = Path(path.stem).suffix.lower()
        return None if suffix == ".parquet" else FORMATS.get(suffix)
    return FORMATS.get(suffix)


def _files_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise DocumentsUnreadable(str(error.filename), error.strerror or str(error))

    for here, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(here) / name
