"""The examples in the docstrings of what starts or stops processes, run as they stand there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api_shared.testing.freezing import frozen
from api_shared.testing.servers import running_servers
from fixtures.doc_examples import example_in, run_example


@pytest.mark.parametrize("function", [frozen, running_servers], ids=lambda each: each.__name__)
async def test_an_example_with_processes_runs(function: Any) -> None:
    code = example_in(function.__doc__)
    assert code, f"{function.__name__} has no example in its docstring"
    modules = {each.__name__: each for each in (os, subprocess, sys)}
    names = {"Path": Path, function.__name__: function, **modules}
    await run_example(code, names, f"the docstring of {function.__name__}")
