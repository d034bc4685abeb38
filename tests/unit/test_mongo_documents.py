"""Records that a newer release has written, as this one reads them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from bson import ObjectId
from structlog.testing import capture_logs

from api_shared.errors import UnreadableRecord
from api_shared.job import Job, Progress, Reason, Status
from api_shared.ledger.mongo.documents import Document, job_of, worker_of
from api_shared.ledger.mongo.readable import Readable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ENTRY = {"seq": 1, "status": "queued", "at": NOW, "change_id": "a", "note": ""}
ERROR = {"reason": "error", "type": "ValueError", "message": "no", "traceback": ""}


def document(**fields: Any) -> Document:
    required: Document = {
        "_id": ObjectId(),
        "status": "queued",
        "accepted_at": NOW,
        "task": "t",
        "broker": "general",
        "queue": "taskiq",
        "args_json": "{}",
        "seq": 3,
    }
    return required | fields


def read(**fields: Any) -> Job:
    return job_of(document(**fields))


def test_fields_that_only_a_newer_release_knows_are_left_out() -> None:
    job = read(
        tenant="a",
        history=[{**ENTRY, "host": "h"}],
        progress={"done": 1, "total": 2, "stage": "", "message": "", "eta_s": 3},
        error={**ERROR, "code": 7},
    )
    assert [(entry.seq, entry.status) for entry in job.history] == [(1, Status.QUEUED)]
    assert job.progress == Progress(1, 2)
    assert job.error is not None
    assert job.error.reason is Reason.ERROR


def test_a_reason_of_a_newer_release_is_kept_as_it_stands() -> None:
    error = read(error={**ERROR, "reason": "quota"}).error
    assert error is not None
    assert (error.reason, error.reason.value, f"{error.reason}") == ("quota", "quota", "quota")
    assert error.reason not in set(Reason)


def test_a_line_of_the_history_in_unknown_words_is_left_out() -> None:
    job = read(history=[ENTRY, {**ENTRY, "seq": 2, "status": "paused"}])
    assert [entry.seq for entry in job.history] == [1]


def test_a_unique_scope_of_a_newer_release_is_none_that_this_one_knows() -> None:
    assert read(unique_key="k", unique_scope="session").unique_scope is None


@pytest.mark.parametrize(
    "fields",
    [{"status": "paused"}, {"history": 3}, {"error": {"reason": 3}}, {"labels": ["a"]}],
)
def test_a_record_that_cannot_be_read_is_an_error_of_ours(fields: dict[str, Any]) -> None:
    with pytest.raises(UnreadableRecord, match="another release") as raised:
        read(**fields)
    assert raised.value.seq == 3


def test_a_workers_report_without_what_this_release_needs_is_an_error_of_ours() -> None:
    with pytest.raises(UnreadableRecord, match="worker w-1"):
        worker_of({"_id": "w-1", "seen_at": NOW})


def test_of_many_records_those_that_cannot_be_read_are_left_out_and_named_once() -> None:
    newer, ours = document(status="paused"), document()
    readable = Readable()
    with capture_logs() as logs:
        for _ in range(2):
            assert [job.id for job in readable.of([newer, ours], job_of)] == [str(ours["_id"])]
    assert [line["record"] for line in logs] == [str(newer["_id"])]
