# ruff: noqa: RUF001 - letters of many scripts are what is tested
"""Where sentences end, words, languages, and parts: nothing is lost, and nothing takes for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers_general.text.language import language_of, stop_words
from workers_general.text.parts import NothingFits, split_parts
from workers_general.text.sentences import split_sentences
from workers_general.text.words import count_words, cut_to_words, words_of

TRICKY = st.text(alphabet="aB1 .!?…。！।\n\t\r\"'”)(\u2028\u00a0éÄ漢あ", max_size=300)
ANY_TEXT = st.one_of(st.text(max_size=300), TRICKY)

RIGHTS = {
    "de": "Die Würde des Menschen ist unantastbar. Sie zu achten und zu schützen ist Pflicht.",
    "en": "All human beings are born free and equal in dignity and rights. They are endowed.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati.",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ko": "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
    "nl": "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn.",
    "pl": "Wszyscy ludzie rodzą się wolni i równi w swojej godności i prawach. Są oni obdarzeni.",
    "pt": "Todos os seres humanos nascem livres e iguais em dignidade e em direitos. Dotados de.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены.",
    "zh": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心。",
}


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ('He said: "Go." Then he went.', ['He said: "Go." ', "Then he went."]),
        ("Dr. Smith of Washington D.C. came.", ["Dr. Smith of Washington D.C. came."]),
        (
            "It is 3.14, e.g. here. See example.org.",
            ["It is 3.14, e.g. here. ", "See example.org."],
        ),
        ("Am 3. Mai kam z.B. Herr Meier.", ["Am 3. Mai kam z.B. Herr Meier."]),
        ("It was 1815. Then came peace.", ["It was 1815. ", "Then came peace."]),
        ("Wait... what? Yes... No.", ["Wait... what? ", "Yes... ", "No."]),
        ("これは文です。次の文です！", ["これは文です。", "次の文です！"]),
        ("यह एक वाक्य है। दूसरा।", ["यह एक वाक्य है। ", "दूसरा।"]),
        ("هل تفهم؟ نعم.", ["هل تفهم؟ ", "نعم."]),
        ("A headline\n\nA text\nof lines.", ["A headline\n\n", "A text\nof lines."]),
        ("- - -", ["- - -"]),
        ("", []),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, sentences: list[str]) -> None:
    assert split_sentences(text) == sentences


@given(ANY_TEXT)
def test_no_sign_of_a_text_is_lost(text: str) -> None:
    sentences = split_sentences(text)

    assert "".join(sentences) == text
    assert all(sentences)


@pytest.mark.parametrize(
    "unit", [".", ". ", "a. ", "!?", "\n ", '"', "Aa.", "…'", "a'", "漢。", "("]
)
def test_a_long_text_of_anything_is_split_and_counted_in_linear_time(unit: str) -> None:
    """Quadratic time would take many minutes: that it ends is the assertion."""
    text = unit * (300_000 // len(unit))

    assert "".join(split_sentences(text)) == text
    assert count_words(text) >= 0
    assert isinstance(words_of(text), list)


@given(ANY_TEXT, st.integers(1, 20))
def test_a_text_cut_to_words_has_no_more_of_them_and_is_its_beginning(text: str, most: int) -> None:
    cut = cut_to_words(text, most)

    assert count_words(cut) <= most
    assert text.strip().startswith(cut)
    assert cut or not count_words(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [("It isn't so, is it?", 5), ("日本語です。", 5), ("a - b", 3), ("हिन्दी भाषा", 2), ("", 0)],
)
def test_words_are_what_stands_between_spaces_or_signs_of_scripts_without(
    text: str, words: int
) -> None:
    assert count_words(text) == words


def test_vowel_signs_belong_to_their_word() -> None:
    assert words_of("हिन्दी Don't 3.5 ÉTÉ") == ["हिन्दी", "don't", "3", "5", "été"]


@pytest.mark.parametrize("language", RIGHTS)
def test_the_language_of_a_sentence_or_two_is_detected(language: str) -> None:
    assert language_of(RIGHTS[language]) == language


@pytest.mark.parametrize("text", ["", "Hm.", "12345 67890", "qqq www zzz"])
def test_a_language_that_cannot_be_detected_is_not_guessed(text: str) -> None:
    assert language_of(text) is None


def test_stop_words_are_found_by_the_first_part_of_a_language_tag() -> None:
    assert "the" in stop_words("en-GB")
    assert stop_words("tlh") == stop_words(None) == frozenset()


async def count_letters(text: str) -> int:
    """As a tokenizer with a template around the text: three more than its letters."""
    return len(text) + 3


@given(ANY_TEXT.filter(bool), st.integers(5, 60))
async def test_parts_joined_are_the_text_and_each_fits(text: str, most: int) -> None:
    parts = await split_parts(text, most, count_letters)

    assert "".join(parts) == text
    assert all(len(part) + 3 <= most for part in parts)


async def test_a_text_that_fits_is_one_part() -> None:
    assert await split_parts("One. Two.", 12, count_letters) == ["One. Two."]


async def test_parts_end_where_sentences_end() -> None:
    text = "One is here. Two is there. Three is nowhere. Four."

    parts = await split_parts(text, 33, count_letters)

    assert parts == ["One is here. Two is there. ", "Three is nowhere. Four."]


async def test_a_dense_part_of_the_text_is_split_further() -> None:
    """Tokens are not spread evenly: the count decides, not the length."""

    async def count(text: str) -> int:
        return sum(10 if letter == "漢" else 1 for letter in text)

    text = "Some words in English. " * 20 + "漢。" * 20

    parts = await split_parts(text, 100, count)

    assert "".join(parts) == text
    assert max([await count(part) for part in parts]) <= 100


async def test_few_counts_are_asked_for() -> None:
    asked = 0

    async def count(text: str) -> int:
        nonlocal asked
        asked += 1
        return len(text) // 4

    parts = await split_parts("This is a sentence of some words. " * 1000, 1000, count)

    assert asked <= 2 * len(parts) + 2


async def test_a_limit_that_nothing_fits_into_is_an_error() -> None:
    with pytest.raises(NothingFits):
        await split_parts("Some text.", 3, count_letters)
