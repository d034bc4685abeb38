"""Summaries and keywords with no model."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers_general.extractive import pick_sentences, rank_keywords
from workers_general.extractive.ranking import rank_sentences, vectors_of
from workers_general.text.words import count_words

BEES = (
    "Bees live in colonies. A colony of bees has one queen, and the queen lays all eggs of the "
    "colony. Lunch was late. Worker bees feed the queen of the colony and build the wax combs. "
    "In winter the colony of bees keeps the queen warm."
)


def test_a_summary_is_sentences_of_the_text_in_its_order() -> None:
    summary = pick_sentences(BEES, 32, "en")

    places = [BEES.index(sentence) for sentence in summary.replace(". ", ".\n").splitlines()]
    assert len(places) >= 2
    assert places == sorted(places)
    assert "queen" in summary
    assert "Lunch" not in summary


@given(
    st.lists(st.sampled_from(["red", "green", "sun", "moon.", "Stars!", "漢字。"]), max_size=80),
    st.integers(5, 40),
)
def test_a_summary_is_never_longer_than_asked_for(words: list[str], most: int) -> None:
    text = " ".join(words)

    summary = pick_sentences(text, most, None)

    assert count_words(summary) <= most
    assert bool(summary) == bool(text)


def test_what_says_little_does_not_fill_a_summary_up() -> None:
    text = f"On bees\n\n{BEES} Quite so! Bees."

    summary = pick_sentences(text, 200, "en")

    assert "queen" in summary
    assert "On bees" not in summary
    assert "Quite so" not in summary


def test_where_no_sentence_fits_the_summary_is_the_beginning_of_one() -> None:
    assert pick_sentences("The only sentence is much too long.", 3, "en") == "The only sentence"


def test_a_summary_does_not_say_a_thing_twice() -> None:
    text = "The bridge over the river is closed. " * 5 + "A ferry replaces the bridge by night."

    assert pick_sentences(text, 100, "en").count("is closed") == 1


def test_the_same_text_gives_the_same_summary_and_keywords() -> None:
    assert pick_sentences(BEES, 20, "en") == pick_sentences(BEES, 20, "en")
    assert rank_keywords(BEES, 5, "en") == rank_keywords(BEES, 5, "en")


def test_keywords_are_what_the_text_is_about_in_its_own_spelling() -> None:
    ranked = rank_keywords(BEES, 5, "en")

    words = {keyword.keyword for keyword in ranked}
    assert {"colony", "queen"} <= words
    assert words.isdisjoint({"the", "of", "and", "Lunch"})


def test_the_first_keyword_has_the_score_one_and_none_scores_higher_than_the_one_before() -> None:
    scores = [keyword.score for keyword in rank_keywords(BEES, 20, "en")]

    assert scores[0] == 1
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)


def test_a_phrase_that_is_said_twice_stands_for_its_words() -> None:
    text = "A job platform runs jobs. The job platform keeps a ledger. Nobody reads it."

    keywords = [ranked.keyword for ranked in rank_keywords(text, 3, "en")]

    assert "job platform" in keywords
    assert "platform" not in keywords


def test_a_phrase_does_not_reach_over_a_comma() -> None:
    text = "Salt, pepper are here. Salt, pepper are there."

    assert {ranked.keyword for ranked in rank_keywords(text, 9, "en")} == {"Salt", "pepper"}


@pytest.mark.parametrize("text", ["...", "   ", "1 2 3", "the of and"])
def test_a_text_about_nothing_has_no_keywords(text: str) -> None:
    assert rank_keywords(text, 5, "en") == []


def test_ranks_are_pagerank_over_the_cosines_of_all_pairs() -> None:
    """Against the definition, with the whole matrix written down."""
    rng = random.Random(7)
    sentences = [rng.choices("abcdefgh", k=rng.randint(1, 6)) for _ in range(12)]
    vectors = vectors_of(sentences)
    alike = [
        [sum(one[w] * other[w] for w in one.keys() & other.keys()) for other in vectors]
        for one in vectors
    ]
    for at in range(12):
        alike[at][at] = 0.0
    steps = [[value / sum(row) for value in row] for row in alike]
    ranks = [1 / 12] * 12
    for _ in range(500):
        ranks = [
            0.15 / 12 + 0.85 * sum(ranks[i] * steps[i][j] for i in range(12)) for j in range(12)
        ]

    assert rank_sentences(vectors) == pytest.approx(ranks, abs=1e-4)
    assert sum(rank_sentences(vectors)) == pytest.approx(1)


def test_a_sentence_without_words_has_a_rank_and_does_not_lose_any() -> None:
    ranks = rank_sentences(vectors_of([["a"], [], ["a", "b"], ["alone"]]))

    assert sum(ranks) == pytest.approx(1)
    assert ranks[1] == pytest.approx(ranks[3])
    assert 0 < ranks[1] < min(ranks[0], ranks[2])


def test_a_text_of_ten_thousand_sentences_is_ranked() -> None:
    """With a connection for each of its 50 million pairs it would take minutes and gigabytes."""
    rng = random.Random(1)
    words = [f"word{number}" for number in range(5000)]
    sentences = [f"{' '.join(rng.choices(words, k=3))}. X" for _ in range(10_000)]
    text = "".join(sentences)

    assert count_words(pick_sentences(text, 100, "en")) <= 100
    assert len(rank_keywords(text, 10, "en")) == 10
