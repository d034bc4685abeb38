"""Later and once, as a person uses them: real servers, real workers, the command line."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aio_pika import Message, connect

from api_shared.job import Status, new_job_id
from fixtures.cli import Cli
from fixtures.workers import LONG_S, Platform, until
from jobs import tasks
from jobs.broker import broker


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("one two\nthree\n", encoding="utf-8")
    return path


def has_completed(job: dict[str, Any]) -> bool:
    return bool(job["status"] == "completed")


def test_a_scheduled_job_is_listed_with_its_time_moved_and_run(cli: Cli, text: Path) -> None:
    owner = uuid4().hex
    job_id = cli.submit(
        "process_data", "user_id=a", f"options.source={text}", "--in", "2h30m", "--owner", owner
    )
    listed = cli("list", "--status", "scheduled", "--owner", owner)
    assert listed.lines[0].split()[6] == "due"
    assert "in 2 h" in listed.lines[1]
    assert cli("reschedule", job_id, "--in", "90m").out == "moved\n"
    assert "in 2 h" not in cli("list", "--status", "scheduled", "--owner", owner).out
    moved = cli("reschedule", job_id, "--at", "2020-01-31T08:00:00+01:00", "--json")
    assert moved.json == {"job_id": job_id, "answer": "moved"}
    job = cli.until(has_completed, "show", job_id)
    notes = [entry["note"] for entry in job["history"]]
    assert notes == ["", "rescheduled", "rescheduled", "", "", ""]
    assert cli("reschedule", job_id, "--in", "10m").out == "ended\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--in", "soon"), "10m, 1h30m, 2d"),
        (("--at", "2030-01-31T08:00:00"), "with its zone"),
        (("--at", "2030-01-31T08:00:00Z", "--in", "1h"), "together with `delay`"),
        ((), "when? --in DURATION, or --at TIME"),
    ],
)
def test_a_time_that_cannot_be_meant_moves_nothing(
    cli: Cli, options: tuple[str, ...], words: str
) -> None:
    assert words in cli("reschedule", new_job_id(), *options, code=2).err


def test_a_second_submit_of_a_key_prints_the_first_jobs_id_and_says_so(
    cli: Cli, text: Path
) -> None:
    submit = ("submit", "process_data", f"options.source={text}", "--unique-key", uuid4().hex)
    first = cli(*submit, "user_id=a", "--in", "1h")
    second = cli(*submit, "user_id=a", "--unique-for", "10m")
    other = cli(*submit, "user_id=b")
    assert first.out == second.out == other.out
    assert (first.err, second.err) == (
        "",
        f"nothing new: job {first.out.strip()} holds the unique key\n",
    )
    assert "with other arguments than these" in other.err
    assert "(open)" in cli("show", first.out.strip()).out
    assert cli("cancel", first.out.strip()).out == "cancelled\n"
    assert cli(*submit, "user_id=a", "--in", "1h").out != first.out


def test_a_wrong_key_is_a_usage_error(cli: Cli, text: Path) -> None:
    submit = ("submit", "process_data", "user_id=a", f"options.source={text}")
    assert "unique_key" in cli(*submit, "--unique-key", "", code=2).err
    assert "needs a `unique_key`" in cli(*submit, "--unique-for", "open", code=2).err
    assert "10m" in cli(*submit, "--unique-key", "k", "--unique-for", "ever", code=2).err


async def test_what_fell_due_while_all_was_down_starts_when_a_worker_is_up(
    platform: Platform,
) -> None:
    await platform.start(broker)
    kicker = tasks.add.kicker().with_labels(delay=0.01)
    handles = [await kicker.kiq(number, 1) for number in range(20)]

    async def all_are_due() -> bool:
        return len(await platform.ledger.due("general")) == len(handles)

    await until(all_are_due)
    assert {(await platform.job(handle)).status for handle in handles} == {Status.SCHEDULED}
    await platform.worker("jobs.main:broker")
    assert [await handle.result(LONG_S) for handle in handles] == list(range(1, 21))
    assert {(await platform.job(handle)).claim_no for handle in handles} == {1}


async def test_a_foreign_message_whose_key_is_taken_is_acked_and_logged(
    platform: Platform,
) -> None:
    await platform.start(broker)
    first = await tasks.add.kicker().with_labels(unique_key="k", delay=3600).kiq(1, 2)
    worker = await platform.worker("jobs.main:broker")
    foreign_id, free_id = new_job_id(), new_job_id()
    connection = await connect(platform.amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("taskiq")
        for job_id, key in ((foreign_id, "k"), (free_id, "other")):
            body = {
                "task_id": job_id,
                "task_name": "add",
                "labels": {"unique_key": key, "unique_for": 60},
                "args": [3, 4],
                "kwargs": {},
            }
            await exchange.publish(Message(json.dumps(body).encode()), routing_key="taskiq")
    job = await until(lambda: platform.ledger.get(free_id), what="the free key's job is adopted")
    await platform.status_of(free_id, Status.COMPLETED)
    assert (job.unique_key, job.unique_until) == (
        "other",
        job.accepted_at + timedelta(seconds=60),
    )
    await until(lambda: "message.deduplicated" in worker.log)
    assert first.task_id in worker.log
    assert await platform.ledger.get(foreign_id) is None
    assert platform.queue_messages("taskiq") == []
    assert platform.dead_letters() == []
