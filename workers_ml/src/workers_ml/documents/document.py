"""A document, and a row that is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_ID = 512
MAX_TEXT = 4 * 1024 * 1024
"""Characters; also what one line of JSON or one field of CSV may hold."""


@dataclass(frozen=True, slots=True)
class Document:
    """
    `group` is what documents of one source share: a split never tears it apart. `source` and
    `line` say where it was read, for a message; they make no difference between documents.
    """

    id: str
    text: str
    group: str | None = None
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Malformed:
    """`line` counts from 1 in the uncompressed file (Parquet: the row); 0: the file as a whole."""

    source: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, line {self.line}: {self.reason}"


Row = Document | Malformed


@dataclass(frozen=True, slots=True)
class Fields:
    """What the columns or keys are called. A file may lack the group."""

    id: str = "id"
    text: str = "text"
    group: str = "group"


def row_of(source: str, line: int, values: dict[str, Any], fields: Fields) -> Row:
    """
    The document of one record.

    An id is text or a whole number, without control characters (it has to fit into a TSV), 512
    characters at most; a text is not blank and is valid Unicode.
    """
    given = {name: values.get(name) for name in (fields.id, fields.text)}
    for name, value in given.items():
        if value is None:
            return Malformed(source, line, f"no {name!r}")
    identity, text, group = given[fields.id], given[fields.text], values.get(fields.group)
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    if isinstance(group, int) and not isinstance(group, bool):
        group = str(group)
    if not isinstance(text, str):
        return Malformed(source, line, f"{fields.text!r} is {_kind(text)}, not text")
    if group is not None and not isinstance(group, str):
        return Malformed(source, line, f"{fields.group!r} is {_kind(group)}, not text")
    if not isinstance(identity, str):
        return Malformed(source, line, f"{fields.id!r} is {_kind(identity)}, not text")
    problem = _problem_of_id(identity) or _problem_of_text(text)
    if problem is None and group is not None and not _is_unicode(group):
        problem = f"{fields.group!r} is no valid UTF-8"
    if problem is not None:
        return Malformed(source, line, problem)
    return Document(identity, text, group or None, source, line)


def _problem_of_id(identity: str) -> str | None:
    if not identity:
        return "the id is empty"
    if len(identity) > MAX_ID:
        return f"the id has {len(identity):,} characters, over {MAX_ID}"
    if not _is_unicode(identity):
        return "the id is no valid UTF-8"
    return None if identity.isprintable() else "the id has control characters"


def _problem_of_text(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return f"the text has {len(text):,} characters, over {MAX_TEXT:,}"
    if not _is_unicode(text):
        return "the text is no valid UTF-8"
    return "the text is blank" if not text or text.isspace() else None


def _is_unicode(text: str) -> bool:
    """Bad bytes were decoded to lone surrogates; JSON may spell them out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    return {"dict": "an object", "list": "a list", "bool": "true or false"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
