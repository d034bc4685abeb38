"""
The watchdog: a thread that notices when a job's async code blocks the event loop.

While the loop is blocked, the watchdog logs the job and the line, renews the leases of the process,
and raises in the blocking code when its job must stop. At the job's hard limit it ends the process.
The other jobs of the process are released, and no attempt is counted for them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from types import FrameType

import structlog

from api_shared.errors import LedgerUnavailable, SoftTimeLimitExceeded
from api_shared.worker.process.watchdog_ledger import Rescue
from api_shared.worker.run import execute
from api_shared.worker.run.execute import STOP_GRACE_S
from api_shared.worker.run.heartbeat import ClaimRegistry
from api_shared.worker.run.held_claim import HeldClaim, Stop, running_claim

log = structlog.get_logger()

BLOCKED_AFTER_S = 2.0
"""How long the loop may be silent before it counts as blocked; at most half a heartbeat."""
MOST_FRAMES = 30
EXIT_CODE = 70

_CALLERS = {execute.__file__, asyncio.events.__file__}

_LOOK = signal.SIGURG
"""Sent to the main thread: its handler runs in the context of the code that blocks. By default
this signal is ignored, and nothing else of a worker uses it."""


@dataclass(slots=True)
class _Block:
    """A time in which the loop does not run."""

    began: float
    claim: HeldClaim | None
    stack: str
    renewed_at: float = 0.0
    stop: Stop | None = None
    stop_asked_at: float = inf
    raised: set[str] = field(default_factory=set)
    """What was raised in the blocking code: "limit", "stop"."""


class Watchdog:
    """
    Runs from `start` to `stop`, which the event loop's thread calls. `beat` is a task of the loop.

    Code that holds the interpreter itself (one call into C) stops this thread too. For that there
    is a timer of CPU time, which only this thread resets: it ends the process by SIGVTALRM.
    """

    def __init__(
        self,
        claims: ClaimRegistry,
        rescue: Rescue,
        *,
        lease_s: float,
        heartbeat_s: float,
        limit_s: float,
        exit_now: Callable[[int], None] = os._exit,
    ) -> None:
        self._claims = claims
        self._rescue = rescue
        self._heartbeat_s = heartbeat_s
        self._limit_s = limit_s
        self._blocked_after_s = min(BLOCKED_AFTER_S, heartbeat_s / 2)
        self._tick_s = self._blocked_after_s / 4
        self._exit_now = exit_now
        # Threads that compute beside the loop count, too: as many as there are cores.
        self._cpu_limit_s = max(lease_s, 4 * self._tick_s * (os.cpu_count() or 1))
        self._beaten_at = monotonic()
        self._block: _Block | None = None
        self._seen: HeldClaim | None = None
        self._main = threading.get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        """In the main thread, which runs the loop."""
        self._main, self._loop = threading.get_ident(), asyncio.get_running_loop()
        signal.signal(_LOOK, self._look)
        if not faulthandler.is_enabled():
            faulthandler.enable()
        faulthandler.register(signal.SIGVTALRM, chain=True)
        self._beaten_at = monotonic()
        # At once: the thread may never run.
        signal.setitimer(signal.ITIMER_VIRTUAL, self._cpu_limit_s)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        faulthandler.unregister(signal.SIGVTALRM)
        signal.signal(_LOOK, signal.SIG_DFL)

    async def beat(self) -> None:
        """Note for ever that the loop runs."""
        while True:
            self._beaten_at = monotonic()
            await asyncio.sleep(self._tick_s / 2)

    def _watch(self) -> None:
        ticked_at = monotonic()
        while not self._ended.wait(self._tick_s):
            signal.setitimer(signal.ITIMER_VIRTUAL, self._cpu_limit_s)
            now = monotonic()
            if now - ticked_at > self._tick_s + self._blocked_after_s / 2:
                self._beaten_at = now  # this thread stood still as well: the machine, or a SIGSTOP
            try:
                self._tick(now)
            except Exception:
                log.exception("watchdog.failed")
            ticked_at = monotonic()

    def _tick(self, now: float) -> None:
        silent_s = now - self._beaten_at
        if silent_s < self._blocked_after_s:
            if self._block is not None:
                blocked_s = round(self._beaten_at - self._block.began, 1)
                log.warning("loop.unblocked", blocked_s=blocked_s, **_named(self._block.claim))
                self._block = None
            return
        self._seen = self._owner_by_task()
        signal.pthread_kill(self._main, _LOOK)
        self._ended.wait(self._tick_s / 5)  # for its handler, if it can run
        if self._beaten_at > now:
            return
        block = self._block
        if block is None:
            block = _Block(self._beaten_at, self._seen, self._stack())
            self._block = block
            log.error(
                "loop.blocked",
                blocked_s=round(silent_s, 1),
                stack=block.stack,
                **_named(block.claim),
            )
        elif self._seen not in (None, block.claim):  # None: its handler has not run in time
            block.claim, block.stack = self._seen, self._stack()
        if now >= self._ends_at(block):
            self._end_process(block, now)
        if now - block.renewed_at >= self._heartbeat_s:
            block.renewed_at = now
            self._renew(block, now)

    def _ends_at(self, block: _Block) -> float:
        """When the process must end. Blocking code of no job has a limit too."""
        running = None if block.claim is None else block.claim.running
        limit_at = block.began + self._limit_s if running is None else running.hard_limit_at
        return min(limit_at + self._tick_s, block.stop_asked_at + STOP_GRACE_S)

    def _renew(self, block: _Block, now: float) -> None:
        try:
            stops = self._rescue.renew()
        except LedgerUnavailable as error:
            log.warning("heartbeat.failed", error=str(error))
            return
        stop = None if block.claim is None else stops.get(block.claim.job.id)
        if stop is not None and block.stop is None:
            block.stop, block.stop_asked_at = stop, now

    def _end_process(self, block: _Block, now: float) -> None:
        try:
            log.critical(
                "worker.ends_itself",
                why="its event loop is blocked past the limit",
                blocked_s=round(now - block.began, 1),
                jobs=len(self._claims),
                stack=block.stack,
                **_named(block.claim),
            )
            self._release_all(block)
            sys.stdout.flush()
            sys.stderr.flush()
        finally:  # whatever fails: a process that goes on keeps all its leases for ever
            self._exit_now(EXIT_CODE)

    def _release_all(self, block: _Block) -> None:
        try:
            self._rescue.release_all(block.claim, block.stop, block.stack)
        except LedgerUnavailable as error:
            log.warning("worker.hands_on_failed", error=str(error))
        except Exception:
            log.exception("worker.hands_on_failed")

    def _owner_by_task(self) -> HeldClaim | None:
        """
        The claim by the current asyncio task, for a call that waits in C, where no handler can run.
        """
        running = asyncio.current_task(self._loop)
        bodies = ((claim, claim.running) for claim in self._claims)
        return next((claim for claim, each in bodies if each and each.task is running), None)

    def _stack(self) -> str:
        """The stack of the blocking code, without its callers."""
        frame = sys._current_frames().get(self._main)
        frames = traceback.extract_stack(frame) if frame else []
        ours = [number for number, each in enumerate(frames) if each.filename in _CALLERS]
        start = max(ours[-1] + 1 if ours else 0, len(frames) - MOST_FRAMES)
        return "".join(traceback.format_list(frames[start:]))

    # In the main thread, in the context of whatever runs there.

    def _look(self, _number: int, _frame: FrameType | None) -> None:
        if monotonic() - self._beaten_at < self._blocked_after_s:
            return
        claim = running_claim.get()
        if claim is None or claim not in list(self._claims):
            return
        self._seen = claim
        block = self._block
        if block is None or block.claim is not claim:
            return
        if block.stop is not None and "stop" not in block.raised:
            block.raised.add("stop")
            claim.stop(block.stop)
            raise asyncio.CancelledError
        running = claim.running
        if running and monotonic() >= running.soft_limit_at and "limit" not in block.raised:
            block.raised.add("limit")
            raise SoftTimeLimitExceeded(running.soft_limit_s)


def _named(claim: HeldClaim | None) -> dict[str, object]:
    if claim is None:
        return {"job_id": None, "task": None}
    return {"job_id": claim.job.id, "task": claim.job.task}
