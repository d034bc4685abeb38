"""
What the Dockerfiles' steps make, without an engine: their uv commands run in a folder, and their
command runs a worker from it, as another user where the tests run as root.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from api_shared.contracts.general import HEALTH_CHECK, HealthCheckArgs
from api_shared.contracts.ml import TRAIN_MODEL, TrainModelArgs
from fixtures.compose import ROOT, services
from fixtures.dockerfile import Stage, stages_of
from fixtures.workers import LONG_S, Platform, until

NOBODY = 65534
WRITABLE = ("storage", "run")


class Image:
    """The folders of an image below `root`; `base` and `build` are its Dockerfile's stages."""

    def __init__(self, root: Path, dockerfile: Path) -> None:
        self.root = root
        self.stages = stages_of(dockerfile)
        self.base, self.build = self.stages["base"], self.stages["build"]
        self.python = python_of_all_users() if os.getuid() == 0 else None
        for folder in ("build", "app", "storage", "run"):
            (root / folder).mkdir()
            if self.python and folder in WRITABLE:
                os.chown(root / folder, NOBODY, NOBODY)
        shutil.copy(ROOT / "deploy/worker_health.py", root / "app")

    @property
    def venv(self) -> Path:
        return self.root / "opt/venv"

    @property
    def log(self) -> Path:
        return self.root / "log"

    def installed(self, folder: str = ".") -> set[str]:
        """Folders and files in site-packages, or in a folder of it."""
        (packages,) = (self.venv / "lib").glob("python*/site-packages")
        return {path.name for path in (packages / folder).iterdir()}

    def replay(self, stage: Stage) -> None:
        """Run a stage's COPY and `uv` instructions, with the paths below `root`."""
        env = {
            **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
            **self.variables(self.build),
            "UV_PYTHON": str(self.python or sys.executable),
            # Only faster: neither changes what is installed.
            "UV_LINK_MODE": "hardlink",
            "UV_COMPILE_BYTECODE": "0",
        }
        uv = os.environ.get("UV", "uv")
        for instruction in stage.instructions:
            words = instruction.words
            if instruction.name == "COPY":
                self._copy([ROOT / word for word in words[:-1]], self.root / "build" / words[-1])
            elif instruction.name == "RUN" and words[0] == "uv":
                subprocess.run(
                    [uv, *words[1:], "--quiet"], cwd=self.root / "build", env=env, check=True
                )

    def variables(self, stage: Stage) -> dict[str, str]:
        pairs = [word.partition("=") for env in stage.all("ENV") for word in env.words]
        return {
            name: value.replace("/opt/venv", str(self.venv))
            .replace("file:/storage", f"file:{self.root}/storage")
            .replace("$PATH", os.environ["PATH"])
            for name, _, value in pairs
        }

    def start(
        self, arguments: list[str], env: dict[str, str], over: dict[str, str], **streams: Any
    ) -> Any:
        """A process in the image's environment, with `over` over it: nothing of the tests' own."""
        program = self.venv / "bin" / arguments[0]
        user: dict[str, Any] = (
            {"user": NOBODY, "group": NOBODY, "extra_groups": []} if self.python else {}
        )
        return subprocess.Popen(
            [program, *arguments[1:]],
            cwd=self.root / "app",
            env={
                **{name: value for name, value in env.items() if name != "PYTHONPATH"},
                **self.variables(self.base),
                "XDG_RUNTIME_DIR": str(self.root / "run"),
                "DRAIN_S": "5",
                **over,
            },
            stdin=subprocess.DEVNULL,
            text=True,
            **user,
            **streams,
        )

    def run(self, arguments: list[str], env: dict[str, str]) -> tuple[int, str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = self.start(arguments, env, {}, **pipes)
        printed, _ = process.communicate(timeout=LONG_S)
        return process.returncode, printed

    def healthy(self, env: dict[str, str]) -> bool:
        """The image's own HEALTHCHECK."""
        command = json.loads(self.base.last("HEALTHCHECK").value.partition("CMD ")[2])
        code, _ = self.run([word.replace("/app/", "") for word in command], env)
        return code == 0

    @contextmanager
    def worker(
        self, env: dict[str, str], command: list[str] | None = None, **over: str
    ) -> Iterator[Any]:
        """The image's command, or `command`, until the block ends."""
        arguments = command or json.loads(self.base.last("CMD").value)
        with self.log.open("w") as log:
            process = self.start(
                arguments, env, over, stdout=log, stderr=log, start_new_session=True
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=LONG_S)

    def _copy(self, sources: list[Path], target: Path) -> None:
        for source in sources:
            if source.is_dir():
                shutil.copytree(source, target, dirs_exist_ok=True, ignore=CACHES)
            else:
                into = target if target.suffix else target / source.name
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, into)


CACHES = shutil.ignore_patterns("__pycache__", "*.pyc")


def python_of_all_users() -> Path | None:
    """One of this version that another user than root can run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (Path(sys.executable).resolve(), Path("/usr/local/bin"), Path("/usr/bin")):
        found = python if python.is_file() else python / version
        if found.exists() and all(
            folder.stat().st_mode & stat.S_IXOTH for folder in found.resolve().parents
        ):
            return found
    return None


def owner_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


@pytest.fixture
def folder() -> Iterator[Path]:
    """Below /tmp, and open to other users: pytest's own is not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def runs_jobs_and_stops(image: Image, platform: Platform, job: Any) -> None:
    assert not image.healthy(platform.env), "no worker runs yet"
    with image.worker(platform.env) as worker:
        await until(
            lambda: asyncio.to_thread(image.healthy, platform.env), what="the image is healthy"
        )
        assert owner_of(worker.pid) == (NOBODY if image.python else os.getuid())
        await (await job()).result(LONG_S)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, LONG_S) == 0, image.log.read_text()
    assert not image.healthy(platform.env), "the worker has signed off"


async def test_the_general_image_runs_jobs_without_scikit_learn(
    folder: Path, platform: Platform
) -> None:
    image = Image(folder, ROOT / "deploy/workers_general.Dockerfile")
    await asyncio.to_thread(image.replay, image.build)

    installed = image.installed()
    code, printed = image.run(["kiq", "workers", "--json"], platform.env)

    assert {"workers_general", "api_shared", "httpx"} <= installed
    assert not installed & {"sklearn", "numpy", "scipy", "workers_ml", "pytest", "watchdog"}
    prompts = ROOT / "workers_general/src/workers_general/prompts"
    assert {file.name for file in prompts.glob("*.md")} <= image.installed(
        "workers_general/prompts"
    )
    assert (code, json.loads(printed)) == (0, [])
    await runs_jobs_and_stops(
        image,
        platform,
        lambda: HEALTH_CHECK.kiq(
            HealthCheckArgs.model_validate({"url": "http://127.0.0.1:9/", "timeout_s": 1})
        ),
    )


async def test_the_development_image_restarts_the_worker_when_its_source_changes(
    folder: Path, platform: Platform
) -> None:
    image = Image(folder, ROOT / "deploy/workers_general.Dockerfile")
    for stage in ("build", "build-development"):
        await asyncio.to_thread(image.replay, image.stages[stage])
    service = services("compose.dev.yaml")["worker-general"]
    sources = folder / "src"
    for mount in service["volumes"]:
        source, target, _ = mount.split(":")
        shutil.copytree(ROOT / source, folder / target.lstrip("/"), ignore=CACHES)
    command = [word.replace("/src", str(sources)) for word in service["command"]]
    path = service["environment"]["PYTHONPATH"].replace("/src", str(sources))

    with image.worker(platform.env, command, PYTHONPATH=path):
        await until(
            lambda: asyncio.to_thread(image.healthy, platform.env), what="the image is healthy"
        )
        main = sources / "workers_general/workers_general/main.py"
        main.write_text(main.read_text() + "\nprint('the new source')\n")
        await until(
            lambda: "the new source" in image.log.read_text(), what="the source is reloaded"
        )


async def test_the_ml_image_trains_a_model(folder: Path, platform: Platform) -> None:
    image = Image(folder, ROOT / "deploy/workers_ml.Dockerfile")
    await asyncio.to_thread(image.replay, image.build)

    installed = image.installed()

    assert {"workers_ml", "api_shared", "sklearn", "obstore"} <= installed
    assert not installed & {"httpx", "workers_general", "pytest", "watchdog"}
    await runs_jobs_and_stops(
        image, platform, lambda: TRAIN_MODEL.kiq(TrainModelArgs(dataset_id="wine"))
    )
