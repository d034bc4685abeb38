"""The report of `kiq chaos`: recovery, traces, scenarios, tables, exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from api_shared.cli.commands.chaos import described, markdown_lines
from api_shared.cli.exit_codes import ExitCode
from api_shared.cli.main import run_command
from api_shared.job import Entry, Job, Status
from api_shared.ledger.audit import Audit, Finding, Violation
from api_shared.testing.chaos.recovery import recoveries
from api_shared.testing.chaos.registry import UnknownScenario, all_scenarios, scenario_named
from api_shared.testing.chaos.report import Report
from api_shared.testing.chaos.run import Result
from api_shared.testing.chaos.trace import read_trace, traced

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SOUND = Audit(accepted=3, completed=3)


def entry(seq: int, status: Status, at_s: float, worker: str | None = None) -> Entry:
    return Entry(seq, status, NOW + timedelta(seconds=at_s), f"c{seq}", worker=worker)


def job(*history: Entry) -> Job:
    return Job("a" * 24, "nap", "general", "taskiq", "{}", history[-1].status, 1, NOW,
               history=history)  # fmt: skip


KILLED = job(
    entry(1, Status.QUEUED, 0),
    entry(2, Status.PROCESSING, 1, "my-host-77-abc123"),
    entry(3, Status.QUEUED, 6),
    entry(4, Status.PROCESSING, 6.5, "my-host-78-def456"),
    entry(5, Status.COMPLETED, 7, "my-host-78-def456"),
)


def test_recovery_is_from_the_death_of_its_process_until_a_job_runs_again() -> None:
    died = NOW + timedelta(seconds=2)
    assert list(recoveries([KILLED], {77: died})) == [4.5]


def test_a_job_that_had_ended_before_its_process_died_had_not_to_recover() -> None:
    died = NOW + timedelta(seconds=9)
    assert list(recoveries([KILLED], {78: died})) == []


def test_a_death_of_another_process_is_nothing_to_a_job() -> None:
    assert list(recoveries([KILLED], {79: NOW + timedelta(seconds=2)})) == []


def test_quantiles_of_recovery_are_of_what_was_seen() -> None:
    report = Report(SOUND, recovery_s=tuple(float(number) for number in range(100)))
    assert (report.recovery_at(0.5), report.recovery_at(0.99)) == (50.0, 99.0)
    assert Report(SOUND).recovery_at(0.5) is None


@pytest.mark.parametrize(
    "report",
    [
        Report(replace(SOUND, lost=1)),
        Report(replace(SOUND, ended_twice=1)),
        Report(replace(SOUND, open=1)),
        Report(SOUND, findings=("a worker hung",)),
        Report(SOUND).checked(0, "nothing was killed"),
    ],
)
def test_a_scenario_does_not_hold_for_any_of_these(report: Report) -> None:
    assert Report(SOUND).holds
    assert not report.holds


def test_a_task_beside_itself_in_one_process_is_seen(tmp_path: Path) -> None:
    with traced(str(tmp_path), "once"), traced(str(tmp_path), "twice"):
        assert not read_trace(tmp_path).beside_itself
        with traced(str(tmp_path), "twice"):
            pass
    trace = read_trace(tmp_path)
    assert trace.beside_itself == {"twice"}
    assert trace.begun == {"once": 1, "twice": 2}


def test_a_task_that_runs_again_after_it_has_ended_is_not_beside_itself(tmp_path: Path) -> None:
    for _ in range(2):
        with traced(str(tmp_path), "again"):
            pass
    assert read_trace(tmp_path).begun == {"again": 2}
    assert not read_trace(tmp_path).beside_itself


def test_scenarios_have_names_of_their_own_and_sizes_that_fit_their_place() -> None:
    assert len(all_scenarios()) > 8
    for name, scenario in all_scenarios().items():
        assert name == scenario.name
        assert 0 < scenario.small <= scenario.full
        assert scenario.fault and scenario.holds


def test_an_unknown_scenario_names_those_there_are() -> None:
    with pytest.raises(UnknownScenario, match="worker-kills"):
        scenario_named("worker-kisses")


def result(report: Report) -> Result:
    return Result(scenario_named("worker-kills"), 3, 7, report, 1.5)


def test_the_markdown_table_has_a_cell_for_each_column() -> None:
    report = Report(SOUND, recovery_s=(2.0, 3.0), figures={"kills": 2})
    head, rule, line = markdown_lines([result(report)])
    assert head.count("|") == rule.count("|") == line.count("|")
    assert "3.0, 3.0 s" in line and "kills 2" in line and "kill -9" in line


def test_the_json_of_a_result_says_what_it_found() -> None:
    found = Finding("a" * 24, Violation.VANISHED)
    broken = Report(replace(SOUND, lost=1, findings=(found,)), ("it hung",))
    text = json.loads(json.dumps(described(result(broken))))
    assert (text["held"], text["lost"], text["seed"]) == (False, 1, 7)
    assert text["findings"] == ["it hung", f"{'a' * 24} vanished"]


@pytest.mark.parametrize(
    ("report", "code"),
    [(Report(SOUND), ExitCode.OK), (Report(replace(SOUND, lost=1)), ExitCode.JOB_FAILED)],
)
def test_the_exit_code_says_whether_all_scenarios_held(
    report: Report, code: ExitCode, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    asked: list[Any] = []

    def run_scenarios(scenarios: Any, seed: int, *_: Any) -> list[Result]:
        asked.append(([(each.name, size) for each, size in scenarios], seed))
        return [result(report)]

    monkeypatch.setattr("api_shared.testing.chaos.run.run_scenarios", run_scenarios)
    assert run_command(["chaos", "worker-kills", "--small", "--seed", "7"]) == code
    assert asked == [([("worker-kills", scenario_named("worker-kills").small)], 7)]
    printed = capsys.readouterr()
    assert "seed 7" in printed.err
    assert "worker-kills" in printed.out
