"""What is sent is what runs: arguments and results that would not arrive as they are, refused."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections import deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    SecretStr,
    SerializeAsAny,
    computed_field,
    create_model,
)
from typing_extensions import TypedDict

from api_shared.client.contract import Contract, InvalidResult
from api_shared.errors import InvalidArguments

T = TypeVar("T")


class Source(BaseModel):
    name: str


class S3(Source):
    bucket: str = "b"


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Shape(Enum):
    ROUND = "round"


class Point(NamedTuple):
    x: int
    y: int


class Options(TypedDict, total=False):
    depth: int


@dataclasses.dataclass
class Box:
    width: int
    parts: list[Source] = dataclasses.field(default_factory=list)


class Page(BaseModel, Generic[T]):
    items: list[T]


def one(kind: Any, strict: bool) -> type[BaseModel]:
    """A model with a field `value` of this type."""
    return create_model("One", __config__=ConfigDict(strict=strict), value=(kind, ...))


def sent(kind: Any, value: Any, *, strict: bool = False) -> Any:
    """The value of the field that a worker reads."""
    model = one(kind, strict)
    contract = Contract("task", model, int)
    text = contract.encode_args(model(value=value))
    return contract.decode_args(text).value  # type: ignore[attr-defined]


EXACT = [
    (int, 7), (int, 2**80), (float, 0.1), (float, 1e300), (str, "é😀\x00"), (bool, True),
    (None | int, None), (bytes, b"text"), (list[int], []), (tuple[int, ...], (1, 2)),
    (dict[int, str], {1: "a"}), (dict[Colour, int], {Colour.RED: 1}), (set[str], {"b", "a"}),
    (frozenset[int], frozenset({2, 1})), (datetime, datetime(2030, 1, 2, tzinfo=UTC)),
    (date, date(2030, 1, 2)), (time, time(1, 2, 3)), (timedelta, timedelta(seconds=1.5)),
    (Decimal, Decimal("1.10")), (UUID, UUID(int=7)), (Path, Path("/etc/hosts")),
    (Colour, Colour.RED), (Size, Size.SMALL), (Shape, Shape.ROUND), (Literal["a", 1], 1),
    (IPv4Address, IPv4Address("127.0.0.1")), (AnyUrl, AnyUrl("http://a/")), (Point, Point(1, 2)),
    (Options, Options(depth=2)), (Box, Box(1, [Source(name="a")])), (deque[int], deque([1])),
    (Source, Source(name="a")), (Page[Source], Page[Source](items=[Source(name="a")])),
    (Source | S3, S3(name="a")), (int | str, "7"),
    (RootModel[list[int]], RootModel[list[int]]([1])),
    (datetime | str, datetime(2030, 1, 2, tzinfo=UTC)), (datetime | str, "soon"),
    (UUID | str, UUID(int=7)), (str | UUID, UUID(int=7)),
    (float | Decimal, Decimal("1.5")), (dict[str, int] | Box, Box(1)),
    (Any, {"a": [1, 2.5, None, "x", True]}), (object, "text"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), EXACT)
@pytest.mark.parametrize("strict", [False, True])
def test_what_json_can_carry_arrives_as_it_is(kind: Any, value: Any, strict: bool) -> None:
    arrived = sent(kind, value, strict=strict)
    assert (type(arrived), arrived) == (type(value), value)


CHANGED = [
    (Source, S3(name="a"), "value: S3 comes back as Source"),
    (list[Source], [Source(name="a"), S3(name="b")], "value.1: S3 comes back as Source"),
    (dict[str, Source], {"k": S3(name="b")}, "value.k: S3"),
    (Page[Source], Page[Source](items=[S3(name="b")]), "value.items.0: S3"),
    (Box, Box(1, [S3(name="b")]), "value.parts.0: S3"),
    (SerializeAsAny[Source], S3(name="a"), "value: S3"),
    (tuple[Source, ...], (S3(name="b"),), "value.0: S3"),
    (datetime | str, "2030-01-02T00:00:00Z", "value: str comes back as datetime"),
    (UUID | str, str(UUID(int=7)), "value: str comes back as UUID"),
    (str | datetime, datetime(2030, 1, 2, tzinfo=UTC), "value: datetime comes back as str"),
    (str | Colour, Colour.RED, "value: Colour comes back as str"),
    (int | Size, Size.SMALL, "value: Size comes back as int"),
    (list[int] | set[int], {1}, "value: set comes back as list"),
    (Any, {1: "a"}, "value: a key: int comes back as str"),
    (dict, {"a": {1: 2}}, "value.a: a key: int"),
    (dict, {(1, 2): 3}, "value: a key: tuple"),
    (Any, (1, 2), "value: tuple comes back as list"),
    (list, [(1,)], "value.0: tuple"),
    (Any, {1, 2}, "value: set"),
    (Any, datetime(2030, 1, 2, tzinfo=UTC), "value: datetime"),
    (Any, Source(name="a"), "value: Source comes back as dict"),
    (Any, Colour.RED, "value: Colour comes back as str"),
    (Any, b"bytes", "value: bytes comes back as str"),
    (Annotated[str, AfterValidator(lambda text: text + "!")], "a", "value: it comes back with"),
    (Annotated[int, AfterValidator(abs), Field(exclude=True)], 3, "value: Field required"),
    (float | None, float("nan"), "nan has no JSON form"),
    (float, float("inf"), "inf has no JSON form"),
    (dict[str, float], {"a": float("nan")}, "nan has no JSON form"),
    (SecretStr, SecretStr("hunter2"), "a secret is written as stars"),
    (str, "\ud800", "not JSON"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value", "problem"), CHANGED)
def test_what_would_arrive_as_something_else_is_refused_and_named(
    kind: Any, value: Any, problem: str
) -> None:
    with pytest.raises(InvalidArguments) as raised:
        sent(kind, value)
    assert problem in str(raised.value)
    assert "hunter2" not in str(raised.value)


class Resize(BaseModel):
    width: Annotated[int, Field(gt=0)]
    note: str = Field("", exclude=True)


RESIZE = Contract("resize", Resize, Resize)


def changed_later() -> Resize:
    args = Resize(width=3)
    args.width = -1
    return args


@pytest.mark.parametrize(
    "args",
    [
        changed_later(),
        Resize.model_construct(width=-1),
        Resize.model_construct(),  # type: ignore[call-arg]
        Resize(width=3).model_copy(update={"width": "3"}),
        Resize(width=3).model_copy(update={"width": None}),
    ],
    ids=["changed", "constructed", "empty", "other type", "none"],
)
def test_arguments_that_were_not_validated_are_validated_at_the_door(args: Resize) -> None:
    with pytest.raises(InvalidArguments, match="width"):
        RESIZE.encode_args(args)
    with pytest.raises(InvalidResult, match="width"):
        RESIZE.encode_result(args)


def test_a_field_that_is_not_sent_is_refused_unless_it_holds_its_default() -> None:
    assert RESIZE.encode_args(Resize(width=3)) == '{"width":3}'
    with pytest.raises(InvalidArguments, match="note"):
        RESIZE.encode_args(Resize(width=3, note="a"))


class Wait(BaseModel):
    timeout_s: float = 10
    steps_s: list[float] = [1, 2.5]


def test_a_whole_number_as_the_default_of_a_float_is_that_number() -> None:
    contract = Contract("wait", Wait, int)
    read = contract.decode_args(contract.encode_args(Wait()))
    assert (read, type(read.timeout_s)) == (Wait(), float)


def test_values_are_not_shown() -> None:
    with pytest.raises(InvalidArguments) as raised:
        RESIZE.encode_args(Resize(width=3, note="hunter2"))
    assert "hunter2" not in str(raised.value)


class Area(BaseModel):
    model_config = ConfigDict(extra="forbid")

    width: int
    _seen: list[int] = PrivateAttr(default_factory=list)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return 2 * self.width


def test_computed_fields_and_private_attributes_do_not_hinder() -> None:
    contract = Contract("area", Area, Area)
    area = Area(width=2)
    area._seen.append(1)
    assert contract.decode_args(contract.encode_args(area)).width == 2
    assert contract.decode_result(contract.encode_result(area)).width == 2


def test_a_result_keeps_its_computed_fields_for_those_who_read_the_json() -> None:
    class Open(BaseModel):
        width: int

        @computed_field  # type: ignore[prop-decorator]
        @property
        def doubled(self) -> int:
            return 2 * self.width

    text = Contract("area", Area, Open).encode_result(Open(width=2))
    assert json.loads(text) == {"width": 2, "doubled": 4}


@pytest.mark.parametrize(
    ("kind", "value"),
    [(Source, S3(name="a")), (Any, (1, 2)), (Any, {1: 2}), (dict, {"a": UUID(int=1)}),
     (str | datetime, datetime(2030, 1, 2, tzinfo=UTC)), (float | None, float("nan"))],
)  # fmt: skip
def test_a_result_that_would_be_read_as_something_else_fails_its_job(kind: Any, value: Any) -> None:
    with pytest.raises(InvalidResult):
        Contract("task", Resize, kind).encode_result(value)


@pytest.mark.parametrize(("kind", "value"), EXACT)
def test_a_result_is_read_as_it_was_returned(kind: Any, value: Any) -> None:
    contract = Contract("task", Resize, kind)
    read = contract.decode_result(contract.encode_result(value))
    assert (type(read), read) == (type(value), value)


class Aliased(BaseModel):
    user_id: int = Field(alias="userId")


def test_a_field_with_an_alias_arrives() -> None:
    contract = Contract("task", Aliased, int)
    args = Aliased(userId=7)
    assert contract.decode_args(contract.encode_args(args)) == args
    assert contract.parse((), {"user_id": 7}) == contract.parse((), {"userId": 7}) == args


class Tags(BaseModel):
    tags: set[str]
    nested: dict[str, list[frozenset[str]]] = {}
    inner: list[Source | set[int]] = []


TAGS = Contract("tags", Tags, int)


def test_equal_sets_have_one_text_in_every_process() -> None:
    code = (
        "from unit.test_round_trip import TAGS, Tags; words = [chr(97 + n) * 3 for n in range(20)];"
        "print(TAGS.encode_args(Tags(tags=set(words), nested={'a': [frozenset(words)]},"
        " inner=[{9, 1, 300}])))"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
    assert json.loads(texts.pop())["inner"] == [[1, 300, 9]]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(
        st.characters(exclude_categories=["Cs"])), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_any_json_value_arrives_as_it_is(value: Any) -> None:
    arrived = sent(Any, value)
    assert json.dumps(arrived) == json.dumps(value)


values = st.one_of(
    json_values, st.tuples(st.integers()), st.sets(st.integers()), st.binary(), st.datetimes(),
    st.decimals(), st.uuids(), st.dictionaries(st.integers(), st.text()), st.floats(), st.just(S3(
        name="a")),
)  # fmt: skip


@given(values)
def test_whatever_is_accepted_arrives_as_it_is(value: Any) -> None:
    try:
        arrived = sent(Any, value)
    except InvalidArguments:
        return
    assert (type(arrived), repr(arrived)) == (type(value), repr(value))
