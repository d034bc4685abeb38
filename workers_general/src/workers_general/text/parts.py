"""The split of a text into parts that fit a model, between sentences."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from api_shared.errors import PermanentError
from workers_general.text.sentences import split_sentences

CountTokens = Callable[[str], Awaitable[int]]
"""The number of tokens of a text, for the model that will read it."""


class NothingFits(PermanentError):
    """Not even one character of the text fits into a part."""

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        super().__init__(
            f"the prompt alone is over the {max_tokens:,} tokens that the model's context leaves: "
            f"start the server with a larger one"
        )


async def split_parts(text: str, max_tokens: int, count: CountTokens) -> list[str]:
    """
    The text in parts of at most `max_tokens` each; joined they are the text.

    Each part is as long as an estimate allows, and is then counted. A sentence that is too long is
    split between words, a word between letters. Raises `NothingFits`.
    """
    total = await count(text)
    if total <= max_tokens:
        return [text]
    per_character = total / len(text)
    max_characters = max(1, int(max_tokens / per_character / 2))
    pieces = await asyncio.to_thread(_pieces, text, max_characters)
    parts: list[str] = []
    while pieces:
        part, pieces = _take(pieces, max(1, int(max_tokens / per_character)))
        while (tokens := await count("".join(part))) > max_tokens:
            if len(part) == 1 and len(part[0]) < 2:
                raise NothingFits(max_tokens)
            part, rest = _halve(part)
            pieces = [*rest, *pieces]
            per_character = max(per_character, tokens / len("".join([*part, *rest])))
        parts.append("".join(part))
    return parts


def _pieces(text: str, max_characters: int) -> list[str]:
    """The sentences; those over `max_characters` are split."""
    pieces: list[str] = []
    for sentence in split_sentences(text):
        left = sentence
        while len(left) > max_characters:
            at = left.rfind(" ", 1, max_characters) + 1 or max_characters
            pieces.append(left[:at])
            left = left[at:]
        pieces.append(left)
    return [piece for piece in pieces if piece]


def _take(pieces: list[str], max_characters: int) -> tuple[list[str], list[str]]:
    """The first pieces, up to `max_characters` but at least one; and the other pieces."""
    length = 0
    for position, piece in enumerate(pieces):
        length += len(piece)
        if position and length > max_characters:
            return pieces[:position], pieces[position:]
    return pieces, []


def _halve(part: list[str]) -> tuple[list[str], list[str]]:
    if len(part) > 1:
        return part[: len(part) // 2], part[len(part) // 2 :]
    (piece,) = part
    middle = len(piece) // 2
    at = piece.rfind(" ", 1, middle) + 1 or middle
    return [piece[:at]], [piece[at:]]
