"""What a job's process says: results, exceptions, progress; the parts that need no process."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from api_shared.worker.job_process import CurrentJob, Raised, SoftLimitReached, current_job
from api_shared.worker.job_process.child import describe, encode_result
from api_shared.worker.job_process.current_job import encode_progress
from api_shared.worker.job_process.errors import ResultNotEncodable, ResultTooLarge
from api_shared.worker.job_process.framing import PROGRESS_LIMIT_BYTES, REPORT_LIMIT_BYTES

MB = 1 << 20


class Point(BaseModel):
    x: float


@dataclass
class Named:
    name: str
    at: datetime


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values)
def test_a_json_value_comes_back_unchanged(value: Any) -> None:
    assert json.loads(encode_result(value, limit_bytes=MB)) == value


def test_models_dataclasses_and_times_have_a_json_form() -> None:
    value = [Point(x=1), Named("a", datetime(2026, 1, 2, tzinfo=UTC))]
    assert json.loads(encode_result(value, limit_bytes=MB)) == [
        {"x": 1.0},
        {"name": "a", "at": "2026-01-02T00:00:00Z"},
    ]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        (math.nan, "result is NaN"),
        ({"a": [0, -math.inf]}, r"result\['a'\]\[1\] is -Infinity"),
        ([{"NaN": "NaN"}, Point(x=math.inf)], r"result\[1\]"),
        (object(), "object"),
        ({"a": "\ud800"}, "surrogate|utf-8"),
    ],
)
def test_what_has_no_json_form_is_refused_with_its_place(value: object, where: str) -> None:
    if isinstance(value, list):  # a model writes NaN as null by itself: that is its own choice
        assert json.loads(encode_result(value, limit_bytes=MB))[1] == {"x": None}
        return
    with pytest.raises(ResultNotEncodable, match=where):
        encode_result(value, limit_bytes=MB)


def test_text_that_says_nan_is_only_text() -> None:
    assert encode_result({"NaN": "Infinity"}, limit_bytes=MB) == b'{"NaN":"Infinity"}'


def test_a_result_may_be_as_large_as_the_limit() -> None:
    assert encode_result("x" * 8, limit_bytes=10) == b'"xxxxxxxx"'
    with pytest.raises(ResultTooLarge):
        encode_result("x" * 9, limit_bytes=10)


class Hostile(Exception):
    def __init__(self) -> None:
        self.huge = "x" * MB
        self.itself = self
        super().__init__("y" * MB, self)

    def __str__(self) -> str:
        return "\ud800" * MB


@pytest.mark.parametrize("error", [Hostile(), RecursionError(), ValueError("x" * MB), KeyError(1)])
def test_any_exception_is_described_within_the_limit(error: BaseException) -> None:
    try:
        raise error
    except BaseException as caught:
        data = describe(caught)
    assert len(data) <= REPORT_LIMIT_BYTES
    assert json.loads(data)["mro"][-1] == "builtins.BaseException"


def test_classes_are_told_by_name_their_bases_included() -> None:
    raised = Raised("m.E", "", "", mro=("m.E", "builtins.KeyError", "builtins.LookupError"))
    assert raised.is_a(ValueError, LookupError)
    assert not raised.is_a(ValueError)
    assert not raised.is_a()


@given(st.dictionaries(st.text(), st.floats() | st.text() | st.builds(object)))
def test_progress_never_fails_a_job(extra: dict[str, Any]) -> None:
    data = encode_progress({**extra, "done": math.nan, "total": None})
    assert json.loads(data)["done"] is None


def test_progress_over_the_limit_loses_its_extras() -> None:
    data = encode_progress({"done": 1, "total": 2, "plot": "x" * PROGRESS_LIMIT_BYTES})
    assert json.loads(data) == {"done": 1, "total": 2, "message": None}


def test_outside_of_a_job_progress_goes_nowhere() -> None:
    current_job().progress(1, 2, message="half")
    assert not current_job().stop_requested


def test_the_soft_limit_interrupts_the_function_only() -> None:
    job = CurrentJob()
    job.request_stop()  # before the function: remembered
    with pytest.raises(SoftLimitReached):
        job.run(lambda: pytest.fail("it must not begin"))
    job = CurrentJob()
    with pytest.raises(SoftLimitReached):
        job.run(job.request_stop)
    job = CurrentJob()
    assert job.run(lambda: 1) == 1
    job.request_stop()  # after it: its result stands
    assert job.stop_requested


def test_a_function_may_ask_for_the_flag_alone() -> None:
    job = CurrentJob()
    job.raise_at_soft_limit = False
    assert job.run(job.request_stop) is None
    assert job.stop_requested


def test_the_last_progress_is_sent_before_the_end() -> None:
    sent: list[bytes] = []
    job = CurrentJob(sent.append)
    job.open()
    for done in range(1000):
        job.progress(done, 999)
    job.close()
    assert json.loads(sent[-1])["done"] == 999
    assert len(sent) < 100
