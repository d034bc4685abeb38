"""
A labelled corpus without a download: the standard library's docstrings, labelled by module.

    python bench/docstrings.py FOLDER     # FOLDER/texts/… and FOLDER/labels.tsv
"""

from __future__ import annotations

import ast
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LEAST = 50
"""Documents a module must have to be a label."""

LEFT_OUT = {"site-packages", "test", "tests", "idlelib", "lib2to3", "config-3"}


@dataclass(frozen=True, slots=True)
class Docstring:
    id: str
    label: str
    text: str


def docstrings() -> list[Docstring]:
    """Of modules, classes and functions, each text once, in the order of their files."""
    found: dict[str, Docstring] = {}
    for docstring in _all():
        found.setdefault(docstring.text, docstring)
    sizes = Counter(docstring.label for docstring in found.values())
    return [docstring for docstring in found.values() if sizes[docstring.label] >= LEAST]


def _all() -> Iterator[Docstring]:
    root = Path(os.__file__).parent
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if LEFT_OUT & set(parts):
            continue
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            continue
        label = parts[0].removesuffix(".py")
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield Docstring(f"{'/'.join(parts)}:{getattr(node, 'lineno', 0)}", label, text)


def write_to(folder: Path) -> None:
    """Each text as a file, and every label."""
    lines = []
    for docstring in docstrings():
        name = f"{docstring.label}/{docstring.id.replace('/', '.').replace(':', '-')}.txt"
        path = folder / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(docstring.text, encoding="utf-8", errors="replace")
        lines.append(f"{name}\t{docstring.label}\n")
    (folder / "labels.tsv").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines):,} texts in {folder}/texts, their labels in {folder}/labels.tsv")


if __name__ == "__main__":
    write_to(Path(sys.argv[1]))
