"""The examples of docs/testing.md, each run as a user's own test module."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from api_shared import JobBroker

DOCS = Path(__file__).parents[2] / "docs" / "testing.md"
SNIPPET = re.compile(r"```python\n# (\w+)\.py\n(.*?)```", re.DOTALL)
SNIPPETS = dict(SNIPPET.findall(DOCS.read_text()))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("service")
    monkeypatch.setitem(sys.modules, "service", module)
    exec(SNIPPETS["service"], module.__dict__)
    yield
    del JobBroker.made["post"]


async def run_tests_of(module: ModuleType) -> int:
    """As pytest would: each test, with the fixture that its parameter names."""
    ran = 0
    for name, test in list(vars(module).items()):
        if not name.startswith("test_"):
            continue
        ran += 1
        wanted = list(inspect.signature(test).parameters)
        if not wanted:
            await test()
            continue
        [fixture] = wanted
        definition: Any = getattr(module, fixture)
        async with asynccontextmanager(inspect.unwrap(definition))() as value:
            await test(value)
    return ran


@pytest.mark.parametrize("name", [name for name in SNIPPETS if name != "service"])
@pytest.mark.usefixtures("service")
async def test_an_example_of_the_docs_runs(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = ModuleType(name)
    monkeypatch.setitem(sys.modules, name, module)
    exec(SNIPPETS[name], module.__dict__)
    assert await run_tests_of(module) >= 1


def test_every_code_block_of_the_docs_is_one_that_is_run() -> None:
    assert DOCS.read_text().count("```python") == len(SNIPPETS) == 5
