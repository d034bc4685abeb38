"""Requests that a service records for `process_job`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_shared.client.started_brokers import started_broker
from api_shared.job import new_job_id


async def record_request(
    kind: str,
    request: Mapping[str, Any],
    *,
    owner: str | None = None,
    record_id: str | None = None,
) -> str:
    """
    Record a request for `process_job` and return its id, which may be the job's id too.

    `request` holds the arguments of the task that `kind` names. With a `record_id` of your own the
    call may be repeated. Raises `RecordExists`, `InvalidOption` for a request that is not JSON,
    `NotStarted`, `LedgerUnavailable`.
    """
    record_id = new_job_id() if record_id is None else record_id
    await started_broker("general").runtime.ledger.requests.add(record_id, kind, request, owner)
    return record_id
