"""The split of a text into sentences, in any script; joined they are the text."""

from __future__ import annotations

import re

CLOSERS = "\"'\u2019\u201d\u00bb)\\]}\u300d\u300f\uff09\uff63"
"""Quotes and brackets that still belong to the sentence they close."""

# Possessive quantifiers and no look-around: linear for any input, even a megabyte of dots.
BOUND = re.compile(
    rf"""
    (?P<dots>[.]++) [{CLOSERS}]*+
    | [!?\u2026\u203c-\u2049\u061f\u06d4\u0589\u1362]++ [!?.]*+ [{CLOSERS}]*+
    | (?P<full>[\u3002\uff01\uff1f\uff61\u0964\u0965]++) [{CLOSERS}]*+
    | (?P<blank>\n (?:[^\S\n]*+ \n)++)
    """,
    re.VERBOSE,
)
SPACE = re.compile(r"\s*+")
LETTER = re.compile(r"\w")
BEFORE_DOT = re.compile(r"(?:\w+\.)*\w+$")
BEFORE_DOT_CHARACTERS = 16

ABBREVIATIONS = frozenset(
    """
    abs al approx art av bd bzw ca cf dott dr dra ecc etc evtl fig figs gen ggf hr hrsg inc ing jr
    mlle mme mr mrs ms no nr pp prof rev sen sig sog sr sra st str tel ud uds usw vgl vol vs
    \u0434\u0440 \u043f\u0440\u043e\u0444 \u0442.\u0434 \u0442.\u0435 \u0443\u043b
    """.split()  # noqa: SIM905 - a list of as many strings would fill a screen
)
"""Abbreviations that end in a dot within a sentence, of several languages."""


def split_sentences(text: str) -> list[str]:
    """
    The sentences with the space after them; a blank line ends a sentence too. Time is linear.

    A dot ends no sentence after an initial, a number of up to two digits or an abbreviation, nor
    before a lower-case letter; and no sentence is without a letter, unless the text is.
    """
    sentences: list[str] = []
    start = looked_until = 0
    has_letter = False
    for bound in BOUND.finditer(text):
        has_letter = has_letter or bool(LETTER.search(text, looked_until, bound.start()))
        looked_until = bound.end()
        end = _end_of_space(text, bound.end())
        if has_letter and _ends_sentence(text, bound, end):
            sentences.append(text[start:end])
            start, has_letter = end, False
    if start < len(text):
        sentences.append(text[start:])
    return sentences


def _end_of_space(text: str, position: int) -> int:
    space = SPACE.match(text, position)
    return space.end() if space else position


def _ends_sentence(text: str, bound: re.Match[str], end: int) -> bool:
    if bound["full"] or bound["blank"] or end == len(text):
        return True
    if end == bound.end():  # no space follows: 3.14, e.g., example.org
        return False
    if not bound["dots"]:
        return True
    return not (text[end].islower() or (len(bound["dots"]) == 1 and _is_short(text, bound.start())))


def _is_short(text: str, dot: int) -> bool:
    """Whether the dot belongs to the word before it: an abbreviation, an initial or a number."""
    word = BEFORE_DOT.search(text[max(0, dot - BEFORE_DOT_CHARACTERS) : dot])
    if word is None:
        return False
    written = word[0].lower()
    if written.isdigit():
        return len(written) <= 2
    last = written.rpartition(".")[2]
    return (len(last) == 1 and last.isalpha()) or written in ABBREVIATIONS
