"""Dead letters requeued in every way at once, while workers and dispatchers run."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any
from urllib.parse import quote

from pymongo import MongoClient

from api_shared.client.dead_letters.dead_letter import DeadLetter, dead_letter_of
from api_shared.client.dead_letters.reader import DeadLetterReader
from api_shared.client.dead_letters.requeue import Outcome, put_back, requeue_job
from api_shared.client.runtime import Runtime
from api_shared.job import Status
from api_shared.ledger.mongo.documents import object_id
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.workers.ending_tasks import OPEN, fail_until_open
from api_shared.testing.waiting import until
from api_shared.transport.connection import Connection
from api_shared.transport.publisher import AmqpPublisher

AT_ONCE = 10
"""How many requeue one job at the same time."""
WAYS = ("requeued", "moved", "expired")


async def run(size: int, rng: Random, env: Environment) -> Report:
    for _ in range(2):
        await env.worker(modules=("api_shared.testing.chaos.workers.ending_tasks",))
    ids = await env.kiq_many(size, fail_until_open, str(env.folder))
    await env.drain()
    await until(lambda: _all_dead_lettered(env, ids), 120, "all dead letters are confirmed")
    runtime = env.broker.runtime
    publisher = runtime.publisher
    assert isinstance(publisher, AmqpPublisher)  # noqa: S101 - a started broker's
    dead_letters = await _dead_letters(publisher.connection, runtime)
    # One may be there twice: where its confirm came late, it was published again.
    env.check(
        {dead_letter.key for dead_letter in dead_letters} == set(ids),
        "the dead-letter queue does not hold each failed job",
    )
    way = {job_id: rng.choice(WAYS) for job_id in ids}
    (env.folder / OPEN).touch()

    expired = [job_id for job_id in ids if way[job_id] == "expired"]
    await asyncio.to_thread(_expire, env, expired)
    requeued = {job_id for job_id in ids if way[job_id] == "requeued"}
    rounds = await _requeue(requeued, publisher, runtime)
    wrong = [job_id for job_id in requeued if rounds[job_id] != 1]
    env.check(not wrong, f"{len(wrong)} jobs have more or less than one open round")
    env.say(f"requeued {len(requeued)}, {AT_ONCE} at once each")

    # What is left: those to be moved, those without a record, and stale copies of the requeued.
    moved = await asyncio.to_thread(_move_all_back, env)
    copies = len(requeued) - (size - moved)
    env.say(f"moved {moved} back in the management API, {copies} of them stale")
    await env.drain()
    await until(lambda: _ended_in_second_round(env, ids), 120, "each job has had its next round")
    begun = read_trace(env.folder).begun
    often = [job_id for job_id in ids if begun[job_id] != 2]
    env.check(not often, f"{len(often)} tasks ran more or less than once a round")
    left = await _dead_letters(publisher.connection, runtime)
    env.check(not left, f"{len(left)} dead letters are left, {[each.kind for each in left[:5]]}")
    return await env.report(moved_back=moved, stale_copies=copies, expired=len(expired))


async def _all_dead_lettered(env: Environment, ids: list[str]) -> bool:
    jobs = [await env.ledger.get(job_id) for job_id in ids]
    return all(job is not None and job.failure_told for job in jobs)


async def _ended_in_second_round(env: Environment, ids: list[str]) -> bool:
    jobs = [await env.ledger.get(job_id) for job_id in ids]
    return all(job is not None and (job.round, job.status) == (2, Status.COMPLETED) for job in jobs)


async def _dead_letters(connection: Connection, runtime: Runtime) -> list[DeadLetter]:
    async with DeadLetterReader.open(connection, runtime.topology.queues) as reader:
        return [await dead_letter_of(message, runtime.ledger) async for message in reader.walk()]


async def _requeue(job_ids: set[str], publisher: AmqpPublisher, runtime: Runtime) -> Counter[str]:
    """Requeue each job by many at once, one of them with its dead letter; rounds begun by job."""
    begun: Counter[str] = Counter()
    async with DeadLetterReader.open(publisher.connection, runtime.topology.queues) as reader:
        found = [await dead_letter_of(message, runtime.ledger) async for message in reader.walk()]
        for dead_letter in found:
            if dead_letter.key not in job_ids:
                continue
            answers = await asyncio.gather(
                *(requeue_job(dead_letter.key, runtime) for _ in range(AT_ONCE - 1)),
                put_back(dead_letter, reader, publisher, runtime),
            )
            begun[dead_letter.key] += sum(each.outcome is Outcome.REQUEUED for each in answers)
    return begun


def _expire(env: Environment, ids: list[str]) -> None:
    """Delete records, as MongoDB does when the retention is over."""
    with MongoClient[dict[str, Any]](env.services.mongodb.url) as client:
        client[env.name]["jobs"].delete_many({"_id": {"$in": [object_id(i) for i in ids]}})


def _move_all_back(env: Environment) -> int:
    """Move messages, as a person does in the management UI: each to the queue it came from."""
    moved = 0
    vhost, queue = quote(env.name, safe=""), "taskiq"
    asked = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "base64"}
    while got := env.management("POST", f"queues/{vhost}/{queue}.dlq/get", asked):
        for message in got:
            again = {
                "properties": message["properties"],
                "routing_key": queue,
                "payload": message["payload"],
                "payload_encoding": message["payload_encoding"],
            }
            env.management("POST", f"exchanges/{vhost}/amq.default/publish", again)
            moved += 1
    return moved


SCENARIO = Scenario(
    name="dlq-requeue",
    fault=f"dead letters requeued by {AT_ONCE} at once, moved back in the management UI, "
    "and with their records expired, while dispatchers run",
    holds="one open round each; nothing vanishes",
    small=30,
    full=200,
    run=run,
)
