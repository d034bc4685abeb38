"""What a delivery makes of a job that is not simply there to be claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from pydantic import BaseModel, field_validator

from api_shared.client.contract import Contract
from api_shared.client.job_broker import JobBroker
from api_shared.errors import UnreadableRecord
from api_shared.job import Job, JobError, Reason, Status, UniqueScope
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.ledger.operations import Claimed, Complete, Fail, Insert, Operation, Refused
from api_shared.ledger.transitions import requeue
from api_shared.testing.memory_broker import SilentConsumer
from api_shared.transport.consumer import Delivery
from api_shared.transport.dead_letter_headers import dead_letter_headers_of
from api_shared.transport.errors import RabbitUnavailable
from api_shared.transport.message import ACCEPTED, decode, encode
from api_shared.worker.run.claim import claim_job
from api_shared.worker.run.errors import NotOurs
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.worker_runtime import DEAD_LETTER_PAUSE_S
from fixtures.doubles import Clock, RecordingPublisher, runtime_on
from fixtures.faulty_ledger import FaultyLedger
from fixtures.ledgers import a_job, claimed, inserted
from fixtures.worker_runtime import worker_runtime

V = TypeVar("V")

ERROR = JobError(Reason.ERROR, "ValueError", "no luck")


class Text(BaseModel):
    text: str

    @field_validator("text")
    @classmethod
    def _is_known(cls, text: str) -> str:
        return {"strange": {}}.get(text, {text: text})[text]


CONTRACT = Contract("text.summarize", Text, str, broker="general")


class Answers:
    """What became of a delivery."""

    def __init__(self) -> None:
        self.acked = self.given_back = 0

    def ack(self, tag: int) -> None:
        self.acked += 1

    def requeue(self, tag: int) -> None:
        self.given_back += 1


class Pauses(SilentConsumer):
    """How long no messages were to be taken."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def pause(self, seconds: float) -> None:
        self.seconds.append(seconds)


class Intake:
    """A worker's side up to the claim."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.ledger = FaultyLedger(self.clock)
        self.publisher = RecordingPublisher()
        self.answers = Answers()
        self.pauses = Pauses()
        self.runtime = runtime_on(self.ledger, self.publisher)
        broker = JobBroker("general")
        self.task = broker.task(CONTRACT)(_summarize)
        self.worker = worker_runtime(self.runtime, consumer=self.pauses, publisher=self.publisher)

    async def deliver(
        self, body: bytes, headers: Mapping[str, Any], *, priority: int = 0
    ) -> HeldClaim | None:
        """None: it gave no job to run."""
        delivery = Delivery(
            (0, -priority, 0),
            body,
            self.runtime.topology.default,
            dict(headers),
            1,
            self.answers,
        )
        message = decode(body, max_bytes=len(body))
        try:
            return await claim_job(self.task, delivery, message, self.worker)
        except NotOurs:
            return None

    async def fail(self, job_id: str) -> tuple[bytes, dict[str, Any]]:
        """Claim and fail the job; its dead letter, as it lies in the queue."""
        held, token = await claimed(self.ledger, job_id)
        assert await self.ledger.apply(Fail(job_id, token, held.seq + 1, ERROR, 5))
        await self.worker.dead_letters.dead_letter_job(await self.read(job_id))
        return self.publisher.dead[-1][1], {
            ACCEPTED: 1,
            **self.publisher.dead_letter_headers[-1].headers,
        }

    async def read(self, job_id: str) -> Job:
        job = await self.ledger.get(job_id)
        assert job is not None
        return job


async def _summarize(text: str) -> str:
    return text


@pytest.fixture
def intake() -> Intake:
    return Intake()


async def test_a_dead_letter_moved_back_begins_the_next_round(intake: Intake) -> None:
    job = await inserted(intake.ledger)
    body, headers = await intake.fail(job.id)
    claim = await intake.deliver(body, headers)
    assert claim is not None
    assert (claim.job.round, claim.job.attempt, claim.job.status) == (2, 0, Status.PROCESSING)
    assert claim.job.expires_at is None
    assert "dead letter moved back after error: no luck" in [e.note for e in claim.job.history]
    assert intake.answers.acked == 1


async def test_a_stale_dead_letter_is_dropped_and_its_job_left_alone(intake: Intake) -> None:
    job = await inserted(intake.ledger)
    body, headers = await intake.fail(job.id)
    failed = await intake.read(job.id)
    await intake.ledger.change(requeue(failed, republish_after_s=30, note=""))
    await intake.fail(job.id)
    before = await intake.read(job.id)
    assert (before.round, before.status) == (2, Status.FAILED)
    assert await intake.deliver(body, headers) is None
    assert await intake.read(job.id) == before
    assert intake.answers.acked == 1
    assert len(intake.publisher.dead) == 2, "the present round's dead letter is there already"


async def test_a_message_that_is_no_dead_letter_cannot_begin_a_round(intake: Intake) -> None:
    job = await inserted(intake.ledger)
    body, _ = await intake.fail(job.id)
    before = await intake.read(job.id)
    assert await intake.deliver(body, {ACCEPTED: 1}) is None
    assert await intake.read(job.id) == before
    assert (intake.answers.acked, len(intake.publisher.dead)) == (1, 1)


@pytest.mark.parametrize("headers", [{"x-dead-reason": "error"}, {"x-dead-reason": b"error"}])
async def test_a_dead_letter_that_names_no_round_is_of_the_first(
    intake: Intake, headers: dict[str, Any]
) -> None:
    job = await inserted(intake.ledger)
    body, _ = await intake.fail(job.id)
    claim = await intake.deliver(body, headers)
    assert claim is not None
    assert claim.job.round == 2


async def test_a_message_of_another_task_under_a_failed_jobs_id_is_kept_and_begins_nothing(
    intake: Intake,
) -> None:
    job = await inserted(intake.ledger, task="text.keywords")
    _, headers = await intake.fail(job.id)
    before = await intake.read(job.id)
    assert await intake.deliver(encode(a_job(id=job.id)), headers) is None
    assert await intake.read(job.id) == before
    assert [reason for _, _, reason, _ in intake.publisher.dead] == ["error", "unreadable"]


async def test_a_message_of_another_task_under_a_queued_jobs_id_does_not_keep_its_claim(
    intake: Intake,
) -> None:
    job = await inserted(intake.ledger, task="text.keywords")
    assert await intake.deliver(encode(a_job(id=job.id)), {ACCEPTED: 1}) is None
    released = await intake.read(job.id)
    assert (released.status, released.attempt, released.lost) == (Status.RETRYING, 0, 0)
    assert released.due_at == intake.clock.now
    assert released.history[-1].note == "claimed by a message of another task"
    assert [reason for _, _, reason, _ in intake.publisher.dead] == ["unreadable"]
    assert intake.answers.acked == 1


async def test_a_job_that_turns_queued_while_its_claim_is_refused_is_claimed_at_once(
    intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await inserted(intake.ledger)
    apply, refusals = intake.ledger.apply, [Refused(job)]

    async def read_back_too_late(operation: Operation[Any], **deadline: Any) -> Any:
        return refusals.pop() if refusals else await apply(operation, **deadline)

    monkeypatch.setattr(intake.ledger, "apply", read_back_too_late)
    claim = await intake.deliver(encode(job), {ACCEPTED: 1})
    assert claim is not None
    assert (claim.job.id, claim.job.claim_no) == (job.id, 1)
    assert intake.answers.acked == 1


async def test_of_two_copies_moved_back_one_runs(intake: Intake) -> None:
    job = await inserted(intake.ledger)
    body, headers = await intake.fail(job.id)
    taken = [await intake.deliver(body, headers) for _ in range(2)]
    assert [claim is not None for claim in taken] == [True, False]
    assert intake.answers.acked == 2
    assert (await intake.read(job.id)).round == 2


async def test_a_dead_letter_whose_record_has_expired_is_recorded_again(intake: Intake) -> None:
    job = await inserted(intake.ledger, owner="ann", correlation_id="c-1", priority=7)
    body, headers = await intake.fail(job.id)
    intake.clock.advance(intake.runtime.settings.retention_s + 1)
    assert await intake.ledger.get(job.id) is None
    claim = await intake.deliver(body, headers, priority=7)
    assert claim is not None
    again = claim.job
    assert (again.id, again.round, again.args) == (job.id, 2, job.args)
    assert (again.owner, again.correlation_id, again.priority) == ("ann", "c-1", 7)


async def test_a_job_long_forgotten_is_dead_lettered_and_runs_when_it_is_moved_back(
    intake: Intake,
) -> None:
    body = encode(a_job())
    assert await intake.deliver(body, {ACCEPTED: 1}) is None
    assert [reason for _, _, reason, _ in intake.publisher.dead] == ["forgotten"]
    claim = await intake.deliver(
        body, {ACCEPTED: 1, **intake.publisher.dead_letter_headers[-1].headers}
    )
    assert claim is not None
    assert claim.job.round == 1


async def test_while_rabbitmq_takes_no_dead_letters_no_messages_are_taken_either(
    intake: Intake,
) -> None:
    intake.publisher.error = RabbitUnavailable("not connected")
    assert await intake.deliver(encode(a_job()), {ACCEPTED: 1}) is None
    assert (intake.answers.given_back, intake.pauses.seconds) == (1, [DEAD_LETTER_PAUSE_S])


async def test_a_dead_letter_of_a_job_that_ended_otherwise_is_dropped(intake: Intake) -> None:
    job = await inserted(intake.ledger)
    body, headers = await intake.fail(job.id)
    claim = await intake.deliver(body, headers)
    assert claim is not None
    seq = claim.job.seq + 1
    assert await intake.ledger.apply(Complete(job.id, claim.token, seq, '"x"', 60))
    before = await intake.read(job.id)
    assert await intake.deliver(body, headers) is None
    assert await intake.read(job.id) == before


async def test_a_dead_letter_whose_unique_twin_is_open_is_one_again_and_names_it(
    intake: Intake,
) -> None:
    unique: dict[str, Any] = {
        "unique_key": "k",
        "unique_scope": UniqueScope.OPEN,
        "unique_held": True,
    }
    job = await inserted(intake.ledger, **unique)
    body, headers = await intake.fail(job.id)
    twin = await inserted(intake.ledger, **unique)
    assert await intake.deliver(body, headers) is None
    assert (await intake.read(job.id)).status is Status.FAILED
    _, _, reason, detail = intake.publisher.dead[-1]
    assert reason == "unique_taken"
    assert twin.id in detail
    # Once the twin has ended, the same dead letter can be moved back.
    again = {**headers, **intake.publisher.dead_letter_headers[-1].headers}
    assert (dead_letter := dead_letter_headers_of(again)) is not None
    assert dead_letter == replace(intake.publisher.dead_letter_headers[-1], round=1)
    await intake.fail(twin.id)
    assert await intake.deliver(body, again) is not None


async def test_a_foreign_message_whose_record_is_uncertain_comes_again_after_a_pause(
    intake: Intake,
) -> None:
    intake.ledger.lose_answer.add(Insert)
    body = encode(a_job())
    assert await intake.deliver(body, {}) is None
    intake.ledger.lose_answer.clear()
    assert (intake.answers.acked, intake.answers.given_back) == (0, 1)
    assert len(intake.pauses.seconds) == 1
    claim = await intake.deliver(body, {})
    assert claim is not None
    assert claim.job.claim_no == 1


async def test_a_foreign_message_that_breaks_its_contracts_validator_is_dead_lettered(
    intake: Intake,
) -> None:
    body = encode(a_job(args_json='{"text": "strange"}'))
    assert await intake.deliver(body, {}) is None
    assert [reason for _, _, reason, _ in intake.publisher.dead] == ["invalid_arguments"]
    assert (intake.answers.acked, intake.answers.given_back) == (1, 0)


class ReadsNoClaim(MemoryLedger):
    """A newer release has written its jobs."""

    async def apply(self, operation: Operation[V], *, deadline_s: float | None = None) -> V:
        verdict = await super().apply(operation, deadline_s=deadline_s)
        if isinstance(verdict, (Claimed, Refused)) and verdict.job is not None:
            raise UnreadableRecord("job", verdict.job.id, "no words", seq=verdict.job.seq)
        return verdict


async def test_a_job_that_this_release_cannot_read_is_left_to_other_workers(
    intake: Intake,
) -> None:
    ledger = ReadsNoClaim(intake.clock)
    intake.worker = replace(intake.worker, runtime=replace(intake.runtime, ledger=ledger))
    job = await inserted(ledger)
    assert await intake.deliver(encode(job), {ACCEPTED: 1}) is None
    left = await ledger.get(job.id)
    assert left is not None
    assert (left.status, left.attempt, left.lost) == (Status.RETRYING, 0, 0)
    assert left.history[-1].note == "written by another release than this worker's"
    assert (intake.answers.acked, intake.publisher.dead) == (1, [])


async def test_a_dead_letter_moved_back_is_kept_where_this_release_cannot_read_its_job(
    intake: Intake,
) -> None:
    job = await inserted(intake.ledger)
    body, headers = await intake.fail(job.id)
    ledger = ReadsNoClaim(intake.clock)
    await inserted(ledger, id=job.id, status=Status.FAILED)
    intake.worker = replace(intake.worker, runtime=replace(intake.runtime, ledger=ledger))
    assert await intake.deliver(body, headers) is None
    assert [reason for _, _, reason, _ in intake.publisher.dead] == ["error", "unreadable"]
    assert intake.answers.acked == 1
