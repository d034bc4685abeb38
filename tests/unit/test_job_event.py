"""Events on the wire."""

from __future__ import annotations

import json
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_shared.job import Progress, Status
from api_shared.notifier.events import JobEvent

EVENT = JobEvent("status", "6b024e1c12286d37d7cfe636", 3, Status.RETRYING, "ml.train", "training")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    event=st.builds(
        JobEvent,
        kind=st.sampled_from(["status", "progress"]),
        job_id=st.just(EVENT.job_id),
        seq=st.integers(0, 2**60),
        status=st.sampled_from(Status),
        task=st.text(),
        queue=st.text(),
        owner=st.none() | st.text(st.characters()),
        correlation_id=st.none() | st.text(),
        attempt=st.integers(0, 99),
        at=st.none() | st.datetimes(timezones=st.just(UTC)),
        progress=st.none() | st.builds(Progress, st.floats(0, 9), st.none() | st.floats(0, 9)),
        error=st.none() | st.text(),
        due_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        why=st.none() | st.text(),
    )
)
def test_an_event_survives_the_wire(event: JobEvent) -> None:
    assert JobEvent.from_json(event.to_json()) == event


@given(text=st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_anything_else_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        JobEvent.from_json(text)


@given(field=st.sampled_from(sorted(json.loads(EVENT.to_json()))), value=json_values)
def test_an_event_with_a_wrong_field_is_read_or_is_a_value_error(field: str, value: object) -> None:
    fields = json.loads(EVENT.to_json()) | {field: value}
    try:
        event = JobEvent.from_json(json.dumps(fields))
    except ValueError:
        return
    assert event.kind in ("status", "progress")
    assert isinstance(event.job_id, str)
    assert type(event.seq) is int


def test_a_field_of_a_newer_release_is_passed_over() -> None:
    fields = json.loads(EVENT.to_json()) | {"cost": 3}
    assert JobEvent.from_json(json.dumps(fields)) == EVENT


@pytest.mark.parametrize("text", ["[" * 100_000, '{"v":2}', "{}", "null", b"\xff"])
def test_garbage_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        JobEvent.from_json(text)
