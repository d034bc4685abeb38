"""A document, and a malformed row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MAX_ID = 512
MAX_TEXT = 4 * 1024 * 1024
"""In characters; also the limit of a line of JSON and of a field of CSV."""


@dataclass(frozen=True, slots=True)
class Document:
    """
    `group` is shared by documents of one origin: a split never divides a group. `source` and
    `line` say where the document was read, for messages; they are not compared.
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
    """The names of the columns or keys. The group is optional."""

    id: str = "id"
    text: str = "text"
    group: str = "group"


def row_of(source: str, line: int, values: dict[str, Any], fields: Fields) -> Row:
    """
    The document of one record.

    An id must be text or a whole number, without control characters (it has to fit into a TSV), and
    of 512 characters at most; a text must be valid Unicode and not blank.
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
        problem = f"{fields.group!r} is not valid UTF-8"
    if problem is not None:
        return Malformed(source, line, problem)
    return Document(identity, text, group or None, source, line)


def _problem_of_id(identity: str) -> str | None:
    if not identity:
        return "the id is empty"
    if len(identity) > MAX_ID:
        return f"the id has {len(identity):,} characters, over {MAX_ID}"
    if not _is_unicode(identity):
        return "the id is not valid UTF-8"
    return None if identity.isprintable() else "the id has control characters"


def _problem_of_text(text: str) -> str | None:
    if len(text) > MAX_TEXT:
        return f"the text has {len(text):,} characters, over {MAX_TEXT:,}"
    if not _is_unicode(text):
        return "the text is not valid UTF-8"
    return "the text is blank" if not text or text.isspace() else None


def _is_unicode(text: str) -> bool:
    """Invalid bytes were decoded to lone surrogates, which JSON can also contain."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    return {"dict": "an object", "list": "a list", "bool": "true or false"}.get(
        type(value).__name__, f"a {type(value).__name__}"
    )
