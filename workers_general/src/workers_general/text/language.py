"""The language of a text, detected by its script and its stop words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from functools import cache

import stopwordsiso

from workers_general.text.words import words_of

SAMPLE_CHARACTERS = 20_000
LEAST_WORDS = 4
"""How many stop words of a language a text must have at least."""

SCRIPTS = {
    "ja": re.compile("[\u3040-\u30ff]"),
    "ko": re.compile("[\uac00-\ud7af]"),
    "th": re.compile("[\u0e00-\u0e7f]"),
    "zh": re.compile("[\u4e00-\u9fff]"),
}
"""Scripts of one language, in the order of the search: Japanese uses Han too."""
SCRIPT_SHARE = 0.2


def language_of(text: str) -> str | None:
    """
    The ISO 639-1 code; None if the text is too short, or in none of the 58 languages of
    `stopwordsiso`.

    A stop word counts less the more languages share it.
    """
    sample = text[:SAMPLE_CHARACTERS]
    letters = sum(map(str.isalpha, sample)) or 1
    for language, script in SCRIPTS.items():
        if len(script.findall(sample)) > SCRIPT_SHARE * letters:
            return language
    scores: defaultdict[str, float] = defaultdict(float)
    hits: Counter[str] = Counter()
    for word, times in Counter(words_of(sample)).items():
        languages = _languages_of_words().get(word, ())
        for language in languages:
            scores[language] += times / len(languages)
            hits[language] += times
    if not scores:
        return None
    best, _ = max(scores.items(), key=lambda pair: (pair[1], pair[0]))
    return best if hits[best] >= LEAST_WORDS else None


def stop_words(language: str | None) -> frozenset[str]:
    """The stop words of a language; empty for None, and for a language without a list."""
    code = (language or "").partition("-")[0]
    if not stopwordsiso.has_lang(code):
        return frozenset()
    return frozenset(word.casefold() for word in stopwordsiso.stopwords(code))


@cache
def _languages_of_words() -> dict[str, tuple[str, ...]]:
    languages: dict[str, list[str]] = {}
    for language in sorted(stopwordsiso.langs()):
        for word in stop_words(language):
            languages.setdefault(word, []).append(language)
    return {word: tuple(found) for word, found in languages.items()}
