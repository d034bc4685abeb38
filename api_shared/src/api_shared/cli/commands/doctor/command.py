"""`kiq doctor`: the health of the platform, and what to do where it is not healthy."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

import typer

from api_shared.cli.commands.workers import START
from api_shared.cli.connections import BROKERS, ledger_of, run
from api_shared.cli.exit_codes import FINDINGS, ExitCode
from api_shared.cli.output import AsJson, print_json, print_table, say
from api_shared.doctor import Finding, Findings, Level
from api_shared.errors import ServerError
from api_shared.redaction import redact

if TYPE_CHECKING:
    from api_shared.settings import Settings

WORKERS = Findings("workers")

PLUG_INS = "api_shared.doctor"
"""
The group of entry points that add checks: `async def check(settings) -> list[Finding]`, found
under the area of the entry point's name. They run at the same time as ours.
"""

PLUG_IN_DEADLINE_S = 15.0


def doctor(as_json: AsJson = False) -> None:
    """
    Check each server, the queues and the workers, and say how to fix each finding.

    Ends with 0 when all is well (warnings may be left), 4 when a server is unreachable, 1 for
    anything else that is wrong. Changes nothing.
    """
    findings = run(examine)
    levels = {finding.level for finding in findings}
    healthy = not levels & {Level.BAD, Level.AWAY}
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(each) for each in findings]})
    else:
        print_table(("server", "", "finding"), [_row(each) for each in findings])
        say(_verdict(findings))
    if Level.AWAY in levels:
        raise typer.Exit(ExitCode.UNREACHABLE)
    if not healthy:
        raise typer.Exit(FINDINGS)


async def examine(settings: Settings) -> list[Finding]:
    """All checks at the same time: servers that are down cost one deadline together."""
    from api_shared.cli.commands.doctor.check_rabbitmq import check_rabbitmq
    from api_shared.cli.commands.doctor.check_stores import check_mongodb, check_redis

    checks = (check_rabbitmq, check_mongodb, check_redis, check_workers)
    own = (check(settings) for check in checks)
    answers = await asyncio.gather(
        *own, *map(partial(plugged_in, settings), entry_points(group=PLUG_INS))
    )
    return [finding for findings in answers for finding in findings]


async def plugged_in(settings: Settings, entry: EntryPoint) -> list[Finding]:
    """The findings of another package's check. A check that cannot be run is a finding too."""
    area = Findings(entry.name)
    whose = f"the check {entry.value!r}"
    try:
        check = entry.load()
    except Exception as error:
        return [
            area.bad(f"{whose} cannot be imported: {_words(error)}", "fix or remove its package")
        ]
    try:
        async with asyncio.timeout(PLUG_IN_DEADLINE_S):
            return [_checked(finding) for finding in await check(settings)]
    except TimeoutError:
        text = f"{whose} did not answer within {PLUG_IN_DEADLINE_S:g} s"
        return [area.bad(text, "check by hand what it checks")]
    except Exception as error:
        return [area.bad(f"{whose} failed: {_words(error)}", "check by hand what it checks")]


def _checked(finding: object) -> Finding:
    if not isinstance(finding, Finding):
        raise TypeError(f"it found a {type(finding).__name__}, expected a Finding")
    return replace(finding, text=redact(finding.text), remedy=redact(finding.remedy))


def _words(error: Exception) -> str:
    return redact(f"{type(error).__name__}: {error}"[:300])


async def check_workers(settings: Settings) -> list[Finding]:
    """Check that each queue has a live worker. No findings while the ledger is away."""
    from api_shared.transport.topology import topology_of

    try:
        async with ledger_of(settings) as ledger:
            alive = await ledger.workers(seen_within_s=settings.lease_s)
    except ServerError:
        return []
    findings = []
    for broker in BROKERS:
        ours = [worker for worker in alive if worker.broker == broker]
        if not ours:
            text = f"no worker of {broker!r} is alive: its jobs wait"
            findings.append(WORKERS.bad(text, f"start one: {START[broker]}"))
            continue
        taken = {queue for worker in ours for queue in worker.queues}
        queues = [queue.name for queue in topology_of(broker, settings).queues]
        left = [queue for queue in queues if queue not in taken]
        if left:
            text = f"no worker of {broker!r} that is alive consumes: {', '.join(left)}"
            remedy = f"start one without WORKER_QUEUES, or with WORKER_QUEUES={','.join(left)}"
            findings.append(WORKERS.bad(text, remedy))
        hosts = ", ".join(sorted({worker.host for worker in ours}))
        plural = "" if len(ours) == 1 else "es"
        findings.append(WORKERS.ok(f"{len(ours)} process{plural} of {broker!r} alive on {hosts}"))
    return findings


def _row(finding: Finding) -> tuple[str, str, str]:
    what_to_do = f"\n-> {finding.remedy}" if finding.remedy else ""
    return finding.area, finding.level.value, f"{finding.text}{what_to_do}"


def _verdict(findings: list[Finding]) -> str:
    wrong = sum(each.level in (Level.BAD, Level.AWAY) for each in findings)
    warnings = sum(each.level is Level.WARN for each in findings)
    words = f"{warnings} warning{'' if warnings == 1 else 's'}"
    if not wrong:
        return f"\nhealthy{f', {words}' if warnings else ''}"
    return f"\nnot healthy: {wrong} finding{'' if wrong == 1 else 's'}, {words}"
