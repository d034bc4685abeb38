"""What users write is checked by mypy as we promise, with this repository's own configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from mypy import api

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "tests" / "typed_snippets.py"


def checked(path: Path) -> list[str]:
    """mypy's errors in `path`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        out, problems, _ = api.run([str(path), "--no-error-summary", "--hide-error-context"])
    assert problems == ""
    return [line for line in out.splitlines() if ": error: " in line]


def test_right_calls_pass_and_each_wrong_one_is_an_error_of_its_kind() -> None:
    assert checked(SNIPPETS) == []


def test_the_check_can_fail(tmp_path: Path) -> None:
    text = SNIPPETS.read_text()
    wrong = text.count("  # type: ignore[")
    copy = tmp_path / "snippets_unmarked.py"
    copy.write_text(text.replace("  # type: ignore[", "  # was: ["))
    assert wrong > 15
    assert len(checked(copy)) >= wrong
