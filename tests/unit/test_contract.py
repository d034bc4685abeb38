"""Contracts: what counts as arguments and results, and what is said of those that do not."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, SecretStr
from taskiq import Context, TaskiqDepends

from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.contract import Contract, InvalidResult
from api_shared.client.options import KiqOptions
from api_shared.client.submission import message_of
from api_shared.errors import InvalidArguments, InvalidOption, NotStarted


class Args(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user_id: str
    size: int = 1


class Anything(BaseModel):
    value: Any


class Loose(BaseModel):
    when: datetime
    amount: float = 0.0


CONTRACT = Contract("resize", Args, int)
LOOSE = Contract("loose", Anything, int)


def a_year() -> int:
    return 1815


def plain(user_id: str, size: int = 1, *, dry: bool = False) -> int:
    return size


def injected(
    user_id: str,
    year: Annotated[int, TaskiqDepends(a_year)],
    context: Context = TaskiqDepends(),
) -> None: ...


def untyped(value, other=2):  # type: ignore[no-untyped-def]
    ...


def greedy(*names: str) -> None: ...


def open_ended(user_id: str, **options: int) -> None: ...


# Arguments.


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([], {"user_id": "ada", "size": 3}),
        ([Args(user_id="ada", size=3)], {}),
        ([{"user_id": "ada", "size": 3}], {}),
    ],
)
def test_arguments_come_by_name_or_as_the_model(args: list[Any], kwargs: dict[str, Any]) -> None:
    assert CONTRACT.parse(args, kwargs) == Args(user_id="ada", size=3)


def test_a_derived_contract_takes_arguments_by_position_name_and_default() -> None:
    contract = contract_from_signature(plain, "plain")
    by_position = contract.parse(["ada", 3], {})
    by_name = contract.parse([], {"user_id": "ada", "size": 3})
    mixed = contract.parse(["ada"], {"size": 3, "dry": False})
    assert by_position == by_name == mixed
    assert contract.parse(["ada"], {}).model_dump() == {"user_id": "ada", "size": 1, "dry": False}


def test_each_wrong_argument_is_named_and_no_value_is_shown() -> None:
    secret = "hunter2-hunter2"
    with pytest.raises(InvalidArguments) as raised:
        CONTRACT.parse([], {"size": secret, "colour": secret})
    problems = raised.value.problems
    assert [problem.split(":")[0] for problem in problems] == ["user_id", "size", "colour"]
    assert secret not in str(raised.value)
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("args", "kwargs", "problem"),
    [
        (["ada", 1, True, "more"], {}, "expected at most 3 positional, got 4"),
        (["ada"], {"user_id": "bob"}, "user_id: must not be given twice"),
    ],
)
def test_a_wrong_call_says_what_is_wrong_with_it(
    args: list[Any], kwargs: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InvalidArguments, match=problem):
        contract_from_signature(plain, "plain").parse(args, kwargs)


@pytest.mark.parametrize("args", [["ada"], [7], [None], [[1]]])
def test_a_lone_value_is_no_object_with_arguments(args: list[Any]) -> None:
    problem = f"expected an object with the arguments, got {type(args[0]).__name__}"
    with pytest.raises(InvalidArguments, match=problem):
        CONTRACT.parse(args, {})


def test_what_taskiq_injects_is_no_argument() -> None:
    contract = contract_from_signature(injected, "injected")
    assert list(contract.args.model_fields) == ["user_id"]
    with pytest.raises(InvalidArguments, match="year"):
        contract.parse([], {"user_id": "ada", "year": 1})


def test_a_parameter_without_annotation_takes_any_json_value() -> None:
    contract = contract_from_signature(untyped, "untyped")
    assert contract.parse([[1, {"a": None}]], {}).model_dump() == {
        "value": [1, {"a": None}],
        "other": 2,
    }
    assert contract.decode_result('{"any": "thing"}') == {"any": "thing"}


@pytest.mark.parametrize("function", [greedy, open_ended])
def test_a_function_with_open_ended_arguments_makes_no_task(function: Any) -> None:
    with pytest.raises(InvalidOption, match="cannot be validated"):
        contract_from_signature(function, "name")


def test_a_derived_result_is_validated() -> None:
    contract = contract_from_signature(plain, "plain")
    assert contract.decode_result(contract.encode_result(7)) == 7
    with pytest.raises(InvalidResult):
        contract.encode_result("many")


# JSON.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_cannot_say_are_refused(value: float) -> None:
    with pytest.raises(InvalidArguments, match="has no JSON form"):
        LOOSE.encode_args(Anything(value=[{"deep": value}]))
    with pytest.raises(InvalidArguments, match="has no JSON form"):
        Contract("amount", Loose, int).encode_args(Loose(when=datetime.now(UTC), amount=value))
    with pytest.raises(InvalidResult, match="has no JSON form"):
        Contract("any", Args, float).encode_result(value)
    with pytest.raises(InvalidResult, match="has no JSON form"):
        Contract("maybe", Args, Anything).encode_result(Anything(value=value))


@pytest.mark.parametrize(
    "value",
    [2**70, -(2**200), "a\x00b", "naïve 🎉", [], {}, None, True, 1e308],
    ids=["2**70", "-2**200", "nul", "unicode", "[]", "{}", "None", "True", "1e308"],
)
def test_whatever_json_can_say_survives_in_ascii(value: Any) -> None:
    text = LOOSE.encode_args(Anything(value=value))
    assert text.isascii()
    assert json.loads(text)["value"] == value
    assert type(json.loads(text)["value"]) is type(value)


@pytest.mark.parametrize("text", ["\ud800", "\udfff tail", "\udc00\ud800"])
def test_a_lone_surrogate_is_refused_where_it_comes_in(text: str) -> None:
    with pytest.raises(InvalidArguments, match="not JSON"):
        LOOSE.encode_args(Anything(value=text))
    with pytest.raises(InvalidResult):
        Contract("any", Args, str).encode_result(text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_arguments_and_results_round_trip(value: Any) -> None:
    result: Contract[Anything, Any] = Contract("any", Anything, Any)
    text = result.encode_args(Anything(value=value))
    assert result.parse([json.loads(text)], {}) == Anything(value=value)
    assert result.decode_result(result.encode_result(value)) == value


def test_an_aware_datetime_keeps_its_moment() -> None:
    contract = Contract("later", Loose, Loose)
    at = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
    text = contract.encode_args(Loose(when=at))
    assert contract.parse([json.loads(text)], {}).when == at
    assert contract.decode_result(contract.encode_result(Loose(when=at))).when == at


def test_what_has_no_json_form_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidArguments, match="not JSON"):
        LOOSE.encode_args(Anything(value=object()))
    with pytest.raises(InvalidResult, match="not JSON"):
        Contract("any", Args, Any).encode_result(object())


def test_a_result_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidResult):
        Contract("any", Args, Any).encode_result(endless)
    with pytest.raises(InvalidArguments):
        LOOSE.encode_args(Anything(value=endless))


def test_a_wrong_result_is_named_without_its_value() -> None:
    with pytest.raises(InvalidResult) as raised:
        CONTRACT.encode_result("hunter2")
    assert "hunter2" not in str(raised.value)
    assert raised.value.task == "resize"


# Contracts themselves.


@pytest.mark.parametrize("name", ["", "x" * 201, "two\nlines"])
def test_a_name_is_short_and_printable(name: str) -> None:
    with pytest.raises(InvalidOption, match="printable"):
        Contract(name, Args, int)


def test_a_soft_limit_is_not_over_the_hard_one() -> None:
    with pytest.raises(InvalidOption, match="must not be over hard_limit_s"):
        Contract("late", Args, int, soft_limit_s=20, hard_limit_s=10)


async def test_a_contract_of_a_broker_that_is_not_started_says_which_are() -> None:
    with pytest.raises(NotStarted, match="broker 'elsewhere' is not started"):
        await replace(CONTRACT, broker="elsewhere").kiq(Args(user_id="ada"))


def test_a_bound_function_gets_the_model_whole_or_its_fields() -> None:
    async def whole(args: Args) -> int:
        return args.size

    async def spread(user_id: str, size: int) -> int:
        return size

    args = Args(user_id="ada", size=3)
    assert CONTRACT.bind(whole).arguments(args) == {"args": args}
    assert CONTRACT.bind(spread).arguments(args) == {"user_id": "ada", "size": 3}
    assert CONTRACT.bind(whole).is_async
    assert not CONTRACT.bind(plain).is_async


def test_middlewares_see_the_arguments_as_their_model_and_options_as_labels() -> None:
    options = KiqOptions(priority=3, owner="team", labels={"tenant": "blue"})
    message = message_of(CONTRACT, Args(user_id="ada"), options)
    assert (message.args, message.kwargs) == ([Args(user_id="ada")], {})
    assert message.labels == {"tenant": "blue", "priority": 3, "owner": "team"}


class Login(BaseModel):
    password: SecretStr


def test_a_secret_is_refused_rather_than_sent_as_stars() -> None:
    with pytest.raises(InvalidArguments, match="a secret is written as stars"):
        Contract("login", Login, int).encode_args(Login(password=SecretStr("hunter2")))
    assert "***" in LOOSE.encode_args(Anything(value="*" * 10))


def test_a_function_that_does_not_take_its_contracts_arguments_is_refused_when_bound() -> None:
    async def short(user_id: str) -> int:
        return len(user_id)

    async def both(args: Args, size: int) -> int:
        return args.size + size

    for function in (short, both):
        with pytest.raises(
            InvalidOption, match="must be one parameter of type Args, or its fields"
        ):
            CONTRACT.bind(function)


def test_a_task_that_spreads_its_contracts_arguments_can_be_kiqed_by_position() -> None:
    async def spread(size: int, user_id: str) -> int:
        return size

    contract = replace(CONTRACT, positional=CONTRACT.bind(spread).positional)
    assert contract.parse([3, "ada"], {}) == Args(user_id="ada", size=3)
