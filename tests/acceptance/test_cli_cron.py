"""`kiq cron` as a person runs it: schedules of real workers, listed, run, paused, removed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from api_shared.testing.servers import Services
from fixtures.cli import NOWHERE, Cli, Place, place_on

ALL = {"beat", "count", "linger", "sweep", "yearly"}


@pytest.fixture(scope="module")
def cli(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cli]:
    """With a worker whose schedules tick; those that do so each second are paused."""
    with place_on(services, tmp_path_factory.mktemp("cron")) as place:
        started(place)
        yield place.cli


def started(place: Place) -> None:
    place.worker("jobs.scheduled:broker")
    place.cli.until(lambda found: {each["name"] for each in found} == ALL, "cron", "list")
    for name in ("beat", "count", "linger"):
        assert place.cli("cron", "pause", name).out.strip() == "paused"


def listed(cli: Cli) -> dict[str, Any]:
    return {each["name"]: each for each in cli("cron", "list", "--json").json}


def test_each_schedule_is_listed_with_its_rules_and_its_next_run(cli: Cli) -> None:
    yearly = listed(cli)["yearly"]
    assert (yearly["cron"], yearly["zone"]) == ("0 0 29 2 *", "Europe/Berlin")
    assert (yearly["missed"], yearly["overlap"], yearly["state"]) == ("once", "skip", "active")
    assert yearly["next_at"].endswith("02-28T23:00:00+00:00")
    assert (yearly["last_tick_at"], yearly["declared_by"]) == (None, "contract")
    lines = cli("cron", "list").lines
    assert lines[0].split() == [
        "name", "state", "when", "zone", "last", "next", "missed", "overlap", "task",
    ]  # fmt: skip
    [sweep] = [line for line in lines if line.startswith("sweep")]
    assert "every 1:00:00" in sweep


def test_a_schedule_is_run_out_of_turn_by_an_ordinary_job(cli: Cli) -> None:
    before = listed(cli)["sweep"]
    job_id = cli("cron", "run", "sweep").out.strip()
    job = cli.until(lambda job: job["status"] == "completed", "show", job_id)
    assert (job["task"], job["labels"]) == ("sweep", {"schedule": "sweep"})
    after = listed(cli)["sweep"]
    assert after == {**before, "declared_at": after["declared_at"]}
    assert len(cli("cron", "run", "beat", "--json").json["job_id"]) == 24, "paused or not"


def test_a_paused_schedule_shows_it_and_a_resumed_one_says_when_it_runs(cli: Cli) -> None:
    assert cli("cron", "pause", "sweep").out.strip() == "paused"
    assert (listed(cli)["sweep"]["state"], listed(cli)["sweep"]["next_at"]) == ("paused", None)
    assert cli("cron", "resume", "sweep").out.startswith("active; next 20")
    assert listed(cli)["sweep"]["state"] == "active"


def test_a_schedule_of_a_contract_is_not_removed(cli: Cli) -> None:
    ran = cli("cron", "remove", "sweep", code=2)
    assert "kiq cron pause sweep" in ran.err


@pytest.mark.parametrize("command", ["run", "pause", "resume", "remove"])
def test_an_unknown_name_is_answered_with_those_there_are(cli: Cli, command: str) -> None:
    ran = cli("cron", command, "sweeep", code=2)
    assert "no schedule named 'sweeep'; known: beat, count, linger, sweep, yearly" in ran.err


def test_without_the_ledger_it_is_said_in_a_sentence(cli: Cli) -> None:
    ran = cli("cron", "list", code=4, env=NOWHERE)
    assert "MONGODB_URL" in ran.err
    assert "hunter2" not in ran.err
