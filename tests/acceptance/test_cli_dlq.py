"""`kiq dlq` and `kiq verify` as a person runs them, on real servers with a real worker."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import pytest
from bson import ObjectId
from pymongo import MongoClient

from api_shared.testing.servers import Services
from fixtures.cli import DEADLINE_S, NOWHERE, Cli, Place, place_on

UNKNOWN_ID = "0123456789abcdef01234567"


def has_keys(*keys: str) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda letters: {letter["key"] for letter in letters} >= set(keys)


def is_completed(job: dict[str, Any]) -> bool:
    return bool(job["status"] == "completed")


def has_status(wanted: str, job: dict[str, Any]) -> bool:
    return bool(job["status"] == wanted)


def failed(cli: Cli, source: Path, *options: str) -> str:
    """The id of a job that has failed because `source` is not there; its dead letter is."""
    arguments = ("process_data", "user_id=a", f"options.source={source}", *options)
    job_id = cli("submit", *arguments).out.strip()
    cli.until(has_keys(job_id), "dlq", "list", "--limit", "1000")
    cli.until(lambda job: job["failure_told"], "show", job_id)
    return job_id


def publish(place: Place, body: bytes, **headers: Any) -> None:
    """To the default queue, as any program might."""
    message = {
        "properties": {"headers": headers},
        "routing_key": "taskiq",
        "payload": b64encode(body).decode(),
        "payload_encoding": "base64",
    }
    place.management("POST", f"exchanges/{quote(place.name)}/amq.default/publish", message)


@pytest.fixture(scope="module")
def place(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """With a worker of the general broker alone."""
    with place_on(services, tmp_path_factory.mktemp("kiq")) as place:
        place.worker("workers_general.main:broker")
        place.cli.until(lambda alive: len(alive) == 1, "workers")
        yield place


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "lines.txt"


@pytest.fixture
def owner() -> str:
    return uuid4().hex


def test_a_dead_letter_is_found_shown_and_requeued_and_its_job_completes(
    cli: Cli, source: Path, owner: str
) -> None:
    job_id = failed(cli, source, "--owner", owner)
    for filters in (
        ("--owner", owner),
        ("--owner", owner, "--queue", "taskiq", "--task", "process_data", "--kind", "failed"),
        ("--owner", owner, "--reason", "permanent_error", "--newer-than", "1h"),
    ):
        (letter,) = cli("dlq", "list", *filters, "--json").json
        assert (letter["key"], letter["round"], letter["attempts"]) == (job_id, 1, 1)
        assert "FileNotFoundError" in letter["detail"]
    for others in (("--owner", "no"), ("--older-than", "1h"), ("--kind", "garbage")):
        keys = [each["key"] for each in cli("dlq", "list", *others, "--json").json]
        assert job_id not in keys
    table = cli("dlq", "list", "--owner", owner).out
    assert job_id in table
    assert "permanent_error" in table

    shown = cli("dlq", "show", job_id, "--json").json
    assert "traceback" not in shown["job"]["error"]
    assert "Traceback (most recent call last)" in cli("dlq", "show", job_id, "--traceback").out
    assert "args" not in shown["job"]
    assert "body" not in shown

    asked = cli("dlq", "requeue", job_id, code=2)
    assert "--yes" in asked.err
    planned = cli("dlq", "requeue", "--owner", owner, "--dry-run", "--json").json
    assert [(each["key"], each["outcome"]) for each in planned] == [(job_id, "would_requeue")]
    assert cli("show", job_id, "--json").json["status"] == "failed"

    source.write_text("one two\n", encoding="utf-8")
    (done,) = cli("dlq", "requeue", "--owner", owner, "--yes", "--json").json
    assert (done["key"], done["outcome"], done["detail"]) == (job_id, "requeued", "round 2")
    assert cli("watch", job_id).code == 0
    job = cli("show", job_id, "--result", "--json").json
    assert (job["status"], job["round"], job["result"]["words"]) == ("completed", 2, 2)
    assert [entry["round"] for entry in job["history"]] == [1, 1, 1, 2, 2, 2]
    assert cli("dlq", "list", "--owner", owner, "--json").json == []
    gone = cli("dlq", "show", job_id, code=3)
    assert "kiq show" in gone.err


def test_what_is_no_job_is_listed_shown_put_back_and_purged(cli: Cli, place: Place) -> None:
    body = b"\xffgarbage " + uuid4().hex.encode()
    publish(place, body)

    def is_ours(letter: dict[str, Any]) -> bool:
        return bool(letter["kind"] == "garbage" and letter["bytes"] == len(body))

    arguments = ("dlq", "list", "--kind", "garbage", "--limit", "1000")
    letters = cli.until(lambda found: any(map(is_ours, found)), *arguments)
    (key,) = [letter["key"] for letter in letters if is_ours(letter)]
    assert key.startswith("raw-")
    shown = cli("dlq", "show", key, "--body")
    assert "\\xffgarbage" in shown.out
    assert "unreadable" in shown.out
    (done,) = cli("dlq", "requeue", key, "--yes", "--json").json
    assert done["outcome"] == "put_back"
    cli.until(has_keys(key), *arguments)  # tried once more, and dead-lettered again
    (done,) = cli("dlq", "purge", key, "--yes", "--json").json
    assert done["outcome"] == "purged"
    (done,) = cli("dlq", "purge", key, "--yes", "--json", code=1).json
    assert done["outcome"] == "absent"


def test_a_job_whose_dead_letter_was_purged_is_requeued_by_its_id(
    cli: Cli, source: Path, owner: str
) -> None:
    job_id = failed(cli, source, "--owner", owner)
    cli("dlq", "purge", "--owner", owner, "--yes")
    source.write_text("one\n", encoding="utf-8")
    (done,) = cli("dlq", "requeue", job_id, "--yes", "--json").json
    assert (done["outcome"], done["queue"]) == ("requeued", "taskiq")
    cli.until(is_completed, "show", job_id)
    (done,) = cli("dlq", "requeue", job_id, "--yes", "--json", code=1).json
    assert (done["outcome"], done["detail"]) == ("stale", "its job is completed, round 2")
    (done,) = cli("dlq", "requeue", UNKNOWN_ID, "--yes", "--json", code=1).json
    assert done["outcome"] == "absent"


def test_a_job_whose_record_has_expired_is_recorded_again(
    cli: Cli, place: Place, source: Path, owner: str
) -> None:
    job_id = failed(cli, source, "--owner", owner)
    with MongoClient[dict[str, Any]](place.mongodb_url) as client:
        client[place.name]["jobs"].delete_one({"_id": ObjectId(job_id)})
    (letter,) = cli("dlq", "list", "--owner", owner, "--json").json
    assert letter["kind"] == "unrecorded"
    source.write_text("one\n", encoding="utf-8")
    (done,) = cli("dlq", "requeue", job_id, "--yes", "--json").json
    assert done["outcome"] == "put_back"

    def is_back(letters: list[dict[str, Any]]) -> bool:
        return [each["id"] for each in letters] == [job_id] and is_completed(letters[0])

    (job,) = cli.until(is_back, "list", "--owner", owner)
    assert job["round"] == 2


def test_on_a_terminal_one_is_asked_and_no_means_no(cli: Cli, source: Path, owner: str) -> None:
    job_id = failed(cli, source, "--owner", owner)
    for answer, code, status in (("n", 130, "failed"), ("y", 0, "completed")):
        if answer == "y":
            source.write_text("one\n", encoding="utf-8")
        main, terminal = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "api_shared.cli.main", "dlq", "requeue", "--owner", owner],
            cwd=cli.folder,
            env={**os.environ, **cli.env},
            stdin=terminal,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(main, f"{answer}\n".encode())
        _, words = process.communicate(timeout=DEADLINE_S)
        os.close(terminal)
        os.close(main)
        assert process.returncode == code, words
        assert "requeue 1 dead letter (taskiq 1)? [y/N]" in words
        cli.until(partial(has_status, status), "show", job_id)


def test_dead_letters_need_rabbitmq_and_that_is_said(cli: Cli) -> None:
    away = {"RABBITMQ_URL": NOWHERE["RABBITMQ_URL"], "CONNECT_DEADLINE_S": "1"}
    for arguments in (("list",), ("show", UNKNOWN_ID), ("purge", "--all", "--yes")):
        ran = cli("dlq", *arguments, code=4, env=away)
        assert "RabbitMQ (RABBITMQ_URL) is not reachable" in ran.err


def test_verify_counts_a_run_and_names_what_was_lost(
    cli: Cli, place: Place, source: Path, owner: str
) -> None:
    job_id = failed(cli, source, "--correlation-id", owner)
    source.write_text("one\n", encoding="utf-8")
    arguments = ("process_data", "user_id=a", f"options.source={source}")
    cli("submit", *arguments, "--correlation-id", owner, "--wait")
    scope = ("verify", "--correlation-id", owner)
    tally = cli(*scope, "--json").json
    wanted = {"accepted": 2, "completed": 1, "failed": 1, "open": 0, "lost": 0, "ended_twice": 0}
    assert {name: tally[name] for name in wanted} == wanted
    assert tally["queues"]["dead"] >= 1
    table = cli(*scope)
    assert "bodies run more than once" in table.out
    assert "in the dead-letter queues" in table.err
    assert cli(*scope, "--since", "1h", "--json").json["accepted"] == 2
    assert cli(*scope, "--until", "2020-01-01T00:00:00Z", "--json").json["accepted"] == 0

    away = {"RABBITMQ_URL": NOWHERE["RABBITMQ_URL"], "CONNECT_DEADLINE_S": "1"}
    assert cli(*scope, "--json", code=4, env=away).json["accepted"] == 2

    with MongoClient[dict[str, Any]](place.mongodb_url) as client:
        damage = {"$set": {"failure_told": False}}
        client[place.name]["jobs"].update_one({"_id": ObjectId(job_id)}, damage)
    told = cli(*scope, code=1)
    assert f"job {job_id}: no_dead_letter" in told.err
