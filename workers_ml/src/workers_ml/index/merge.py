"""Fewer and larger segments, without the documents that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from workers_ml.features import join_rows
from workers_ml.index.manifest import SegmentEntry
from workers_ml.index.segment import Part, Segment

DEAD_SHARE = 0.5
"""A segment with a greater share of dead documents is written anew without them."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    How segments are cut: the memory that indexing takes follows from `postings` (about 60 bytes
    each), the speed of a query from how many segments there are.
    """

    documents: int = 20_000
    postings: int = 4_000_000
    small_segments: int = 8


def to_merge(entries: Sequence[SegmentEntry], sizes: Sizes) -> list[list[int]]:
    """
    Groups of segments (by number) that become one each.

    The smallest go together until no more than `small_segments` small ones are left; no merged
    segment is larger than a whole one may be. What is mostly dead is rewritten alone.
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


def merged(parts: Sequence[Part]) -> Segment:
    """One segment with the live documents of all, in their order."""
    ids: list[str] = []
    hashes: list[bytes] = []
    for part in parts:
        living = np.flatnonzero(part.live)
        ids += [part.segment.document_id(row) for row in living.tolist()]
        hashes += [each.tobytes() for each in part.segment.hashes[living]]
    rows = join_rows([part.segment.rows.take(part.live) for part in parts])
    return Segment.build(ids, hashes, rows)


def _packed(
    smallest_first: Sequence[int], entries: Sequence[SegmentEntry], sizes: Sizes
) -> list[list[int]]:
    """Groups that fill a segment each; one that holds a single whole segment is left as it is."""
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
