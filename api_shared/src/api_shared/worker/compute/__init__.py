"""
CPU-bound and blocking functions, each in a process that can be stopped at any moment.

    compute = Compute(slots=SlotFolder(default_slot_folder(), 2), preload=("sklearn", "my.tasks"))
    await compute.start()
    match await compute.run(train, (path,), hard_limit_s=600, on_progress=print):
        case Returned(value_json): ...
        case Raised() as error if error.is_a(ValueError): ...
    await compute.close()

Linux. On macOS jobs run, but after a kill -9 of the worker they may go on for a while.
"""

from .compute import Compute
from .current import CurrentJob, SoftLimitReached, current_job
from .errors import (
    ComputeClosed,
    ComputeError,
    ForkRefused,
    NotComputable,
    ResultNotEncodable,
    ResultTooLarge,
    ServerNotStarted,
    ServerSlow,
)
from .outcome import (
    Cancelled,
    Killed,
    Outcome,
    OutOfMemory,
    Raised,
    Returned,
    TimedOut,
)
from .slots import Slot, SlotFolder, SlotFolderUnsafe, default_slot_folder

__all__ = [
    "Cancelled",
    "Compute",
    "ComputeClosed",
    "ComputeError",
    "CurrentJob",
    "ForkRefused",
    "Killed",
    "NotComputable",
    "OutOfMemory",
    "Outcome",
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
