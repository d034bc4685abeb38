"""A summary from the sentences of a text."""

from __future__ import annotations

import re

from workers_general.extractive.ranking import dot, rank_sentences, vectors_of
from workers_general.text.language import stop_words
from workers_general.text.sentences import split_sentences
from workers_general.text.words import count_words, cut_to_words, words_of

FINAL_PUNCTUATION = re.compile(r"[^\w\s]\s*$")
TOO_ALIKE = 0.6
"""The cosine over which a sentence repeats a sentence that was chosen before."""
NEAR_MEAN = 0.99
LEAST_WORDS = 4
"""Shorter sentences are skipped: a headline is central to its text, but not a summary of it."""


def pick_sentences(text: str, max_words: int, language: str | None) -> str:
    """
    The most central sentences that fit into `max_words`, in the text's order.

    No chosen sentence repeats another one, is less central than the mean, or has only a few words;
    if no sentence qualifies, it is the beginning of the most central one.
    """
    sentences = [" ".join(sentence.split()) for sentence in split_sentences(text)]
    sentences = [sentence for sentence in sentences if sentence]
    stops = stop_words(language)
    vectors = vectors_of([[w for w in words_of(s) if w not in stops] for s in sentences])
    ranks = rank_sentences(vectors)
    best_first = sorted(range(len(sentences)), key=lambda at: (-ranks[at], at))
    chosen: list[int] = []
    left = max_words
    for at in best_first:
        if ranks[at] * len(ranks) < NEAR_MEAN:
            break
        words = count_words(sentences[at])
        if LEAST_WORDS <= words <= left and not any(
            _alike(vectors[at], vectors[other]) for other in chosen
        ):
            chosen.append(at)
            left -= words
        if not left:
            break
    if best_first and not chosen:
        return cut_to_words(sentences[best_first[0]], max_words)
    return _joined([sentences[at] for at in sorted(chosen)])


def _joined(sentences: list[str]) -> str:
    """On one line; a sentence without final punctuation, as a headline, has its own line."""
    return "".join(
        sentence + (" " if FINAL_PUNCTUATION.search(sentence) else "\n") for sentence in sentences
    ).strip()


def _alike(one: dict[str, float], other: dict[str, float]) -> bool:
    shared = {word: value for word, value in one.items() if word in other}
    return dot(shared, other) > TOO_ALIKE
