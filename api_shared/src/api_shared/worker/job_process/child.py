"""The process of a job, from the fork to its end."""

from __future__ import annotations

import faulthandler
import inspect
import json
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import pydantic_core

from api_shared import prctl
from api_shared.worker.job_process import parent_death
from api_shared.worker.job_process.current_job import CurrentJob, SoftLimitReached, become
from api_shared.worker.job_process.errors import ResultNotEncodable, ResultTooLarge
from api_shared.worker.job_process.exit import qualified_name
from api_shared.worker.job_process.framing import Kind, frame, header, read_frame
from api_shared.worker.job_process.function_ref import resolve

_MESSAGE_LIMIT = 8 * 1024
_TRACEBACK_LIMIT = 32 * 1024
_FIELDS_LIMIT_BYTES = 32 * 1024

_OUR_FILES = {__file__, inspect.getfile(CurrentJob)}
"""Their frames are cut from the top of a traceback."""

SOFT_LIMIT_SIGNAL = signal.SIGUSR1


def run_job(channel_fd: int, lifeline_fd: int, server_pid: int) -> NoReturn:
    """Runs the one job of this freshly forked process; the process ends here."""
    code = 1
    try:
        os.setpgid(0, 0)
        parent_death.die_with_parent(server_pid)
        parent_death.die_with(lifeline_fd, group=True)
        prctl.adopt_orphans()  # processes that the job leaves are the server's once it ends
        _take_signals()
        _close_all_but({0, 1, 2, channel_fd, lifeline_fd})
        _reseed()
        with socket.socket(fileno=channel_fd) as channel:
            channel.set_inheritable(False)
            os.set_inheritable(lifeline_fd, False)
            _follow_order(channel)
        code = 0
    except (BrokenPipeError, ConnectionResetError):
        pass  # nothing waits for this job any more
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _follow_order(channel: socket.socket) -> None:
    received = read_frame(channel)
    if received is None:
        return
    order = json.loads(received[1])
    memory_limit_mb: int | None = order["memory_limit_mb"]
    job = CurrentJob(
        (lambda update: channel.sendall(frame(Kind.PROGRESS, update)))
        if order["progress"]
        else None
    )
    become(job)
    signal.signal(SOFT_LIMIT_SIGNAL, lambda _signum, _frame: job.request_stop())
    # Opened first: under a memory limit a thread may not get its stack. It must start with the soft
    # limit's signal blocked, so that the kernel sends the signal to the main thread.
    job.open()
    if memory_limit_mb is not None:
        _limit_memory(memory_limit_mb)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {SOFT_LIMIT_SIGNAL})

    kind, payload = _answer(channel, job, order)

    job.close()
    _flush_output()
    channel.sendall(header(kind, len(payload)))
    channel.sendall(payload)


def _answer(channel: socket.socket, job: CurrentJob, order: dict[str, Any]) -> tuple[Kind, bytes]:
    try:
        arguments = read_frame(channel)
        if arguments is None:
            raise ConnectionResetError
        function = resolve(order["function"])
        # Pickled by our own worker a moment ago; nothing else can write to this socket.
        args, kwargs = pickle.loads(arguments[1])  # noqa: S301
        del arguments
        value = job.run(lambda: function(*args, **kwargs))
        return Kind.RETURNED, result_of(
            function, order["task"], value, limit_bytes=order["max_result_bytes"]
        )
    except (BrokenPipeError, ConnectionResetError):
        raise
    except MemoryError as error:
        if order["memory_limit_mb"] is None:
            return Kind.RAISED, describe(error)
        traceback.clear_frames(error.__traceback__)  # frees what the function held
        return Kind.OUT_OF_MEMORY, json.dumps(_clip(str(error), _MESSAGE_LIMIT)).encode()
    except SoftLimitReached as error:
        if not job.stop_requested:
            return Kind.RAISED, describe(error)
        return Kind.SOFT_LIMIT, json.dumps(_traceback_text(error)).encode()
    except BaseException as error:
        return Kind.RAISED, describe(error)


def result_of(
    function: Callable[..., Any], task: str | None, value: object, *, limit_bytes: int
) -> bytes:
    """
    The JSON text of what a task's function returned, by the contract that the function is bound to.

    Here it is still what the function returned. Raises as `encode_result`, and `InvalidResult`.
    """
    if task is None:
        return encode_result(value, limit_bytes=limit_bytes)
    from api_shared.client.bind.task import contract_of  # loaded with the task, else never

    data = contract_of(function, task).encode_result(value).encode()
    if len(data) > limit_bytes:
        raise ResultTooLarge(len(data), limit_bytes)
    return data


def encode_result(value: object, *, limit_bytes: int) -> bytes:
    """
    The JSON text of `value`, for all types that pydantic can write (models, datetimes, paths, …).

    NaN and infinities have no JSON form: the error names their place. Raises ResultNotEncodable,
    ResultTooLarge.
    """
    try:
        data = pydantic_core.to_json(value, inf_nan_mode="constants")
    except MemoryError:
        raise
    except Exception as error:
        raise ResultNotEncodable(_clip(str(error), _MESSAGE_LIMIT)) from error
    if len(data) > limit_bytes:
        raise ResultTooLarge(len(data), limit_bytes)
    if b"NaN" in data or b"Infinity" in data:
        where = _path_of_constant(json.loads(data, parse_constant=_Constant))
        if where is not None:
            raise ResultNotEncodable(f"result{where[0]} is {where[1]}")
    return data


class _Constant(str):
    """NaN, Infinity or -Infinity outside of a string."""


def _path_of_constant(value: Any) -> tuple[str, str] | None:
    if isinstance(value, _Constant):
        return "", str(value)
    children: Any = ()
    if isinstance(value, dict):
        children = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list):
        children = ((f"[{index}]", item) for index, item in enumerate(value))
    for step, item in children:
        if (found := _path_of_constant(item)) is not None:
            return step + found[0], found[1]
    return None


def describe(error: BaseException) -> bytes:
    """The exception as JSON, in bounded size, whatever its class does when it is printed."""
    data = {
        "error_type": qualified_name(type(error)),
        "message": _clip(_message(error), _MESSAGE_LIMIT),
        "traceback": _traceback_text(error),
        "mro": [qualified_name(type_) for type_ in type(error).__mro__ if type_ is not object],
        "args": _jsonable(list(error.args), []),
        "fields": _jsonable(getattr(error, "__dict__", {}), {}),
    }
    return json.dumps(data).encode()


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:
        return f"({type(error).__name__}, whose text cannot be shown: {type(broken).__name__})"


def _traceback_text(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in _OUR_FILES:
        trace = trace.tb_next
    try:
        text = "".join(traceback.format_exception(type(error), error, trace))
    except Exception:
        text = "".join(traceback.format_tb(trace))
    return _clip(text, _TRACEBACK_LIMIT)


def _jsonable(value: Any, otherwise: Any) -> Any:
    try:
        data = pydantic_core.to_json(value, inf_nan_mode="null")
    except Exception:
        return otherwise
    return json.loads(data) if len(data) <= _FIELDS_LIMIT_BYTES else otherwise


def _clip(text: str, limit: int) -> str:
    """Keeps the end, where a traceback names its error."""
    return text if len(text) <= limit else f"[{len(text) - limit} characters cut] {text[-limit:]}"


def _close_all_but(kept: set[int]) -> None:
    listed = "/proc/self/fd" if sys.platform == "linux" else "/dev/fd"
    for fd in [int(name) for name in os.listdir(listed)]:  # noqa: PTH208 - Path would hold one open
        if fd not in kept:
            try:
                os.close(fd)
            except OSError:
                continue  # the listing's own


def _take_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    faulthandler.enable()  # a segfault writes its place to the worker's log

    def restore_handlers() -> None:
        for number in (signal.SIGTERM, signal.SIGINT, SOFT_LIMIT_SIGNAL):
            signal.signal(number, signal.SIG_DFL)

    # The server's handlers ignore a SIGTERM that a supervisor sends to everyone; a process that
    # the function forks (a multiprocessing.Pool) must still die of it.
    os.register_at_fork(after_in_child=restore_handlers)


def ignore(_signum: int, _frame: FrameType | None) -> None:
    """
    A handler, not SIG_IGN: exec resets handlers, so that programs that a job starts have none.
    """


def _reseed() -> None:
    """Python reseeds `random` after a fork; NumPy's global generator would repeat itself."""
    if (numpy_random := sys.modules.get("numpy.random")) is not None:
        numpy_random.seed()


def _limit_memory(limit_mb: int) -> None:
    limit = limit_mb * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _flush_output() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: S112 - the function may have closed it
            continue
