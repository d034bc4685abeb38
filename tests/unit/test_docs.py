"""The pages of the project, held to what they name: files, links, and one another."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DECISIONS = sorted((DOCS / "adr").glob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")), *DECISIONS]
PACKAGES = [ROOT / name / "src" / name for name in ("api_shared", "workers_general", "workers_ml")]
FOLDERS = [ROOT, *(package.parent for package in PACKAGES), *PACKAGES]
"""A page may name a file from the project's folder, from a package or within it."""

CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
FILE = re.compile(r"[\w.@-]+(/[\w.@-]+)*/?")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SUFFIXES = (".py", ".yaml", ".Dockerfile", ".service")
OTHERS = ("tasks.py", "letters.py", "words.py", "compose.override.yaml")
"""Names of a reader's own files."""


def named_files(text: str) -> list[str]:
    spans = SPAN.findall(CODE_BLOCK.sub("", text))
    names = [span for span in spans if FILE.fullmatch(span) and span not in OTHERS]
    return [
        name for name in names if name.endswith(SUFFIXES) or name.startswith(("docs/", "tests/"))
    ]


def exists(name: str) -> bool:
    return any((folder / name).exists() for folder in FOLDERS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_file_and_each_link_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]

    assert [name for name in named_files(text) if not exists(name)] == []
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_each_name_of_the_reading_list_is_a_file_or_a_folder() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("    ") and "→" in line]
    names = [name for line in lines for name in re.findall(r"\w+(?:/\w+)+", line)]

    assert len(names) >= 12
    assert [name for name in names if not exists(f"{name}.py") and not exists(name)] == []


def test_the_index_links_each_page_and_each_decision() -> None:
    links = LINK.findall((DOCS / "README.md").read_text(encoding="utf-8"))
    pages = {str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)}

    assert {link for link in links if not link.startswith("..")} == pages - {"README.md"}


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_number_a_status_a_date_and_at_most_20_lines(page: Path) -> None:
    title, blank, status, *rest = page.read_text(encoding="utf-8").splitlines()

    assert title.startswith(f"# {int(page.stem[:4])}. ")
    assert not blank
    assert re.fullmatch(r"Status: (accepted|superseded by \d+), \d{4}-\d\d-\d\d", status)
    assert 0 < len(rest) <= 17
