"""Segments and manifests that are truncated, changed or of another origin."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fixtures.indexes import WORDS, contents, files_in, index, random_texts
from workers_ml.features import count_features
from workers_ml.index import BrokenIndex, SimilarityIndex
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.format.manifest import Manifest
from workers_ml.index.format.segment import SHAPES, Segment
from workers_ml.index.format.tensors import arrays_in

corpora = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
    st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join),
    min_size=1,
    max_size=9,
)


def segment_of(texts: dict[str, str]) -> Segment:
    hashes = [content_hash(text) for text in texts.values()]
    return Segment.build(list(texts), hashes, count_features(list(texts.values())))


@given(corpora)
def test_a_segment_survives_its_file(texts: dict[str, str]) -> None:
    built = segment_of(texts)
    content = built.encode()
    read = Segment.decode("s", memoryview(content))
    assert [read.document_id(row) for row in range(len(read))] == list(texts)
    assert read.encode() == content
    for row, text in enumerate(texts.values()):
        assert bytes(read.hashes[row]) == content_hash(text)
        for found, expected in zip(read.rows.row(row), count_features([text]).row(0), strict=True):
            np.testing.assert_array_equal(found, expected)
    for number, term in enumerate(read.terms):
        part = slice(read.term_starts[number], read.term_starts[number + 1])
        holders = [
            (row, int(counts[features == term][0]))
            for row in range(len(read))
            for features, counts in [read.rows.row(row)]
            if term in features
        ]
        found = list(zip(read.postings[part], read.posting_counts[part], strict=True))
        assert found == holders


@given(st.binary(max_size=200), st.integers(0, 2**64 - 1))
@example(b"[" * 199, 199)
@example(b"null", 4)
@example(b'{"ids": {"dtype": "U8", "shape": [18446744073709551615], "data_offsets": [0, 1]}}', 82)
def test_bytes_that_are_no_segment_are_refused(content: bytes, length: int) -> None:
    for each in (content, length.to_bytes(8, "little") + content):
        with pytest.raises(BrokenIndex, match="the index is refused: s: "):
            Segment.decode("s", memoryview(each))


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_header_is_refused_or_means_the_same(place: int, byte: int) -> None:
    built = segment_of({"a": "red green", "b": "red"})
    content = bytearray(built.encode())
    place %= 8 + int.from_bytes(content[:8], "little")
    content[place] = byte
    try:
        read = Segment.decode("s", memoryview(bytes(content)))
    except BrokenIndex:
        return
    assert read.encode() == built.encode()


def test_arrays_that_overlap_or_leave_holes_are_refused() -> None:
    shapes = {"a": ("U8", 1), "b": ("U8", 1)}

    def decode(a: Any, b: Any, data: bytes = b"1234") -> None:
        header = json.dumps(
            {
                name: {"dtype": "U8", "shape": [end - begin], "data_offsets": [begin, end]}
                for name, (begin, end) in (("a", a), ("b", b))
            }
        ).encode()
        arrays_in("f", memoryview(len(header).to_bytes(8, "little") + header + data), shapes)

    decode((0, 2), (2, 4))
    for a, b in [((0, 3), (2, 4)), ((0, 1), (2, 4)), ((0, 2), (2, 3)), ((0, 2), (2, 9))]:
        with pytest.raises(BrokenIndex):
            decode(a, b)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("postings", lambda array: array + 2**31, "a document that does not exist"),
        ("term_starts", lambda array: array[::-1].copy(), "term_starts"),
        ("row_starts", lambda array: np.array([0, 2**40, array[-1]]), "does not ascend"),
        ("id_starts", lambda array: array[:-1], "id_starts"),
        ("row_features", lambda array: array + 2**31, "over 22 bits"),
        ("terms", lambda array: array[:-1], "term_starts"),
        ("terms", lambda array: array[::-1].copy(), "terms does not ascend"),
        ("hashes", lambda array: array[:1], "16 bytes a document"),
        ("row_features", lambda array: array[:-1], "differ in size"),
        ("posting_counts", lambda array: array * 0, "a count is zero"),
        ("id_keys", lambda array: array[:1], "id_starts"),
        ("ids", lambda array: array.astype(np.uint16), "not of type U8"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(name: str, change: Any, says: str) -> None:
    arrays = load(segment_of({"a": "red green", "b": "red"}).encode())
    assert arrays.keys() == SHAPES.keys()
    arrays[name] = np.ascontiguousarray(change(arrays[name]))
    with pytest.raises(BrokenIndex, match=says):
        Segment.decode("s", memoryview(save(arrays)))


def test_each_file_of_an_index_is_refused_when_it_is_cut_grown_changed_or_another(
    tmp_path: Path,
) -> None:
    files = files_in(tmp_path)
    index(files, random_texts(1))
    index(files, random_texts(2))
    rng = Random(1)
    folder = tmp_path / "projects/colours/index"
    names = sorted(files.list())
    assert {name.rpartition(".")[2] for name in names} == {"segment", "dead"}
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        other = (folder / names[names.index(name) - 1]).read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:-1], whole + b"0", flipped, other):
            path.write_bytes(content)
            with pytest.raises(BrokenIndex, match=f"{name}.*rebuild it"):
                SimilarityIndex.open(files)
            with pytest.raises(BrokenIndex):
                index(files, random_texts(3))
        path.unlink()
        with pytest.raises(BrokenIndex, match="does not exist"):
            SimilarityIndex.open(files)
        path.write_bytes(whole)
    assert contents(files).keys() == random_texts(2).keys()


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest | {"format": 2},
        lambda manifest: manifest | {"generation": -1},
        lambda manifest: manifest | {"generation": "1"},
        lambda manifest: manifest | {"unknown": 1},
        lambda manifest: {},
        lambda manifest: [manifest],
        lambda manifest: with_file(manifest, name="../../../etc/passwd"),
        lambda manifest: with_file(manifest, name="manifest.json"),
        lambda manifest: with_file(manifest, size_bytes=1),
        lambda manifest: with_file(manifest, sha256="0" * 64),
        lambda manifest: with_entry(manifest, documents=9),
        lambda manifest: with_entry(manifest, dead_documents=1),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(tmp_path: Path, change: Any) -> None:
    files = files_in(tmp_path)
    index(files, {"a": "red"})
    path = tmp_path / "projects/colours/index/manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_bytes()))))
    with pytest.raises(BrokenIndex, match="the index is refused"):
        SimilarityIndex.open(files)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_manifest_are_refused(content: bytes) -> None:
    with pytest.raises(BrokenIndex):
        Manifest.decode(content)


def with_entry(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    (entry,) = manifest["segments"]
    return manifest | {"segments": [entry | changes]}


def with_file(manifest: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return with_entry(manifest, file=manifest["segments"][0]["file"] | changes)
