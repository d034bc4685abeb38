"""`ProcessExecutor` with real processes, which are killed in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest
import uvloop

import compute_jobs as jobs
from api_shared.errors import Snooze
from api_shared.testing.freezing import freeze, frozen
from api_shared.testing.waiting import until
from api_shared.worker.job_process import (
    Cancelled,
    ComputeClosed,
    Killed,
    Outcome,
    OutOfMemory,
    ProcessExecutor,
    Raised,
    Returned,
    ServerNotStarted,
    SlotFolder,
    TimedOut,
    fork_server,
)

PRELOAD = ("compute_jobs",)
DEADLINE_S = 60.0
SOFT_S, HARD_S = 2.0, 4.0
"""Limits count from the fork: by then the function must run, on a busy machine too."""


def on_both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test that takes `tmp_path` once on asyncio and once on uvloop."""

    @pytest.mark.parametrize(
        "new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    def on_loop(new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: Path) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(tmp_path))

    on_loop.__name__ = test.__name__
    return on_loop


@contextlib.asynccontextmanager
async def running(**options: Any) -> AsyncIterator[ProcessExecutor]:
    compute = ProcessExecutor(**{"preload": PRELOAD, **options})
    try:
        yield compute
    finally:
        await compute.close()


@pytest.fixture
async def compute() -> AsyncIterator[ProcessExecutor]:
    async with running() as compute:
        yield compute


def state(pid: int) -> str:
    """The letter ps shows; "" if there is no such process. A zombie is init's to reap."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def is_gone(pid: int) -> bool:
    return state(pid) in ("", "Z", "X")


OTHERS: set[int] = set()
"""Children of this process that are no concern of the running test: the servers' keeper, say."""


@pytest.fixture(autouse=True)
def others() -> Iterator[None]:
    OTHERS.update(children(os.getpid()))
    yield
    OTHERS.clear()


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if int(child) not in OTHERS]


def processes_with(variable: str, value: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{variable}={value}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def descriptors_here() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Pid:
    """Takes the process id a job reports as its progress."""

    def __init__(self, then: Callable[[int], None] | None = None) -> None:
        self.value: int | None = None
        self._then = then

    def __call__(self, update: dict[str, Any]) -> None:
        self.value = update["done"]
        if self._then is not None:
            self._then(update["done"])


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


# What a function returns or raises.


@on_both_loops
async def test_a_function_returns(tmp_path: Path) -> None:
    async with running() as compute:
        assert await compute.run(jobs.add, (1,), {"right": 2}) == Returned(b"3")


async def test_a_model_comes_back_as_its_json(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.score, ("spam", 0.5))
    assert outcome == Returned(b'[{"label":"spam","value":0.5}]')


async def test_a_result_without_json_form_is_an_error_that_says_where(
    compute: ProcessExecutor,
) -> None:
    nan = await compute.run(jobs.not_a_number)
    assert isinstance(nan, Raised)
    assert "result['scores'][1]['loss'] is NaN" in nan.message
    odd = await compute.run(jobs.unencodable)
    assert isinstance(odd, Raised)
    assert odd.error_type == "api_shared.worker.job_process.errors.ResultNotEncodable"


async def test_a_result_over_the_limit_is_an_error_that_names_both_sizes() -> None:
    async with running(max_result_bytes=1000) as compute:
        assert isinstance(await compute.run(jobs.text_of_size, (998,)), Returned)
        outcome = await compute.run(jobs.text_of_size, (999,))
    assert isinstance(outcome, Raised)
    assert outcome.error_type == "api_shared.worker.job_process.errors.ResultTooLarge"
    assert outcome.fields == {"size_bytes": 1001, "limit_bytes": 1000}


async def test_an_exception_comes_back_as_text_with_its_classes(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.fail, ("bad input",))
    assert isinstance(outcome, Raised)
    assert outcome.error_type == "builtins.UnicodeError"
    assert outcome.message == "bad input"
    assert outcome.args == ("bad input",)
    assert outcome.is_a(KeyError, ValueError)
    assert not outcome.is_a(KeyError)
    assert "in fail" in outcome.traceback_text
    assert "child.py" not in outcome.traceback_text


async def test_an_exception_keeps_its_fields(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.snooze, (7,))
    assert isinstance(outcome, Raised)
    assert outcome.is_a(Snooze)
    assert outcome.fields == {"delay_s": 7.0, "why": "snoozed"}


async def test_an_exception_whose_text_raises_is_still_told(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.fail_without_text)
    assert isinstance(outcome, Raised)
    assert outcome.error_type == "compute_jobs.fail_without_text.<locals>.Silent"


async def test_sys_exit_is_an_exception_and_os_exit_a_death(compute: ProcessExecutor) -> None:
    polite = await compute.run(jobs.exit_politely, (3,))
    assert isinstance(polite, Raised)
    assert polite.error_type == "builtins.SystemExit"
    for code in (0, 7):
        assert await compute.run(jobs.exit_at_once, (code,)) == Killed(exit_code=code)


async def test_what_a_function_prints_does_not_disturb_the_protocol(
    compute: ProcessExecutor, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await compute.run(jobs.print_much) == Returned(b"null")
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "x" * 100 in captured.err


async def test_a_function_that_taskiq_renamed_is_found() -> None:
    import compute_taskiq_jobs

    async with running(preload=("compute_taskiq_jobs",)) as compute:
        assert await compute.run(compute_taskiq_jobs.double.original_func, (21,)) == Returned(b"42")
        assert await compute.run(compute_taskiq_jobs.double, (21,)) == Returned(b"42")


# Limits.


@on_both_loops
async def test_at_its_soft_limit_a_function_is_interrupted(tmp_path: Path) -> None:
    async with running() as compute:
        outcome = await compute.run(jobs.loop_in_python, soft_limit_s=SOFT_S)
    assert isinstance(outcome, TimedOut)
    assert (outcome.limit_s, outcome.soft) == (SOFT_S, True)
    assert "in loop_in_python" in outcome.traceback_text


async def test_at_its_soft_limit_a_function_can_save_its_work(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.save_at_soft_limit, soft_limit_s=SOFT_S)
    assert outcome == Returned(b'"saved"')


async def test_a_function_can_look_for_the_soft_limit_itself(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.look_at_stop_requested, soft_limit_s=SOFT_S)
    assert outcome == Returned(b'"stopped"')


async def test_a_soft_limit_that_comes_before_the_function_is_not_lost(
    compute: ProcessExecutor,
) -> None:
    outcome = await compute.run(jobs.loop_in_python, soft_limit_s=0.0, hard_limit_s=DEADLINE_S)
    assert isinstance(outcome, TimedOut)
    assert outcome.soft


@pytest.mark.parametrize("function", [jobs.loop_in_c, jobs.swallow_every_error])
async def test_at_its_hard_limit_any_function_is_killed(
    compute: ProcessExecutor, function: Callable[..., object]
) -> None:
    outcome = await compute.run(function, soft_limit_s=SOFT_S, hard_limit_s=HARD_S)
    assert outcome == TimedOut(HARD_S, soft=False)


async def test_too_much_memory_is_told_apart(compute: ProcessExecutor) -> None:
    outcome = await compute.run(jobs.allocate, (8 << 30,), memory_limit_mb=2048)
    assert isinstance(outcome, OutOfMemory)
    assert outcome.limit_mb == 2048
    assert await compute.run(jobs.allocate, (1 << 20,), memory_limit_mb=2048) == Returned(
        str(1 << 20).encode()
    )


# The end of a process, and of what it started.


@on_both_loops
async def test_cancelling_run_kills_the_process(tmp_path: Path) -> None:
    pid = Pid()
    async with running() as compute:
        run = asyncio.create_task(compute.run(jobs.loop_in_c_and_say_so, on_progress=pid))
        await until(lambda: pid.value, what="the job says its pid")
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert pid.value is not None
        assert state(pid.value) == ""
        assert compute.running == 0


async def test_a_killed_job_harms_no_neighbour(compute: ProcessExecutor, tmp_path: Path) -> None:
    sign = tmp_path / "sign"
    began = Pid()
    neighbour = asyncio.create_task(
        compute.run(jobs.wait_for_file, (str(sign),), on_progress=began)
    )
    await until(lambda: began.value, what="the neighbour runs")
    outcome = await compute.run(jobs.say_pid_and_wait, on_progress=Pid(kill))
    assert outcome == Killed(signal=signal.SIGKILL)
    assert await compute.run(jobs.segfault) == Killed(signal=signal.SIGSEGV)
    sign.touch()
    assert await neighbour == Returned(b'"found"')


@pytest.mark.parametrize("own_session", [False, True])
async def test_what_a_job_started_ends_with_it(compute: ProcessExecutor, own_session: bool) -> None:
    outcome = await compute.run(jobs.leave_process_behind, (own_session,))
    assert isinstance(outcome, Returned)
    left = int(outcome.value_json)
    await until(lambda: is_gone(left), what="the process left behind is killed")


async def test_a_daemon_of_a_job_lives_while_the_job_does(
    compute: ProcessExecutor, tmp_path: Path
) -> None:
    sign = tmp_path / "sign"
    began = Pid()
    job = asyncio.create_task(
        compute.run(jobs.start_daemon_and_wait, (str(sign),), on_progress=began)
    )
    await until(lambda: began.value, what="the daemon is there")
    for _ in range(3):  # each end makes the server look for orphans
        await compute.run(jobs.add, (1, 2))
    sign.touch()
    assert await job == Returned(b"true")


async def test_closing_stops_what_runs() -> None:
    pid = Pid()
    compute = ProcessExecutor(preload=PRELOAD)
    run = asyncio.create_task(compute.run(jobs.say_pid_and_wait, on_progress=pid))
    await until(lambda: pid.value, what="the job runs")
    server = compute.server_pid
    await compute.close()
    assert await run == Cancelled()
    assert server is not None
    assert state(server) == ""
    with pytest.raises(ComputeClosed):
        await compute.run(jobs.add, (1, 2))


async def test_closing_while_the_server_starts_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_imported.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.syspath_prepend(tmp_path)
    compute = ProcessExecutor(preload=("never_imported",))
    run = asyncio.create_task(compute.run(jobs.add, (1, 2)))
    await until(lambda: children(os.getpid()), what="the server starts")
    (server,) = children(os.getpid())
    await compute.close()
    with pytest.raises(ComputeClosed):
        await run
    assert state(server) == ""


async def test_a_preload_that_fails_names_the_module() -> None:
    async with running(preload=("no_such_module",)) as compute:
        with pytest.raises(ServerNotStarted, match="no_such_module") as caught:
            await compute.start()
        assert caught.value.module == "no_such_module"
    assert children(os.getpid()) == []


@on_both_loops
async def test_after_the_fork_server_was_killed_the_next_job_runs(tmp_path: Path) -> None:
    pid = Pid()
    async with running() as compute:
        lost = asyncio.create_task(compute.run(jobs.loop_in_c_and_say_so, on_progress=pid))
        await until(lambda: pid.value, what="the job runs")
        assert compute.server_pid is not None
        kill(compute.server_pid)
        outcome = await lost
        assert isinstance(outcome, Killed)
        assert "fork server" in str(outcome)
        assert pid.value is not None
        job = pid.value
        await until(lambda: is_gone(job), what="the job dies with the server")
        assert await compute.run(jobs.add, (1, 2)) == Returned(b"3")
        assert compute.server_pid is not None
        kill(compute.server_pid)  # idle, and unnoticed yet
        assert await compute.run(jobs.add, (1, 2)) == Returned(b"3")


async def test_a_fork_server_that_hangs_is_replaced(
    compute: ProcessExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # For the server that takes its place, too.
    monkeypatch.setattr(fork_server, "_FORK_PATIENCE_S", 3.0)
    monkeypatch.setattr(fork_server, "_EXIT_PATIENCE_S", 0.2)
    await compute.start()
    hung = compute.server_pid
    assert hung is not None
    freeze(hung)
    assert await compute.run(jobs.add, (1, 2)) == Returned(b"3")
    assert state(hung) == ""


async def test_nothing_survives_a_worker_that_is_killed() -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "compute_worker", stdout=PIPE, env=environment()
    )
    assert worker.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        pids = [int(await worker.stdout.readline()) for _ in range(6)]
    assert len(set(pids)) == 6
    assert not any(is_gone(pid) for pid in pids)
    worker.kill()
    await worker.wait()
    await until(lambda: all(is_gone(pid) for pid in pids), what=f"all of {pids} die")


async def test_jobs_die_with_their_worker_though_the_fork_server_hangs() -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "compute_worker", stdout=PIPE, env=environment()
    )
    assert worker.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        server, *pids = [int(await worker.stdout.readline()) for _ in range(6)]
    tied = [pid for pid in pids if os.getsid(pid) == server]
    assert len(tied) == 4
    with frozen(server):
        worker.kill()
        await worker.wait()
        await until(lambda: all(is_gone(pid) for pid in tied), what=f"all of {tied} die")
    await until(lambda: all(is_gone(pid) for pid in (server, *pids)), what="and then the others")


async def test_a_worker_that_multiprocessing_forked_can_compute() -> None:
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "compute_worker", "--forked", stdout=PIPE, env=environment()
    )
    async with asyncio.timeout(DEADLINE_S):
        out, _ = await worker.communicate()
    assert out.decode().strip() == repr(Returned(b"3"))


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


# What a job's process finds around it.


async def test_no_descriptor_of_the_worker_reaches_a_job(
    compute: ProcessExecutor, tmp_path: Path
) -> None:
    with (tmp_path / "connection").open("w") as connection:
        os.set_inheritable(connection.fileno(), True)
        outcome = await compute.run(jobs.descriptors)
    assert isinstance(outcome, Returned)
    found = json.loads(outcome.value_json)
    own = {fd: target for fd, target in found.items() if int(fd) > 2}
    assert found["0"] == "/dev/null"
    assert sorted(target.partition(":")[0] for target in own.values()) == ["pipe", "socket"]


async def test_a_job_has_one_blas_thread_no_core_file_and_a_group_of_its_own(
    compute: ProcessExecutor,
) -> None:
    outcome = await compute.run(jobs.surroundings)
    assert isinstance(outcome, Returned)
    around = json.loads(outcome.value_json)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        assert around["environ"][name] == "1"
    assert around["group"] == around["pid"]
    assert around["parent"] == compute.server_pid
    (core,) = [line for line in around["limits"].splitlines() if line.startswith("Max core")]
    assert core.split()[-3:-1] == ["0", "0"]


async def test_two_jobs_do_not_share_their_random_numbers(compute: ProcessExecutor) -> None:
    assert await compute.run(jobs.random_number) != await compute.run(jobs.random_number)


# Progress and the worker's loop.


@on_both_loops
async def test_progress_comes_in_order_and_the_last_always(tmp_path: Path) -> None:
    updates: list[dict[str, Any]] = []
    async with running() as compute:
        outcome = await compute.run(jobs.report, (100_000,), on_progress=updates.append)
        assert outcome == Returned(b"100000")
    done = [update["done"] for update in updates]
    assert done == sorted(done)
    assert len(done) < 1000
    assert updates[-1] == {
        "done": 100_000,
        "total": 100_000,
        "message": "100000 of 100000",
        "loss": None,
    }


async def test_slow_progress_is_told_step_by_step(compute: ProcessExecutor) -> None:
    updates: list[dict[str, Any]] = []
    await compute.run(jobs.report_slowly, (3,), on_progress=updates.append)
    assert {0, 3} <= {update["done"] for update in updates}


async def test_a_progress_callback_that_raises_harms_no_job(compute: ProcessExecutor) -> None:
    def broken(update: dict[str, Any]) -> None:
        raise RuntimeError("broken")

    assert await compute.run(jobs.report, (3,), on_progress=broken) == Returned(b"3")


@on_both_loops
async def test_the_loop_turns_while_a_job_does_not_read_its_arguments(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(jobs.STOP_AFTER_FORK, "1")
        async with running() as compute:
            await compute.start()
            assert compute.server_pid is not None
            server = compute.server_pid
            run = asyncio.create_task(compute.run(jobs.size_of, (bytes(50_000_000),)))
            await until(
                lambda: [pid for pid in children(server) if state(pid) == "T"],
                what="the job's process stops itself",
            )
            (job,) = children(server)
            blocked = threading.Timer(DEADLINE_S, os.kill, (job, signal.SIGCONT))
            blocked.start()
            await until(lambda: compute.running == 1, what="the sending begins")
            for _ in range(1000):
                await asyncio.sleep(0)
            assert blocked.is_alive()
            assert not run.done()
            blocked.cancel()
            os.kill(job, signal.SIGCONT)
            assert await run == Returned(b"50000000")


# Slots.


async def test_a_slot_is_exclusive_between_processes(
    compute: ProcessExecutor, tmp_path: Path
) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    ask = (str(folder.path), 1)
    slot = folder.try_acquire()
    assert slot is not None
    assert await compute.run(jobs.slot_is_free, ask) == Returned(b"false")
    slot.release()  # the fork server, started while it was held, has not inherited it
    assert await compute.run(jobs.slot_is_free, ask) == Returned(b"true")


async def test_a_slot_is_free_again_when_its_holder_was_killed(
    compute: ProcessExecutor, tmp_path: Path
) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    pid = Pid()
    holder = asyncio.create_task(
        compute.run(jobs.hold_slot, (str(folder.path), 1), on_progress=pid)
    )
    await until(lambda: pid.value, what="the holder has its slot")
    assert folder.try_acquire() is None
    waiting = asyncio.create_task(folder.acquire())
    assert pid.value is not None
    kill(pid.value)
    await holder
    async with asyncio.timeout(DEADLINE_S):
        (await waiting).release()


async def test_jobs_wait_for_a_slot_unless_they_bring_one(tmp_path: Path) -> None:
    folder = SlotFolder(tmp_path / "slots", 1)
    async with running(slots=folder) as compute:
        naps = await asyncio.gather(*(compute.run(jobs.nap, (0.05,)) for _ in range(3)))
        times = []
        for outcome in naps:
            assert isinstance(outcome, Returned)
            times.append(json.loads(outcome.value_json))
        for (_, before), (after, _) in itertools.pairwise(times):
            assert before <= after
        slot = await folder.acquire()
        assert await compute.run(jobs.add, (1, 2), slot=slot) == Returned(b"3")
        assert slot.held
        slot.release()


# Everything at once.


async def end_at_random(compute: ProcessExecutor, rng: random.Random) -> None:
    """Runs one job to one of the ends there are, and checks that it is told by its name."""
    limit_s = rng.uniform(0.01, 0.1)
    code = rng.randrange(256)
    much = 6_000_000
    killed = Killed(signal=signal.SIGKILL)
    ends: list[
        tuple[Callable[..., object], tuple[Any, ...], dict[str, Any], Outcome | type | UnionType]
    ] = [
        (jobs.add, (1, 2), {}, Returned(b"3")),
        (jobs.text_of_size, (much,), {}, Returned(b'"' + b"x" * much + b'"')),
        (jobs.leave_process_behind, (True,), {}, Returned),
        (jobs.fail, ("no",), {}, Raised),
        (jobs.segfault, (), {}, Killed(signal=signal.SIGSEGV)),
        (jobs.exit_at_once, (code,), {}, Killed(exit_code=code)),
        (jobs.say_pid_and_wait, (), {"on_progress": Pid(kill)}, killed),
        # Its result is half sent then: nobody reads on while the callback kills. One that the
        # kernel had taken whole before the signal counts.
        (jobs.say_pid_and_return_much, (much,), {"on_progress": Pid(kill)}, Killed | Returned),
        (jobs.loop_in_python, (), {"soft_limit_s": limit_s}, TimedOut),
        (jobs.loop_in_c, (), {"hard_limit_s": limit_s}, TimedOut(limit_s, soft=False)),
        (jobs.allocate, (8 << 30,), {"memory_limit_mb": 1536}, OutOfMemory),
        (jobs.loop_in_c, (), {}, asyncio.CancelledError),
    ]
    function, args, options, expected = rng.choice(ends)
    run = asyncio.create_task(compute.run(function, args, **options))
    if expected is asyncio.CancelledError:
        await asyncio.wait({run}, timeout=limit_s)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
    else:
        outcome = await run
        is_kind = isinstance(expected, (type, UnionType)) and isinstance(outcome, expected)
        assert is_kind or outcome == expected, (function, str(outcome)[:200])


@on_both_loops
async def test_two_hundred_random_ends_are_all_told_apart_and_leave_nothing(
    tmp_path: Path,
) -> None:
    rng = random.Random(20261122)
    slots = SlotFolder(tmp_path / "slots", 4)
    before = descriptors_here()
    mark = str(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPUTE_TEST_MARK", mark)
        async with running(slots=slots) as compute:
            await compute.start()
            server = compute.server_pid
            assert server is not None
            during = descriptors_here()
            await asyncio.gather(*(end_at_random(compute, rng) for _ in range(200)))
            assert compute.server_pid == server
            assert compute.running == 0
            assert slots.held == 0
            await until(lambda: children(server) == [], what="the server has reaped all")
            assert descriptors_here() == during
            assert processes_with("COMPUTE_TEST_MARK", mark) == [server]
    assert descriptors_here() == before
    assert processes_with("COMPUTE_TEST_MARK", mark) == []
    assert children(os.getpid()) == []
