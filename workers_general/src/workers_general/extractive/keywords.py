"""Keywords from the words of a text."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from workers_general.extractive.ranking import rank_sentences, vectors_of, weighted_sum
from workers_general.text.language import stop_words
from workers_general.text.sentences import split_sentences
from workers_general.text.words import WORD

MAX_PHRASE_WORDS = 3
JOINS = re.compile(r"[ \t\n\r\u00a0]*")
"""What may separate two words of a phrase; a comma, a bracket or a dash may not."""


@dataclass(frozen=True, slots=True)
class RankedKeyword:
    """`score` is relative to the best keyword, whose score is 1."""

    keyword: str
    score: float


def rank_keywords(text: str, count: int, language: str | None) -> list[RankedKeyword]:
    """
    The most important words and phrases, the best first, in their most frequent spelling.

    The rank of a word is the sum, over its sentences, of its weight times the rank of the sentence.
    A phrase (up to three words without a stop word, at least twice in the text) has the mean rank
    of its words, times a factor that grows with its length; a word that occurs mostly within a
    chosen phrase is not chosen as well.
    """
    stops = stop_words(language)
    sentences = split_sentences(text)
    runs = [list(_runs(sentence, stops)) for sentence in sentences]
    words = [[word.casefold() for run in found for word in run] for found in runs]
    vectors = vectors_of(words)
    ranks = weighted_sum(vectors, rank_sentences(vectors))
    spellings: defaultdict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    for run in (run for found in runs for run in found):
        for phrase in _phrases(run):
            key = tuple(word.casefold() for word in phrase)
            spellings[key][" ".join(phrase)] += 1
    times = {key: found.total() for key, found in spellings.items()}
    scores = {
        key: sum(ranks[word] for word in key) / len(key) * (1 + 0.5 * (len(key) - 1))
        for key in spellings
        if len(key) == 1 or times[key] > 1
    }
    chosen: list[tuple[str, ...]] = []
    for key in sorted(scores, key=lambda key: (-scores[key], key)):
        if len(chosen) == count:
            break
        if not any(_is_redundant(key, other, times) for other in chosen):
            chosen.append(key)
    best = scores[chosen[0]] if chosen else 1.0
    return [
        RankedKeyword(spellings[key].most_common(1)[0][0], round(scores[key] / best, 4))
        for key in chosen
    ]


def _runs(sentence: str, stops: frozenset[str]) -> Iterator[list[str]]:
    """Sequences of words with neither a stop word nor punctuation between them."""
    run: list[str] = []
    end = 0
    for word in WORD.finditer(sentence):
        if run and not JOINS.fullmatch(sentence, end, word.start()):
            yield run
            run = []
        end = word.end()
        if _is_content(word[0], stops):
            run.append(word[0])
        elif run:
            yield run
            run = []
    if run:
        yield run


def _is_content(word: str, stops: frozenset[str]) -> bool:
    return len(word) > 1 and word.casefold() not in stops and not word[0].isdigit()


def _phrases(run: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(len(run)):
        for end in range(start + 1, min(start + MAX_PHRASE_WORDS, len(run)) + 1):
            yield run[start:end]


def _is_redundant(
    key: tuple[str, ...], other: tuple[str, ...], times: dict[tuple[str, ...], int]
) -> bool:
    """Whether `key` is part of `other` and occurs mostly there, or `other` is part of it."""
    if _is_within(key, other):
        return times[other] * 2 > times[key]
    return _is_within(other, key)


def _is_within(part: tuple[str, ...], whole: tuple[str, ...]) -> bool:
    return any(whole[at : at + len(part)] == part for at in range(len(whole) - len(part) + 1))
