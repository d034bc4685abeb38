"""
API Workers: kiq typed jobs, never lose one.

    from api_shared import running
    from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs
"""

from api_shared.broker import JobBroker
from api_shared.brokers import broker, ml_broker, running, running_in_thread
from api_shared.contracts.contract import Contract, FailedJob
from api_shared.errors import AcceptanceUnknown, ApiWorkersError, Discard, Snooze
from api_shared.handle import CancelAnswer, JobHandle
from api_shared.job import Job, Status

__all__ = [
    "AcceptanceUnknown",
    "ApiWorkersError",
    "CancelAnswer",
    "Contract",
    "Discard",
    "FailedJob",
    "Job",
    "JobBroker",
    "JobHandle",
    "Snooze",
    "Status",
    "broker",
    "ml_broker",
    "running",
    "running_in_thread",
]
