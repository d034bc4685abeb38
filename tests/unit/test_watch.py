"""`watch`: each change of status once and in order, whatever the notifier lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api_shared.client.follow.watch import watch
from api_shared.errors import JobNotFound, LedgerUnavailable
from api_shared.job import Entry, Job, Progress, Status, new_job_id
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.events import JobEvent, status_event
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing.waiting import until

Q, P, R = Status.QUEUED, Status.PROCESSING, Status.RETRYING
C, F = Status.COMPLETED, Status.FAILED
RARELY_S = 600.0
START = datetime(2026, 1, 1, tzinfo=UTC)


class Record(MemoryLedger):
    """A ledger of one job whose life a test writes line by line."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.unavailable = 0
        self.job: Job | None = Job(
            id=new_job_id(),
            task="ml.train",
            broker="ml",
            queue="training",
            args_json="{}",
            status=Q,
            seq=0,
            accepted_at=START,
            history=(Entry(0, Q, START, "c0"),),
        )

    async def get(self, job_id: str) -> Job | None:
        self.reads += 1
        if self.unavailable:
            self.unavailable -= 1
            raise LedgerUnavailable("no primary")
        return self.job

    @property
    def id(self) -> str:
        assert self.job is not None
        return self.job.id

    def enter(self, status: Status, *, round_: int = 1) -> JobEvent:
        assert self.job is not None
        seq = self.job.seq + 1
        line = Entry(seq, status, START + timedelta(seconds=seq), f"c{seq}", round=round_)
        history = (*self.job.history, line)
        self.job = replace(self.job, status=status, seq=seq, history=history, round=round_)
        return status_event(self.job)

    def advance(self, done: float, *, by: int = 1) -> JobEvent:
        assert self.job is not None
        progress = Progress(done, 10)
        self.job = replace(self.job, seq=self.job.seq + by, progress=progress)
        return replace(status_event(self.job), kind="progress", progress=progress)

    def unwritten(self, ahead: int) -> JobEvent:
        """A progress that is told, and whose number the ledger never has."""
        assert self.job is not None
        told = status_event(self.job)
        return replace(told, kind="progress", seq=told.seq + ahead, progress=Progress(ahead, 10))


def statuses(events: list[JobEvent]) -> list[Status]:
    return [event.status for event in events if event.kind == "status"]


async def first(count: int, events: AsyncIterator[JobEvent]) -> list[JobEvent]:
    async with asyncio.timeout(30):
        return [await anext(events) for _ in range(count)]


async def rest(events: AsyncIterator[JobEvent]) -> list[JobEvent]:
    async with asyncio.timeout(30):
        return [event async for event in events]


async def test_a_life_told_without_loss_costs_one_read() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    seen = await first(1, events)
    for status in (P, R, Q, P, C):
        notifier.publish(ledger.enter(status))
    seen += await rest(events)
    assert statuses(seen) == [Q, P, R, Q, P, C]
    assert ledger.reads == 1


async def test_an_end_that_follows_progress_costs_one_read_more() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    seen = await first(1, events)
    for told in (ledger.enter(P), ledger.advance(3), ledger.enter(C)):
        notifier.publish(told)
    seen += await rest(events)
    assert [(event.kind, event.seq) for event in seen] == [
        ("status", 0),
        ("status", 1),
        ("progress", 2),
        ("status", 3),
    ]
    assert ledger.reads == 2


async def test_who_comes_late_is_told_the_whole_round() -> None:
    ledger = Record()
    for status in (P, R, Q, P, C):
        ledger.enter(status)
    seen = await rest(watch(ledger.id, ledger=ledger, notifier=MemoryNotifier()))
    assert statuses(seen) == [Q, P, R, Q, P, C]
    assert [event.seq for event in seen] == list(range(6))
    assert [event.at for event in seen] == [START + timedelta(seconds=n) for n in range(6)]


async def test_who_comes_in_the_middle_of_a_run_is_told_how_far_it_is() -> None:
    ledger = Record()
    ledger.enter(P)
    ledger.advance(4)
    events = watch(ledger.id, ledger=ledger, notifier=MemoryNotifier())
    seen = await first(3, events)
    assert (seen[2].kind, seen[2].progress) == ("progress", Progress(4, 10))


async def test_an_event_that_was_lost_is_filled_in_from_the_history() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    seen = await first(1, events)
    ledger.enter(P)
    notifier.publish(ledger.enter(R))
    seen += await first(2, events)
    assert statuses(seen) == [Q, P, R]


async def test_events_that_overtook_each_other_are_put_in_order() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    seen = await first(1, events)
    early, late = ledger.enter(P), ledger.enter(C)
    for told in (late, early, late):
        notifier.publish(told)
    seen += await rest(events)
    assert statuses(seen) == [Q, P, C]


async def test_progress_that_is_older_than_what_was_told_is_passed_over() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    await first(1, events)
    notifier.publish(ledger.enter(P))
    await first(1, events)
    old, new = ledger.advance(1), ledger.advance(2, by=5)
    notifier.publish(new)
    seen = await first(1, events)
    notifier.publish(old)
    notifier.publish(ledger.enter(C))
    seen += await rest(events)
    assert [(event.kind, event.seq) for event in seen] == [("progress", 7), ("status", 8)]


async def test_progress_that_a_lost_claim_never_wrote_hides_no_change() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    seen = await first(1, events)
    told = [ledger.enter(P), *(ledger.unwritten(ahead) for ahead in range(1, 10))]
    for event in (*told, ledger.enter(Q), ledger.enter(P), ledger.unwritten(1)):
        notifier.publish(event)
        seen += await first(1, events)
    notifier.publish(ledger.enter(C))
    seen += await rest(events)
    assert ledger.job is not None
    assert [e.seq for e in seen if e.kind == "status"] == [e.seq for e in ledger.job.history]
    assert [e.seq for e in seen if e.kind == "progress"] == [*range(2, 11), 4]


async def test_what_the_ledger_has_of_progress_does_not_take_the_listener_back() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=0.01)
    await first(1, events)
    for told in (ledger.enter(P), ledger.advance(1), ledger.unwritten(5)):
        notifier.publish(told)
        await first(1, events)
    following = asyncio.ensure_future(anext(events))
    read_again = ledger.reads + 2
    await until(lambda: ledger.reads >= read_again)
    notifier.publish(ledger.enter(C))
    assert (await following).status is C


async def test_progress_of_a_claim_nobody_told_of_brings_the_claim() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    await first(1, events)
    ledger.enter(P)
    notifier.publish(ledger.advance(1))
    seen = await first(2, events)
    assert [(event.kind, event.seq) for event in seen] == [("status", 1), ("progress", 2)]


async def test_after_a_lost_connection_the_ledger_is_read_at_once() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=RARELY_S)
    await first(1, events)
    ledger.enter(P)
    ledger.enter(C)
    notifier.lose()
    assert statuses(await rest(events)) == [P, C]


async def test_without_a_notifier_the_ledger_alone_tells_all() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    notifier.away = True
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=0.01)
    seen = await first(1, events)
    for status in (P, C):
        notifier.publish(ledger.enter(status))
        seen += await first(1, events)
    assert statuses(seen) == [Q, P, C]
    assert await rest(events) == []


async def test_steady_progress_does_not_keep_the_watcher_from_the_ledger() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    notifier.away = True
    notifier.publish(ledger.enter(P))
    notifier.away = False
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=0.05)
    await first(2, events)
    assert ledger.job is not None
    stale = replace(status_event(ledger.job), kind="progress", progress=Progress(1))
    ledger.enter(C)

    async def keep_telling() -> None:
        for seq in range(1, 100_000):
            notifier.publish(replace(stale, seq=100 + seq))
            await asyncio.sleep(0)

    telling = asyncio.create_task(keep_telling())
    seen = await rest(events)
    telling.cancel()
    assert statuses(seen) == [C]


async def test_a_ledger_that_is_away_for_a_moment_does_not_end_the_watch() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=0.01)
    await first(1, events)
    ledger.unavailable = 3
    ledger.enter(P)
    notifier.publish(ledger.enter(C))
    assert statuses(await rest(events)) == [P, C]


async def test_a_ledger_that_is_away_at_the_start_is_said() -> None:
    ledger = Record()
    ledger.unavailable = 1
    with pytest.raises(LedgerUnavailable):
        await rest(watch(ledger.id, ledger=ledger, notifier=MemoryNotifier()))


async def test_an_unknown_job_is_said() -> None:
    with pytest.raises(JobNotFound):
        await rest(watch(new_job_id(), ledger=MemoryLedger(), notifier=MemoryNotifier()))


async def test_of_a_job_that_was_put_back_only_the_present_round_is_told() -> None:
    ledger = Record()
    ledger.enter(P)
    ledger.enter(F)
    ledger.enter(Q, round_=2)
    ledger.enter(C, round_=2)
    seen = await rest(watch(ledger.id, ledger=ledger, notifier=MemoryNotifier()))
    assert [(event.seq, event.status) for event in seen] == [(3, Q), (4, C)]


async def test_a_history_that_was_cut_still_ends_with_the_last_status() -> None:
    ledger = Record()
    ledger.enter(P)
    ledger.enter(C)
    assert ledger.job is not None
    ledger.job = replace(ledger.job, history=ledger.job.history[:1])
    seen = await rest(watch(ledger.id, ledger=ledger, notifier=MemoryNotifier()))
    assert statuses(seen) == [Q, C]


async def test_a_watcher_that_leaves_is_subscribed_no_more() -> None:
    ledger, notifier = Record(), MemoryNotifier()
    async with aclosing(watch(ledger.id, ledger=ledger, notifier=notifier)) as events:
        await first(1, events)
        assert notifier.listening == 1
    assert notifier.listening == 0


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_whatever_is_lost_repeated_or_overtaken_each_status_is_told_once_in_order(
    data: st.DataObject,
) -> None:
    lives = st.lists(st.sampled_from(["run", "progress", "unwritten"]), max_size=8)
    steps = data.draw(lives, label="life")

    async def scenario() -> None:
        ledger, notifier = Record(), MemoryNotifier()
        told = []
        for step in steps:
            if step == "run":
                told += [ledger.enter(status) for status in (P, R, Q)]
            elif step == "unwritten":
                told.append(ledger.enter(P))
                told += [ledger.unwritten(ahead) for ahead in range(1, 4)]
                told.append(ledger.enter(Q))
            else:
                told.append(ledger.advance(len(told), by=data.draw(st.integers(1, 3))))
        told += [ledger.enter(P), ledger.enter(C)]
        ended = ledger.job
        in_order = st.lists(st.booleans(), min_size=len(told), max_size=len(told)).map(
            lambda heard: [event for event, is_heard in zip(told, heard, strict=True) if is_heard]
        )
        anyhow = st.lists(st.sampled_from(told), max_size=20)
        arriving = data.draw(st.just(told) | in_order | anyhow, label="arriving")

        ledger.job = replace(
            Record().job or pytest.fail(),
            id=ledger.id,
            history=(ended or pytest.fail()).history[:1],
        )
        events = watch(ledger.id, ledger=ledger, notifier=notifier, reread_s=0.002)
        seen = await first(1, events)
        ledger.job = ended
        for event in arriving:
            notifier.publish(event)
            if data.draw(st.booleans()):
                with suppress(StopAsyncIteration):
                    seen += await first(1, events)
        seen += await rest(events)
        assert ended is not None
        assert [e.seq for e in seen if e.kind == "status"] == [e.seq for e in ended.history]
        for kind, in_a_row in groupby(seen, lambda event: event.kind):
            progress = [event.seq for event in in_a_row if kind == "progress"]
            assert progress == sorted(set(progress))

    asyncio.run(scenario())
