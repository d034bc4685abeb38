"""Server programs that come inside a Python wheel."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from api_shared.testing.servers.programs.cache import cache_lock


def program_from_wheel(distribution: str, name: str) -> Path | None:
    """
    The program `name` of an installed distribution, ready to run; None if it is not installed.

    Some installers drop the run bit. Such a program is copied to the cache and gets it there: an
    installed package is left as it is, its files may be shared with other environments.
    """
    try:
        listed = files(distribution) or []
    except PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in listed if file.name == name]
    native = [path for path in found if platform.machine() in str(path)] or found
    program = next((path for path in native if path.is_file()), None)
    if program is None or os.access(program, os.X_OK):
        return program
    return _runnable_copy(program, distribution)


def _runnable_copy(program: Path, distribution: str) -> Path:
    stat = program.stat()
    label = f"{distribution}-{stat.st_size}-{int(stat.st_mtime)}"
    with cache_lock(label, on_wait=lambda: None) as cache:
        copy = cache / label / program.name
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=copy.parent)
            os.close(handle)
            shutil.copyfile(program, unfinished)
            Path(unfinished).chmod(0o755)
            Path(unfinished).rename(copy)
        return copy
