"""The contracts of the general worker."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from api_shared.client.contract import Contract
from api_shared.schedules.cron import Cron, Every
from api_shared.schedules.schedule import Missed, Schedule

if TYPE_CHECKING:
    from api_shared.settings import Settings


class Arguments(BaseModel):
    """The base of arguments. Unknown names are refused, so that a typing error is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProcessDataOptions(Arguments):
    """
    Options of reading a text file of records (lines).

    `source` is a path the worker can read; gzip by its ending `.gz`. `chunk_lines` lines are
    worked and recorded at a time: a run after a crash continues after the last recorded chunk.
    """

    source: str = Field(min_length=1, max_length=4096)
    chunk_lines: int = Field(1000, ge=1, le=1_000_000)
    pause_s: float = Field(0, ge=0, le=60, description="Pause between chunks, to spare the host.")


class ProcessDataArgs(Arguments):
    user_id: str = Field(min_length=1, max_length=200)
    options: ProcessDataOptions


class ProcessDataResult(BaseModel):
    """
    Counts of the file. `longest_line` is in characters, `size_bytes` is uncompressed.

    `digest` is a SHA-256 chained over the chunks: it is the same however often the job was
    interrupted, and another one if a chunk was left out, repeated or reordered.
    `chunks_recalled` counts those that an earlier, interrupted run had done.
    """

    user_id: str
    lines: int
    blank_lines: int
    words: int
    longest_line: int
    size_bytes: int
    chunks: int
    chunks_recalled: int
    digest: str


class HealthCheckArgs(Arguments):
    url: HttpUrl
    timeout_s: float = Field(10, gt=0, le=60)


class HealthCheckResult(BaseModel):
    """`ok`: the status is below 400. `error` is why there is no status."""

    url: str
    ok: bool
    status_code: int | None = None
    latency_ms: float
    error: str | None = None


class HousekeepingArgs(Arguments):
    forgotten_days: int = Field(
        30, ge=1, description="Schedules that were not declared for this long are removed."
    )


class HousekeepingResult(BaseModel):
    schedules_removed: int


def health_checks(settings: Settings) -> Schedule | None:
    """The check of HEALTH_CHECK_URL every ten minutes. Missed checks are skipped."""
    if settings.health_check_url is None:
        return None
    args = HealthCheckArgs(url=settings.health_check_url)
    return Schedule(Every(timedelta(minutes=10)), args, missed=Missed.SKIP)


PROCESS_DATA = Contract(
    "process_data",
    ProcessDataArgs,
    ProcessDataResult,
    soft_limit_s=3300,
    hard_limit_s=3600,
    permanent=(FileNotFoundError, IsADirectoryError, PermissionError, UnicodeDecodeError),
)
HEALTH_CHECK = Contract("health_check", HealthCheckArgs, HealthCheckResult, schedule=health_checks)
HOUSEKEEPING = Contract(
    "housekeeping",
    HousekeepingArgs,
    HousekeepingResult,
    queue="low",
    schedule=Schedule(Cron("17 3 * * *")),
)

CONTRACTS = (PROCESS_DATA, HEALTH_CHECK, HOUSEKEEPING)
