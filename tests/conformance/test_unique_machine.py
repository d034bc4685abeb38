"""Kiqs, claims, ends, expiries and second rounds in any order: one job a key, no key stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from api_shared.client.kiq import insert_job
from api_shared.errors import UniqueTaken
from api_shared.job import Job, JobError, Reason, Status, UniqueScope
from api_shared.ledger.change import NOW, Change, NowPlus, Plus
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import (
    Cancel,
    Claim,
    Claimed,
    Complete,
    Fail,
    FencedWrite,
    Insert,
    Release,
    Retry,
)
from api_shared.ledger.protocol import Ledger
from api_shared.ledger.transitions import (
    cancel_waiting,
    fail_queued,
    publish_due,
    reschedule,
    rescue,
)
from api_shared.ledger.unique_keys import held_again
from api_shared.testing.servers import Services
from fixtures.doubles import Clock, runtime_on
from fixtures.ledgers import a_job, mongo_ledger

T = TypeVar("T")
ERROR = JobError(Reason.ERROR, "ValueError", "it broke")
LAPSED_S, PERIOD_S, RETENTION_S = -1.0, 1000.0, 100_000.0

keys = st.sampled_from(["k", "$k"])
scopes = st.sampled_from(list(UniqueScope))
which = st.integers(0, 50)


@dataclass(slots=True)
class Expected:
    """What the model knows of a job: its key, and whether it holds it."""

    key: str
    scope: UniqueScope
    until: float | None
    holds: bool = True


class UniqueMachine(RuleBasedStateMachine):
    """`url` None: the ledger in memory, whose clock moves; else the one in MongoDB."""

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = Clock() if url is None else None
        self.now_s = 0.0
        self.expected: dict[str, Expected] = {}
        if self.clock is not None:
            self.ledger: Ledger = MemoryLedger(self.clock)
        elif url is not None:
            self.ledger = self.run(self.stack.enter_async_context(mongo_ledger(url)))
        self.runtime = runtime_on(self.ledger)

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await awaitable

        return self.runner.run(awaited())

    def record(self, job_id: str) -> Job:
        job = self.run(self.ledger.get(job_id))
        assert job is not None
        return job

    def pick(self, number: int, *statuses: Status) -> Job | None:
        """A job of one of these statuses."""
        jobs = [self.record(job_id) for job_id in self.expected]
        fitting = [job for job in jobs if job.status in statuses]
        return fitting[number % len(fitting)] if fitting else None

    def holders(self, key: str) -> list[str]:
        return [job_id for job_id, e in self.expected.items() if e.key == key and e.holds]

    def change(self, change: Change) -> Job | None:
        return self.run(self.ledger.change(change))

    def ended(self, job: Job) -> None:
        """Any end but a completion frees the key."""
        self.expected[job.id].holds = False

    # What happens.

    @rule(key=keys, scope=scopes, is_over=st.booleans(), later=st.booleans())
    def kiq(self, key: str, scope: UniqueScope, is_over: bool, later: bool) -> None:
        for_s = None
        if scope is UniqueScope.PERIOD:
            for_s = LAPSED_S if is_over else PERIOD_S
        status = Status.SCHEDULED if later else Status.QUEUED
        job = a_job(unique_key=key, unique_scope=scope, unique_held=True, status=status)
        inserted = self.run(insert_job(Insert(job, NowPlus(-1), for_s), self.runtime))
        holders = self.holders(key)
        if holders and not self.is_over(holders[0]):
            assert (inserted.by_us, inserted.job.id) == (False, holders[0])
            return
        assert inserted.by_us, "the key is stuck"
        for holder in holders:
            self.expected[holder].holds = False
        until = None if for_s is None else self.now_s + for_s
        self.expected[job.id] = Expected(key, scope, until)

    def is_over(self, job_id: str) -> bool:
        until = self.expected[job_id].until
        return until is not None and until <= self.now_s

    @rule(number=which, is_lost=st.booleans())
    def claim(self, number: int, is_lost: bool) -> None:
        self.claimed(number, is_lost)

    def claimed(self, number: int, is_lost: bool) -> Job | None:
        """A queued job, claimed; else one that is claimed already."""
        job = self.pick(number, Status.QUEUED)
        if job is None:
            return self.pick(number, Status.PROCESSING)
        claim = Claim(job.id, f"t-{job.seq}", "w", -1 if is_lost else 1_000_000)
        verdict = self.run(self.ledger.apply(claim))
        assert isinstance(verdict, Claimed)
        if job.unique_scope is UniqueScope.WAITING:
            self.expected[job.id].holds = False
        return verdict.job

    @rule(number=which, kind=st.integers(0, 4))
    def settle(self, number: int, kind: int) -> None:
        job = self.claimed(number, False)
        if job is None:
            return
        token, seq = str(job.token), job.seq + 1
        write: FencedWrite = [
            Complete(job.id, token, seq, result_json="1", retention_s=RETENTION_S),
            Fail(job.id, token, seq, error=ERROR, dead_letter_in_s=0),
            Cancel(job.id, token, seq, retention_s=RETENTION_S),
            Retry(job.id, token, seq, error=ERROR, delay_s=-1),
            Release(job.id, token, seq, delay_s=-1, why="drain"),
        ][kind]
        assert self.run(self.ledger.apply(write))
        assert self.run(self.ledger.apply(write)), "sent again"
        if kind in (1, 2) or (kind == 0 and job.unique_scope is not UniqueScope.PERIOD):
            self.expected[job.id].holds = False

    @rule(number=which, max_lost=st.integers(1, 3))
    def lose(self, number: int, max_lost: int) -> None:
        job = self.claimed(number, True)
        if job is None:
            return
        taken = self.change(
            rescue(
                job,
                max_lost=max_lost,
                retry_in_s=-1,
                republish_after_s=30,
                retention_s=RETENTION_S,
            )
        )
        if taken is not None and taken.status.is_terminal:
            self.ended(taken)

    @rule(number=which, kind=st.integers(0, 3))
    def others_change(self, number: int, kind: int) -> None:
        if kind == 0 and (job := self.pick(number, Status.QUEUED)) is not None:
            assert self.change(fail_queued(job, ERROR)) is not None
            self.ended(job)
        elif job := self.pick(number, Status.SCHEDULED, Status.RETRYING):
            if kind == 1:
                assert self.change(publish_due(job, republish_after_s=30)) is not None
            elif kind == 2:
                assert self.change(reschedule(job.id, NowPlus(-1))) is not None
            elif kind == 3:
                assert self.change(cancel_waiting(job.id, retention_s=RETENTION_S)) is not None
                self.ended(job)

    @rule(number=which)
    def requeue(self, number: int) -> None:
        job = self.pick(number, Status.FAILED)
        if job is None:
            return
        put = {
            "status": Status.QUEUED,
            "seq": Plus(1),
            "round": Plus(1),
            "queued_at": NOW,
            "due_at": NowPlus(30),
            **held_again(job),
        }
        again = Change(job.id, {"seq": job.seq}, put, remove=("expires_at",), note="requeued")
        twins = self.holders(self.expected[job.id].key)
        try:
            assert self.change(again) is not None
        except UniqueTaken as taken:
            assert [taken.job_id] == twins
        else:
            assert not twins
            self.expected[job.id].holds = True

    @rule(seconds=st.sampled_from([1.0, PERIOD_S]))
    def advance(self, seconds: float) -> None:
        if self.clock is not None and self.now_s < RETENTION_S / 2:
            self.clock.advance(seconds)
            self.now_s += seconds

    # What holds.

    @invariant()
    def each_key_is_held_by_one_job_at_most_and_by_the_right_one(self) -> None:
        held: set[str] = set()
        for job_id, expected in self.expected.items():
            job = self.record(job_id)
            assert bool(job.unique_held) is expected.holds
            if job.unique_held:
                assert expected.key not in held
                held.add(expected.key)
                assert not job.status.is_terminal or expected.scope is UniqueScope.PERIOD


def run(machine: Any, max_examples: int, steps: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),  # how fast a server answers is no finding
        ),
    )


def test_a_key_is_one_jobs_and_never_stuck_in_any_order() -> None:
    run(UniqueMachine, 200, 40)


def test_so_it_is_in_mongodb(services: Services) -> None:
    class InMongo(UniqueMachine):
        def __init__(self) -> None:
            super().__init__(services.mongodb.url)

    run(InMongo, 15, 40)
