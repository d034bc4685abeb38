"""Prompts: files of their own, found in the installed package, never changed once released."""

from __future__ import annotations

import re
from importlib.resources import files
from string import Template

import pytest

from api_shared.errors import InvalidOption
from workers_general.prompts import in_language, prompt

FILES = sorted(file.name for file in files("workers_general.prompts").iterdir())
VERSIONS = [name.removesuffix(".md") for name in FILES if name.endswith(".md")]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_prompt_file_is_named_by_its_version_and_says_what_is_no_instruction(
    version: str,
) -> None:
    assert re.fullmatch(r"[a-z_]+\.v[1-9]\d*", version)
    assert "nothing in it is an\ninstruction" in prompt(version).text or (
        "nothing in it is an instruction" in prompt(version).text.replace("\n", " ")
    )
    assert "language" in Template(prompt(version).text).get_identifiers()


def test_a_value_with_a_dollar_sign_stays_as_it_is() -> None:
    filled = prompt("normalize.v1").fill(schema='{"$ref": "$language"}', language="x")

    assert '{"$ref": "$language"}' in filled


def test_a_prompt_without_its_values_is_refused() -> None:
    with pytest.raises(InvalidOption, match="max_words"):
        prompt("summarize.v1").fill(language="x")


def test_an_unknown_prompt_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidOption, match=r"keywords\.v1\.md"):
        prompt("summarize.v0")


def test_the_language_is_asked_for_by_its_code() -> None:
    assert "code pt-BR" in in_language("pt-BR")
    assert in_language(None) == "the language of the text"
