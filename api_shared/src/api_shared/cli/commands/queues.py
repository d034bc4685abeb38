"""`kiq queues`: messages in RabbitMQ, and open jobs in the ledger."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from api_shared.cli.connections import BROKERS, ledger_of, run
from api_shared.cli.exit_codes import ExitCode
from api_shared.cli.output import AsJson, print_json, print_table, say
from api_shared.errors import ServerError

if TYPE_CHECKING:
    from api_shared.job import Status
    from api_shared.settings import Settings


@dataclass(slots=True)
class QueueState:
    """The state of a queue. None: not known (a server is away, or the queue does not exist)."""

    broker: str
    queue: str
    declared: bool | None = None
    ready: int | None = None
    consumers: int | None = None
    dead_letters: int | None = None
    queued: int | None = None
    processing: int | None = None
    waiting: int | None = None


def queues(as_json: AsJson = False) -> None:
    """
    List the queues of both brokers.

    ready: messages in RabbitMQ that no worker holds. queued, processing, later: open jobs in the
    ledger (later: scheduled or retrying). dead: messages in the dead-letter queue. consumers is 0
    too while all workers are busy: kiq workers shows who is alive.
    """
    states, failures = run(_look)
    if as_json:
        print_json([asdict(state) for state in states])
    else:
        columns = ("broker", "queue", "ready", "consumers", "dead", "queued", "processing", "later")
        print_table(columns, [_row(state) for state in states])
    missing = [state.queue for state in states if state.declared is False]
    if missing:
        say(f"not declared yet, a worker does that: {', '.join(missing)}")
    for failure in failures:
        say(f"kiq: {failure}")
    if failures:
        raise typer.Exit(ExitCode.UNREACHABLE)


async def _look(settings: Settings) -> tuple[list[QueueState], list[ServerError]]:
    """The states of the queues. A server that is away leaves its columns empty."""
    from api_shared.transport.topology import topology_of

    states = [
        QueueState(broker, queue.name)
        for broker in BROKERS
        for queue in topology_of(broker, settings).queues
    ]
    failures = []
    for ask in (_ask_rabbitmq, _ask_ledger):
        try:
            await ask(settings, states)
        except ServerError as error:
            failures.append(error)
    return states, failures


async def _ask_rabbitmq(settings: Settings, states: list[QueueState]) -> None:
    from api_shared.cli.rabbitmq import depth_of, rabbitmq_of
    from api_shared.transport.topology import topology_of

    async with rabbitmq_of(settings) as connection:
        for state in states:
            queue = topology_of(state.broker, settings).queue(state.queue)
            found = await depth_of(connection, queue.name)
            dead = await depth_of(connection, queue.dead_letter_queue)
            state.declared = found is not None
            if found is not None:
                state.ready, state.consumers = found.ready, found.consumers
            if dead is not None:
                state.dead_letters = dead.ready


async def _ask_ledger(settings: Settings, states: list[QueueState]) -> None:
    async with ledger_of(settings) as ledger:
        for broker in BROKERS:
            counts = await ledger.count(broker)
            for state in states:
                if state.broker == broker:
                    _count(state, counts.get(state.queue, {}))


def _count(state: QueueState, counts: dict[Status, int]) -> None:
    from api_shared.job import Status

    state.queued = counts.get(Status.QUEUED, 0)
    state.processing = counts.get(Status.PROCESSING, 0)
    state.waiting = counts.get(Status.SCHEDULED, 0) + counts.get(Status.RETRYING, 0)


def _row(state: QueueState) -> tuple[str, ...]:
    numbers = (
        state.ready,
        state.consumers,
        state.dead_letters,
        state.queued,
        state.processing,
        state.waiting,
    )
    return (state.broker, state.queue, *("?" if n is None else str(n) for n in numbers))
