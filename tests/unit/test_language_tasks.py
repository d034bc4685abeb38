"""The language tasks' plain functions, with a model that answers as the test says."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_shared.contracts.language import GenerateTextArgs, GenerationParameters
from fixtures.scripted_llm import ScriptedLLM, no_progress
from workers_general.generative.generate import generate
from workers_general.generative.keywords import extract_keywords, schema_of
from workers_general.generative.normalize import most_agreed, normalize, token_probability
from workers_general.generative.prompting import EmptyAnswer
from workers_general.generative.summarize import NotShorter, summarize
from workers_general.llm.protocol import ChatRequest, TokenLogprob
from workers_general.text.parts import NothingFits
from workers_general.text.words import count_words

PLAIN = GenerationParameters()


def user_text(request: ChatRequest) -> str:
    return request.messages[-1].content


def first_words(request: ChatRequest) -> str:
    """A model that repeats how each of the sentences it reads begins."""
    return " ".join(f"{words}." for words in re.findall(r"S\d+", user_text(request))[:3]) or "No."


def long_text(sentences: int) -> str:
    return " ".join(
        f"S{number} is a sentence of ten words in all, no." for number in range(sentences)
    )


async def test_a_short_text_is_one_call_that_asks_for_length_and_language() -> None:
    llm = ScriptedLLM(lambda _: "Eine Zusammenfassung.")

    summary = await summarize(llm, "A text.", 40, "de", PLAIN, no_progress)

    [(step, request)] = llm.asked
    assert (step, summary.text, summary.parts) == ("summary", "Eine Zusammenfassung.", 1)
    assert "at most 40 words" in request.messages[0].content
    assert "code de" in request.messages[0].content
    assert user_text(request) == "A text.", "the text is a message of its own"
    assert (summary.model, summary.prompt, summary.cut) == ("scripted-1", "summarize.v1", False)


async def test_a_long_text_is_summarized_in_parts_and_then_their_summaries_are() -> None:
    llm = ScriptedLLM(first_words, context_tokens=600)
    told: list[tuple[float, float | None, str, str]] = []

    def progress(
        done: float, total: float | None = None, *, stage: str = "", message: str = ""
    ) -> None:
        told.append((done, total, stage, message))

    summary = await summarize(llm, long_text(200), 40, None, PLAIN, progress)

    parts = [request for step, request in llm.asked if step.startswith("level 1")]
    assert len(parts) == summary.parts > 2
    assert "".join(map(user_text, parts)) == long_text(200), "no sentence is lost"
    assert llm.asked[-1][0] == "summary"
    assert user_text(llm.asked[-1][1]).startswith("S0. S1. S2.\n\nS"), "the parts' summaries"
    assert summary.levels == 2
    assert (0, summary.parts, "level 1", f"part 1 of {summary.parts}") in told
    assert told[-1][2] == "summary"


@settings(max_examples=25)
@given(st.integers(1, 400), st.integers(300, 3000), st.integers(5, 200))
async def test_whatever_the_length_each_call_fits_and_the_first_level_reads_all(
    sentences: int, context_tokens: int, max_words: int
) -> None:
    """`ScriptedLLM` asserts that each prompt leaves space for its answer."""
    llm = ScriptedLLM(first_words, context_tokens=context_tokens)

    summary = await summarize(llm, long_text(sentences), max_words, None, PLAIN, no_progress)

    read = [user_text(request) for step, request in llm.asked if step.startswith("level 1")]
    assert "".join(read or [user_text(llm.asked[0][1])]) == long_text(sentences)
    assert count_words(summary.text) <= max_words
    assert len(llm.asked) == len({step for step, _ in llm.asked})


async def test_the_same_text_makes_the_same_calls() -> None:
    """What the journal holds is found again by step and request."""
    one, other = (ScriptedLLM(first_words, context_tokens=600) for _ in range(2))
    for llm in (one, other):
        await summarize(llm, long_text(100), 40, None, PLAIN, no_progress)

    assert one.asked == other.asked


async def test_a_summary_that_is_too_long_is_cut_at_a_sentence_and_says_so() -> None:
    llm = ScriptedLLM(lambda _: "One two three. Four five six. Seven.")

    summary = await summarize(llm, "A text.", 6, None, PLAIN, no_progress)

    assert (summary.text, summary.cut) == ("One two three. Four five six.", True)


async def test_a_summary_that_was_broken_off_ends_with_its_last_whole_sentence() -> None:
    llm = ScriptedLLM(lambda _: "One two three. Four fi", finish_reason="length")

    summary = await summarize(llm, "A text.", 100, None, PLAIN, no_progress)

    assert (summary.text, summary.cut) == ("One two three.", True)


async def test_an_empty_answer_is_asked_for_again_with_another_seed() -> None:
    answers = iter(["", " \n", "At last."])
    llm = ScriptedLLM(lambda _: next(answers))

    summary = await summarize(llm, "A text.", 9, None, GenerationParameters(seed=5), no_progress)

    assert summary.text == "At last."
    assert [request.parameters.seed for _, request in llm.asked] == [5, 6, 7]
    assert len({step for step, _ in llm.asked}) == 3


async def test_a_model_that_writes_nothing_is_given_up() -> None:
    with pytest.raises(EmptyAnswer, match="wrote nothing in 3 tries"):
        await summarize(ScriptedLLM(lambda _: ""), "A text.", 9, None, PLAIN, no_progress)


async def test_summaries_that_get_no_shorter_are_given_up() -> None:
    llm = ScriptedLLM(lambda _: "x" * 100_000, context_tokens=600)

    with pytest.raises(NotShorter, match="level 1 are no shorter"):
        await summarize(llm, long_text(60), 20, None, PLAIN, no_progress)


async def test_a_context_that_the_prompt_alone_fills_is_named() -> None:
    with pytest.raises(NothingFits, match="the prompt alone"):
        await summarize(ScriptedLLM(context_tokens=60), "A text.", 20, None, PLAIN, no_progress)


async def test_without_a_count_or_a_context_from_the_server_both_are_assumed_small() -> None:
    llm = ScriptedLLM(first_words, context_tokens=None, can_count=False)

    summary = await summarize(llm, long_text(1000), 40, None, PLAIN, no_progress)

    sizes = [len(user_text(request).encode()) for _, request in llm.asked]
    assert summary.parts > 1
    assert max(sizes) <= 4096 * 2


async def test_the_jobs_own_parameters_are_used_and_leave_space_for_the_text() -> None:
    llm = ScriptedLLM(context_tokens=900)
    own = GenerationParameters(temperature=0.1, top_p=0.5, max_tokens=100_000, stop=("END",))

    await summarize(llm, "A text.", 9, None, own, no_progress)

    parameters = llm.asked[0][1].parameters
    assert (parameters.temperature, parameters.top_p, parameters.stop) == (0.1, 0.5, ("END",))
    assert parameters.max_tokens == 300


def keyword(name: str, relevance: int) -> dict[str, Any]:
    return {"keyword": name, "relevance": relevance}


async def test_keywords_are_sorted_by_the_models_rating_and_each_is_named_once() -> None:
    named = [keyword("sea", 40), keyword("Salt  water", 90), keyword("salt water", 95)]
    llm = ScriptedLLM(value=lambda _: {"keywords": named})

    found = await extract_keywords(llm, "A text.", 5, "en", PLAIN, no_progress)

    assert (found.keywords, found.ratings) == (["salt water", "sea"], [0.95, 0.4])
    assert (found.model, found.prompt, found.parts) == ("scripted-1", "keywords.v1", 1)


async def test_the_keywords_of_a_long_text_are_the_best_of_its_parts() -> None:
    numbers = itertools.count(1)
    llm = ScriptedLLM(
        value=lambda _: {"keywords": [keyword("shared", 50), keyword(f"own {next(numbers)}", 30)]},
        context_tokens=600,
    )

    found = await extract_keywords(llm, long_text(200), 2, None, PLAIN, no_progress)

    assert found.parts == len(llm.asked) > 2
    assert found.keywords == ["shared", "own 1"]


def test_the_schema_of_keywords_bounds_what_a_model_can_write() -> None:
    assert schema_of(7)["properties"]["keywords"]["maxItems"] == 7


PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


async def test_confidence_is_the_mean_probability_of_the_tokens_if_the_server_sends_them() -> None:
    logprobs = (TokenLogprob("a", 0.0), TokenLogprob("b", -0.2))
    llm = ScriptedLLM(value=lambda _: {"name": "Ada"}, logprobs=logprobs)

    found = await normalize(llm, {"n": "ada"}, PERSON, None, 1, PLAIN, no_progress)

    assert found.value == {"name": "Ada"}
    assert found.confidence == pytest.approx(0.9048)
    assert found.confidence_from == "token_probability"
    assert user_text(llm.asked[0][1]) == '{"n": "ada"}'
    assert '"required": ["name"]' in llm.asked[0][1].messages[0].content


async def test_there_is_no_confidence_without_probabilities() -> None:
    llm = ScriptedLLM(value=lambda _: {"name": "Ada"})

    found = await normalize(llm, "ada", PERSON, "de", 1, PLAIN, no_progress)

    assert (found.confidence, found.confidence_from) == (None, None)
    assert user_text(llm.asked[0][1]) == "ada"


async def test_of_several_samples_the_value_that_most_agree_on_is_taken() -> None:
    names = iter(["Ida", "Ada", "Ada"])
    llm = ScriptedLLM(value=lambda _: {"name": next(names)})

    found = await normalize(llm, "ada", PERSON, None, 3, PLAIN, no_progress)

    assert (found.value, found.confidence) == ({"name": "Ada"}, 0.6667)
    assert found.confidence_from == "agreement"
    assert len({request.parameters.seed for _, request in llm.asked}) == 3


def test_values_agree_whatever_the_order_of_their_keys() -> None:
    assert most_agreed([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {}]) == ({"a": 1, "b": 2}, 0.6667)


@given(st.lists(st.floats(-20, 0), max_size=20))
def test_a_probability_is_one_or_is_left_out(logprobs: list[float]) -> None:
    sure = token_probability([TokenLogprob("x", value) for value in logprobs])

    assert (sure is None) == (not logprobs)
    assert sure is None or 0 <= sure <= 1


async def test_generated_text_says_what_it_cost_and_why_it_ended() -> None:
    llm = ScriptedLLM(lambda _: "Five words are in it.")
    args = GenerateTextArgs(prompt="Write.", parameters=GenerationParameters(max_tokens=9))

    result = await generate(llm, args)

    assert (result.text, result.finish_reason) == ("Five words are in it.", "stop")
    assert (result.usage.completion_tokens, result.backend) == (5, "scripted")
    assert llm.asked[0][1].parameters.max_tokens == 9


@pytest.mark.parametrize("stream", [True, False])
async def test_text_is_streamed_only_where_the_job_asks_for_it(stream: bool) -> None:
    pieces: list[str] = []

    async def take(piece: str) -> None:
        pieces.append(piece)

    await generate(ScriptedLLM(), GenerateTextArgs(prompt="Write.", stream=stream), on_text=take)

    assert bool(pieces) is stream


async def test_text_in_the_form_of_a_schema_comes_with_its_value() -> None:
    llm = ScriptedLLM(value=lambda _: {"name": "Ada"})
    args = GenerateTextArgs.model_validate({"prompt": "Who?", "schema": PERSON})

    assert (await generate(llm, args)).value == {"name": "Ada"}
