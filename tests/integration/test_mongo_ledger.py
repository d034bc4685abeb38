"""The ledger in MongoDB when answers are lost, neighbours are bad and the server goes away."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import uvloop
from bson import ObjectId
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, ServerSelectionTimeoutError

from api_shared.errors import (
    AcceptanceUnknown,
    InvalidOption,
    LedgerUnavailable,
    TooLarge,
    UnreadableRecord,
)
from api_shared.job import Job, JobError, Progress, Reason, Status, UniqueScope
from api_shared.ledger.audit import Scope
from api_shared.ledger.change import NowPlus
from api_shared.ledger.mongo.indexes import HAS_DUE_AT
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.ledger.operations import (
    Claim,
    Claimed,
    Complete,
    Insert,
    Inserted,
    Refused,
    Retry,
    SaveJournal,
    SaveProgress,
)
from api_shared.ledger.protocol import JobFilter, Ledger, WorkerInfo
from api_shared.ledger.transitions import cancel_waiting, request_cancel
from api_shared.schedules.schedule import Definition
from api_shared.schedules.store import UnreadableSchedule
from api_shared.settings import InvalidSettings, Settings
from api_shared.testing.freezing import frozen
from api_shared.testing.servers import Server, Services, running_servers
from api_shared.testing.waiting import until
from fixtures.ledgers import (
    a_job,
    claimed,
    drop_database,
    insert,
    inserted,
    ledger_settings,
    mongo_ledger,
)
from fixtures.schedules import put_on

ERROR = JobError(Reason.ERROR, "ValueError", "it broke")
MEGABYTE = 1024 * 1024


@pytest.fixture
async def ledger(services: Services) -> AsyncIterator[MongoLedger]:
    async with mongo_ledger(services.mongodb.url) as ledger:
        yield ledger


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server to stop, kill and freeze."""
    with running_servers(only=["mongodb"], env={}) as services:
        yield services.mongodb


@contextmanager
def frozen_server(server: Server) -> Iterator[None]:
    assert server.pid is not None
    with frozen(server.pid):
        yield


class LosesAnswers:
    """Stands in for the driver's `command`: lets it be done, then raises instead of answering."""

    def __init__(self, command: Callable[..., Awaitable[Any]], times: int) -> None:
        self._command = command
        self.left = times
        self.sent = 0

    async def __call__(self, *args: Any, **options: Any) -> Any:
        answer = await self._command(*args, **options)
        self.sent += 1
        if self.left:
            self.left -= 1
            raise AutoReconnect("connection closed")
        return answer


def lose_answers(monkeypatch: pytest.MonkeyPatch, ledger: MongoLedger, times: int) -> LosesAnswers:
    database = ledger._server.jobs.database
    loses = LosesAnswers(database.command, times)
    monkeypatch.setattr(database, "command", loses)
    return loses


def refuse_reads(monkeypatch: pytest.MonkeyPatch, ledger: MongoLedger) -> None:
    def find(*_: Any, **__: Any) -> Any:
        raise ServerSelectionTimeoutError("no primary")

    monkeypatch.setattr(ledger._server.jobs, "find", find)


async def whole_life(ledger: Ledger) -> Job:
    """A job from its insert to its end, with a retry's worth of writes; returns its record."""
    job, token = a_job(), secrets.token_hex(8)
    assert (await ledger.apply(insert(job))).by_us
    claim = await ledger.apply(Claim(job.id, token, "w", 30))
    assert isinstance(claim, Claimed)
    rival = await ledger.apply(Claim(job.id, "rival", "w-2", 30))
    assert isinstance(rival, Refused)
    assert await ledger.apply(SaveProgress(job.id, token, 3, progress=Progress(1)))
    assert await ledger.apply(SaveJournal(job.id, token, 4, key="k", value_json="1"))
    assert await ledger.apply(Retry(job.id, token, 5, error=ERROR, delay_s=60))
    assert not await ledger.apply(Complete(job.id, token, 6, result_json="1", retention_s=60))
    record = await ledger.get(job.id)
    assert record is not None
    return record


def assert_counted_once(job: Job) -> None:
    assert [entry.status for entry in job.history] == [
        Status.QUEUED,
        Status.PROCESSING,
        Status.RETRYING,
    ]
    assert (job.claim_no, job.attempt, job.seq, job.journal) == (1, 1, 5, {"k": "1"})


# Lost answers.


async def test_a_write_whose_answers_are_lost_counts_once_and_is_granted(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job()
    loses = lose_answers(monkeypatch, ledger, 2)
    assert (await ledger.apply(insert(job))).by_us
    loses.left = 2
    claim = await ledger.apply(Claim(job.id, "token", "w", 30))
    assert isinstance(claim, Claimed)
    loses.left = 2
    assert await ledger.apply(Retry(job.id, "token", 3, error=ERROR, delay_s=60))
    assert loses.sent == 9
    kept = await ledger.get(job.id)
    assert kept is not None
    assert (kept.claim_no, kept.attempt, len(kept.history)) == (1, 1, 3)


async def test_an_insert_whose_answer_is_lost_until_its_deadline_is_in_doubt(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job()
    loses = lose_answers(monkeypatch, ledger, 10_000)
    with pytest.raises(AcceptanceUnknown) as raised:
        await ledger.apply(insert(job), deadline_s=2)
    assert raised.value.job_id == job.id
    loses.left = 0
    again = await ledger.apply(insert(job))
    assert (again.by_us, again.job.id) == (False, job.id)


async def test_a_lost_read_back_is_never_taken_for_a_write_that_did_not_leave(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await inserted(ledger)
    refuse_reads(monkeypatch, ledger)
    with pytest.raises(AcceptanceUnknown):
        await ledger.apply(insert(job), deadline_s=2)
    monkeypatch.undo()
    assert (await ledger.apply(insert(job))).by_us is False


async def test_a_write_that_is_not_on_a_majority_is_not_granted(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = ledger._server.jobs.database
    command = database.command
    answers = [{"writeConcernError": {"code": 64, "codeName": "WriteConcernFailed"}}, {}]

    async def without_majority(*args: Any, **options: Any) -> Any:
        return await command(*args, **options) | answers.pop(0)

    monkeypatch.setattr(database, "command", without_majority)
    assert (await ledger.apply(insert(a_job()))).by_us
    assert answers == []


# Neighbours in a batch.


async def test_an_operation_that_cannot_be_stored_spoils_only_itself(
    ledger: MongoLedger,
) -> None:
    running = await inserted(ledger)
    _, token = await claimed(ledger, running.id)
    good = [a_job() for _ in range(20)]
    bad: list[tuple[Any, type[Exception]]] = [
        (insert(a_job(owner="\ud800")), InvalidOption),
        (insert(a_job(priority=2**70)), InvalidOption),
        (insert(a_job(args_json="x" * (17 * MEGABYTE))), TooLarge),
        (SaveJournal(running.id, token, 3, key="\ud800", value_json="1"), InvalidOption),
    ]
    operations = [insert(job) for job in good[:10]] + [operation for operation, _ in bad]
    operations += [insert(job) for job in good[10:]]
    verdicts = await asyncio.gather(
        *(ledger.apply(operation) for operation in operations), return_exceptions=True
    )
    assert [type(verdict) for verdict in verdicts[10:14]] == [kind for _, kind in bad]
    stored = [verdict for verdict in verdicts if isinstance(verdict, Inserted)]
    assert len(stored) == 20
    assert all(verdict.by_us for verdict in stored)
    assert len(await ledger.find(JobFilter(), limit=100)) == 21


async def test_a_record_that_would_outgrow_mongodb_is_refused_to_its_writer_only(
    ledger: MongoLedger,
) -> None:
    large = await inserted(ledger, args_json="x" * (8 * MEGABYTE))
    small = await inserted(ledger)
    (_, large_token), (_, small_token) = [await claimed(ledger, job.id) for job in (large, small)]
    result = "x" * (9 * MEGABYTE)
    refused, granted = await asyncio.gather(
        ledger.apply(Complete(large.id, large_token, 3, result_json=result, retention_s=60)),
        ledger.apply(Complete(small.id, small_token, 3, result_json="1", retention_s=60)),
        return_exceptions=True,
    )
    assert isinstance(refused, TooLarge)
    assert granted is True
    assert await ledger.apply(Retry(large.id, large_token, 3, error=ERROR, delay_s=60))


async def test_many_lives_at_once_each_count_once(ledger: MongoLedger) -> None:
    jobs = await asyncio.gather(*(whole_life(ledger) for _ in range(500)))
    for job in jobs:
        assert_counted_once(job)
    assert await ledger.count("general") == {"taskiq": {Status.RETRYING: 500}}


async def test_a_job_that_is_rescheduled_meanwhile_is_counted_once(ledger: MongoLedger) -> None:
    jobs = 3_000
    await asyncio.gather(*(inserted(ledger, due_in_s=n) for n in range(jobs)))
    stop = asyncio.Event()

    async def move() -> None:
        """Back and forth, over all the others."""
        raw = ledger._server.jobs
        while not stop.is_set():
            for step_ms in (10**7, -(10**7)):
                moved = [{"$set": {"due_at": {"$add": ["$due_at", step_ms]}}}]
                await raw.update_many({"status": Status.QUEUED.value}, moved)

    moving = asyncio.create_task(move())
    try:
        for _ in range(50):
            assert await ledger.queued("general", "taskiq") == jobs
            assert await ledger.count("general") == {"taskiq": {Status.QUEUED: jobs}}
    finally:
        stop.set()
        await moving


# A server that goes away.


async def test_writes_wait_for_a_server_that_is_killed_and_count_once(
    own_server: Server,
) -> None:
    async with mongo_ledger(own_server.url) as ledger:

        async def kill_twice() -> None:
            for jobs in (20, 200):
                await until(partial(has_jobs, ledger, jobs), within_s=60)
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.start)

        lives = [asyncio.create_task(lives_in_a_row(ledger, 30)) for _ in range(20)]
        await kill_twice()
        for row in await asyncio.gather(*lives):
            for job in row:
                assert_counted_once(job)


async def test_writes_wait_for_a_new_primary(own_server: Server) -> None:
    async with mongo_ledger(own_server.url) as ledger:
        lives = [asyncio.create_task(lives_in_a_row(ledger, 15)) for _ in range(20)]
        await until(partial(has_jobs, ledger, 20))
        await asyncio.to_thread(step_down, own_server.url)
        for row in await asyncio.gather(*lives):
            for job in row:
                assert_counted_once(job)


async def lives_in_a_row(ledger: MongoLedger, count: int) -> list[Job]:
    """`get` may fail while the server is away; the writes may not."""
    ended: list[Job] = []
    while len(ended) < count:
        try:
            ended.append(await whole_life(ledger))
        except LedgerUnavailable:
            continue
    return ended


async def has_jobs(ledger: MongoLedger, count: int) -> bool:
    return await ledger._server.jobs.estimated_document_count() >= count


async def is_sending(ledger: MongoLedger) -> bool:
    return bool(ledger._server.batcher._under_way)


def step_down(url: str) -> None:
    client: MongoClient[Any] = MongoClient(url)
    client.admin.command("replSetStepDown", 1, force=True)
    client.close()


async def test_an_insert_that_never_left_keeps_nothing(own_server: Server) -> None:
    own_server.stop()
    settings = ledger_settings(own_server.url)
    ledger = MongoLedger(settings)
    await ledger.start()
    try:
        job = a_job()
        with pytest.raises(LedgerUnavailable):
            await ledger.apply(insert(job), deadline_s=0.5)
        with pytest.raises(LedgerUnavailable):
            await ledger.apply(insert(job), deadline_s=4)
        with pytest.raises(LedgerUnavailable):
            ledger.apply(insert(job), deadline_s=0.5).send(None)  # at once: it awaits nothing
        own_server.start()
        assert (await ledger.apply(insert(a_job()))).by_us
        assert await ledger.get(job.id) is None, "it gave up, and was sent all the same"
    finally:
        own_server.start()
        await ledger.close()
        await drop_database(settings)


async def test_a_server_that_does_not_answer_leaves_an_insert_in_doubt(
    own_server: Server,
) -> None:
    async with mongo_ledger(own_server.url) as ledger:
        running = await inserted(ledger)
        _, token = await claimed(ledger, running.id)
        sent, waiting = a_job(), a_job()
        with frozen_server(own_server):
            verdicts = asyncio.gather(
                ledger.apply(insert(sent), deadline_s=3),
                return_exceptions=True,
            )
            await until(partial(is_sending, ledger))
            with pytest.raises(LedgerUnavailable):
                await ledger.apply(insert(waiting), deadline_s=0.5)
            (verdict,) = await verdicts
            assert isinstance(verdict, AcceptanceUnknown)
            with pytest.raises(LedgerUnavailable):
                await ledger.apply(
                    SaveProgress(running.id, token, 3, progress=Progress(1)), deadline_s=0.1
                )
        await ledger.apply(insert(sent))
        assert await ledger.get(waiting.id) is None
        found = await ledger.find(JobFilter())
        assert sorted(job.id for job in found) == sorted([running.id, sent.id])


async def test_a_heartbeat_ends_within_its_own_deadline(
    own_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A socket's 10 s are the next to end it then.
    monkeypatch.setattr("api_shared.ledger.mongo.ledger.ANSWER_S", 60.0)
    async with mongo_ledger(own_server.url) as ledger:
        job = await inserted(ledger)
        _, token = await claimed(ledger, job.id)
        with frozen_server(own_server):
            stuck = asyncio.create_task(ledger.apply(insert(a_job())))
            async with asyncio.timeout(8):
                with pytest.raises(LedgerUnavailable):
                    await ledger.heartbeat({job.id: token}, lease_s=1.5)
        await stuck
        assert await ledger.heartbeat({job.id: token}, lease_s=30)


async def test_every_question_to_a_server_that_is_away_is_answered_without_secrets() -> None:
    url = "mongodb://ann:geheim@127.0.0.1:1/?directConnection=true"
    ledger = MongoLedger(Settings(mongodb_url=SecretStr(url)))
    await ledger.start()
    job = a_job()
    questions: list[Awaitable[object]] = [
        ledger.apply(insert(job), deadline_s=0.2),
        ledger.change(request_cancel(job.id)),
        ledger.get(job.id),
        ledger.due("general"),
        ledger.heartbeat({job.id: "t"}, lease_s=1),
        ledger.count("general"),
        ledger.workers(),
        ledger.prepare(),
        ledger.server_version(),
        ledger.usage_of("ann"),
        ledger.audit(Scope(), overdue_s=0, dispatched=()),
    ]
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*questions, return_exceptions=True)
    await ledger.close()
    for answer in answers:
        assert isinstance(answer, LedgerUnavailable)
        assert "geheim" not in str(answer)
        assert "127.0.0.1" not in str(answer)


async def test_wrong_credentials_refuse_an_insert_without_doubt(services: Services) -> None:
    """The driver tries again until the deadline, and keeps the cause in its words alone."""
    url = services.mongodb.url.replace("mongodb://", "mongodb://ann:geheim@")
    ledger = MongoLedger(Settings(mongodb_url=SecretStr(url)))
    await ledger.start()
    try:
        with pytest.raises(LedgerUnavailable, match="AuthenticationFailed") as raised:
            await ledger.apply(insert(a_job()), deadline_s=8)
    finally:
        await ledger.close()
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("url", ["http://ann:geheim@host", "mongodb://ann:ge:heim@host", ""])
async def test_a_wrong_url_is_told_by_the_name_of_its_variable(url: str) -> None:
    with pytest.raises(InvalidSettings, match="MONGODB_URL") as raised:
        await MongoLedger(Settings(mongodb_url=SecretStr(url))).start()
    assert "heim" not in str(raised.value)


async def test_closing_lets_waiting_writers_go() -> None:
    url = "mongodb://127.0.0.1:1/?directConnection=true"
    ledger = MongoLedger(Settings(mongodb_url=SecretStr(url)))
    await ledger.start()
    waiting = asyncio.create_task(ledger.apply(insert(a_job())))
    await asyncio.sleep(0)
    await ledger.close()
    with pytest.raises(LedgerUnavailable):
        await waiting
    with pytest.raises(RuntimeError, match="start"):
        await ledger.get(a_job().id)


# Loops.


def test_one_ledger_serves_several_event_loops_in_a_row(services: Services) -> None:
    settings = ledger_settings(services.mongodb.url)
    ledger = MongoLedger(settings)

    async def once() -> int:
        await ledger.start()
        try:
            await asyncio.gather(*(ledger.apply(insert(a_job())) for _ in range(10)))
            return len(await ledger.find(JobFilter(), limit=100))
        finally:
            await ledger.close()

    counts = []
    for factory in (asyncio.new_event_loop, uvloop.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            counts.append(runner.run(once()))
    asyncio.run(drop_database(settings))
    assert counts == [10, 20, 30]


# Indexes.


async def test_prepare_twice_is_harmless(ledger: MongoLedger) -> None:
    await ledger.prepare()
    indexes = await ledger._server.jobs.index_information()
    expiry = indexes["expiry"]
    assert (expiry["key"], expiry["expireAfterSeconds"]) == ([("expires_at", 1)], 0)
    assert len(indexes) <= 8


async def test_the_dispatchers_questions_are_answered_from_one_index(
    ledger: MongoLedger,
) -> None:
    await asyncio.gather(*(ledger.apply(insert(a_job(), due_in_s=60)) for _ in range(50)))
    await asyncio.gather(*(ledger.apply(insert(a_job(), due_in_s=-1)) for _ in range(5)))
    database = ledger._server.jobs.database
    due = {
        "find": "jobs",
        "filter": {
            "broker": "general",
            "due_at": HAS_DUE_AT,
            "$expr": {"$lte": ["$due_at", "$$NOW"]},
        },
        "sort": {"due_at": 1},
    }
    plan = (await database.command("explain", due))["executionStats"]
    assert (plan["nReturned"], plan["totalKeysExamined"]) == (5, 5)
    count = {
        "aggregate": "jobs",
        "cursor": {},
        "pipeline": [
            {"$match": {"broker": "general", "due_at": HAS_DUE_AT}},
            {"$group": {"_id": {"queue": "$queue", "status": "$status"}}},
        ],
    }
    assert "'totalDocsExamined': 0" in str(await database.command("explain", count))


# Jobs that are unique, and jobs that wait.


def unique(key: str = "k") -> Insert:
    job = a_job(unique_key=key, unique_scope=UniqueScope.OPEN, unique_held=True)
    return Insert(job, NowPlus(30))


async def test_a_service_that_kiqs_before_any_worker_has_run_makes_the_index_itself(
    services: Services,
) -> None:
    settings = ledger_settings(services.mongodb.url)
    ledgers = [MongoLedger(settings) for _ in range(3)]
    try:
        for ledger in ledgers:
            await ledger.start()
        verdicts = await asyncio.gather(*(ledgers[n % 3].apply(unique()) for n in range(30)))
        assert [verdict.by_us for verdict in verdicts].count(True) == 1
        await ledgers[0].prepare()
    finally:
        for ledger in ledgers:
            await ledger.close()
        await drop_database(settings)


async def test_a_unique_insert_whose_answers_are_lost_is_by_us(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.apply(unique("first"))  # the index is there
    loses = lose_answers(monkeypatch, ledger, times=2)
    insert = unique()
    verdict = await ledger.apply(insert)
    assert (verdict.by_us, loses.sent) == (True, 3)
    assert (await ledger.apply(unique())).job.id == insert.job.id


async def test_a_duplicate_whose_answers_are_lost_is_a_duplicate(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = unique()
    await ledger.apply(first)
    lose_answers(monkeypatch, ledger, times=2)
    verdict = await ledger.apply(unique())
    assert (verdict.by_us, verdict.job.id) == (False, first.job.id)


async def test_a_holder_that_went_before_it_was_read_lets_the_next_in(
    ledger: MongoLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = unique(), unique()
    await ledger.apply(first)
    command = ledger._server.jobs.database.command

    async def free_the_key_then_answer(*args: Any, **options: Any) -> Any:
        answer = await command(*args, **options)
        monkeypatch.setattr(ledger._server.jobs.database, "command", command)
        await ledger.change(cancel_waiting(first.job.id, retention_s=60))
        return answer

    monkeypatch.setattr(ledger._server.jobs.database, "command", free_the_key_then_answer)
    assert (await ledger.apply(second)).by_us


async def test_ten_thousand_that_wait_cost_a_look_nothing(ledger: MongoLedger) -> None:
    jobs = ledger._server.jobs
    later = datetime.now(UTC) + timedelta(days=1)
    await jobs.insert_many(
        {"broker": "general", "status": "scheduled", "due_at": later + timedelta(seconds=n)}
        for n in range(10_000)
    )
    for _ in range(3):
        await inserted(ledger, status=Status.SCHEDULED, due_in_s=-1)
    due = {
        "find": "jobs",
        "filter": {
            "broker": "general",
            "due_at": HAS_DUE_AT,
            "$expr": {"$lte": ["$due_at", "$$NOW"]},
        },
        "sort": {"due_at": 1},
        "limit": 200,
    }
    plan = (await jobs.database.command("explain", due))["executionStats"]
    assert plan["nReturned"] == plan["totalDocsExamined"] == 3
    assert plan["totalKeysExamined"] <= 4


async def test_a_schedule_of_another_release_is_named_and_left_out(services: Services) -> None:
    async with mongo_ledger(services.mongodb.url) as ledger:
        for name in ("newer", "sweep"):
            definition = Definition(name, "general", "sweep", "low", "{}", every_s=600)
            await put_on(ledger, definition)
        await ledger._server.schedules.update_one({"_id": "newer"}, {"$set": {"missed": "latest"}})
        with pytest.raises(UnreadableSchedule, match=r"'newer'.*another release"):
            await ledger.schedules.get("newer")
        with pytest.raises(UnreadableSchedule):
            await put_on(ledger, replace(definition, name="newer"))
        assert [each.name for each in await ledger.schedules.find()] == ["sweep"]
        assert [each.name for each in await ledger.schedules.due("general")] == ["sweep"]


async def test_jobs_of_another_release_stand_before_no_others(services: Services) -> None:
    async with mongo_ledger(services.mongodb.url) as ledger:
        newer = [await inserted(ledger, due_in_s=-9) for _ in range(5)]
        ours = [await inserted(ledger, due_in_s=-1) for _ in range(3)]
        ids = [ObjectId(job.id) for job in newer]
        await ledger._server.jobs.update_many({"_id": {"$in": ids}}, {"$set": {"status": "paused"}})
        assert [job.id for job in await ledger.due("general", limit=2)] == [
            job.id for job in ours[:2]
        ]
        assert {job.id for job in await ledger.find(JobFilter())} == {job.id for job in ours}
        assert await ledger.count("general") == {"taskiq": {Status.QUEUED: 3}}
        with pytest.raises(UnreadableRecord, match="another release"):
            await ledger.get(newer[0].id)


async def test_a_worker_of_another_release_is_left_out(services: Services) -> None:
    async with mongo_ledger(services.mongodb.url) as ledger:
        for worker in ("newer", "ours"):
            await ledger.report_worker(WorkerInfo(worker, "general", "host", 1, (), 0, {}))
        await ledger._server.workers.update_one({"_id": "newer"}, {"$unset": {"pid": ""}})
        await ledger._server.workers.update_one({"_id": "ours"}, {"$set": {"region": "eu"}})
        assert [worker.id for worker in await ledger.workers()] == ["ours"]
