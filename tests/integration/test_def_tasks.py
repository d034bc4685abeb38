"""Synchronous tasks in processes of their own: what reaches them, and what they return."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from taskiq.message import TaskiqMessage

import def_task_module as tasks
from api_shared.client.bind.task import JobTask
from api_shared.job import Reason
from api_shared.ledger.memory.ledger import MemoryLedger
from api_shared.notifier.memory import MemoryNotifier
from api_shared.testing import default_settings
from api_shared.worker.job_process import ProcessExecutor
from api_shared.worker.run.execute import execute
from api_shared.worker.run.held_claim import HeldClaim
from api_shared.worker.run.outcome import Completed, Failed, Outcome
from fixtures.ledgers import claimed, inserted


@pytest.fixture
async def executor() -> AsyncIterator[ProcessExecutor]:
    executor = ProcessExecutor(preload=["def_task_module"])
    yield executor
    await executor.close()


async def outcome_of(task: JobTask[Any, Any], executor: ProcessExecutor, **args: Any) -> Outcome:
    ledger, contract = MemoryLedger(), task.contract
    args_json = contract.encode_args(contract.parse((), args))
    job = await inserted(ledger, task=contract.name, args_json=args_json)
    held, token = await claimed(ledger, job.id)
    message = TaskiqMessage(
        task_id=job.id, task_name=contract.name, labels={"tenant": "blue"}, args=[], kwargs={}
    )
    claim = HeldClaim(held, token, ledger, MemoryNotifier())
    settings = default_settings()
    return await execute(task, claim, message, settings=settings, executor=executor, slot=None)


async def test_a_strict_result_arrives_as_it_was_returned(executor: ProcessExecutor) -> None:
    ended = await outcome_of(tasks.strict_report, executor, at=tasks.WHEN)
    assert isinstance(ended, Completed)
    report = tasks.strict_report.contract.decode_result(ended.result_json)
    assert report == tasks.Report(at=tasks.WHEN, pages=(1, 2))


@pytest.mark.parametrize(
    ("task", "problem"),
    [(tasks.subclass, "S3 comes back as Source"), (tasks.untyped, "int comes back as str")],
)
async def test_a_result_that_would_be_read_as_something_else_fails_the_job(
    executor: ProcessExecutor, task: JobTask[Any, Any], problem: str
) -> None:
    ended = await outcome_of(task, executor)
    assert isinstance(ended, Failed)
    assert ended.error.reason is Reason.INVALID_RESULT
    assert problem in ended.error.message


async def test_taskiqs_context_reaches_a_process(executor: ProcessExecutor) -> None:
    ended = await outcome_of(tasks.labels_of_its_message, executor)
    assert isinstance(ended, Completed), ended
    assert tasks.labels_of_its_message.contract.decode_result(ended.result_json)[1:] == [
        "blue",
        "defs",
    ]


async def test_a_dependency_that_cannot_travel_is_named(executor: ProcessExecutor) -> None:
    ended = await outcome_of(tasks.with_a_lock, executor)
    assert isinstance(ended, Failed)
    assert "the dependency 'lock' cannot be sent to the process" in ended.error.message
    assert "async def" in ended.error.message
