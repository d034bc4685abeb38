"""The texts of the command line: times, secrets, exit codes, what a job waits for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from api_shared import errors
from api_shared.cli.commands.config import settings_rows
from api_shared.cli.durations import lasted, since
from api_shared.cli.exit_codes import ExitCode, exit_code_of
from api_shared.cli.job_text import as_json, end_of, error_text, progress_text, waiting_text
from api_shared.cli.masking import masked_url
from api_shared.cli.output import clean
from api_shared.doctor import Findings, Level
from api_shared.job import Entry, Job, JobError, Progress, Reason, Status
from api_shared.ledger.protocol import WorkerInfo
from api_shared.settings import InvalidSettings, Settings
from api_shared.transport.errors import RabbitUnavailable

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
JOB = Job(
    "692a6f1d9c41b2a7c3d5e8f0", "process_data", "general", "taskiq", '{"secret": 1}',
    Status.QUEUED, 1, NOW, token="the right to write", queued_at=NOW - timedelta(seconds=42),
)  # fmt: skip
WORKER = WorkerInfo("w", "general", "host", 1, ("taskiq",), 0, {})


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0412, "0.041 s"), (1.234, "1.2 s"), (12, "12 s"), (119, "119 s"), (240, "4 min"),
     (7200, "2 h"), (3 * 86_400, "3 days")],
)  # fmt: skip
def test_a_duration_is_said_in_its_largest_unit(seconds: float, words: str) -> None:
    assert lasted(seconds) == words
    if seconds >= 1:
        assert since(NOW - timedelta(seconds=seconds), NOW) == f"{words} ago"
        assert since(NOW + timedelta(seconds=seconds), NOW) == f"in {words}"


def test_no_time_and_this_very_moment_have_words() -> None:
    assert since(None, NOW) == "-"
    assert since(NOW + timedelta(milliseconds=300), NOW) == "now"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("amqp://me:p%40ss@host:5672/v", "amqp://me:***@host:5672/v"),
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("mongodb://me@host/", "mongodb://me@host/"),
        ("mongodb://a:b:c@h1,h2/?replicaSet=rs0", "mongodb://a:***@h1,h2/?replicaSet=rs0"),
        ("redis://host/0?password=x&db=1", "redis://host/0?password=***&db=1"),
        ("mongodb://h/?tlsCertificateKeyFilePassword=x", "mongodb://h/?tlsCertificateKeyFilePassword=***"),
        ("http://[::1", "***"),
        ("me:hunter2@host", "***@host"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_its_secrets(url: str, masked: str) -> None:
    assert masked_url(url) == masked


def test_settings_tell_where_they_come_from_and_keep_secrets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/")
    settings = Settings(
        rabbitmq_password=SecretStr("hunter2"), mongodb_url=SecretStr("mongodb://a:hunter2@h/")
    )
    rows = settings_rows(settings, {"RABBITMQ_PASSWORD": "hunter2", "mongodb_url": "x"})
    by_name = {row["name"]: row for row in rows}
    assert "hunter2" not in str(rows)
    assert by_name["RABBITMQ_PASSWORD"]["source"] == "environment"
    assert by_name["MONGODB_URL"] | {"description": None} == {
        "name": "MONGODB_URL", "value": "mongodb://a:***@h/", "source": "environment",
        "description": None,
    }  # fmt: skip
    assert by_name["LEASE_S"]["source"] == "default"
    assert set(by_name) == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UnknownTask("x", ["a"]), ExitCode.USAGE),
        (InvalidSettings(["LEASE_S: no"]), ExitCode.USAGE),
        (errors.JobNotFound(JOB.id), ExitCode.NOT_FOUND),
        (errors.LedgerUnavailable("x"), ExitCode.UNREACHABLE),
        (errors.AcceptanceUnknown(JOB.id), ExitCode.UNREACHABLE),
        (RabbitUnavailable("x"), ExitCode.UNREACHABLE),
        (errors.JobFailed(JOB.id, "error", "x"), ExitCode.JOB_FAILED),
        (errors.JobCancelled(JOB.id), ExitCode.JOB_FAILED),
        (errors.ResultTimeout(JOB.id, 1, "queued"), ExitCode.TIMED_OUT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_of(error) is code


def test_a_queued_job_says_whether_anybody_takes_it() -> None:
    assert waiting_text(JOB, [WORKER], NOW) == "in queue 'taskiq' for 42 s; workers alive: 1"
    nobody = [replace(WORKER, queues=("low",))]
    assert "NO worker that takes it is alive" in waiting_text(JOB, nobody, NOW)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"status": Status.SCHEDULED, "due_at": NOW + timedelta(seconds=30)}, "(in 30 s)"),
        ({"status": Status.PROCESSING, "due_at": NOW - timedelta(seconds=20)}, "silent since 20 s"),
        ({"status": Status.FAILED, "due_at": NOW}, "dead letter"),
        (
            {
                "status": Status.RETRYING,
                "due_at": NOW + timedelta(seconds=60),
                "attempt": 2,
                "error": JobError(Reason.ERROR, "ConnectionError", "away\nfor long"),
                "history": (Entry(4, Status.RETRYING, NOW, "c", note="error"),),
            },
            "(in 60 s): the next attempt, after error: ConnectionError: away",
        ),
        (
            {
                "status": Status.RETRYING,
                "due_at": NOW + timedelta(seconds=60),
                "history": (Entry(4, Status.RETRYING, NOW, "c", note="the server is full"),),
            },
            "(in 60 s): the server is full",
        ),
    ],
)
def test_an_open_job_says_what_it_waits_for(fields: Mapping[str, Any], words: str) -> None:
    assert words in waiting_text(replace(JOB, **fields), [], NOW)


def test_an_ended_job_and_one_that_runs_wait_for_nothing() -> None:
    assert waiting_text(replace(JOB, status=Status.COMPLETED), [], NOW) == ""
    runs = replace(JOB, status=Status.PROCESSING, due_at=NOW + timedelta(seconds=9))
    assert waiting_text(runs, [], NOW) == ""


def test_a_record_as_json_shows_no_secret_unless_asked() -> None:
    job = replace(
        JOB, result_json='"s3cret"', error=JobError(Reason.ERROR, "E", "m", "Traceback ...")
    )
    fields = as_json(job)
    for secret in ("the right to write", "s3cret", "Traceback", '"secret"'):
        assert secret not in str(fields)
    assert (fields["args_bytes"], fields["result_bytes"]) == (13, 8)
    asked = as_json(job, with_args=True, with_result=True, with_traceback=True)
    assert (asked["args"], asked["result"]) == ({"secret": 1}, "s3cret")
    assert asked["error"]["traceback"] == "Traceback ..."


def test_an_end_is_one_line_whatever_the_error_says() -> None:
    error = JobError(Reason.TIME_LIMIT, "TimeLimitExceeded", "too long\nwith more")
    failed = replace(JOB, status=Status.FAILED, error=error)
    assert end_of(failed) == f"job {JOB.id} failed (time_limit): too long"
    assert error_text(failed) == "time_limit: TimeLimitExceeded: too long"


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress(5, 10, "count", "lines"), "50 % (5 of 10) count: lines"),
        (Progress(5), "5"),
        (Progress(5, 0, "", "x"), "5 x"),
    ],
)
def test_progress_is_said_with_and_without_a_total(progress: Progress, words: str) -> None:
    assert progress_text(progress) == words


def test_what_a_job_says_cannot_steer_the_terminal() -> None:
    assert clean("a\x1b[2Jb\x07\r\n\tü") == "a\\x1b[2Jb\\x07\\r\n\tü"


def test_a_server_that_is_too_old_is_a_warning() -> None:
    found = Findings("mongodb")
    assert found.version("MongoDB", "5.0.9", (6, 0), "h").level is Level.WARN
    assert found.version("MongoDB", "6.0.5", (6, 0), "h").level is Level.OK
    assert found.version("RabbitMQ", "4.1.0", (3, 10), "h").level is Level.OK
