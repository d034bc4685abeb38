"""What a service imports to kiq is light: asked of a fresh interpreter."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

HEAVY = ("sklearn", "numpy", "scipy", "httpx", "workers_general", "workers_ml", "typer")
OURS = ("api_shared.worker", "api_shared.cli", "api_shared.testing.servers", "api_shared.testing")
DRIVERS = ("motor", "pymongo", "aio_pika", "aiormq", "redis")

KIQS = """
import api_shared
from api_shared import Contract, JobBroker, running
from api_shared.broker import broker, ml_broker
from api_shared.contracts import general, ml
"""


def modules_after(code: str) -> set[str]:
    program = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=180
    )
    return set(json.loads(done.stdout))


def found(modules: set[str], unwanted: tuple[str, ...]) -> list[str]:
    return [
        name for name in modules for bad in unwanted if name == bad or name.startswith(f"{bad}.")
    ]


def test_a_service_that_kiqs_loads_no_worker_and_no_heavy_package() -> None:
    assert found(modules_after(KIQS), HEAVY + OURS) == []


@pytest.mark.parametrize("module", ["api_shared.contracts.general", "api_shared.errors"])
def test_a_contract_or_an_error_alone_loads_no_driver(module: str) -> None:
    assert found(modules_after(f"import {module}"), HEAVY + OURS + DRIVERS) == []


@pytest.mark.parametrize("name", [*HEAVY, *OURS, *DRIVERS])
def test_a_module_that_is_guarded_against_has_this_name(name: str) -> None:
    assert importlib.util.find_spec(name) is not None, "it has another name now"
