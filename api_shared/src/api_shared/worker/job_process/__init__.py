"""
CPU-bound and blocking functions, each in a process that can be stopped at any moment.

    slots = SlotFolder(default_slot_folder(), 2)
    executor = ProcessExecutor(slots=slots, preload=("sklearn", "my.tasks"))
    await executor.start()
    match await executor.run(train, (path,), hard_limit_s=600, on_progress=print):
        case Returned(value_json): ...
        case Raised() as error if error.is_a(ValueError): ...
    await executor.close()

For Linux. Jobs run on macOS too, but may go on for a while after a kill -9 of the worker.
"""

from api_shared.worker.job_process.cpu_slots import (
    Slot,
    SlotFolder,
    SlotFolderUnsafe,
    default_slot_folder,
)
from api_shared.worker.job_process.current_job import CurrentJob, SoftLimitReached, current_job
from api_shared.worker.job_process.errors import (
    ComputeClosed,
    ComputeError,
    ForkRefused,
    NotComputable,
    ResultNotEncodable,
    ResultTooLarge,
    ServerNotStarted,
    ServerSlow,
)
from api_shared.worker.job_process.executor import ProcessExecutor
from api_shared.worker.job_process.exit import (
    Cancelled,
    Killed,
    Outcome,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
)

__all__ = [
    "Cancelled",
    "ComputeClosed",
    "ComputeError",
    "CurrentJob",
    "ForkRefused",
    "Killed",
    "NotComputable",
    "OutOfMemory",
    "Outcome",
    "ProcessExecutor",
    "Raised",
    "ResultNotEncodable",
    "ResultTooLarge",
    "Returned",
    "ServerNotStarted",
    "ServerSlow",
    "Slot",
    "SlotFolder",
    "SlotFolderUnsafe",
    "SoftLimitReached",
    "TimedOut",
    "current_job",
    "default_slot_folder",
]
