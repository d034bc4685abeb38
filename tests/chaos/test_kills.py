"""Things are killed: no accepted job is lost, and none ends twice."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api_shared.client.follow.stream import StreamPiece
from api_shared.job import Job, Status, new_job_id
from api_shared.testing.freezing import frozen
from api_shared.testing.servers import Services
from api_shared.testing.servers.process_identity import ProcessIdentity
from api_shared.transport.publisher import AmqpPublisher
from fixtures.workers import LONG_S, TESTS, Platform, platform_on, until
from jobs import tasks
from jobs.broker import broker


@pytest.fixture
async def platform(
    private_services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Platform]:
    async with platform_on(private_services, tmp_path, monkeypatch) as opened:
        await opened.start(broker)
        yield opened


async def started(folder: Path, *names: str) -> None:
    await until(lambda: all((folder / f"{name}.started").exists() for name in names))


def go(folder: Path, *names: str) -> None:
    for name in names:
        (folder / f"{name}.go").touch()


def starts(folder: Path, name: str) -> int:
    return len((folder / f"{name}.started").read_text().split())


def ends(job: Job) -> Counter[Status]:
    return Counter(entry.status for entry in job.history if entry.status.is_terminal)


# Workers.


async def test_a_job_of_a_killed_worker_runs_again_and_what_it_recorded_is_not_done_twice(
    platform: Platform, tmp_path: Path
) -> None:
    first = await platform.worker("jobs.main:broker")
    handle = await tasks.hold.kiq(str(tmp_path), "job")
    steps = await tasks.journal.kiq(str(tmp_path))
    await started(tmp_path, "job", "journal")
    await platform.worker("jobs.main:broker")
    first.kill()
    await until(lambda: starts(tmp_path, "job") == 2)
    go(tmp_path, "job")
    assert await handle.result(LONG_S) == 2
    one, two, *others = await steps.result(LONG_S)
    assert [one, two] == [1, 1]
    assert min(others) > 1, "what was recorded is not done again, the rest is"
    assert (tmp_path / "steps").read_text().split() == ["0", "1", "2", "3", "4"]
    job = await platform.job(handle)
    assert (job.lost, job.attempt, job.claim_no) == (1, 0, 2)
    assert ends(job) == {Status.COMPLETED: 1}


async def test_a_listener_is_told_the_text_of_the_run_that_counts_after_a_kill(
    platform: Platform, tmp_path: Path
) -> None:
    first = await platform.worker("jobs.main:broker")
    handle = await tasks.recite.kiq(str(tmp_path))
    pieces = handle.stream()
    async with asyncio.timeout(LONG_S):
        assert await anext(pieces) == StreamPiece("Run 1 says all that ")
        await platform.worker("jobs.main:broker")
        first.kill()
        rest = [piece async for piece in pieces]
    assert rest[0].restart
    assert not any(piece.restart for piece in rest[1:])
    assert "".join(piece.text for piece in rest) == "Run 2 says all that it has to say."
    again = [piece async for piece in handle.stream()]
    assert "".join(piece.text for piece in again) == await handle.result(LONG_S)


async def test_the_jobs_of_an_only_worker_run_again_in_the_child_that_replaces_it(
    platform: Platform, tmp_path: Path
) -> None:
    worker = await platform.worker("jobs.main:broker")
    handle = await tasks.hold.kiq(str(tmp_path), "job")
    await started(tmp_path, "job")
    (info,) = await platform.reported(worker)
    os.kill(info.pid, signal.SIGKILL)
    go(tmp_path, "job")
    assert await handle.result(LONG_S) == 2


async def test_a_main_process_that_is_killed_leaves_no_child_consuming(
    platform: Platform, tmp_path: Path
) -> None:
    worker = await platform.worker("jobs.main:broker", "--workers", "2", processes=2)
    handle = await tasks.hold.kiq(str(tmp_path), "job")
    deaf = await tasks.block.kiq(str(tmp_path), "deaf")
    await started(tmp_path, "job", "deaf")
    worker.kill_main()
    await worker.wait()
    assert await platform.ledger.workers(seen_within_s=3600) == [], "they have said so"
    assert {await handle.status(), await deaf.status()} <= {Status.QUEUED, Status.RETRYING}
    await platform.worker("jobs.main:broker")
    go(tmp_path, "job", "deaf")
    await handle.result(LONG_S)
    await deaf.result(LONG_S)


STARTS_A_WORKER = """
import os, time
from pathlib import Path
from api_shared.testing.chaos.worker_process import WorkerProcess

WorkerProcess(["jobs.main:broker", "--workers", "1"], os.environ, Path("worker.log"), Path())
time.sleep(600)
"""


async def test_workers_of_kiq_chaos_end_with_it_however_it_goes(
    platform: Platform, tmp_path: Path
) -> None:
    env = {**os.environ, **platform.env, "PYTHONPATH": str(TESTS)}
    command = (sys.executable, "-c", STARTS_A_WORKER)
    owner = await asyncio.create_subprocess_exec(*command, env=env, cwd=tmp_path)
    try:
        (info,) = await until(platform.ledger.workers, what="the worker reports itself")
    finally:
        owner.kill()
        await owner.wait()
    await until(lambda: ProcessIdentity.of(info.pid) is None, what="the worker has ended")


async def test_a_frozen_worker_that_wakes_up_late_cannot_write_any_more(
    platform: Platform, tmp_path: Path
) -> None:
    first = await platform.worker("jobs.main:broker")
    handle = await tasks.hold.kiq(str(tmp_path), "job")
    await started(tmp_path, "job")
    await platform.worker("jobs.main:broker")
    with frozen(*first.group):
        await until(lambda: starts(tmp_path, "job") == 2)
    await until((tmp_path / "job.cancelled").exists, what="the body whose claim is gone is stopped")
    assert await handle.status() is Status.PROCESSING
    go(tmp_path, "job")
    assert await handle.result(LONG_S) == 2
    assert ends(await platform.job(handle)) == {Status.COMPLETED: 1}


@pytest.mark.parametrize("how", ["terminate", "interrupt"])
async def test_a_stopped_worker_finishes_what_it_can_and_hands_on_the_rest(
    platform: Platform, tmp_path: Path, how: str
) -> None:
    worker = await platform.worker("jobs.main:broker", "--max-async-tasks", "2", DRAIN_S="10")
    short = await tasks.hold.kiq(str(tmp_path), "short")
    long = await tasks.hold.kiq(str(tmp_path), "long")
    await started(tmp_path, "short", "long")
    waiting = [await tasks.add.kiq(number, 1) for number in range(5)]
    getattr(worker, how)()
    await until(lambda: "worker.draining" in worker.log)
    go(tmp_path, "short")
    other = await platform.worker("jobs.main:broker", "--max-async-tasks", "50")
    assert await short.result(LONG_S) == 1
    assert [await handle.result(LONG_S) for handle in waiting] == list(range(1, 6))
    assert await worker.wait() == 0
    await until(lambda: starts(tmp_path, "long") == 2)
    go(tmp_path, "long")
    assert await long.result(LONG_S) == 2
    job = await platform.job(long)
    assert (job.attempt, job.lost) == (0, 0)
    assert (await platform.job(short)).claim_no == 1
    assert other.returncode is None
    assert [info.pid for info in await platform.ledger.workers()] == [
        info.pid for info in await platform.reported(other)
    ], "the stopped one has said that it is gone"


# Redis.


async def test_jobs_complete_and_watchers_see_the_end_without_redis(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.worker("jobs.main:broker")
    held = await tasks.hold.kiq(str(tmp_path), "held")
    await started(tmp_path, "held")
    statuses: list[Status] = []

    async def watch() -> None:
        async for event in held.watch():
            statuses.extend([event.status] if event.kind == "status" else [])

    watching = asyncio.create_task(watch())
    await until(lambda: statuses)
    platform.services.redis.kill()
    try:
        go(tmp_path, "held")
        async with asyncio.timeout(LONG_S):
            await watching
        assert statuses == [Status.QUEUED, Status.PROCESSING, Status.COMPLETED]
        handles = [await tasks.add.kiq(number, 1) for number in range(10)]
        assert [await handle.result(LONG_S) for handle in handles] == list(range(1, 11))
        assert (await handles[0].wait_result(timeout=LONG_S)).return_value == 1
        doomed = await tasks.hold.kiq(str(tmp_path), "doomed")
        await started(tmp_path, "doomed")
        await doomed.cancel()
        await platform.status_of(doomed, Status.CANCELLED)
    finally:
        await asyncio.to_thread(platform.services.redis.start)


# MongoDB.


async def test_a_message_that_nobody_could_record_is_kept_until_somebody_can(
    platform: Platform,
) -> None:
    """A foreign message is its job's only trace: it is not acked before the ledger has it."""
    worker = await platform.worker("jobs.main:broker")
    publisher = platform.general.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)
    body = {"task_id": new_job_id(), "task_name": "add", "labels": {}, "args": [20, 22]}
    mongodb = platform.services.mongodb
    mongodb.kill()
    try:
        await publisher._publish(
            "taskiq", "taskiq", json.dumps(body).encode(), priority=0, headers={}
        )
        await until(lambda: "claim.ledger_away" in worker.log)
    finally:
        await asyncio.to_thread(mongodb.start)
    await until(lambda: platform.ledger.get(str(body["task_id"])))
    assert await broker.handle(str(body["task_id"])).result(LONG_S) == 42
