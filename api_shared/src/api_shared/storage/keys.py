"""The keys of a storage, which are plain on every file system and in every object store."""

from __future__ import annotations

import re

from api_shared.storage.errors import InvalidKey

MAX_KEY = 800
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=@+-]{0,127}", re.ASCII)


def check_key(key: str) -> str:
    """
    `key`, if it consists of names joined by `/`.

    A name begins with a letter, a digit or `_`, followed by those and `.=@+-`, and has at most 128
    characters: no `..`, no absolute path, no hidden file, no NUL. Raises `InvalidKey`.
    """
    if len(key) > MAX_KEY:
        raise InvalidKey(key, f"must have at most {MAX_KEY} characters")
    for name in key.split("/"):
        if not NAME.fullmatch(name):
            raise InvalidKey(key, "must be names of letters, digits and _.=@+- joined by '/'")
    return key


def project_key(project_id: str, *names: str) -> str:
    """`projects/{project_id}/…`. Raises `InvalidKey`."""
    if not NAME.fullmatch(project_id):
        characters = "1 to 128 letters, digits and _.=@+-, beginning with a letter, a digit or _"
        raise InvalidKey(project_id, f"a project id must be {characters}")
    return check_key("/".join(("projects", project_id, *names)))
