"""
The health of this container's worker processes: one has reported to the ledger within a lease.

For a HEALTHCHECK or a readiness probe. Not for a liveness probe: while MongoDB is away no worker
is healthy, and a restart fixes nothing.
"""

from __future__ import annotations

import asyncio
import socket
import sys

from api_shared.errors import ApiWorkersError
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.settings import load_settings


async def processes_here() -> int:
    """How many worker processes of this host are alive. Raises `LedgerUnavailable`."""
    settings = load_settings()
    ledger = MongoLedger(settings)
    await ledger.start()
    try:
        alive = await ledger.workers(seen_within_s=settings.lease_s)
    finally:
        await ledger.close()
    return sum(worker.host == socket.gethostname() for worker in alive)


def main() -> int:
    try:
        count = asyncio.run(processes_here())
    except ApiWorkersError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"worker processes of {socket.gethostname()} that are alive: {count}")
    return 0 if count else 1


if __name__ == "__main__":
    sys.exit(main())
