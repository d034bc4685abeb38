"""
The prompts: one file each, `NAME.vN.md`, which never changes after its release.

A new wording is a new file with the next number: each result names its prompt with the number.
`$name` is replaced by a value of the task. The text of a job is never put into a prompt: it is a
message of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template

from api_shared.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Prompt:
    """`version` is what results name: `summarize.v1`."""

    version: str
    text: str

    def fill(self, **values: object) -> str:
        """Raises `InvalidOption` where a value is missing."""
        try:
            return Template(self.text).substitute(values)
        except KeyError as error:
            raise InvalidOption(
                self.version, str(error), "the prompt asks for this value"
            ) from None


@cache
def prompt(version: str, package: str = "workers_general.prompts") -> Prompt:
    """The file `{version}.md` of `package`. Raises `InvalidOption`."""
    folder = files(package)
    file = folder / f"{version}.md"
    if not file.is_file():
        known = sorted(found.name for found in folder.iterdir() if found.name.endswith(".md"))
        raise InvalidOption("prompt", version, f"{package} has {', '.join(known) or 'none'}")
    return Prompt(version, file.read_text(encoding="utf-8").strip())


def in_language(language: str | None) -> str:
    """The words of a prompt for the requested language."""
    if language is None:
        return "the language of the text"
    return f"the language with the code {language} (ISO 639, BCP 47)"
