"""`taskiq worker` as people start it: with its flags, and set up wrongly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from api_shared.errors import QueueMismatch
from api_shared.job import Status
from fixtures.workers import LONG_S, TESTS, Platform, WorkerProcess, until
from jobs import own, tasks
from jobs.broker import broker
from jobs.discovered import broker as discovered
from jobs.plain_tasks import found


async def refusal(worker: WorkerProcess, within_s: float = 60) -> str:
    """What a worker said that ended by itself, its main process too, and was not restarted."""
    assert await worker.wait(within_s) != 0, "a supervisor sees that it was no good end"
    assert worker.log.count("This worker does not start:") == 1, worker.log
    assert "restarted" not in worker.log
    return worker.log.partition("This worker does not start:")[2]


@pytest.mark.parametrize(
    ("main", "env", "says"),
    [
        ("not_imported", {}, ["'jobs.broken'", "a_module_that_nobody_has", "fix or remove"]),
        ("task_missing", {}, ["'two'", "queue 'low'", "bind it with @broker.task"]),
        ("retries", {}, ["SimpleRetryMiddleware", "SmartRetryMiddleware", "max_retries"]),
        ("right", {"LEASE_S": "1"}, ["LEASE_S must be at least twice HEARTBEAT_S"]),
        ("right", {"WORKER_PREFETCH": "many"}, ["WORKER_PREFETCH", "valid integer"]),
        ("right", {"WORKER_QUEUES": "critical,nowhere"}, ["WORKER_QUEUES", "'nowhere'", "known:"]),
        ("unattached", {}, ["has no worker engine", "attach("]),
    ],
)
async def test_a_worker_that_is_set_up_wrongly_says_so_and_ends(
    platform: Platform, main: str, env: dict[str, Any], says: list[str]
) -> None:
    worker = await platform.worker(f"jobs.refused:{main}", ready=False, **env)
    said = await refusal(worker)
    for words in says:
        assert words in said


async def test_a_module_on_the_command_line_that_does_not_import_is_refused(
    platform: Platform,
) -> None:
    worker = await platform.worker("jobs.main:broker", "jobs.broken", ready=False)
    assert "module 'jobs.broken' cannot be imported" in await refusal(worker)


async def test_a_queue_with_other_arguments_stops_worker_and_client_with_the_way_out(
    platform: Platform,
) -> None:
    await platform.general.shutdown()
    platform.management("DELETE", f"queues/{platform.name}/low")
    platform.management("PUT", f"queues/{platform.name}/low", {"durable": True, "arguments": {}})
    worker = await platform.worker("jobs.main:broker", "--workers", "2", ready=False)
    with pytest.raises(QueueMismatch, match="'low' exists in RabbitMQ with other arguments"):
        await platform.general.startup()
    await platform.general.shutdown()
    await worker.wait()
    said = worker.log.partition("This worker does not start:")[2]
    assert "'low' exists in RabbitMQ with other arguments" in said
    assert "drain and delete it" in said
    assert "restarted" not in worker.log


async def test_a_worker_finds_its_tasks_as_taskiq_does(platform: Platform) -> None:
    await platform.start(discovered)
    pattern = "jobs/plain_*.py"
    worker = await platform.worker(
        "jobs.discovered:broker", "-fsd", "-tp", pattern, cwd=TESTS, ready=False
    )
    handle = await found.kiq()
    assert await handle.result(LONG_S) == "found", worker.log


async def test_a_subclass_of_the_broker_is_a_worker_too(platform: Platform) -> None:
    await platform.start(own.broker)
    await platform.worker("jobs.own:broker")
    assert await (await own.greet.kiq(name="Ada")).result(LONG_S) == "hello Ada"
    assert await (await own.greet.kiq()).result(LONG_S) == "hello you"
    assert await own.greet("Ada") == "hello Ada", "a task is its function, for unit tests"


async def test_a_middleware_that_raises_harms_nothing(platform: Platform, tmp_path: Path) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.noisy:broker")
    good = [await tasks.add.kiq(number, 1) for number in range(20)]
    bad = await tasks.hopeless.kiq(str(tmp_path))
    assert [await handle.result(LONG_S) for handle in good] == list(range(1, 21))
    await platform.status_of(bad, Status.FAILED)
    for hook in ("startup", "pre_execute", "post_execute", "post_save", "on_error"):
        line = f'"hook": "Noisy.{hook}"'
        await until(lambda line=line: line in worker.log, what=line)  # type: ignore[misc]
    worker.terminate()
    assert await worker.wait() == 0


async def test_a_clients_middlewares_see_each_way_in(platform: Platform) -> None:
    from taskiq import TaskiqMiddleware

    seen: list[str] = []

    class Counting(TaskiqMiddleware):
        def pre_send(self, message: Any) -> Any:
            seen.append(message.task_name)
            message.labels["trace"] = "t-1"
            return message

        def post_send(self, message: Any) -> None:
            raise RuntimeError("harms nothing")

    await platform.start(broker)
    kept = list(broker.middlewares)
    broker.add_middlewares(Counting())
    try:
        one = await tasks.add.kiq(1, 2)
        two = await tasks.add.contract.kiq(tasks.add.contract.args(a=1, b=2), owner="ada")
    finally:
        broker.middlewares[:] = kept
    assert seen == ["add", "add"]
    jobs = [await platform.job(one), await platform.job(two)]
    assert [job.labels for job in jobs] == [{"trace": "t-1"}] * 2
    assert [job.owner for job in jobs] == [None, "ada"]


async def test_two_processes_with_a_process_pool_share_the_jobs(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker(
        "jobs.main:broker", "--use-process-pool", "--workers", "2", processes=2
    )
    names = [f"h{number}" for number in range(150)]
    held = [await tasks.hold.kiq(str(tmp_path), name) for name in names]
    handles = [await tasks.add.kiq(number, 1) for number in range(50)]
    squares = [await tasks.square.kiq(number) for number in range(4)]

    def pids() -> set[str]:
        return {path.read_text().strip() for path in tmp_path.glob("*.started")}

    await until(lambda: len(pids()) == 2, what="both processes run jobs")
    for name in names:
        (tmp_path / f"{name}.go").touch()
    async with asyncio.timeout(LONG_S):
        assert [await handle.result() for handle in held] == [1] * 150
        assert [await handle.result() for handle in handles] == list(range(1, 51))
        assert [(await handle.result())[0] for handle in squares] == [0, 1, 4, 9]
    worker.terminate()
    assert await worker.wait() == 0


async def test_a_child_that_has_run_its_number_of_jobs_is_replaced_and_loses_none(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker", "--max-tasks-per-child", "10")
    (child,) = [info.pid for info in await platform.reported(worker)]
    handles = [await tasks.add.kiq(number, 1) for number in range(25)]
    async with asyncio.timeout(LONG_S):
        assert [await handle.result() for handle in handles] == list(range(1, 26))
    jobs = [await platform.job(handle) for handle in handles]
    assert {(job.claim_no, job.attempt, job.lost) for job in jobs} == {(1, 0, 0)}

    async def is_replaced() -> bool:
        pids = {info.pid for info in await platform.reported(worker)}
        return bool(pids) and child not in pids

    await until(is_replaced)
    worker.terminate()
    assert await worker.wait() == 0


async def test_what_a_library_logs_in_a_worker_shows_no_password(platform: Platform) -> None:
    await platform.start(broker)
    worker = await platform.worker("jobs.main:broker")
    handle = await tasks.log_as_libraries_do.kiq("http://ada:engine-no-1@example/")
    await handle.result(LONG_S)
    assert "called http://ada:***@example/" in worker.log
    assert "engine-no-1" not in worker.log
