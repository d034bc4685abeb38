"""The platform's own schedules: what it asks regularly, and what it clears away."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from api_shared import Status
from api_shared.broker import broker
from api_shared.client.periodic import definitions_of
from api_shared.contracts.general import HEALTH_CHECK, HOUSEKEEPING, HealthCheckArgs
from api_shared.ledger.protocol import JobFilter
from api_shared.schedules.planning import new_record
from api_shared.schedules.store import pause_schedule
from api_shared.settings import InvalidSettings, load_settings
from api_shared.testing import default_settings, running_in_place
from api_shared.transport.topology import topology_of
from fixtures.schedules import put_on
from workers_general.tasks import health_check, housekeeping

URL = "https://example.org/health"


def test_health_is_checked_every_ten_minutes_where_a_url_is_set_and_else_never() -> None:
    off, on = default_settings(), default_settings(health_check_url=URL)
    topology = topology_of("general", off)
    assert definitions_of([HEALTH_CHECK], topology, off) == []
    [definition] = definitions_of([HEALTH_CHECK], topology, on)
    assert (definition.every_s, definition.missed) == (600, "skip")
    assert HealthCheckArgs.model_validate_json(definition.args_json).url.host == "example.org"


def test_a_url_that_is_none_stops_the_start_and_names_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HEALTH_CHECK_URL", "not a url")
    with pytest.raises(InvalidSettings, match="HEALTH_CHECK_URL"):
        load_settings()
    monkeypatch.setenv("HEALTH_CHECK_URL", "")
    assert load_settings().health_check_url is None


async def test_health_checks_come_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    async def check_url(url: str, timeout_s: float) -> object:
        asked.append(url)
        return {"url": url, "ok": True, "latency_ms": 1}

    monkeypatch.setattr(health_check, "check_url", check_url)
    async with running_in_place(broker, settings=default_settings(health_check_url=URL)) as place:
        await place.advance(timedelta(hours=1))
    assert asked == [URL] * 6


async def test_schedules_that_no_worker_has_declared_for_a_month_are_removed() -> None:
    assert housekeeping.housekeeping.contract.name == HOUSEKEEPING.name
    settings = default_settings()
    [definition] = definitions_of([HOUSEKEEPING], topology_of("general", settings), settings)
    async with running_in_place(broker) as place:
        book = place.ledger.schedules
        now = await book.now()
        for name in ("gone", "gone and paused"):
            await book.save(new_record(replace(definition, name=name, task="gone"), now))
        await pause_schedule("gone and paused", book)
        in_half_a_year = f"0 0 1 {(now.month + 5) % 12 + 1} *"
        by_a_call = replace(definition, name="by a call", task="gone", cron=in_half_a_year)
        await put_on(place.ledger, by_a_call)
        await place.advance(timedelta(days=29))
        names = {record.name for record in await book.find()}
        assert names == {"gone", "gone and paused", "by a call", "housekeeping"}
        await place.advance(timedelta(days=2))
        names = {record.name for record in await book.find()}
        assert names == {"by a call", "housekeeping"}
        jobs = await place.ledger.find(JobFilter(task="housekeeping"), limit=100)
        assert all(job.status is Status.COMPLETED for job in jobs)
        assert sum(job.result["schedules_removed"] for job in jobs) == 2
