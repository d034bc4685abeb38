"""Files of predictions: JSONL, TSV or Parquet, one line a document."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Literal

from workers_ml.classifier import Prediction
from workers_ml.documents import MissingExtra

Format = Literal["jsonl", "tsv", "parquet"]
Write = Callable[[Sequence[str], Sequence[Prediction]], None]


@contextmanager
def prediction_writer(file: IO[bytes], file_format: Format) -> Iterator[Write]:
    """
    A function that appends predictions: the columns `document_id`, `label` and `probability`.

    Parquet needs an extra. Raises `MissingExtra`.
    """
    if file_format == "parquet":
        with _parquet(file) as write:
            yield write
        return
    if file_format == "tsv":
        file.write(b"document_id\tlabel\tprobability\n")
    line = _json_line if file_format == "jsonl" else _tsv_line

    def write_lines(ids: Sequence[str], predictions: Sequence[Prediction]) -> None:
        lines = map(line, ids, predictions)
        file.write("".join(lines).encode())

    yield write_lines


def _json_line(document_id: str, found: Prediction) -> str:
    record = {
        "document_id": document_id,
        "label": found.label,
        "probability": round(found.probability, 6),
    }
    return json.dumps(record, ensure_ascii=False) + "\n"


def _tsv_line(document_id: str, found: Prediction) -> str:
    """Neither an id nor a label can contain a tab: both are printable."""
    return f"{document_id}\t{found.label}\t{found.probability:.6f}\n"


@contextmanager
def _parquet(file: IO[bytes]) -> Iterator[Write]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("writing Parquet", "parquet") from None
    schema = arrow.schema(
        {
            "document_id": arrow.string(),
            "label": arrow.dictionary(arrow.int32(), arrow.string()),
            "probability": arrow.float32(),
        }
    )
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:

        def write(ids: Sequence[str], predictions: Sequence[Prediction]) -> None:
            columns = {
                "document_id": list(ids),
                "label": [found.label for found in predictions],
                "probability": [found.probability for found in predictions],
            }
            writer.write_table(arrow.table(columns, schema=schema))

        yield write
