"""The example of docs/llm.md, run as it stands; and what the page says of tasks and servers."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from api_shared import JobBroker
from api_shared.contracts.language import CONTRACTS
from api_shared.settings import Settings
from workers_general.llm.models import BACKENDS

DOCS = (Path(__file__).parents[2] / "docs" / "llm.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"```(?:python|text)\n# (translation/\S+)\n(.*?)```", DOCS, re.DOTALL))


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The example's files in a folder on the path; nothing of it is left afterwards."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "translation" / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "translation"]:
        del sys.modules[name]
    del JobBroker.made["translation"]


@pytest.mark.usefixtures("package")
async def test_the_example_of_a_new_task_passes_its_own_test_and_has_a_worker() -> None:
    tests: Any = import_module("translation.test_task")
    await tests.test_a_text_is_translated()
    broker: JobBroker = import_module("translation.main").broker

    assert broker.engine is not None
    assert list(broker.tasks) == ["translate"]


def test_every_code_block_of_the_docs_is_one_that_is_run() -> None:
    assert DOCS.count("```python") + DOCS.count("```text") == len(FILES) == 5


def test_the_docs_name_every_task_with_its_queue() -> None:
    for contract in CONTRACTS:
        assert f"| `{contract.name}`, `{contract.queue}` |" in DOCS


def test_the_docs_show_how_to_point_at_every_backend_by_settings_that_exist() -> None:
    for name in BACKENDS:
        assert f"LLM_BACKEND={name} " in DOCS
    known = {field.upper() for field in Settings.model_fields}
    assert set(re.findall(r"\bLLM_[A-Z_]+[A-Z]\b", DOCS)) <= known
