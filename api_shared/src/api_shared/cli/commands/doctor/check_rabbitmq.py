"""Checks of RabbitMQ: reachable, rights, exchanges and queues. They change nothing there."""

from __future__ import annotations

import asyncio
from typing import Any

from aiormq.abc import AbstractConnection
from aiormq.exceptions import (
    ChannelAccessRefused,
    ChannelClosed,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    PublishError,
)

from api_shared.cli.commands.doctor.check_management import check_management
from api_shared.cli.connections import BROKERS
from api_shared.cli.masking import masked_url
from api_shared.cli.rabbitmq import ANSWER_S, channel_of, depth_of, rabbitmq_of
from api_shared.doctor import Finding, Findings
from api_shared.errors import ServerError
from api_shared.settings import Settings
from api_shared.transport.errors import words
from api_shared.transport.topology import QueueSpec, Topology, declarations_of, topology_of

FOUND = Findings("rabbitmq")
OLDEST = (3, 10)
RESTART = "a worker declares it at its start, and so does a kiq"
MISMATCH = (
    "drain it (stop what publishes to it, let workers empty it), delete it in the management UI, "
    "then restart a worker"
)


async def check_rabbitmq(settings: Settings) -> list[Finding]:
    try:
        async with rabbitmq_of(settings) as connection:
            findings = [_version(connection, settings)]
            for broker in BROKERS:
                findings += await _check_topology(connection, topology_of(broker, settings))
    except ServerError as error:
        where = masked_url(settings.amqp_url)
        remedy = f"start RabbitMQ, or correct RABBITMQ_URL (or RABBITMQ_HOST, ...): now {where}"
        return [FOUND.away(str(error), remedy)]
    return findings + await asyncio.to_thread(check_management, settings)


def _version(connection: AbstractConnection, settings: Settings) -> Finding:
    properties: dict[str, Any] = getattr(connection, "server_properties", {})
    product, version = (_text(properties.get(name, "?")) for name in ("product", "version"))
    return FOUND.version(product, version, OLDEST, masked_url(settings.amqp_url))


async def _check_topology(connection: AbstractConnection, topology: Topology) -> list[Finding]:
    findings = await _check_exchange(connection, topology)
    missing, sound = [], 0
    for queue in topology.queues:
        for name, arguments in declarations_of(queue):
            depth = await depth_of(connection, name)
            if depth is None:
                missing.append(name)
                continue
            problem = await _check_queue(connection, name, arguments)
            if problem is not None:
                findings.append(problem)
                continue
            sound += 1
            if name == queue.dead_letter_queue and depth.ready:
                findings.append(_dead_letters(queue, depth.ready))
    if missing:
        implied = {queue.dead_letter_queue for queue in topology.queues if queue.name in missing}
        missing = [name for name in missing if name not in implied]
        text = f"queues of {topology.broker!r} that are not declared yet: {', '.join(missing)}"
        findings.append(FOUND.warn(text, RESTART))
    if sound:
        text = f"{sound} queues of {topology.broker!r} are declared as they should be"
        findings.append(FOUND.ok(text))
    return findings


async def _check_exchange(connection: AbstractConnection, topology: Topology) -> list[Finding]:
    """Check the exchange with a message that no queue takes, so that it is returned."""
    name = topology.exchange
    try:
        async with channel_of(connection) as channel:
            await channel.exchange_declare(name, passive=True, timeout=ANSWER_S)
    except ChannelNotFoundEntity:
        return [FOUND.warn(f"exchange {name!r} is not declared yet", RESTART)]
    try:
        async with channel_of(connection) as channel:
            await channel.exchange_declare(
                name, exchange_type="direct", durable=True, timeout=ANSWER_S
            )
            await channel.basic_publish(
                b"", exchange=name, routing_key="kiq.doctor", mandatory=True, timeout=ANSWER_S
            )
    except PublishError:
        return [FOUND.ok(f"exchange {name!r} is declared, and takes what is published")]
    except ChannelClosed as error:
        return [_refused(f"exchange {name!r}", error)]
    return [FOUND.warn(f"exchange {name!r} routes any key to a queue", "remove that binding")]


async def _check_queue(connection: AbstractConnection, name: str, arguments: Any) -> Finding | None:
    """Check a queue: declaring an existing one again changes nothing, or is refused."""
    try:
        async with channel_of(connection) as channel:
            await channel.queue_declare(name, durable=True, arguments=arguments, timeout=ANSWER_S)
    except ChannelClosed as error:
        return _refused(f"queue {name!r}", error)
    return None


def _refused(what: str, error: ChannelClosed) -> Finding:
    if isinstance(error, ChannelPreconditionFailed):
        return FOUND.bad(f"{what} exists with other arguments: {words(error)}", MISMATCH)
    if isinstance(error, ChannelAccessRefused):
        remedy = "give the user configure, write and read rights: rabbitmqctl set_permissions"
        return FOUND.bad(f"{what}: this user may not declare or publish: {words(error)}", remedy)
    return FOUND.bad(f"{what}: {words(error)}", "see RabbitMQ's log")


def _dead_letters(queue: QueueSpec, count: int) -> Finding:
    return FOUND.warn(
        f"{count} dead letter{'' if count == 1 else 's'} in {queue.dead_letter_queue!r}",
        f"see why: kiq dlq list --queue {queue.name}; fix the cause, then kiq dlq requeue",
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
