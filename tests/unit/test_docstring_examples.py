"""The examples in the docstrings of the public names, each run as it stands there."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from api_shared import (
    Contract,
    Discard,
    JobBroker,
    JobContext,
    JobHandle,
    Schedule,
    Snooze,
    Unique,
    attach,
)
from api_shared.testing import Place, default_settings, recording, running_in_place
from api_shared.testing.thread_executor import ThreadExecutor
from api_shared.testing.waiting import until
from fixtures.doc_examples import example_in, run_example

IMPORTS = """
import asyncio
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel
from taskiq import TaskiqDepends

from api_shared import *
from api_shared.testing import *
from api_shared.testing.thread_executor import ThreadExecutor
from api_shared.testing.waiting import until
from api_shared.worker.job_process.exit import Returned

broker = JobBroker("general")
"""
"""What the examples leave out."""
DEFINE = (Contract, JobContext.write)
"""Their examples define the tasks `greet` and `tell_story`, which the others kiq."""
OF_JOBS = (
    *DEFINE,
    Contract.kiq,
    Discard,
    JobContext,
    JobHandle,
    JobHandle.cancel,
    JobHandle.reschedule,
    JobHandle.result,
    JobHandle.stream,
    JobHandle.watch,
    Schedule,
    Snooze,
    Unique,
)
OF_SET_UP = (
    Place,
    ThreadExecutor,
    attach,
    default_settings,
    recording,
    running_in_place,
    until,
)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that an example may use, as those of a module of its own."""
    for module in ("examples", "mail_worker", "mail_worker.tasks"):
        monkeypatch.setitem(sys.modules, module, ModuleType(module))
    monkeypatch.setattr(JobBroker, "made", dict(JobBroker.made))
    names: dict[str, Any] = {"__name__": "examples"}
    exec(IMPORTS, names)
    return names


async def run(thing: Any, names: dict[str, Any]) -> None:
    code = example_in(thing.__doc__)
    assert code, f"{thing.__qualname__} has no example in its docstring"
    await run_example(code, names, f"the docstring of {thing.__qualname__}")


@pytest.mark.parametrize("thing", OF_JOBS, ids=lambda thing: thing.__qualname__)
async def test_an_example_of_jobs_runs(thing: Any, names: dict[str, Any]) -> None:
    for each in DEFINE:
        await run(each, names)
    if thing not in DEFINE:
        async with running_in_place(names["broker"]):
            await run(thing, names)


@pytest.mark.parametrize("thing", OF_SET_UP, ids=lambda thing: thing.__qualname__)
async def test_an_example_of_a_set_up_runs(thing: Any, names: dict[str, Any]) -> None:
    await run(Contract, names)
    await run(thing, names)
