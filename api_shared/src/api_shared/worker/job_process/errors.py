"""Errors of `ProcessExecutor` itself; the end of a job is a value instead (see `exit`)."""

from api_shared.errors import ApiWorkersError


class ComputeError(ApiWorkersError):
    """The base of all errors that this package raises on purpose."""


class NotComputable(ComputeError):
    """The function cannot be found from another process, or its arguments cannot be sent there."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}; {remedy}")


class ServerNotStarted(ComputeError):
    """The fork server could not be started; no job ran."""

    def __init__(self, reason: str, *, module: str | None = None) -> None:
        self.reason = reason
        self.module = module
        super().__init__(f"the fork server did not start: {reason}")


class ServerSlow(ServerNotStarted):
    """The server did not start in time: the machine is busy, and a later try may succeed."""


class ForkRefused(ComputeError):
    """The machine had no room for the job's process; a later try may succeed."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"no process for the job: {reason}")


class ComputeClosed(ComputeError):
    """`run` was called after `close`."""

    def __init__(self) -> None:
        super().__init__("this ProcessExecutor is closed; start a new one to run jobs")


class ServerGone(ComputeError):
    """The fork server died before the job was started: the function has not run."""


class ProtocolBroken(ComputeError):
    """A process sent bytes that are not a frame, or a frame over its limit."""


class ResultNotEncodable(ComputeError):
    """Raised in the job's process: what the function returned has no JSON form."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"the result cannot be written as JSON: {reason}; "
            "return plain Python values, dataclasses or pydantic models"
        )


class ResultTooLarge(ComputeError):
    """Raised in the job's process: the result's JSON is over the limit."""

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the result is {size_bytes:,} bytes of JSON, the limit is {limit_bytes:,}; "
            "write it to storage and return its path"
        )
