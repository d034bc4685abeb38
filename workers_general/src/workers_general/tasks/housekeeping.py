"""The task `housekeeping`: it removes forgotten schedules."""

from __future__ import annotations

from datetime import timedelta

from api_shared.broker import broker
from api_shared.contracts.general import HOUSEKEEPING, HousekeepingArgs, HousekeepingResult
from api_shared.schedules.store import remove_forgotten


@broker.task(HOUSEKEEPING)
async def housekeeping(args: HousekeepingArgs) -> HousekeepingResult:
    """Ended jobs and worker reports are not removed here: MongoDB deletes them itself, by TTL."""
    older_than = timedelta(days=args.forgotten_days)
    removed = await remove_forgotten(broker.runtime.ledger.schedules, older_than=older_than)
    return HousekeepingResult(schedules_removed=removed)
