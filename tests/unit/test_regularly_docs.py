"""The examples of docs/scheduling.md on periodic jobs, each run as a user's own module."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from api_shared import JobBroker

DOCS = Path(__file__).parents[2] / "docs" / "scheduling.md"
SECTION = DOCS.read_text().partition("\n## Periodically\n")[2].partition("\n## ")[0]
SNIPPETS = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", SECTION, re.DOTALL))


@pytest.fixture
def reports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("reports")
    monkeypatch.setitem(sys.modules, "reports", module)
    exec(SNIPPETS["reports"], module.__dict__)
    yield
    del JobBroker.made["office"]
    JobBroker.made.pop("clinic", None)


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != "reports"])
@pytest.mark.usefixtures("reports")
async def test_an_example_on_schedules_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(SNIPPETS[name], module.__dict__)
    tests = [value for key, value in vars(module).items() if key.startswith("test_")]
    assert tests
    for test in tests:
        await test()


def test_every_code_block_on_schedules_is_one_that_is_run() -> None:
    assert SECTION.count("```python") == len(SNIPPETS) == 3
