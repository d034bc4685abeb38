"""Labels from a TSV file: document id, label and, optionally, group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers_ml.documents import DocumentsUnreadable, Malformed, RowCounts, TooManyMalformed
from workers_ml.documents.lines import lines_of

HEADER = "document_id"
MAX_LABEL = 200


@dataclass(frozen=True, slots=True)
class Label:
    label: str
    group: str | None = None


def read_labels(
    path: str | Path, counts: RowCounts, *, max_malformed_share: float = 0.01
) -> dict[str, Label]:
    """
    The labels by document id: each line is `document_id<TAB>label[<TAB>group]`; a file name that
    ends in `.gz` is decompressed; a first line that begins with `document_id` is a header.

    Nothing is quoted. A document that is repeated with the same label counts once; a line that
    gives it another label is malformed. Raises `DocumentsUnreadable`, `TooManyMalformed`.
    """
    path = Path(path)
    if not path.is_file():
        raise DocumentsUnreadable(str(path), "there is no such file on this worker")
    labels: dict[str, Label] = {}
    for number, line in lines_of(path):
        if line is not None and not line.strip():
            continue
        found = _label_of(path.name, number, line)
        if isinstance(found, Malformed):
            counts.add_malformed(found)
            continue
        document_id, label = found
        if number == 1 and document_id == HEADER:
            continue
        if labels.setdefault(document_id, label).label != label.label:
            reason = f"{document_id!r} already had the label {labels[document_id].label!r}"
            counts.add_malformed(Malformed(path.name, number, reason))
            continue
        counts.documents += 1
    if counts.malformed > max_malformed_share * counts.rows:
        raise TooManyMalformed(counts.malformed, counts.rows, max_malformed_share, counts.examples)
    return labels


def _label_of(name: str, number: int, line: bytes | None) -> tuple[str, Label] | Malformed:
    if line is None:
        return Malformed(name, number, "the line is too long")
    try:
        fields = [field.strip() for field in line.decode().rstrip("\r\n").split("\t")]
    except UnicodeDecodeError:
        return Malformed(name, number, "not valid UTF-8")
    if len(fields) not in (2, 3):
        return Malformed(name, number, f"expected 2 or 3 fields between tabs, got {len(fields)}")
    document_id, label = fields[:2]
    if not document_id or not label:
        return Malformed(name, number, f"the {'label' if document_id else 'document id'} is empty")
    if len(label) > MAX_LABEL or not label.isprintable():
        rule = f"a label must be at most {MAX_LABEL} printable characters"
        return Malformed(name, number, rule)
    group = fields[2] if len(fields) == 3 else ""
    return document_id, Label(label, group or None)
