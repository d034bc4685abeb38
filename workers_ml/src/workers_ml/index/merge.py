"""The merge policy: fewer and larger segments, without deleted documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers_ml.features import join_rows
from workers_ml.index.format.manifest import SegmentEntry
from workers_ml.index.format.segment import LiveSegment, Segment

DEAD_SHARE = 0.5
"""A segment with a larger share of deleted documents is rewritten without them."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    The limits of a segment: the memory of indexing depends on `postings` (about 60 bytes each),
    the speed of a query on the number of segments.
    """

    documents: int = 20_000
    postings: int = 4_000_000
    small_segments: int = 8


def find_merges(entries: Sequence[SegmentEntry], sizes: Sizes) -> list[list[int]]:
    """
    Groups of segments (by number); each group is to become one segment.

    The smallest are merged until at most `small_segments` small ones are left; no merged segment
    exceeds the limits. A segment whose documents are mostly deleted is rewritten alone.
    """
    groups: list[list[int]] = []
    small = []
    for number, entry in enumerate(entries):
        if not entry.live_documents:
            continue
        if entry.postings * 2 <= sizes.postings and entry.documents * 2 <= sizes.documents:
            small.append(number)
        elif entry.dead_documents > DEAD_SHARE * entry.documents:
            groups.append([number])
    if len(small) > sizes.small_segments:
        groups += _packed(sorted(small, key=lambda each: entries[each].postings), entries, sizes)
    else:
        mostly_dead = [n for n in small if entries[n].dead_documents > entries[n].live_documents]
        groups += [[number] for number in mostly_dead]
    return groups


def merge_segments(segments: Sequence[LiveSegment]) -> Segment:
    """One segment with the live documents of all `segments`, in their order."""
    ids: list[str] = []
    hashes: list[bytes] = []
    for each in segments:
        live_rows = np.flatnonzero(each.live)
        ids += [each.segment.document_id(row) for row in live_rows.tolist()]
        hashes += [digest.tobytes() for digest in each.segment.hashes[live_rows]]
    rows = join_rows([each.segment.rows.take(each.live) for each in segments])
    return Segment.build(ids, hashes, rows)


def _packed(
    smallest_first: Sequence[int], entries: Sequence[SegmentEntry], sizes: Sizes
) -> list[list[int]]:
    """Groups that each fill a segment; a single segment without deleted documents is left alone."""
    groups: list[list[int]] = [[]]
    postings = documents = 0
    for number in smallest_first:
        entry = entries[number]
        postings += entry.postings
        documents += entry.live_documents
        if groups[-1] and (postings > sizes.postings or documents > sizes.documents):
            groups.append([])
            postings, documents = entry.postings, entry.live_documents
        groups[-1].append(number)
    return [group for group in groups if len(group) > 1 or entries[group[0]].dead_documents]
