"""Arguments of a job from the command line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.cli.arguments import arguments_for, parse_json, parse_pairs
from api_shared.contracts.general import PROCESS_DATA
from api_shared.errors import InvalidArguments, InvalidOption


def test_values_are_json_where_they_parse_and_text_where_not() -> None:
    pairs = ["a=1", "b=1.5", "c=true", "d=null", 'e=["x", 2]', "f=plain", 'g="7"', "h=", "i=a=b"]
    assert parse_pairs(pairs) == {
        "a": 1, "b": 1.5, "c": True, "d": None, "e": ["x", 2], "f": "plain", "g": "7", "h": "",
        "i": "a=b",
    }  # fmt: skip


def test_dotted_keys_make_objects() -> None:
    assert parse_pairs(["o.source=/etc/hosts", "o.p.q=2"]) == {
        "o": {"source": "/etc/hosts", "p": {"q": 2}}
    }


@pytest.mark.parametrize("pairs", [["a"], ["=1"], ["a..b=1"], [".a=1"], ["a=1", "a=2"],
                                   ["a=1", "a.b=2"], ["a.b=2", "a=1"]])  # fmt: skip
def test_a_pair_that_cannot_be_meant_is_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidOption):
        parse_pairs(pairs)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_stays_text(constant: str) -> None:
    assert parse_pairs([f"a={constant}"]) == {"a": constant}


@given(st.dictionaries(
    st.text(st.characters(codec="ascii", exclude_characters="=."), min_size=1),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
))  # fmt: skip
def test_any_json_value_comes_through(arguments: dict[str, Any]) -> None:
    pairs = [f"{name}={json.dumps(value)}" for name, value in arguments.items()]
    assert parse_pairs(pairs) == arguments


def test_a_number_is_text_where_the_contract_wants_text() -> None:
    args = arguments_for(PROCESS_DATA, ["user_id=0042", "options.source=true"])
    assert args.model_dump()["user_id"] == "0042"
    assert args.model_dump()["options"]["source"] == "true"


def test_what_looks_like_a_list_is_text_where_text_is_wanted() -> None:
    args = arguments_for(PROCESS_DATA, ["user_id=[1]", "options.source=x"])
    assert args.model_dump()["user_id"] == "[1]"


def test_what_does_not_validate_is_named() -> None:
    with pytest.raises(InvalidArguments, match=r"options\.chunk_lines") as caught:
        arguments_for(PROCESS_DATA, ["user_id=a", "options.source=x", "options.chunk_lines=no"])
    assert "no" not in caught.value.problems[0].split()


def test_json_comes_as_text_from_a_file_or_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "arguments.json"
    path.write_text('{"a": 1}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": 1}'))
    assert parse_json('{"a": 1}') == parse_json(f"@{path}") == parse_json("-") == {"a": 1}


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", '{"a": NaN}', "@/nowhere/at/all"])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="--json"):
        parse_json(text)
