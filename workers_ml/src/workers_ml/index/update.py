"""
The update of a project's index to its documents.

New files are written beside the old ones; then one swap of the manifest makes them the index. So a
job that is killed leaves the old index intact, and at most some files that no manifest names: the
next job removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api_shared.storage import NotStored
from workers_ml.documents import Document
from workers_ml.features import FEATURES, batches_of, count_features
from workers_ml.index.comparison import BaseIndex, Comparison
from workers_ml.index.errors import IndexChanged, NoDocuments
from workers_ml.index.format.files import IndexFiles
from workers_ml.index.format.hashes import content_hash
from workers_ml.index.format.manifest import Manifest, SegmentEntry
from workers_ml.index.merge import Sizes, find_merges, merge_segments
from workers_ml.index.reader import IndexReader
from workers_ml.index.writer import SegmentWriter

OnProgress = Callable[[str, int, int | None], None]
"""Called with the stage, the number done and the total (None if it is not known)."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """
    The result of an update.

    `added`, `changed`, `unchanged` and `deleted` compare the documents with the previous index;
    `written` documents had to be computed. The other fields describe the new index.
    """

    added: int
    changed: int
    unchanged: int
    deleted: int
    written: int
    documents: int
    segments: int
    size_bytes: int
    generation: int


def update_index(
    files: IndexFiles,
    documents: Iterable[Document],
    *,
    is_incremental: bool,
    keeps_missing: bool = False,
    sizes: Sizes | None = None,
    on_progress: OnProgress = lambda stage, done, total: None,
) -> IndexReport:
    """
    Make the index contain exactly `documents`; each id must come once.

    Incremental: only new and changed documents are computed; missing documents are marked as
    deleted, or kept with `keeps_missing`. Not incremental: everything is rewritten, whatever the
    state of the old index. Raises `IndexChanged` when another job was faster (repeat it),
    `NoDocuments`, and, if incremental, `BrokenIndex` and `OtherFeatures`; the index is then as it
    was.
    """
    sizes = sizes or Sizes()
    keeps_missing = keeps_missing and is_incremental
    # Listed before the manifest is read: a file that it does not name was left by a killed job, or
    # belongs to a running one, whose swap fails after ours. So it can be deleted after our swap.
    listed = files.list()
    base = BaseIndex.read(files, is_incremental=is_incremental)
    comparison = Comparison(base)
    writer = SegmentWriter(files, sizes)
    try:
        _write_new(writer, comparison, documents, is_incremental, on_progress)
        if not comparison.documents:
            raise NoDocuments(files.project_id)
        missing = np.zeros_like(comparison.replaced) if keeps_missing else comparison.missing()
        gone = comparison.replaced | missing
        kept = _without(gone, base.reader, writer) if is_incremental else []
        entries = _merge(files, [*kept, *writer.entries], writer, sizes, on_progress)
    except NotStored:
        # Another job has swapped in the meantime, and deleted the files that it replaced or ours.
        writer.discard()
        raise IndexChanged(files.project_id, base.generation) from None
    except BaseException:
        writer.discard()
        raise
    manifest = base.manifest
    if manifest is None or manifest.segments != tuple(entries) or listed - manifest.file_names:
        on_progress("swap", 0, 1)
        manifest = _swap(files, base, writer, entries)
        for name in sorted((listed | set(writer.names)) - manifest.file_names):
            files.delete(name)
    return IndexReport(
        added=comparison.added,
        changed=comparison.changed,
        unchanged=comparison.unchanged,
        deleted=int(missing.sum()),
        written=writer.documents,
        documents=manifest.documents,
        segments=len(manifest.segments),
        size_bytes=manifest.size_bytes,
        generation=manifest.generation,
    )


def _write_new(
    writer: SegmentWriter,
    comparison: Comparison,
    documents: Iterable[Document],
    is_incremental: bool,
    on_progress: OnProgress,
) -> None:
    """Write segments of the new and changed documents; of all documents if not incremental."""
    on_progress("index", 0, None)
    for batch in batches_of(documents):
        is_new = comparison.new_or_changed(batch)
        chosen = [
            document
            for document, new in zip(batch, is_new, strict=True)
            if new or not is_incremental
        ]
        if chosen:
            texts = [document.text for document in chosen]
            ids = [document.id for document in chosen]
            writer.add(ids, [content_hash(text) for text in texts], count_features(texts))
        on_progress("index", comparison.documents, None)
    writer.flush()


def _without(
    gone: NDArray[np.bool_], reader: IndexReader | None, writer: SegmentWriter
) -> list[SegmentEntry]:
    """The base's segments with the rows in `gone` deleted; without segments that become empty."""
    if reader is None:
        return []
    entries = []
    for number, entry in enumerate(reader.manifest.segments):
        first, end = reader.ids.offsets[number : number + 2]
        of_segment = gone[first:end]
        if of_segment.any():
            dead = np.flatnonzero(of_segment | ~reader.segments[number].live)
            if len(dead) == entry.documents:
                continue
            update = {"dead": writer.write_dead_rows(dead), "dead_documents": len(dead)}
            entries.append(entry.model_copy(update=update))
        else:
            entries.append(entry)
    return entries


def _merge(
    files: IndexFiles,
    entries: list[SegmentEntry],
    writer: SegmentWriter,
    sizes: Sizes,
    on_progress: OnProgress,
) -> list[SegmentEntry]:
    groups = find_merges(entries, sizes)
    new = []
    for done, group in enumerate(groups):
        on_progress("merge", done, len(groups))
        segments = [files.open_segment(entries[number]) for number in group]
        new.append(writer.write(merge_segments(segments)))
    merged_away = {number for group in groups for number in group}
    return [entry for n, entry in enumerate(entries) if n not in merged_away] + new


def _swap(
    files: IndexFiles, base: BaseIndex, writer: SegmentWriter, entries: list[SegmentEntry]
) -> Manifest:
    """Put the new manifest in force. Its run and its generation make it unlike any other."""
    manifest = Manifest(
        generation=base.generation + 1, run=writer.run, features=FEATURES, segments=tuple(entries)
    )
    try:
        files.swap_manifest(manifest, expected=base.expected_digest)
    except IndexChanged:
        writer.discard()  # after any other error the swap may still have been made
        raise
    return manifest
