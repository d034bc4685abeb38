"""Documents are read from what users have, and from what nobody should have."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path

import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from workers_ml.documents import (
    Document,
    DocumentsUnreadable,
    Fields,
    Malformed,
    RowCounts,
    TooManyMalformed,
    read_documents,
    well_formed,
)
from workers_ml.documents.document import MAX_TEXT
from workers_ml.documents.lines import MAX_LINE

TWO = [Document("a", "first text"), Document("b", "second ß text", "g")]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


JSONL = """{"id": "a", "text": "first text"}

{"text": "second ß text", "id": "b", "group": "g"}""".encode()
CSV = 'id,text,group\na,first text,\n"b","second ß text",g\n'.encode()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", JSONL),
        ("x.ndjson", b"\xef\xbb\xbf" + JSONL.replace(b"\n", b"\r\n")),
        ("x.jsonl.gz", JSONL),
        ("x.csv", CSV),
        ("x.csv.gz", b"\xef\xbb\xbf" + CSV),
        ("x.tsv", CSV.replace(b",", b"\t")),
        ("x.TSV", CSV.replace(b",", b"\t").replace(b"\n", b"\r\n")),
    ],
)
def test_each_format_gives_the_same_documents(tmp_path: Path, name: str, data: bytes) -> None:
    assert list(read_documents(written(tmp_path / name, data))) == TWO


def test_parquet_gives_the_same_documents(tmp_path: Path) -> None:
    columns = {
        "id": ["a", "b"],
        "text": ["first text", "second ß text"],
        "group": [None, "g"],
        "more": [1, 2],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "x.parquet")
    assert list(read_documents(tmp_path / "x.parquet")) == TWO


def test_a_folder_is_read_by_name_hidden_files_are_not_and_strangers_are_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    written(tmp_path / ".git" / "x.txt", b"no")
    written(tmp_path / "b" / "two.txt.gz", b"\xef\xbb\xbfzwei")
    written(tmp_path / "a.txt", b"one")
    written(tmp_path / "c.jsonl", JSONL)
    written(tmp_path / "z.docx", b"PK")
    os.mkfifo(tmp_path / "pipe.txt")
    rows = list(read_documents(tmp_path))
    assert [row.id for row in rows if isinstance(row, Document)] == ["a.txt", "a", "b", "b/two.txt"]
    assert [row.source for row in rows if isinstance(row, Malformed)] == ["pipe.txt", "z.docx"]
    assert Document("b/two.txt", "zwei") in rows


def test_the_fields_may_be_called_otherwise_and_ids_may_be_numbers(tmp_path: Path) -> None:
    path = written(tmp_path / "x.jsonl", b'{"nr": 7, "body": "text", "src": 1}')
    fields = Fields(id="nr", text="body", group="src")
    assert list(read_documents(path, fields)) == [Document("7", "text", "1")]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "not JSON"),
        (b'{"id": "a", "text": "bad \xff byte"}', "not JSON"),
        (b'{"id": "a", "text": "\\ud800"}', ""),
        (b'{"id": "a"}', "no 'text'"),
        (b'{"text": "a", "id": null}', "no 'id'"),
        (b'{"id": true, "text": "a"}', "'id' is true or false, not text"),
        (b'{"id": 1.5, "text": "a"}', "'id' is a float"),
        (b'{"id": "a", "text": ["x"]}', "'text' is a list, not text"),
        (b'{"id": "a", "text": {}}', "an object"),
        (b'{"id": "", "text": "a"}', "the id is empty"),
        (b'{"id": "a\\tb", "text": "a"}', "control characters"),
        (b'{"id": "%s", "text": "a"}' % (b"x" * 513), "513 characters"),
        (b'{"id": "a", "text": " \\n"}', "blank"),
        (b'{"id": "a", "text": "a", "group": []}', "'group' is a list"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_malformed_line_is_reported_with_its_number_and_the_next_is_read(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = written(tmp_path / "x.jsonl", b"\n" + line + b'\n{"id": "z", "text": "fine"}\n')
    bad, good = read_documents(path)
    assert isinstance(bad, Malformed)
    assert (bad.source, bad.line) == ("x.jsonl", 2)
    assert reason in bad.reason
    assert good == Document("z", "fine")


def test_a_malformed_record_of_a_table_is_reported_with_its_line(tmp_path: Path) -> None:
    data = b'id,text\na,"two\nlines"\nb\nc,bad \xff byte\nd,"x"y\n,empty\nlast,fine\n'
    rows = list(read_documents(written(tmp_path / "x.csv", data)))
    assert [row.line for row in rows if isinstance(row, Malformed)] == [4, 5, 6, 7]
    assert [row.id for row in rows if isinstance(row, Document)] == ["a", "last"]


def test_a_quote_that_is_never_closed_takes_bounded_memory(tmp_path: Path) -> None:
    filler = b"x" * 999 + b"\n"
    data = b'id,text\na,"never closed\n' + filler * (2 * MAX_TEXT // 1000) + b"z,fine\n"
    rows = list(read_documents(written(tmp_path / "x.csv", data)))
    assert isinstance(rows[0], Malformed)
    assert "field limit" in rows[0].reason
    assert rows[-1] == Document("z", "fine")


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.txt.gz"])
def test_a_line_that_never_ends_takes_bounded_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with gzip.open(path, "wb", compresslevel=1) as file:
        if "csv" in name:
            file.write(b"id,text\n")
        for _ in range(2 * MAX_LINE // (1 << 20)):
            file.write(b"\0" * (1 << 20))
        file.write(b'\n{"id": "z", "text": "fine"}\n')
    tracemalloc.start()
    rows = list(read_documents(path))
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(rows[0], Malformed)
    assert peak_bytes < 4 * MAX_LINE


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.csv.gz", "x.txt.gz", "x.tsv.gz"])
@pytest.mark.parametrize("cut", ["half", "checksum", "noise", "empty"])
def test_a_damaged_gzip_is_an_error_and_not_a_shorter_file(
    tmp_path: Path, name: str, cut: str
) -> None:
    head = b"id,text\n" if "csv" in name else b"id\ttext\n" if "tsv" in name else b""
    whole = gzip.compress(head + os.urandom(5000).hex().encode() * 10)
    damaged = {
        "half": whole[: len(whole) // 2],
        "checksum": whole[:-8] + b"\0" * 8,
        "noise": b"no gzip at all",
        "empty": whole[:3],
    }[cut]
    (tmp_path / name).write_bytes(damaged)
    with pytest.raises(DocumentsUnreadable):
        list(read_documents(tmp_path / name))


@pytest.mark.parametrize(
    "damage", ["cut", "noise", "empty", "no column", "numbers"], ids=lambda damage: damage
)
def test_hostile_parquet_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.parquet"
    columns = {"id": ["a"] * 100, "text": ["b" * 100] * 100}
    if damage == "no column":
        columns = {"id": ["a"]}
    parquet.write_table(arrow.table(columns), path)
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    if damage == "noise":
        path.write_bytes(data[:4] + os.urandom(len(data) - 8) + data[-4:])
    if damage == "empty":
        path.write_bytes(b"")
    if damage == "numbers":
        parquet.write_table(arrow.table({"id": ["a"], "text": [b"\xff"]}), path)
        assert isinstance(next(read_documents(path)), Malformed)
        return
    with pytest.raises(DocumentsUnreadable):
        list(read_documents(path))


def test_a_missing_path_kind_or_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(DocumentsUnreadable, match="no such file or folder"):
        list(read_documents(tmp_path / "missing.jsonl"))
    with pytest.raises(DocumentsUnreadable, match=r"ends in \.jsonl"):
        list(read_documents(written(tmp_path / "x.pdf", b"")))
    with pytest.raises(DocumentsUnreadable, match="no column 'id'; its columns: 'nr', 'text'"):
        list(read_documents(written(tmp_path / "x.csv", b"nr,text\n")))
    with pytest.raises(DocumentsUnreadable, match="its columns: none"):
        list(read_documents(written(tmp_path / "y.csv", b"")))


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_unreadable(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("x.jsonl", "x.txt", "x.csv", "y.csv.gz", "z.parquet"):
        (folder / name).write_bytes(b"id,text\n" + data if name == "x.csv" else data)
        try:
            for row in read_documents(folder / name):
                assert isinstance(row, (Document, Malformed))
        except DocumentsUnreadable:
            continue


def test_malformed_rows_are_counted_and_too_many_fail_with_the_list() -> None:
    rows = [Document(str(number), "x") for number in range(98)]
    bad = [Malformed("x", line, "bad") for line in (7, 9)]
    counts = RowCounts()
    assert list(well_formed([*rows, *bad], counts, max_malformed_share=0.02)) == rows
    assert (counts.documents, counts.malformed, counts.examples) == (98, 2, bad)

    with pytest.raises(TooManyMalformed, match=r"2 of 100 rows .* x, line 7: bad") as caught:
        list(well_formed([*rows, *bad], RowCounts(), max_malformed_share=0.01))
    assert caught.value.examples == ("x, line 7: bad", "x, line 9: bad")


def test_the_list_of_malformed_rows_is_bounded() -> None:
    bad = [Malformed("x", line, "bad") for line in range(1000)]
    with pytest.raises(TooManyMalformed) as caught:
        list(well_formed(bad, RowCounts(), max_malformed_share=1))
    assert caught.value.malformed == 1000
    assert len(caught.value.examples) == 100


def test_of_documents_with_one_id_the_first_counts() -> None:
    counts = RowCounts()
    rows = [Document("a", "one"), Document("b", "two"), Document("a", "three", None, "x.csv", 4)]
    assert list(well_formed(rows, counts, max_malformed_share=0.5)) == rows[:2]
    assert str(counts.examples[0]) == "x.csv, line 4: the id 'a' is repeated: the first one counts"


def test_reading_is_streamed(tmp_path: Path) -> None:
    line = json.dumps({"id": "%d", "text": "some words " * 100}) + "\n"
    with gzip.open(tmp_path / "x.jsonl.gz", "wt", compresslevel=1) as file:
        for number in range(20_000):
            file.write(line % number)
    tracemalloc.start()
    assert sum(1 for _ in read_documents(tmp_path / "x.jsonl.gz")) == 20_000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2_000_000
