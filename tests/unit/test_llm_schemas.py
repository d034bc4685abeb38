"""Schemas of callers are bounded before they are applied, and outputs are judged without values."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers_general.llm.errors import InvalidSchema
from workers_general.llm.schemas import MAX_VALUE_DEPTH, Schema

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
        }
    },
}


def doubling(levels: int) -> dict[str, Any]:
    steps = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(levels)}
    return {"$defs": {**steps, f"d{levels}": {"type": "integer"}}, "$ref": "#/$defs/d0"}


def chained(length: int) -> dict[str, Any]:
    steps: dict[str, Any] = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(length)}
    return {"$defs": {**steps, f"d{length}": {}}, "$ref": "#/$defs/d0"}


def behind_dependencies(schema: dict[str, Any], length: int = 40) -> dict[str, Any]:
    """A keyword of older drafts that is applied in place; what is behind so many is no deeper."""
    steps: dict[str, Any] = {
        f"c{n}": {"dependencies": {"a": {"$ref": f"#/$defs/c{n + 1}"}}} for n in range(length)
    }
    steps[f"c{length}"] = {"$ref": schema["$ref"]}
    return {"$defs": schema["$defs"] | steps, "$ref": "#/$defs/c0"}


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


DOUBLING_TREE = {
    "$ref": "#/$defs/a",
    "$defs": {
        "a": {
            "anyOf": [
                {"properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["y"]},
                {"properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["z"]},
            ]
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nonsense"}, "it is not a JSON Schema"),
        ({"$ref": "https://example.org/schema.json"}, "must be local"),
        ({"$ref": "file:///etc/passwd"}, "must be local"),
        ({"properties": {"a": {"$ref": "other.json#/x"}}}, "must be local"),
        ({"$ref": "#/$defs/missing"}, "nothing is at"),
        ({"$id": "http://x/", "type": "object"}, "$id is not supported"),
        ({"$ref": "#"}, "leads back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}}, "leads back"),
        ({"$ref": "#/$defs/%61", "$defs": {"a": {}, "%61": {}}}, "without %"),
        ({"pattern": "(?=a)b"}, "it is not a JSON Schema"),
        ({"pattern": "(a{1000}){1000}"}, "it is not a JSON Schema"),
        ({"const": float("nan")}, "not JSON"),
        ({"const": {1, 2}}, "not JSON"),
        ({"description": "x" * 70_000}, "over the limit"),
        (nested(100), "nested deeper"),
        (doubling(40), "subschemas would apply"),
        (chained(900), "chained over more than"),
        (DOUBLING_TREE, "subschemas would apply"),
        (behind_dependencies(doubling(40)), "subschemas would apply"),
    ],
)
def test_a_hostile_schema_is_refused_with_its_reason(schema: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidSchema, match=problem.replace("$", r"\$")):
        Schema(schema)


@pytest.mark.parametrize("schema", [{}, PERSON, TREE, nested(30), doubling(8), chained(50)])
def test_an_ordinary_schema_is_taken(schema: dict[str, Any]) -> None:
    Schema(schema)


def test_a_pattern_that_backtracks_elsewhere_takes_no_time_here() -> None:
    _, problems = Schema({"pattern": "^(a+)+$"}).read(json.dumps("a" * 100_000 + "b"))
    assert problems


def test_a_property_named_like_a_keyword_is_a_property() -> None:
    schema = Schema({"properties": {"$ref": {"type": "integer"}, "$id": {"type": "integer"}}})
    assert schema.problems_of({"$ref": "x"})
    assert not schema.problems_of({"$ref": 1, "$id": 2})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not JSON"),
        ('{"name": "Ada"', "not JSON"),
        ('```json\n{"name": "Ada"}\n```', "not JSON"),
        ('{"name": NaN}', "not JSON"),
        ('{"age": 1}', '"name" is a required property'),
        ('{"name": "Ada", "age": -1}', "age: the value is less than the minimum of 0"),
        ('{"name": "Ada", "x": 1}', "Additional properties"),
        ('{"name": "Ada \\ud800"}', "half of a surrogate pair"),
        ('{"name": "Ada", "\\ud800": 1}', "half of a surrogate pair"),
        ('{"name": "Ada", "age": 1e999}', "too large"),
        ("[" * 100_000, "nested deeper"),
        ("[" * 50 + "]" * 50, "nested deeper"),
    ],
)
def test_output_that_is_not_valid_is_reported_without_its_values(text: str, problem: str) -> None:
    _, problems = Schema(PERSON).read(text)
    assert any(problem in line for line in problems), problems
    assert not any("Ada" in line for line in problems)


def test_output_that_is_valid_is_its_value() -> None:
    assert Schema(PERSON).read(' {"name": "Ada", "age": 36}\n') == ({"name": "Ada", "age": 36}, ())
    assert Schema(TREE).read('{"children": [{"children": []}]}')[1] == ()


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@settings(max_examples=50)
@given(values)
def test_any_value_is_valid_against_itself_and_no_other(value: Any) -> None:
    schema = Schema({"const": value})
    assert schema.read(json.dumps(value)) == (value, ())
    assert schema.problems_of([value])


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    value, problems = Schema(PERSON).read(text)
    assert problems or isinstance(value, dict)


def test_a_tree_as_deep_as_a_value_may_be_is_judged() -> None:
    value: Any = {}
    for _ in range(MAX_VALUE_DEPTH // 2 - 1):
        value = {"children": [value]}
    assert Schema(TREE).read(json.dumps(value)) == (value, ())
