"""Messages of every wrong kind among good jobs."""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

from api_shared.client.dead_letters.reader import DeadLetterReader
from api_shared.job import new_job_id
from api_shared.testing.chaos.environment import Environment
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.scenario import Scenario
from api_shared.transport.publisher import AmqpPublisher

NAP_S = 0.05
JOBS_A_PIECE = 10
"""Pieces of garbage for each good job."""

Made = tuple[bytes, dict[str, Any]]


async def run(size: int, rng: Random, env: Environment) -> Report:
    worker = await env.worker()
    children = set(worker.children)
    publisher = env.broker.runtime.publisher
    assert isinstance(publisher, AmqpPublisher)  # noqa: S101 - a started broker's
    topology = env.broker.runtime.topology
    sent: Counter[bytes] = Counter()
    for number in range(size):
        body, headers = rng.choice(KINDS)(rng)
        await publisher.put_back(
            topology.default, body, headers=headers, priority=rng.randrange(11)
        )
        sent[body] += 1
        if number % JOBS_A_PIECE == 0:
            await env.naps(1, NAP_S)
    env.say(f"published {size} pieces of garbage")
    await env.drain()

    async def all_dead_lettered() -> bool:
        async with DeadLetterReader.open(publisher.connection, topology.queues) as reader:
            return await reader.count() >= size

    async def holds_nothing() -> bool:
        """By its last report, which may be a heartbeat ago."""
        return not any(info.running for info in await env.reported(worker))

    await env.expect(all_dead_lettered, 300, f"{size} dead letters")
    dead = await _dead_letters(publisher, env)
    env.say(f"{dead.total()} dead letters")
    env.check(dead == sent, "the dead-letter queue does not hold exactly the garbage")
    env.check(set(worker.children) == children, "a worker process has ended")
    await env.expect(holds_nothing, 30, "no slot is held")
    await env.naps(5, NAP_S)
    await env.drain()
    return await env.report(garbage=size)


async def _dead_letters(publisher: AmqpPublisher, env: Environment) -> Counter[bytes]:
    queues = env.broker.runtime.topology.queues
    async with DeadLetterReader.open(publisher.connection, queues) as reader:
        return Counter([message.body async for message in reader.walk()])


# What a program that is wrong, old or hostile may send.


def _random_bytes(rng: Random) -> Made:
    return rng.randbytes(rng.randrange(200)), {}


def _wrong_json(rng: Random) -> Made:
    return json.dumps(_value(rng, 3)).encode(), {}


def _cut(rng: Random) -> Made:
    body = _message("chaos.nap", kwargs={"folder": "/", "seconds": 0})
    return body[: rng.randrange(len(body))], {}


def _unknown_task(rng: Random) -> Made:
    return _message(f"no.such.{rng.randrange(10)}", kwargs={"x": _value(rng, 2)}), {}


def _wrong_field(rng: Random) -> Made:
    """A message of a job with one field of another type, or without it."""
    fields = json.loads(_message("chaos.nap", kwargs={"folder": "/", "seconds": 0}))
    name = rng.choice(["task_id", "task_name", "kwargs"])
    fields[name] = rng.choice([17, True, "", "x" * 300, {"a": []} if name != "kwargs" else [1]])
    return json.dumps(fields).encode(), {}


def _hostile_labels(rng: Random) -> Made:
    labels = rng.choice(
        [
            ["no", "object"],
            {"x" * 2000: "y"},
            {str(number): "y" for number in range(100)},
            {"priority": "highest"},
            {"priority": "99"},
            {"delay": "never"},
            {"at": "tomorrow"},
            {"owner": "o" * 500},
            {"queue_name": "nowhere", "priority": "-1"},
        ]
    )
    return _message("chaos.nap", labels=labels, kwargs={"folder": "/", "seconds": 0}), {}


def _wrong_arguments(rng: Random) -> Made:
    """`chaos.nap(folder: str, seconds: float)`: none of these is."""
    folder: Any = rng.choice([None, 1, 2.5, True, [], {}, [_value(rng, 2)]])
    choices: list[dict[str, Any]] = [
        {"kwargs": {"folder": folder, "seconds": _value(rng, 2)}},
        {"kwargs": {"seconds": 1}},
        {"kwargs": {}},
        {"args": [folder, 1]},
        {"args": [_value(rng, 2) for _ in range(rng.randrange(3, 9))]},
        {"kwargs": {"folder": "/", "seconds": "soon"}},
        {"kwargs": {"folder": "/", "seconds": 1, "surplus": _value(rng, 2)}},
    ]
    return _message("chaos.nap", **rng.choice(choices)), {}


def _hostile_headers(rng: Random) -> Made:
    headers: dict[str, Any] = rng.choice(
        [
            {"x-dead-reason": "error", "x-dead-round": 2**40},
            {"x-dead-reason": "error", "x-dead-round": -3, "x-dead-owner": "o" * 5000},
            {"x-dead-reason": 17, "x-dead-round": "first"},
            {"x-accepted": 1},
            {"x-accepted": "yes", "x-death": [{"count": 1}]},
            {"x-dead-reason": bytearray(b"\xff\xfe")},
        ]
    )
    return _message(f"no.such.{rng.randrange(10)}"), headers


def _deep(rng: Random) -> Made:
    depth = rng.choice([70, 500, 5_000])
    return b'{"task_name":"chaos.nap","kwargs":' + b'{"a":' * depth + b"1" + b"}" * depth, {}


def _other_encodings(rng: Random) -> Made:
    body = _message("chaos.nap", kwargs={"folder": "/", "seconds": 0})
    return rng.choice([body.decode().encode("cp037"), b64encode(body), b"\x80\x04" + body]), {}


KINDS: tuple[Callable[[Random], Made], ...] = (
    _random_bytes,
    _wrong_json,
    _cut,
    _unknown_task,
    _wrong_field,
    _hostile_labels,
    _wrong_arguments,
    _hostile_headers,
    _deep,
    _other_encodings,
)


def _message(task: str, *, labels: Any = None, args: Any = (), kwargs: Any = None) -> bytes:
    fields = {
        "task_id": new_job_id(),
        "task_name": task,
        "labels": labels or {},
        "args": list(args),
        "kwargs": kwargs or {},
    }
    return json.dumps(fields).encode()


def _value(rng: Random, depth: int) -> Any:
    """Any JSON value."""
    kind = rng.randrange(8 if depth else 6)
    plain = [None, True, rng.randrange(-(2**70), 2**70), rng.uniform(-1e300, 1e300), "\ud800", ""]
    if kind < 6:
        return plain[kind]
    values = [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    return values if kind == 6 else {f"k{number}.$": each for number, each in enumerate(values)}


SCENARIO = Scenario(
    name="garbage-messages",
    fault="random bytes, wrong JSON, unknown tasks, hostile labels and headers, wrong arguments",
    holds="none crashes a worker or holds a slot; the dead-letter queue holds exactly them",
    small=300,
    full=5_000,
    run=run,
)
