"""
The code of docs/scheduling.md, run in place from top to bottom, and every cell of its table.

What it says on schedules is run by test_regularly_docs.py.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.main import get_command

from api_shared import Discard, JobBroker, Snooze
from api_shared.broker import broker as general_broker
from api_shared.cli.main import app
from api_shared.job import new_job_id
from api_shared.testing import running_in_place
from fixtures.doc_examples import run_example

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "scheduling.md").read_text().partition("\n## Periodically\n")[0]
TASKS, *SNIPPETS = re.findall(r"```python\n(.*?)```", DOCS, re.DOTALL)
HABITS = re.compile(r"<!-- test: habits -->\n((?:\|.*\n)+)")
CELLS = [
    cell
    for page in (DOCS, (ROOT / "README.md").read_text())
    for table in HABITS.findall(page)
    for row in table.splitlines()[2:]
    for cell in re.findall(r"`([^`]+)`", row.split(" | ", 1)[1])
]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    module = ModuleType("tasks")
    monkeypatch.setitem(sys.modules, "tasks", module)
    module.__dict__.update(Discard=Discard, Snooze=Snooze)
    exec(TASKS, module.__dict__)
    yield module.__dict__
    JobBroker.made["general"] = general_broker


async def test_the_code_of_the_docs_runs_as_it_stands_there(names: dict[str, Any]) -> None:
    async with running_in_place(names["broker"]):
        for snippet in SNIPPETS:
            await run_example(snippet, names, "scheduling.md")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if not cell.startswith("kiq ")])
async def test_a_habit_is_done_as_the_table_says(cell: str, names: dict[str, Any]) -> None:
    async with running_in_place(names["broker"]):
        names["job_id"] = (await names["add"].kiq(1, 2)).task_id
        names["job"] = names["broker"].handle(names["job_id"])
        code = f"{cell}\nasync def some(a: int) -> int: ..." if cell.startswith("@") else cell
        try:
            await run_example(code, names, "the table of habits")
        except (Discard, Snooze):
            assert cell.startswith("raise ")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell.startswith("kiq ")])
def test_a_command_of_the_table_is_there_with_its_options(cell: str) -> None:
    _, name, *arguments = shlex.split(cell.replace("ID", new_job_id()))
    command: Any = get_command(app)
    command.commands[name].make_context(name, arguments)


def test_the_table_was_found() -> None:
    assert len(CELLS) >= 20
