"""The reader of Parquet, through pyarrow: an extra, as large as the rest of this worker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from workers_ml.documents.document import Fields, Row, row_of
from workers_ml.documents.errors import DocumentsUnreadable, MissingExtra
from workers_ml.documents.lines import reason_of

BATCH = 256


def read_parquet(path: Path, name: str, fields: Fields) -> Iterator[Row]:
    """One row group of the needed columns is in memory at a time. Raises `MissingExtra`."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("reading Parquet", "parquet") from None
    row = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            for needed in (fields.id, fields.text):
                if needed not in columns:
                    raise DocumentsUnreadable(
                        str(path), f"no column {needed!r}; its columns: {', '.join(columns[:20])}"
                    )
            kept = [
                column for column in (fields.id, fields.text, fields.group) if column in columns
            ]
            for batch in file.iter_batches(BATCH, columns=kept, use_threads=False):
                for values in batch.to_pylist():
                    row += 1
                    yield row_of(name, row, values, fields)
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DocumentsUnreadable(str(path), f"after row {row:,}: {reason_of(error)}") from None
