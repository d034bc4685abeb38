"""Labels as users have them: a TSV of document id, label and, if wanted, group."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workers_ml.documents import DocumentsUnreadable, Malformed, Tally, TooManyMalformed
from workers_ml.documents.lines import lines_of

HEADER = "document_id"
MAX_LABEL = 200


@dataclass(frozen=True, slots=True)
class Label:
    label: str
    group: str | None = None


def read_labels(
    path: str | Path, tally: Tally, *, max_malformed_share: float = 0.01
) -> dict[str, Label]:
    """
    By document id: `document_id<TAB>label[<TAB>group]` a line, gunzipped by the ending `.gz`; a
    first line that begins with `document_id` is a header.

    Nothing is quoted. A document that comes again with the same label counts once, with another
    one it is malformed. Raises `DocumentsUnreadable`, `TooManyMalformed`.
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
            tally.note(found)
            continue
        document_id, label = found
        if number == 1 and document_id == HEADER:
            continue
        if labels.setdefault(document_id, label).label != label.label:
            reason = f"{document_id!r} has had the label {labels[document_id].label!r} before"
            tally.note(Malformed(path.name, number, reason))
            continue
        tally.documents += 1
    if tally.malformed > max_malformed_share * tally.rows:
        raise TooManyMalformed(tally.malformed, tally.rows, max_malformed_share, tally.examples)
    return labels


def _label_of(name: str, number: int, line: bytes | None) -> tuple[str, Label] | Malformed:
    if line is None:
        return Malformed(name, number, "the line is too long")
    try:
        fields = [field.strip() for field in line.decode().rstrip("\r\n").split("\t")]
    except UnicodeDecodeError:
        return Malformed(name, number, "no valid UTF-8")
    if len(fields) not in (2, 3):
        return Malformed(name, number, f"{len(fields)} fields between tabs, 2 or 3 are wanted")
    document_id, label = fields[:2]
    if not document_id or not label:
        return Malformed(name, number, f"the {'label' if document_id else 'document id'} is empty")
    if len(label) > MAX_LABEL or not label.isprintable():
        wanted = f"a label is at most {MAX_LABEL} printable characters"
        return Malformed(name, number, wanted)
    group = fields[2] if len(fields) == 3 else ""
    return document_id, Label(label, group or None)
