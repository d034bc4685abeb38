"""The environment of a scenario: servers and workers to break, and a started broker."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from pymongo import MongoClient

from api_shared.client.bind.task import JobTask
from api_shared.client.job_broker import JobBroker
from api_shared.errors import AcceptanceUnknown, ServerError
from api_shared.job import Status, new_job_id
from api_shared.ledger.audit import Scope
from api_shared.ledger.protocol import JobFilter, Ledger, WorkerInfo
from api_shared.ledger.verify import verify
from api_shared.testing.chaos.proxy import LOOPBACK, Proxy
from api_shared.testing.chaos.records import every_job
from api_shared.testing.chaos.recovery import pid_of, recoveries
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.trace import read_trace
from api_shared.testing.chaos.variables import environment_variables, variables_for
from api_shared.testing.chaos.worker_process import WorkerProcess
from api_shared.testing.chaos.workers import load
from api_shared.testing.servers import Server, Services
from api_shared.testing.waiting import NotInTime, until
from api_shared.transport.management import Management

TARGET = "api_shared.testing.chaos.workers.worker:broker"
READY_S = 180.0
KIQS_AT_ONCE = 50


class Environment:
    """
    A vhost, a database and a Redis prefix of its own; the load's broker, started; worker processes.

    `folder` is for the scenario's files and for the trace of its tasks. `accepted` are the ids that
    a kiq returned: each must be in the ledger at the end, and none of those it `refused`. `say`
    prints what happens.
    """

    def __init__(
        self, services: Services, folder: Path, *, say: Callable[[str], None] = lambda _: None
    ) -> None:
        management_url = services.rabbitmq.management_url
        if management_url is None:
            raise ValueError("chaos makes vhosts: set RABBITMQ_MANAGEMENT_URL too")
        self.services = services
        self.folder = folder
        self.say = say
        self.name = f"chaos-{uuid4().hex[:12]}"
        self.management = Management(management_url)
        self.accepted: set[str] = set()
        self.refused: set[str] = set()
        self.slowest_kiq_s = 0.0
        self.workers: list[WorkerProcess] = []
        self.proxies: list[Proxy] = []
        self.findings: list[str] = []
        self.deaths: dict[int, datetime] = {}
        self.variables = variables_for(services, self.name, folder)

    @property
    def broker(self) -> JobBroker:
        """The broker of the load, as a service has it."""
        return load.broker

    @property
    def ledger(self) -> Ledger:
        return self.broker.runtime.ledger

    async def worker(
        self,
        *flags: str,
        modules: Sequence[str] = (),
        target: str = TARGET,
        processes: int = 1,
        ready: bool = True,
        variables: Mapping[str, str] | None = None,
    ) -> WorkerProcess:
        """
        `taskiq worker TARGET MODULES FLAGS`, with `variables` over the environment's; returns when
        each of its processes has reported itself in the ledger (`ready` False: at once).
        """
        worker = WorkerProcess(
            [target, *modules, *flags, "--workers", str(processes)],
            {**os.environ, **self.variables, "PYTHONUNBUFFERED": "1", **(variables or {})},
            self.folder / f"worker-{len(self.workers)}.log",
            self.folder,
        )
        self.workers.append(worker)
        if ready:
            await self.reported(worker, processes)
        return worker

    async def reported(self, worker: WorkerProcess, processes: int = 1) -> list[WorkerInfo]:
        """A worker's processes as the ledger has them, as soon as it has them all."""

        async def known() -> list[WorkerInfo]:
            if worker.returncode is not None:
                raise NotInTime(f"the worker has ended:\n{worker.log[-4000:]}", READY_S)
            group = set(worker.group)
            found = [info for info in await self.ledger.workers() if info.pid in group]
            return found if len(found) >= processes else []

        found: list[WorkerInfo] = await until(known, READY_S, "the worker reports itself")
        return found

    async def at_work(self) -> list[WorkerProcess]:
        """The workers that run jobs now, as the ledger has it."""
        running = await self.ledger.find(JobFilter(status=Status.PROCESSING), limit=1_000)
        busy = {pid_of(job.worker) for job in running}
        return [worker for worker in self.workers if busy & set(worker.group)]

    def kill(self, worker: WorkerProcess) -> None:
        """kill -9 for the whole worker. The recovery of its jobs is counted from now."""
        pids = worker.group
        worker.kill()
        self.deaths |= dict.fromkeys(pids, datetime.now(UTC))

    async def kiq(self, task: JobTask[Any, Any], *args: Any, **labels: str | float) -> str | None:
        """
        Kiq one job as a careful service does, and return its id.

        If an answer is lost, the kiq is repeated under its id until there is an answer: a later
        refusal says nothing about the first try. None: it was refused and must not run. If another
        job holds the unique key, the id is that of the other job.
        """
        job_id = new_job_id()
        in_doubt = False
        while True:
            asked = time.monotonic()
            try:
                kicker = task.kicker().with_labels(**labels).with_task_id(job_id)
                accepted = (await kicker.kiq(*args)).task_id
                self.accepted.add(accepted)
                return accepted
            except AcceptanceUnknown:
                in_doubt = True
            except ServerError:
                if not in_doubt:
                    self.refused.add(job_id)
                    return None
            finally:
                self.slowest_kiq_s = max(self.slowest_kiq_s, time.monotonic() - asked)

    async def kiq_many(
        self, count: int, task: JobTask[Any, Any], *args: Any, **labels: str | float
    ) -> list[str]:
        """`count` jobs of the same arguments, some at once; the ids of those accepted."""
        gate = asyncio.Semaphore(KIQS_AT_ONCE)

        async def one() -> str | None:
            async with gate:
                return await self.kiq(task, *args, **labels)

        found = await asyncio.gather(*(one() for _ in range(count)))
        return [job_id for job_id in found if job_id is not None]

    async def naps(
        self, count: int, seconds: float, *, per_second: float | None = None
    ) -> list[str]:
        """
        The known load: `count` jobs that sleep. `per_second`: they are kiqed at that rate, whether
        earlier kiqs have returned or not.
        """
        if per_second is None:
            return await self.kiq_many(count, load.nap, str(self.folder), seconds)
        kiqs = []
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / per_second - clock()))
            kiqs.append(asyncio.create_task(self.kiq(load.nap, str(self.folder), seconds)))
        return [job_id for job_id in await asyncio.gather(*kiqs) if job_id is not None]

    async def ended(self) -> int:
        """How many jobs have ended."""
        return len(self.accepted) - await self.open_jobs()

    async def until_kiqed(self, count: int, within_s: float = 120) -> None:
        """Until so many kiqs have returned, accepted or refused. Raises `NotInTime`."""
        await until(lambda: self.kiqed >= count, within_s, f"{count} kiqs have returned")

    @property
    def kiqed(self) -> int:
        return len(self.accepted) + len(self.refused)

    async def open_jobs(self) -> int:
        """How many jobs have not ended, as the ledger counts them; all of them while it is away."""
        try:
            queues = await self.ledger.count(self.broker.name)
        except ServerError:
            return len(self.accepted)
        return sum(sum(statuses.values()) for statuses in queues.values())

    async def until_ended(self, count: int, within_s: float = 180) -> None:
        """Until so many jobs have ended. Raises `NotInTime`."""
        await until(partial(self._have_ended, count), within_s, f"{count} jobs have ended")

    async def until_begun(self, job_ids: Sequence[str], within_s: float = 120) -> None:
        """Until the tasks of all these jobs have begun. Raises `NotInTime`."""

        def begun() -> bool:
            return set(job_ids) <= read_trace(self.folder).begun.keys()

        await until(begun, within_s, f"{len(job_ids)} tasks have begun")

    async def drain(self, within_s: float = 300) -> None:
        """Wait until no job is open. Jobs that are open at the deadline are a finding."""
        count = len(self.accepted)
        await self.expect(partial(self._have_ended, count), within_s, f"{count} jobs have ended")

    async def _have_ended(self, count: int) -> bool:
        return await self.ended() >= count

    def check(self, held: object, otherwise: str) -> None:
        """Add a finding unless `held`."""
        if not held:
            self.findings.append(otherwise)

    async def expect(
        self, condition: Callable[[], Awaitable[Any] | Any], within_s: float, what: str
    ) -> None:
        """Add a finding unless the condition comes true in time."""
        try:
            await until(condition, within_s, what)
        except NotInTime as late:
            self.findings.append(str(late))

    async def report(self, *, all_complete: bool = True, **figures: float | str) -> Report:
        """
        The count of all jobs that were accepted here, and the findings. Call it when drained.

        `all_complete` False: the scenario itself checks which jobs fail or are cancelled.
        """
        jobs = await every_job(self.ledger)
        audit = await verify(self.ledger, Scope(), accepted=self.accepted)
        beside = read_trace(self.folder).beside_itself
        self.check(not beside, f"{len(beside)} jobs ran twice side by side in one process")
        if all_complete:
            unfinished = audit.accepted - audit.completed
            self.check(not unfinished, f"{unfinished} of {audit.accepted} jobs did not complete")
        kept = self.refused & {job.id for job in jobs}
        self.check(not kept, f"{len(kept)} kiqs were refused and their jobs are there all the same")
        if self.refused:
            figures["refused"] = len(self.refused)
        recovery_s = tuple(recoveries(jobs, self.deaths))
        if self.deaths:
            self.check(recovery_s, "no death interrupted a job: this run shows nothing")
        return Report(audit, tuple(self.findings), recovery_s, figures)

    async def open(self) -> None:
        self.management.make_vhost(self.name)
        await self.broker.startup()
        await self.ledger.prepare()

    async def reopen(self, **variables: str) -> None:
        """Start the broker again, with `variables` over the environment's."""
        await self.broker.shutdown()
        with environment_variables(variables):
            await self.broker.startup()

    async def proxy(self, server: Server) -> Proxy:
        """A proxy in front of a server, closed with this environment."""
        parts = urlsplit(server.url)
        proxy = Proxy(parts.hostname or LOOPBACK, parts.port or 0)
        await proxy.start()
        self.proxies.append(proxy)
        return proxy

    async def close(self) -> None:
        for worker in self.workers:
            worker.end()
        for proxy in self.proxies:
            proxy.heal()
        await self.broker.shutdown()
        for proxy in self.proxies:
            await proxy.close()
        self.management("DELETE", f"vhosts/{quote(self.name, safe='')}")
        await asyncio.to_thread(self._drop_database)

    def _drop_database(self) -> None:
        with MongoClient[dict[str, Any]](self.services.mongodb.url) as client:
            client.drop_database(self.name)


@asynccontextmanager
async def environment_on(
    services: Services, folder: Path, *, say: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Environment]:
    """A clean environment on these servers; all that it started ends with the block."""
    env = Environment(services, folder, say=say)
    with environment_variables(env.variables):
        try:
            await env.open()
            yield env
        finally:
            await env.close()
