"""From taskiq's labels to the options of a kiq."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from taskiq.message import TaskiqMessage

from api_shared.client.bind.contract_from_signature import contract_from_signature
from api_shared.client.options import KiqOptions
from api_shared.client.submission import Submission, message_of, submission_of
from api_shared.errors import InvalidArguments, InvalidOption
from api_shared.job import new_job_id

ID = new_job_id()


def work(number: int, unit: str = "m") -> None: ...


CONTRACT = contract_from_signature(work, "work")


def submission(*args: Any, labels: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    message = TaskiqMessage(
        task_id=ID, task_name="work", labels=labels or {}, args=list(args), kwargs=kwargs
    )
    return submission_of(message, CONTRACT)


def test_a_bare_message_has_default_options_and_its_own_id() -> None:
    plain = submission(1)
    assert plain == Submission(CONTRACT, CONTRACT.parse([1], {}), KiqOptions(job_id=ID))


def test_labels_that_are_options_become_options_and_no_labels() -> None:
    options = submission(
        1,
        labels={
            "priority": "9",
            "owner": "ada",
            "correlation_id": "c-1",
            "queue_name": "critical",
            "delay": "1.5",
            "tenant": 7,
        },
    ).options
    assert options.priority == 9
    assert (options.owner, options.correlation_id) == ("ada", "c-1")
    assert options.queue == "critical"
    assert options.delay == timedelta(seconds=1.5)
    assert options.labels == {"tenant": "7"}


def test_labels_that_would_steer_taskiqs_receiver_are_dropped() -> None:
    assert submission(1, labels={"ack_type": "when_received", "timeout": 5}).options.labels == {}


def test_a_label_of_none_is_no_label() -> None:
    assert submission(1, labels={"owner": None, "tenant": None}).options.labels == {}


def test_a_time_is_read_as_iso_with_its_zone() -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert submission(1, labels={"at": at.isoformat()}).options.at == at
    assert submission(1, labels={"at": "2030-01-01T10:00:00Z"}).options.at == at.astimezone(UTC)


def test_a_naive_time_is_passed_on_for_kiq_to_refuse() -> None:
    assert submission(1, labels={"at": "2030-01-01T10:00:00"}).options.at.tzinfo is None


@pytest.mark.parametrize(
    ("label", "value"),
    [
        ("priority", "high"),
        ("priority", "9.5"),
        ("priority", 9.0),
        ("priority", True),
        ("priority", None.__class__),
        ("priority", "9" * 5000),
        ("delay", "soon"),
        ("delay", "nan"),
        ("delay", "inf"),
        ("delay", "1e300"),
        ("at", "tomorrow"),
        ("at", 5),
    ],
)
def test_an_option_that_cannot_be_read_is_named(label: str, value: Any) -> None:
    with pytest.raises(InvalidOption) as raised:
        submission(1, labels={label: value})
    assert raised.value.option == label


def test_arguments_are_validated_on_the_way() -> None:
    with pytest.raises(InvalidArguments, match="number"):
        submission("many")
    assert submission(number="5").args == CONTRACT.parse([5], {})


OPTIONS = KiqOptions(
    priority=4,
    owner="ada",
    correlation_id="c-1",
    job_id=ID,
    queue="low",
    labels={"tenant": "blue"},
    delay=timedelta(milliseconds=1500),
    unique_key="k",
    unique_for=timedelta(seconds=0.000001),
)


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        replace(OPTIONS, delay=None, at=datetime(2030, 1, 1, tzinfo=UTC), unique_for="waiting"),
        KiqOptions(job_id=ID),
    ],
)
def test_a_submission_passes_through_a_message_as_it_was(options: KiqOptions) -> None:
    args = CONTRACT.parse([1], {})
    message = message_of(CONTRACT, args, options)
    assert submission_of(message, CONTRACT) == Submission(CONTRACT, args, options)
    assert submission_of(message, CONTRACT).args is args, "they were validated a second time"


@pytest.mark.parametrize(
    "options",
    [
        {"delay": 5},
        {"at": "2030-01-01T10:00:00Z"},
        {"unique_key": "k", "unique_for": "for ever"},
        {"unique_key": "k", "unique_for": 60},
    ],
)
def test_an_option_of_another_type_is_refused_before_it_is_a_label(options: Any) -> None:
    with pytest.raises(InvalidOption) as raised:
        KiqOptions(**options).to_labels()
    assert raised.value.option == list(options)[-1]
