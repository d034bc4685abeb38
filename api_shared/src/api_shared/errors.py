"""
The errors that API Workers raises on purpose.

Each carries its facts as fields. Its message says what is wrong, with the value, and the way out.

    ApiWorkersError
        UsageError
            InvalidJobId
            UnknownTask
            UnknownQueue
            NotStarted
            InvalidArguments
            InvalidOption
            TooLarge
            NaiveDatetime
            JobIdTaken
            UniqueTaken
            JobNotFound
            DeadLetterNotFound
        UnreadableRecord
        ServerError
            LedgerUnavailable
            AcceptanceUnknown
            Unroutable
            QueueMismatch
        JobFailed
        JobCancelled
        ResultTimeout
        Discard
        RetryableError
        PermanentError
        Snooze
        SoftTimeLimitExceeded
        TimeLimitExceeded
        ClaimLost
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

MAX_SHOWN = 200
"""
How many characters of a value a message shows. A value may come from anybody and be of any size.
"""


class ApiWorkersError(Exception):
    """The base of all errors of this package."""


class UsageError(ApiWorkersError):
    """The caller can fix this by calling differently. Nothing was sent or stored."""


class InvalidJobId(UsageError):
    def __init__(self, job_id: object) -> None:
        self.job_id = job_id
        super().__init__(
            f"{repr(job_id)[:MAX_SHOWN]} is not a job id: it must be 24 hexadecimal digits "
            f"(a MongoDB ObjectId)"
        )


class UnknownTask(UsageError):
    def __init__(self, task: str, known: Iterable[str]) -> None:
        self.task = task
        self.known = tuple(sorted(known))
        super().__init__(f"no contract named {task!r}; known: {', '.join(self.known) or 'none'}")


class UnknownQueue(UsageError):
    def __init__(self, queue: str, known: Iterable[str]) -> None:
        self.queue = queue
        self.known = tuple(known)
        super().__init__(f"no queue named {queue[:MAX_SHOWN]!r}; known: {', '.join(self.known)}")


class NotStarted(UsageError):
    def __init__(self, broker: str, started: Iterable[str], *, forked: bool = False) -> None:
        self.broker = broker
        where = " in this process, which was forked from the one that started it" if forked else ""
        super().__init__(
            f"broker {broker!r} is not started{where} (started: {', '.join(started) or 'none'}): "
            f"`await broker.startup()`, or `async with running(broker):`"
        )


class InvalidArguments(UsageError):
    """`problems` holds a line for each argument that does not validate; values are left out."""

    def __init__(self, task: str, problems: Iterable[str]) -> None:
        self.task = task
        self.problems = tuple(problems)
        super().__init__(f"arguments of {task!r} do not validate: {'; '.join(self.problems)}")


class InvalidOption(UsageError):
    """
    An option has a value that cannot be used.

    `problem` continues the sentence "option=value: …", for example "must be from 0 to 10".
    """

    def __init__(self, option: str, value: object, problem: str) -> None:
        self.option = option
        self.value = value
        shown = repr(value)
        if len(shown) > MAX_SHOWN:
            shown = f"{shown[:MAX_SHOWN]}… ({len(shown):,} characters)"
        super().__init__(f"{option}={shown}: {problem}")


class TooLarge(UsageError):
    """`setting` None: the limit is the server's own and cannot be raised."""

    def __init__(
        self, what: str, size_bytes: int, limit_bytes: int, setting: str | None = None
    ) -> None:
        self.what = what
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"{what} is {size_bytes:,} bytes, over the limit of {limit_bytes:,}: "
            f"store it and pass a reference{f', or raise {setting}' if setting else ''}"
        )


class NaiveDatetime(UsageError):
    def __init__(self, field: str, value: object) -> None:
        self.field = field
        self.value = value
        super().__init__(
            f"{field}={value} has no time zone: pass an aware datetime, "
            f"for example {field}.astimezone() for local time, or datetime(..., tzinfo=UTC)"
        )


class JobIdTaken(UsageError):
    def __init__(self, job_id: str, task: str) -> None:
        self.job_id = job_id
        self.task = task
        super().__init__(
            f"job {job_id} exists already, as {task!r} with other arguments: use another job_id"
        )


class UniqueTaken(UsageError):
    """`job_id` is the job that holds the key now."""

    def __init__(self, key: str, job_id: str) -> None:
        self.key = key
        self.job_id = job_id
        super().__init__(
            f"job {job_id} holds the unique key {key!r} now: wait for its end, or cancel it, "
            f"then try again"
        )


class JobNotFound(UsageError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"no job {job_id} in the ledger: the id is wrong, or the record has expired"
        )


class DeadLetterNotFound(UsageError):
    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(
            f"no dead letter {key} in the queues that were read: `kiq dlq list` has their keys; "
            f"`kiq show` shows a job whose dead letter is gone"
        )


class UnreadableRecord(ApiWorkersError):
    """
    Another release has written this record of the ledger: only that release can read it.

    `seq` is the number of the record's last change, for code that has to write it all the same.
    """

    def __init__(self, what: str, record_id: str, why: str, *, seq: int = 0) -> None:
        self.record_id = record_id
        self.why = why
        self.seq = seq
        super().__init__(
            f"{what} {record_id} was written by another release ({why}): use that one, or upgrade"
        )


class ServerError(ApiWorkersError):
    """A server is away or answers with an error."""


class LedgerUnavailable(ServerError):
    """MongoDB did not take the operation. A kiq has stored nothing: try again."""

    def __init__(self, reason: object) -> None:
        super().__init__(f"the ledger (MONGODB_URL) is not reachable: {reason}")


class AcceptanceUnknown(ServerError):
    """
    The ledger's answer was lost, or the caller was cancelled before it came (a timeout, say).

    It is safe to call `kiq(..., job_id=error.job_id)` again.
    """

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(
            f"it is not known whether job {job_id} was accepted: "
            f"kiq again with job_id={job_id!r}, it will be one job"
        )


class Unroutable(ServerError):
    def __init__(self, queue: str, exchange: str) -> None:
        self.queue = queue
        self.exchange = exchange
        super().__init__(
            f"exchange {exchange!r} routes {queue!r} to no queue: restart a worker of this broker "
            f"(it declares its queues), or see `kiq doctor`"
        )


class QueueMismatch(ServerError):
    """A queue or exchange exists, with other arguments than this platform declares."""

    def __init__(self, name: str, detail: str) -> None:
        self.name = name
        self.detail = detail
        super().__init__(
            f"{name!r} exists in RabbitMQ with other arguments ({detail}): drain and delete it "
            f"in the management UI, or choose another name with the TASKIQ_* settings"
        )


# The ends of a job, as its waiting callers see them.


class JobFailed(ApiWorkersError):
    def __init__(self, job_id: str, reason: str, message: str) -> None:
        self.job_id = job_id
        self.reason = reason
        self.message = message
        super().__init__(f"job {job_id} failed ({reason}): {message}")


class JobCancelled(ApiWorkersError):
    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"job {job_id} was cancelled")


class ResultTimeout(ApiWorkersError):
    def __init__(self, job_id: str, timeout_s: float, status: str) -> None:
        self.job_id = job_id
        self.timeout_s = timeout_s
        self.status = status
        super().__init__(f"job {job_id} was still {status} after {timeout_s:g} s; it goes on")


class Discard(ApiWorkersError):
    """
    Raised by a task: the job has failed for good, and is not retried.

        @broker.task
        async def greet_all(names: list[str]) -> int:
            if not names:
                raise Discard("there are no names")
            return len(names)

        job = await greet_all.kiq([])
        assert await job.status() == "failed"
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class RetryableError(ApiWorkersError):
    """
    The base of errors that another attempt may avoid.

    A task may derive its own errors from it. An error that is neither this nor permanent is
    retried all the same.
    """


class PermanentError(ApiWorkersError):
    """The base of errors that no retry can avoid: the job has failed for good."""


class Snooze(ApiWorkersError):
    """
    Raised by a task: run this job again after `delay`, a `timedelta` or seconds, at no attempt.

        @broker.task
        async def fetch(job: JobContext = TaskiqDepends()) -> int:
            if job.claim_no == 1:
                raise Snooze(timedelta(minutes=5), "the server is busy")
            return job.attempt

        job = await fetch.kiq()
        assert await job.result() == 1

    `why` says what the job waits for, in a few words; `kiq show` and the history show it.
    """

    def __init__(self, delay: timedelta | float, why: str = "snoozed") -> None:
        self.delay_s = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        self.why = why
        if not 0 <= self.delay_s <= 366 * 86_400:
            raise ValueError(f"Snooze({delay!r}): the delay must be from 0 s to a year")
        super().__init__(f"again in {self.delay_s:g} s")


class SoftTimeLimitExceeded(ApiWorkersError):
    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"ran longer than its soft limit of {limit_s:g} s")


class TimeLimitExceeded(ApiWorkersError):
    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        super().__init__(f"ran longer than its limit of {limit_s:g} s and was stopped")


class ClaimLost(ApiWorkersError):
    """Another worker may run this job now. What this worker writes is refused."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(f"the claim on job {job_id} is gone")
