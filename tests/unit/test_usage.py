"""What a job may count."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.errors import InvalidOption
from api_shared.ledger.usage import MAX_AMOUNT, MAX_NAMES, added, checked_usage, usage_text

names = st.from_regex(r"[a-z][a-z0-9_]{0,49}", fullmatch=True)
usages = st.dictionaries(names, st.integers(0, MAX_AMOUNT), max_size=MAX_NAMES)


@given(usages)
def test_names_and_whole_numbers_are_taken_as_they_are(usage: dict[str, int]) -> None:
    assert checked_usage(usage, {}) == usage


@given(usages, usages)
def test_sums_are_by_name(one: dict[str, int], other: dict[str, int]) -> None:
    both = added(one, other)
    assert all(both[name] == one.get(name, 0) + other.get(name, 0) for name in one | other)
    assert both.keys() == one.keys() | other.keys()


@pytest.mark.parametrize(
    "name", ["", "a.b", "$calls", "Tokens", "1st", "a" * 51, "tokens\n", "tökens", 7, None]
)
def test_a_name_that_is_none_is_refused(name: Any) -> None:
    with pytest.raises(InvalidOption, match="begin with a letter"):
        checked_usage({name: 1}, {})


@pytest.mark.parametrize("amount", [-1, MAX_AMOUNT + 1, 1.0, True, "1", None, float("nan")])
def test_an_amount_that_cannot_be_counted_is_refused(amount: Any) -> None:
    with pytest.raises(InvalidOption, match=r"usage\[calls\].*whole number"):
        checked_usage({"calls": amount}, {})


def test_the_names_of_all_runs_together_are_bounded() -> None:
    before = {f"n{n}": 1 for n in range(MAX_NAMES)}
    assert checked_usage({"n0": 1}, before) == {"n0": 1}
    with pytest.raises(InvalidOption, match="at most 20"):
        checked_usage({"other": 1}, before)


def test_usage_is_told_by_name_in_the_order_of_names() -> None:
    assert usage_text({"prompt_tokens": 1200, "calls": 2}) == "calls 2, prompt_tokens 1,200"
    assert usage_text({}) == ""
