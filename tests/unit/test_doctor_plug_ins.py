"""Checks that other packages add to `kiq doctor`."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from api_shared.cli.commands.doctor import command as doctor
from api_shared.cli.commands.doctor.command import PLUG_INS, plugged_in
from api_shared.doctor import Finding, Findings, Level
from api_shared.settings import Settings
from api_shared.testing import default_settings
from api_shared.testing.waiting import until

OURS = Findings("llm")


async def healthy(settings: Settings) -> list[Finding]:
    return [OURS.ok(f"answers for {settings.database_name}")]


async def talks(_settings: Settings) -> list[Finding]:
    return [OURS.bad("http://me:hunter2@host/ is away", "start http://me:hunter2@host/")]


async def breaks(_settings: Settings) -> list[Finding]:
    raise ConnectionError("http://me:hunter2@host/ refused")


async def says_nonsense(_settings: Settings) -> Any:
    return ["well"]


async def hangs(_settings: Settings) -> list[Finding]:
    await until(lambda: False, within_s=600)
    return []


not_a_check = 7


def entry(function: str) -> EntryPoint:
    return EntryPoint("llm", f"{__name__}:{function}", PLUG_INS)


async def only(plug_in: EntryPoint) -> Finding:
    (finding,) = await plugged_in(default_settings(), plug_in)
    return finding


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under its own name, whatever pytest has imported it as."""
    import sys

    monkeypatch.setitem(sys.modules, __name__, sys.modules[healthy.__module__])


async def test_a_check_of_another_package_finds_under_its_own_area() -> None:
    assert await only(entry("healthy")) == Finding("llm", Level.OK, "answers for api_workers")


@pytest.mark.parametrize(
    ("plug_in", "words"),
    [
        (entry("breaks"), "failed: ConnectionError: http://me:***@host/ refused"),
        (entry("says_nonsense"), "TypeError: it found a str"),
        (entry("not_a_check"), "failed: TypeError"),
        (entry("missing"), "cannot be imported: AttributeError"),
        (EntryPoint("llm", "no_such_package.checks:check", PLUG_INS), "cannot be imported: Module"),
    ],
)
async def test_a_check_that_breaks_is_a_finding_and_no_crash(
    plug_in: EntryPoint, words: str
) -> None:
    finding = await only(plug_in)
    assert (finding.area, finding.level) == ("llm", Level.BAD)
    assert words in finding.text
    assert finding.remedy


async def test_a_check_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PLUG_IN_DEADLINE_S", 0.05)
    assert "did not answer within 0.05 s" in (await only(entry("hangs"))).text


async def test_what_a_check_says_carries_no_password() -> None:
    finding = await only(entry("talks"))
    assert (finding.text, finding.remedy) == (
        "http://me:***@host/ is away",
        "start http://me:***@host/",
    )


async def test_the_doctor_asks_every_registered_check(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def registered(*, group: str) -> list[EntryPoint]:
        asked.append(group)
        return [entry("healthy"), entry("breaks")]

    async def nothing(_settings: Settings) -> list[Finding]:
        return []

    monkeypatch.setattr(doctor, "entry_points", registered)
    monkeypatch.setattr("api_shared.cli.commands.doctor.check_rabbitmq.check_rabbitmq", nothing)
    monkeypatch.setattr("api_shared.cli.commands.doctor.check_stores.check_mongodb", nothing)
    monkeypatch.setattr("api_shared.cli.commands.doctor.check_stores.check_redis", nothing)
    monkeypatch.setattr(doctor, "check_workers", nothing)
    findings = await doctor.examine(default_settings())
    assert asked == ["api_shared.doctor"]
    assert [finding.level for finding in findings] == [Level.OK, Level.BAD]
