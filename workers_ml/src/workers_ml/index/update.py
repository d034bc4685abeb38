"""
Bring the index of a project in line with its documents.

New files are written beside the old ones; then one swap of the manifest makes them the index. So a
job that is killed leaves the old index whole, and at most files that no manifest names: the next
job removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from api_shared.storage import NotStored
from workers_ml.documents import Document
from workers_ml.features import FEATURES, batches_of, count_features
from workers_ml.index.comparison import Base, Comparison
from workers_ml.index.errors import IndexChanged, NoDocuments
from workers_ml.index.files import IndexFiles
from workers_ml.index.hashes import content_hash
from workers_ml.index.manifest import Manifest, SegmentEntry
from workers_ml.index.merge import Sizes, merged, to_merge
from workers_ml.index.reader import OpenedIndex
from workers_ml.index.writer import SegmentWriter

OnProgress = Callable[[str, int, int | None], None]
"""Is told the stage, what is done and what there is in all (None: not known)."""


@dataclass(frozen=True, slots=True)
class IndexReport:
    """
    `added`, `changed`, `unchanged` and `deleted` compare the documents with the index before;
    `written` had to be computed. The others say what the index is now.
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
    Make the index hold what `documents` are; each id comes once.

    Incremental: only what is new or has changed is computed, and what is gone is marked as dead,
    or kept with `keeps_missing`. Not incremental: all is written anew, whatever state the old
    index is in. Raises `IndexChanged` when another job was faster (repeat it), `NoDocuments`,
    and, if incremental, `BrokenIndex` and `OtherFeatures`; the index is then as it was.
    """
    sizes = sizes or Sizes()
    keeps_missing = keeps_missing and is_incremental
    # Listed before the manifest is read: what it does not name was left by a killed job, or
    # belongs to a running one, whose swap must fail once ours is made. So it may go after our swap.
    listed = files.list()
    base = Base.read(files, is_incremental=is_incremental)
    comparison = Comparison(base)
    writer = SegmentWriter(files, sizes)
    try:
        _write_new(writer, comparison, documents, is_incremental, on_progress)
        if not comparison.documents:
            raise NoDocuments(files.project_id)
        missing = np.zeros_like(comparison.replaced) if keeps_missing else comparison.missing()
        gone = comparison.replaced | missing
        kept = _without(gone, base.opened, writer) if is_incremental else []
        entries = _merge(files, [*kept, *writer.entries], writer, sizes, on_progress)
    except NotStored:
        # A job that has swapped meanwhile has deleted what it replaced, or what we have written.
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
    """Segments of what is new or has changed; of all documents if not incremental."""
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
    gone: NDArray[np.bool_], opened: OpenedIndex | None, writer: SegmentWriter
) -> list[SegmentEntry]:
    """The base's segments, the rows that are `gone` marked as dead; those all dead are left out."""
    if opened is None:
        return []
    entries = []
    for number, entry in enumerate(opened.manifest.segments):
        first, end = opened.directory.offsets[number : number + 2]
        of_segment = gone[first:end]
        if of_segment.any():
            dead = np.flatnonzero(of_segment | ~opened.parts[number].live)
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
    groups = to_merge(entries, sizes)
    new = []
    for done, group in enumerate(groups):
        on_progress("merge", done, len(groups))
        parts = [files.open_part(entries[number]) for number in group]
        new.append(writer.write(merged(parts)))
    merged_away = {number for group in groups for number in group}
    return [entry for n, entry in enumerate(entries) if n not in merged_away] + new


def _swap(
    files: IndexFiles, base: Base, writer: SegmentWriter, entries: list[SegmentEntry]
) -> Manifest:
    """The new manifest, in force. It differs from any other: by its run, and by its generation."""
    manifest = Manifest(
        generation=base.generation + 1, run=writer.run, features=FEATURES, segments=tuple(entries)
    )
    try:
        files.swap_manifest(manifest, expected=base.expected)
    except IndexChanged:
        writer.discard()  # after any other error the swap may have been made all the same
        raise
    return manifest
