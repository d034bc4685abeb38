"""Any order of writes: the promises hold, and both ledgers say the same."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from api_shared.job import Job, JobError, Progress, Reason, Status
from api_shared.ledger.audit import Scope
from api_shared.ledger.change import Change
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import (
    Cancel,
    Claim,
    Claimed,
    Complete,
    Fail,
    Inserted,
    Operation,
    Refused,
    Release,
    Retry,
    SaveJournal,
    SaveProgress,
    TakeLastChance,
)
from api_shared.ledger.protocol import JobFilter, Ledger
from api_shared.ledger.transitions import (
    begin_dead_lettering,
    cancel_waiting,
    dead_lettered,
    defer_check,
    fail_queued,
    publish_due,
    request_cancel,
    requeue,
    rescue,
)
from api_shared.testing.servers import Services
from fixtures.ledgers import a_job, insert, mongo_ledger

T = TypeVar("T")
ERROR = JobError(Reason.ERROR, "ValueError", "it broke")
SETTLEMENTS = (Complete, Fail, Retry, Release, Cancel)

# Long past or far ahead, so that two clocks agree on what is due.
moments = st.sampled_from([-1000.0, 1000.0])
seqs = st.integers(1, 8)
tokens = st.sampled_from(["t-1", "t-2", "t-3"])


def without_times(job: Job | None) -> Job | None:
    """Each time as whether it is there: the ledgers' clocks differ."""
    if job is None:
        return None
    some: Any = "some time"
    times = ("due_at", "queued_at", "started_at", "ended_at", "expires_at")
    return replace(
        job,
        accepted_at=some,
        history=tuple(replace(entry, at=some) for entry in job.history),
        **{name: some for name in times if getattr(job, name) is not None},
    )


def comparable(answer: object) -> object:
    if isinstance(answer, Inserted | Claimed | Refused):
        return replace(answer, job=without_times(answer.job))  # type: ignore[arg-type]
    if isinstance(answer, Job):
        return without_times(answer)
    if isinstance(answer, list):
        return sorted(job.id for job in answer)
    return answer


class LedgerMachine(RuleBasedStateMachine):
    """Sends the same to all its ledgers; `url` adds MongoDB to the one in memory."""

    jobs: Bundle[str] = Bundle("jobs")
    records: Bundle[Job] = Bundle("records")
    sent: Bundle[Operation[Any]] = Bundle("sent")

    def __init__(self, url: str | None = None) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.memory = MemoryLedger()
        self.ledgers: list[Ledger] = [self.memory]
        self.ids: list[str] = []
        self.granted: dict[tuple[str, int], set[str]] = {}
        self.counted: dict[str, dict[str, int]] = {}
        self.written = 0
        if url is not None:
            opened = self.stack.enter_async_context(mongo_ledger(url))
            self.ledgers.append(self.run(opened))

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.runner.close()

    def run(self, awaitable: Awaitable[T]) -> T:
        async def awaited() -> T:
            return await awaitable

        return self.runner.run(awaited())

    def same(self, answers: list[T]) -> T:
        assert all(comparable(answer) == comparable(answers[0]) for answer in answers)
        return answers[0]

    def apply(self, operation: Operation[Any]) -> Any:
        verdict = self.same([self.run(ledger.apply(operation)) for ledger in self.ledgers])
        if isinstance(operation, SETTLEMENTS) and verdict:
            record = self.record(operation.job_id)
            claim = (operation.job_id, record.claim_no)
            self.granted.setdefault(claim, set()).add(operation.change.change_id)
        if isinstance(operation, SaveJournal) and verdict:
            counted = self.counted.setdefault(operation.job_id, {})
            counted[operation.value_json] = operation.usage["calls"]
        return verdict

    def change(self, change: Change) -> Job | None:
        return self.same([self.run(ledger.change(change)) for ledger in self.ledgers])

    def record(self, job_id: str) -> Job:
        job = self.same([self.run(ledger.get(job_id)) for ledger in self.ledgers])
        assert job is not None
        return job

    @rule(target=jobs, status=st.sampled_from([Status.QUEUED, Status.SCHEDULED]), due_in_s=moments)
    def insert(self, status: Status, due_in_s: float) -> str:
        job = a_job(status=status)
        assert self.apply(insert(job, due_in_s=due_in_s)).by_us
        self.ids.append(job.id)
        return job.id

    @rule(job_id=jobs)
    def insert_again(self, job_id: str) -> None:
        assert self.apply(insert(a_job(id=job_id))).by_us is False

    @rule(target=records, job_id=jobs)
    def look(self, job_id: str) -> Job:
        return self.record(job_id)

    @rule(target=sent, job_id=jobs, token=tokens, lease_s=moments)
    def claim(self, job_id: str, token: str, lease_s: float) -> Operation[Any]:
        operation = Claim(job_id, f"{token}-{len(self.ids)}", "w", lease_s)
        self.apply(operation)
        return operation

    @rule(target=sent, job_id=jobs, seq=seqs, ahead=st.booleans(), kind=st.integers(0, 7))
    def holder_writes(self, job_id: str, seq: int, ahead: bool, kind: int) -> Operation[Any]:
        job = self.record(job_id)
        token, seq = job.token or "none", job.seq + 1 if ahead else seq
        self.written += 1
        entry, calls = str(self.written), {"calls": self.written}
        operation: Operation[Any] = [
            SaveProgress(job_id, token, seq, progress=Progress(seq)),
            SaveJournal(job_id, token, seq, key=f"k.{seq}", value_json=entry, usage=calls),
            Complete(job_id, token, seq, result_json="1", retention_s=1000),
            Fail(job_id, token, seq, error=ERROR, dead_letter_in_s=-1000),
            Retry(job_id, token, seq, error=ERROR, delay_s=-1000),
            Release(job_id, token, seq, delay_s=1000, why="drain"),
            Cancel(job_id, token, seq, retention_s=1000),
            TakeLastChance(job_id, token, seq),
        ][kind]
        self.apply(operation)
        return operation

    @rule(operation=sent)
    def send_again(self, operation: Operation[Any]) -> None:
        if isinstance(operation, Claim):
            self.apply(operation)
            return
        before = self.record(operation.change.job_id)
        first, again = self.apply(operation), self.apply(operation)
        assert first == again
        if first and isinstance(operation, SETTLEMENTS):
            assert len(self.record(before.id).history) <= len(before.history) + 1

    @rule(job=records, kind=st.integers(0, 7))
    def others_change(self, job: Job, kind: int) -> None:
        """As it was read some time ago."""
        changes = [
            publish_due(job, republish_after_s=-1000),
            defer_check(job, in_s=1000),
            rescue(job, max_lost=3, retry_in_s=-1000, republish_after_s=1000, retention_s=1000),
            begin_dead_lettering(job, again_in_s=1000),
            dead_lettered(job, retention_s=1000),
            fail_queued(job, ERROR),
            requeue(job, republish_after_s=1000, note="requeued"),
            requeue(job, republish_after_s=-1000, note="", forget_journal=True),
        ]
        wanted = [
            (Status.SCHEDULED, Status.RETRYING),
            (Status.QUEUED,),
            (Status.PROCESSING,),
            (Status.FAILED,),
            (Status.FAILED,),
            (Status.QUEUED,),
            (Status.FAILED,),
            (Status.FAILED,),
        ]
        if job.status in wanted[kind]:
            self.change(changes[kind])

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        if self.change(cancel_waiting(job_id, retention_s=1000)) is None:
            self.change(request_cancel(job_id))

    @rule()
    def heartbeat(self) -> None:
        records = [self.record(job_id) for job_id in self.ids]
        held = {job.id: job.token or "none" for job in records}
        self.same([self.run(ledger.heartbeat(held, lease_s=1000)) for ledger in self.ledgers])

    @rule()
    def look_at_all(self) -> None:
        for status in (None, *Status):
            wanted = JobFilter(status=status)
            self.same([self.run(ledger.find(wanted)) for ledger in self.ledgers])
        self.same([self.run(ledger.due("general")) for ledger in self.ledgers])
        self.same([self.run(ledger.count("general")) for ledger in self.ledgers])
        self.same([self.run(ledger.queued("general", "taskiq")) for ledger in self.ledgers])

    @invariant()
    def the_promises_hold(self) -> None:
        for job_id in self.ids:
            job = self.record(job_id)
            entries = [entry.status for entry in job.history]
            assert entries[-1] is job.status
            assert [e.seq for e in job.history] == sorted({e.seq for e in job.history})
            ends = [entry.round for entry in job.history if entry.status.is_terminal]
            assert len(ends) == len(set(ends)), "it ends once a round"
            assert job.round == 1 + sum(
                before.status is Status.FAILED
                for before, _ in zip(job.history, job.history[1:], strict=False)
            )
            assert job.claim_no == entries.count(Status.PROCESSING)
            if job.status.is_terminal:
                assert (job.expires_at is None) == (job.due_at is not None)
            else:
                assert job.expires_at is None, "MongoDB would delete an open job"
                assert job.due_at is not None, "nobody would ever act on it"
                assert job.ended_at is None
            if job.status is Status.PROCESSING:
                assert job.token is not None
            elif job.cancel_requested:
                assert job.status.is_terminal, "nobody would honour the flag"
            assert job.attempt + job.lost <= job.claim_no + 1

    @invariant()
    def usage_counts_each_entry_once(self) -> None:
        for job_id in self.ids:
            counted = self.counted.get(job_id, {})
            assert self.record(job_id).usage.get("calls", 0) == sum(counted.values())

    @invariant()
    def the_tally_finds_nothing(self) -> None:
        nobody: tuple[str, ...] = ()
        audit = self.same(
            [
                self.run(ledger.audit(Scope(), overdue_s=0, dispatched=nobody))
                for ledger in self.ledgers
            ]
        )
        assert audit.is_sound
        assert audit.accepted == len(self.ids)

    @invariant()
    def a_claim_is_settled_once(self) -> None:
        assert all(len(change_ids) == 1 for change_ids in self.granted.values())


QUIET = list(HealthCheck)  # how fast the servers answer is no finding


def test_the_promises_hold_in_any_order_of_writes() -> None:
    run_state_machine_as_test(
        LedgerMachine,
        settings=settings(
            max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=QUIET
        ),
    )


def test_both_ledgers_say_the_same_in_any_order_of_writes(services: Services) -> None:
    class BothLedgers(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(services.mongodb.url)

    run_state_machine_as_test(
        BothLedgers,
        settings=settings(
            max_examples=20, stateful_step_count=30, deadline=None, suppress_health_check=QUIET
        ),
    )
