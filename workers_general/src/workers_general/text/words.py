"""The words of a text: counting, listing and cutting to a number of them."""

from __future__ import annotations

import re

from workers_general.text.scripts import CJK_SIGNS, MARKS, SINGLE
from workers_general.text.sentences import split_sentences

PIECE = re.compile(rf"[{SINGLE}]|[^\s{SINGLE}{CJK_SIGNS}]+")
WORD = re.compile(rf"[{SINGLE}]|(?:(?![{SINGLE}])[\w{MARKS}])+(?:['\u2019-](?:(?![{SINGLE}])\w)+)*")


def count_words(text: str) -> int:
    """The number of words between spaces; in Chinese and Japanese, of characters."""
    return sum(1 for _ in PIECE.finditer(text))


def words_of(text: str) -> list[str]:
    """The words in lower case, without punctuation around them."""
    return [word[0] for word in WORD.finditer(text.casefold())]


def cut_to_words(text: str, max_words: int) -> str:
    """
    The first whole sentences that fit into `max_words`; if not even one fits, the first words.
    """
    kept, words = [], 0
    for sentence in split_sentences(text):
        words += count_words(sentence)
        if words > max_words:
            break
        kept.append(sentence)
    if kept and "".join(kept).strip():
        return "".join(kept).strip()
    end = 0
    for number, piece in enumerate(PIECE.finditer(text), start=1):
        if number > max_words:
            break
        end = piece.end()
    return text[:end].strip()
