"""
API Workers: kiq typed jobs, never lose one.

    from api_shared import running
    from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs

Names are imported when they are first used: a program that needs a contract, an error or the
settings alone does not load three drivers.
"""

from typing import TYPE_CHECKING

from api_shared.lazy import lazy_names

if TYPE_CHECKING:
    from api_shared.broker import running, running_in_thread
    from api_shared.client.contract import Contract, FailedJob
    from api_shared.client.follow.handle import CancelAnswer, JobHandle, RescheduleAnswer
    from api_shared.client.follow.stream import StreamPiece
    from api_shared.client.job_broker import JobBroker
    from api_shared.client.options import Unique
    from api_shared.client.schedule_source import LedgerScheduleSource
    from api_shared.errors import AcceptanceUnknown, ApiWorkersError, Discard, Snooze
    from api_shared.job import Job, Status
    from api_shared.schedules.cron import Cron, Every
    from api_shared.schedules.schedule import Missed, Overlap, Schedule
    from api_shared.worker.context import JobContext
    from api_shared.worker.engine import attach

__all__ = [
    "AcceptanceUnknown",
    "ApiWorkersError",
    "CancelAnswer",
    "Contract",
    "Cron",
    "Discard",
    "Every",
    "FailedJob",
    "Job",
    "JobBroker",
    "JobContext",
    "JobHandle",
    "LedgerScheduleSource",
    "Missed",
    "Overlap",
    "RescheduleAnswer",
    "Schedule",
    "Snooze",
    "Status",
    "StreamPiece",
    "Unique",
    "attach",
    "running",
    "running_in_thread",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "broker": ("running", "running_in_thread"),
        "client.contract": ("Contract", "FailedJob"),
        "client.follow.handle": ("CancelAnswer", "JobHandle", "RescheduleAnswer"),
        "client.job_broker": ("JobBroker",),
        "client.schedule_source": ("LedgerScheduleSource",),
        "client.follow.stream": ("StreamPiece",),
        "client.options": ("Unique",),
        "errors": ("AcceptanceUnknown", "ApiWorkersError", "Discard", "Snooze"),
        "job": ("Job", "Status"),
        "schedules.cron": ("Cron", "Every"),
        "schedules.schedule": ("Missed", "Overlap", "Schedule"),
        "worker.context": ("JobContext",),
        "worker.engine": ("attach",),
    },
)
