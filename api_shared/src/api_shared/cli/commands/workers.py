"""`kiq workers`: the live worker processes, as they reported themselves."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from api_shared.cli.connections import ledger_of, run
from api_shared.cli.durations import now, since
from api_shared.cli.output import AsJson, print_json, print_table, say

if TYPE_CHECKING:
    from api_shared.ledger.protocol import WorkerInfo
    from api_shared.settings import Settings

START = {
    "general": "taskiq worker workers_general.main:broker",
    "ml": "taskiq worker workers_ml.main:broker",
}
"""The command that starts a worker of each broker."""


def workers(as_json: AsJson = False) -> None:
    """
    List the worker processes that are alive: what they consume, run and hold.

    A worker's name is its host, its process id, and a part that is new with each start.
    """

    async def main(settings: Settings) -> list[WorkerInfo]:
        async with ledger_of(settings) as ledger:
            return await ledger.workers(seen_within_s=settings.lease_s)

    alive = sorted(run(main), key=lambda worker: (worker.broker, worker.host, worker.pid))
    if as_json:
        print_json([asdict(worker) for worker in alive])
        return
    if not alive:
        say(f"no worker is alive; start them: {'; '.join(START.values())}")
        return
    at = now()
    columns = ("worker", "broker", "running", "buffered", "started", "seen", "queues")
    print_table(
        columns,
        [
            (
                worker.id,
                worker.broker,
                str(worker.running),
                str(sum(worker.buffered.values())),
                since(worker.started_at, at),
                since(worker.seen_at, at),
                " ".join(worker.queues),
            )
            for worker in alive
        ],
    )
