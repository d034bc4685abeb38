"""Async code that blocks the event loop is named, told to stop, and at last costs its process."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from api_shared.errors import LedgerUnavailable, SoftTimeLimitExceeded
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing.waiting import until
from api_shared.worker.process import watchdog as watchdog_module
from api_shared.worker.process.watchdog import EXIT_CODE, Watchdog
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import HeldClaim, RunningTask, Stop, running_claim
from fixtures.doubles import Clock
from fixtures.ledgers import claimed, inserted

AT_MOST_S = 30.0
HEARTBEAT_S = 1.6
"""The loop counts as blocked after the half of it. A shorter one leaves the blocking code a few
milliseconds to answer in, which a busy machine may not grant it."""


@dataclass
class Rescuer:
    """Notes what it is asked; `stops` is what it answers."""

    stops: dict[str, Stop | None] = field(default_factory=dict)
    error: Exception | None = None
    renewed: int = 0
    handed_on: list[tuple[HeldClaim | None, Stop | None]] = field(default_factory=list)

    def renew(self) -> dict[str, Stop | None]:
        self.renewed += 1
        if self.error is not None:
            raise self.error
        return self.stops

    def release_all(self, blocker: Any, stop: Any, _stack: str) -> None:
        self.handed_on.append((blocker, stop))
        if self.error is not None:
            raise self.error


class Place:
    """A loop with a watchdog; `exited` is set where a worker's process would be gone."""

    def __init__(self, limit_s: float) -> None:
        self.ledger = MemoryLedger(Clock())
        self.claims = ClaimRegistry(self.ledger, lease_s=15, heartbeat_s=4)
        self.rescuer = Rescuer()
        self.codes: list[int] = []
        self.exited = threading.Event()
        self.dog = Watchdog(
            self.claims,
            self.rescuer,
            lease_s=15,
            heartbeat_s=HEARTBEAT_S,
            limit_s=limit_s,
            exit_now=self.exit,
        )

    def exit(self, code: int) -> None:
        self.codes.append(code)
        self.exited.set()

    async def claim(self) -> HeldClaim:
        job = await inserted(self.ledger)
        job, token = await claimed(self.ledger, job.id)
        claim = HeldClaim(job, token, self.ledger, MemoryNotifier())
        self.claims.add(claim)
        return claim

    async def run(self, claim: HeldClaim, call: Any, *, soft_s: float, hard_s: float) -> str:
        """`call` in a body of `claim`, blocking; a task within the body, as a TaskGroup makes."""

        async def inner() -> str:
            return str(call())

        async def body() -> str:
            running_claim.set(claim)
            return await asyncio.create_task(inner())

        task = asyncio.create_task(body())
        claim.running = RunningTask(task, soft_s, hard_s)
        return await task


@pytest.fixture
async def place(request: pytest.FixtureRequest) -> Any:
    place = Place(limit_s=getattr(request, "param", AT_MOST_S))
    place.dog.start()
    beating = asyncio.create_task(place.dog.beat())
    yield place
    place.dog.stop()
    beating.cancel()


def spin_until(event: threading.Event) -> str:
    """Python code that blocks, swallowing whatever is raised in it."""
    deadline = time.monotonic() + AT_MOST_S
    while not event.is_set() and time.monotonic() < deadline:
        try:
            while not event.is_set() and time.monotonic() < deadline:
                pass
        except BaseException:
            continue
    return "went on"


def spin() -> str:
    deadline = time.monotonic() + AT_MOST_S
    while time.monotonic() < deadline:
        time.sleep(0.001)
    return "went on"


async def test_the_job_and_the_line_that_block_are_named_and_the_leases_kept(
    place: Place,
) -> None:
    claim = await place.claim()

    def block() -> str:
        deadline = time.monotonic() + AT_MOST_S
        while place.rescuer.renewed < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        return "done"

    with capture_logs() as logs:
        assert await place.run(claim, block, soft_s=100, hard_s=100) == "done"
        assert place.rescuer.renewed >= 2
        await until(lambda: "loop.unblocked" in {line["event"] for line in logs})
    # A busy machine may have held up the test's own loop besides.
    named = {line["job_id"]: line for line in logs if line["event"] == "loop.blocked"}
    assert named[claim.job.id]["task"] == claim.job.task
    assert "in block" in named[claim.job.id]["stack"]
    assert place.codes == []


async def test_code_that_keeps_the_interpreter_from_the_start_on_has_its_time_counted() -> None:
    """The thread gets no turn then: the timer runs before it has had one."""
    claims = ClaimRegistry(MemoryLedger(Clock()), lease_s=15, heartbeat_s=4)
    dog = Watchdog(claims, Rescuer(), lease_s=15, heartbeat_s=1_000, limit_s=100)
    dog.start()
    left_s, _ = signal.getitimer(signal.ITIMER_VIRTUAL)
    dog.stop()
    assert left_s == pytest.approx(15, abs=1)


async def test_a_loop_that_turns_is_left_alone(place: Place) -> None:
    claim = await place.claim()
    with capture_logs() as logs:
        ends_at = time.monotonic() + HEARTBEAT_S
        while time.monotonic() < ends_at:  # noqa: ASYNC110 - it is the turning that counts
            await asyncio.sleep(0.01)
    assert claim.stop_reason is None
    assert place.codes == []
    assert [line for line in logs if line["event"] == "worker.ends_itself"] == []


async def test_blocking_code_is_told_of_its_soft_limit_and_costs_nobody(place: Place) -> None:
    claim = await place.claim()
    with pytest.raises(SoftTimeLimitExceeded):
        await place.run(claim, spin, soft_s=0.2, hard_s=100)
    assert place.codes == []


async def test_blocking_code_that_is_cancelled_is_stopped(place: Place) -> None:
    claim = await place.claim()
    place.rescuer.stops[claim.job.id] = Stop.CANCEL
    with pytest.raises(asyncio.CancelledError):
        await place.run(claim, spin, soft_s=100, hard_s=100)
    assert claim.stop_reason is Stop.CANCEL
    assert place.codes == []


@pytest.mark.parametrize("stop", [None, Stop.CANCEL, Stop.LOST])
@pytest.mark.parametrize("error", [None, LedgerUnavailable("away"), KeyError("no such task")])
async def test_deaf_code_costs_its_process_after_its_jobs_were_handed_on(
    place: Place, monkeypatch: pytest.MonkeyPatch, stop: Stop | None, error: Exception | None
) -> None:
    monkeypatch.setattr(watchdog_module, "STOP_GRACE_S", 0.05)
    claim = await place.claim()
    place.rescuer.stops[claim.job.id] = stop
    hard_s = 100 if stop and not error else 2.0
    place.rescuer.error = error
    await place.run(claim, lambda: spin_until(place.exited), soft_s=0.2, hard_s=hard_s)
    assert place.codes[0] == EXIT_CODE
    told = None if error else stop
    assert place.rescuer.handed_on[0] == (claim, told)


@pytest.mark.parametrize("place", [0.3], indirect=True)
async def test_what_blocks_and_is_no_jobs_has_a_limit_too(place: Place) -> None:
    spin_until(place.exited)
    assert place.codes[0] == EXIT_CODE
    assert place.rescuer.handed_on[0] == (None, None)
