"""`kiq submit`: kiq a job, and wait for it on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api_shared.cli.arguments import arguments_for, parse_json
from api_shared.cli.commands.watch import follow
from api_shared.cli.completion import queue_names, task_names
from api_shared.cli.connections import configure_output
from api_shared.cli.contracts import broker_of, contract_named
from api_shared.cli.durations import parse_duration, parse_time
from api_shared.cli.exit_codes import ExitCode
from api_shared.cli.job_text import as_json, end_of
from api_shared.cli.output import print_json, print_line, say
from api_shared.errors import InvalidOption

if TYPE_CHECKING:
    from api_shared.client.follow.handle import JobHandle
    from api_shared.client.job_broker import JobBroker
    from api_shared.client.options import UniqueFor
    from api_shared.client.submission import Submission
    from api_shared.job import Job
    from api_shared.settings import Settings

EPILOG = """
Examples:

kiq submit process_data user_id=ada options.source=/etc/hosts --wait

kiq submit train_model --json '{"dataset_id": "wine"}' --priority 9

kiq submit health_check --json @arguments.json --in 10m

kiq submit train_model dataset_id=wine --unique-key wine --unique-for 1h
"""


class Output(StrEnum):
    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Waiting:
    for_end: bool
    timeout_s: float | None


def submit(
    task: Annotated[
        str,
        typer.Argument(metavar="TASK", help="One of kiq tasks.", autocompletion=task_names),
    ],
    pairs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Arguments. A value is JSON where it can be, else text; a.b=1 makes an object.",
        ),
    ] = None,
    arguments: Annotated[
        str | None,
        typer.Option("--json", metavar="ARGS", help="Arguments as JSON, @FILE, or - for stdin."),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="Until it ends; print result.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="With --wait: at most so many seconds.")
    ] = None,
    priority: Annotated[int, typer.Option(help="0 to 10, the higher the sooner.")] = 0,
    queue: Annotated[
        str | None,
        typer.Option(help="Another queue than the contract's.", autocompletion=queue_names),
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(
            "--delay", "--in", metavar="DURATION", help="Later: 90 (seconds), 10m, 1h30m."
        ),
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="Run it then: 2030-01-31T08:00:00+01:00.")
    ] = None,
    owner: Annotated[str | None, typer.Option(help="Whose job it is.")] = None,
    correlation_id: Annotated[str | None, typer.Option(help="Joins jobs and logs.")] = None,
    unique_key: Annotated[
        str | None, typer.Option(help="While a job of the task holds it, the id is that job's.")
    ] = None,
    unique_for: Annotated[
        str | None,
        typer.Option(metavar="SCOPE", help="waiting, open (the default), or a duration: 10m."),
    ] = None,
    job_id: Annotated[
        str | None,
        typer.Option(help="An id of your own (24 hex digits): sent twice, it is one job."),
    ] = None,
    output: Annotated[
        Output, typer.Option(help="json: the whole record (--json is taken by the arguments).")
    ] = Output.TEXT,
) -> None:
    """
    Kiq a job and print its id; with --wait its result, as JSON.

    RabbitMQ may be away: the job is in the ledger then, and is published when it is back.
    """
    if timeout is not None and not wait:
        raise InvalidOption("--timeout", timeout, "needs --wait, whose deadline it is")
    if arguments is not None and pairs:
        raise InvalidOption("--json", arguments[:60], "must not be given together with key=value")
    from api_shared.client.options import KiqOptions
    from api_shared.client.submission import Submission
    from api_shared.settings import load_settings

    settings = load_settings()
    contract = contract_named(task)
    args = (
        arguments_for(contract, pairs or ())
        if arguments is None
        else contract.parse_json((), parse_json(arguments))
    )
    options = KiqOptions(
        priority=priority,
        owner=owner,
        correlation_id=correlation_id,
        job_id=job_id,
        queue=queue,
        delay=None if delay is None else parse_duration("--delay", delay),
        at=None if at is None else parse_time("--at", at),
        unique_key=unique_key,
        unique_for=None if unique_for is None else _unique_for(unique_for),
    )
    submission = Submission(contract, args, options)
    _check(submission, settings)
    configure_output(settings)
    raise typer.Exit(asyncio.run(_submit(submission, output, Waiting(wait, timeout))))


def _check(submission: Submission[Any, Any], settings: Settings) -> None:
    """Check the whole submission before a server is used. Raises `UsageError`."""
    from api_shared.client.new_job import new_job
    from api_shared.transport.topology import topology_of

    new_job(submission, topology_of(submission.contract.broker, settings), settings)


async def _submit(submission: Submission[Any, Any], output: Output, waiting: Waiting) -> ExitCode:
    async with _started(broker_of(submission.contract)) as broker:
        handle = await broker.enqueue(submission.contract, submission.args, submission.options)
        _say_if_deduplicated(handle)
        _say_if_unpublished(broker, handle)
        if not waiting.for_end:
            if output is Output.JSON:
                print_json(as_json(await handle.job()))
            else:
                print_line(handle.task_id)
            return ExitCode.OK
        say(f"job {handle.task_id}")
        code, job = await follow(handle.task_id, broker.runtime, waiting.timeout_s)
        if job is not None:
            _print_outcome(job, output)
        return code


def _print_outcome(job: Job, output: Output) -> None:
    if output is Output.JSON:
        print_json(as_json(job, with_result=True))
    elif job.result_json is not None:
        print_json(job.result)
    if job.error is not None or job.result_json is None:
        say(end_of(job))


@asynccontextmanager
async def _started(broker: JobBroker) -> AsyncIterator[JobBroker]:
    await broker.startup()
    try:
        yield broker
    finally:
        await broker.shutdown()


def _unique_for(text: str) -> UniqueFor:
    match text:
        case "waiting":
            return "waiting"
        case "open":
            return "open"
        case _:
            return parse_duration("--unique-for", text)


def _say_if_deduplicated(handle: JobHandle[Any]) -> None:
    if handle.deduplicated:
        others = ", with other arguments than these" if handle.other_arguments else ""
        say(f"nothing new: job {handle.task_id} holds the unique key{others}")


def _say_if_unpublished(broker: JobBroker, handle: JobHandle[Any]) -> None:
    from api_shared.transport.publisher import AmqpPublisher

    publisher = broker.runtime.publisher
    if isinstance(publisher, AmqpPublisher) and publisher.connection.channel is None:
        say(
            f"RabbitMQ (RABBITMQ_URL) is not reachable: job {handle.task_id} is accepted, and is "
            f"published by a worker when RabbitMQ is back"
        )
