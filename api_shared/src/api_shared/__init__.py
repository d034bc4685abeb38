"""
API Workers: kiq typed jobs, never lose one.

    from api_shared import running
    from api_shared.contracts.general import PROCESS_DATA, ProcessDataArgs

Names are imported when they are first used: a program that needs a contract, an error or the
settings alone does not load three drivers.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api_shared.broker import JobBroker
    from api_shared.brokers import broker, ml_broker, running, running_in_thread
    from api_shared.contracts.contract import Contract, FailedJob
    from api_shared.contracts.unique import Unique
    from api_shared.errors import AcceptanceUnknown, ApiWorkersError, Discard, Snooze
    from api_shared.handle import CancelAnswer, JobHandle, RescheduleAnswer
    from api_shared.job import Job, Status
    from api_shared.schedule_source import LedgerScheduleSource
    from api_shared.schedules.schedule import Missed, Overlap, Schedule
    from api_shared.schedules.timing import Cron, Every
    from api_shared.stream import StreamPiece

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
    "broker",
    "ml_broker",
    "running",
    "running_in_thread",
]

_MODULES = {
    "broker": ("JobBroker",),
    "brokers": ("broker", "ml_broker", "running", "running_in_thread"),
    "contracts.contract": ("Contract", "FailedJob"),
    "contracts.unique": ("Unique",),
    "errors": ("AcceptanceUnknown", "ApiWorkersError", "Discard", "Snooze"),
    "handle": ("CancelAnswer", "JobHandle", "RescheduleAnswer"),
    "job": ("Job", "Status"),
    "schedule_source": ("LedgerScheduleSource",),
    "schedules.schedule": ("Missed", "Overlap", "Schedule"),
    "schedules.timing": ("Cron", "Every"),
    "stream": ("StreamPiece",),
}
_WHERE = {name: f"api_shared.{module}" for module, names in _MODULES.items() for name in names}


class _Package(ModuleType):
    """
    A class of its own, for `api_shared.broker` is a broker and a submodule: the import system sets
    the submodule as an attribute, where a module's plain `__getattr__` would not be asked any more.
    """

    def __getattr__(self, name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_WHERE[name]), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "broker" or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
