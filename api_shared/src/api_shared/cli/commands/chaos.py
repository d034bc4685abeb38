"""`kiq chaos`: faults on purpose under a known load, and the count of what became of every job."""

from __future__ import annotations

import secrets
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api_shared.cli.exit_codes import FINDINGS, ExitCode
from api_shared.cli.output import AsJson, print_json, print_line, print_table, say

if TYPE_CHECKING:
    from api_shared.testing.chaos.run import Result
    from api_shared.testing.chaos.scenario import Scenario

EPILOG = """
kiq chaos --list · kiq chaos --small · kiq chaos worker-kills --seed 7 · kiq chaos --markdown
"""

COLUMNS = (
    "row", "jobs", "completed", "failed", "cancelled", "open", "lost", "twice", "refused",
    "again", "recovery", "took", "held",
)  # fmt: skip


def chaos(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SCENARIO]...", help="Scenarios to run; none: all."),
    ] = None,
    small: Annotated[
        bool, typer.Option("--small/--full", help="Sizes of the tests, or of a real run.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Repeat a run; it is printed.")] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the scenarios and end.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """
    Break private servers and workers under a known load, and count what became of every job.

    Your own servers are not used: private ones are started and end with it. Exit code 1 if a job
    was lost, ended twice or stayed open, or if something else that must hold did not.

    refused: late writes of workers that had lost their claim. again: jobs claimed more than once.
    recovery: seconds from a worker's end until its jobs ran again, median and 99th percentile.
    """
    from api_shared.testing.chaos.registry import all_scenarios, scenario_named

    chosen = [scenario_named(name) for name in names or ()] or list(all_scenarios().values())
    if listed:
        _print_scenarios(chosen, as_json=as_json)
        return
    results = _run(chosen, seed if seed is not None else secrets.randbelow(10**6), small=small)
    if as_json:
        print_json([described(result) for result in results])
    elif markdown:
        for line in markdown_lines(results):
            print_line(line)
    else:
        print_table(COLUMNS, [_cells(result) for result in results])
    if not all(result.report.holds for result in results):
        raise typer.Exit(FINDINGS)


def _run(chosen: list[Scenario], seed: int, *, small: bool) -> list[Result]:
    from api_shared.logs import configure_logging
    from api_shared.settings import Settings
    from api_shared.testing.chaos.run import run_scenarios
    from api_shared.testing.servers import ServicesError

    # A supervisor that ends this command must not leave its servers and workers behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # This process's own connections break too, which need not be logged.
    configure_logging(Settings(log_level="ERROR", log_format="console"))
    say(f"seed {seed}")
    sized = [(each, each.small if small else each.full) for each in chosen]
    try:
        return run_scenarios(sized, seed, say, _say_result)
    except ServicesError as error:
        say(f"kiq: {error}")
        raise typer.Exit(ExitCode.UNREACHABLE) from None


def _say_result(result: Result) -> None:
    audit = result.report.audit
    word = "held" if result.report.holds else "DID NOT HOLD"
    say(
        f"{result.scenario.name}: {word} after {result.took_s:.0f} s; {audit.accepted:,} accepted, "
        f"{audit.completed:,} completed, {audit.lost} lost, {audit.ended_twice} ended twice"
    )
    for finding in findings_of(result):
        say(f"  {finding}")


def _print_scenarios(chosen: list[Scenario], *, as_json: bool) -> None:
    if as_json:
        names = ("name", "fault", "holds", "small", "full")
        print_json([{name: getattr(each, name) for name in names} for each in chosen])
        return
    print_table(
        ("row", "small", "full", "fault", "must hold"),
        [(each.name, f"{each.small:,}", f"{each.full:,}", each.fault, each.holds)
         for each in chosen],
    )  # fmt: skip


def findings_of(result: Result) -> list[str]:
    """The findings as text, with the first jobs that broke a promise."""
    report = result.report
    jobs = [f"{finding.job_id} {finding.broken}" for finding in report.audit.findings]
    return [*report.findings, *jobs]


def described(result: Result) -> dict[str, Any]:
    """A result as JSON."""
    report = result.report
    audit = asdict(report.audit)
    del audit["findings"]
    return {
        "row": result.scenario.name,
        "fault": result.scenario.fault,
        "size": result.size,
        "seed": result.seed,
        "held": report.holds,
        **audit,
        "recovery_p50_s": report.recovery_at(0.5),
        "recovery_p99_s": report.recovery_at(0.99),
        "figures": report.figures,
        "findings": findings_of(result),
        "took_s": round(result.took_s, 1),
    }


def markdown_lines(results: list[Result]) -> list[str]:
    """The table as `docs/reliability.md` has it."""
    columns = (COLUMNS[0], "fault", "must hold", *COLUMNS[1:], "besides")
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    for result in results:
        besides = ", ".join(f"{name} {value}" for name, value in result.report.figures.items())
        name, *counts = _cells(result)
        cells = (name, result.scenario.fault, result.scenario.holds, *counts, besides)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cells(result: Result) -> tuple[str, ...]:
    audit, report = result.report.audit, result.report
    counts = (
        audit.accepted, audit.completed, audit.failed, audit.cancelled, audit.open, audit.lost,
        audit.ended_twice, audit.late_writes_refused, audit.ran_again,
    )  # fmt: skip
    half, most = report.recovery_at(0.5), report.recovery_at(0.99)
    recovery = "" if half is None or most is None else f"{half:.1f}, {most:.1f} s"
    held = "yes" if report.holds else "NO"
    return (
        result.scenario.name,
        *(f"{count:,}" for count in counts),
        recovery,
        f"{result.took_s:.0f} s",
        held,
    )
