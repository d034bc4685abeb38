"""What hadolint cannot know of the images: their member, their command, how they stop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from api_shared.settings import Settings
from fixtures.compose import ROOT, services
from fixtures.dockerfile import stages_of

MEMBERS = ["workers_general", "workers_ml"]


def dockerfile(member: str) -> Path:
    return ROOT / "deploy" / f"{member}.Dockerfile"


def last_stage(member: str) -> str:
    return list(stages_of(dockerfile(member)))[-1]


@pytest.mark.parametrize("member", MEMBERS)
def test_an_image_installs_its_own_member_from_the_lock_file_and_no_other(member: str) -> None:
    build = stages_of(dockerfile(member))["build"]
    syncs = [run.value for run in build.all("RUN") if "uv sync" in run.value]
    copied = {word.partition("/")[0] for copy in build.all("COPY") for word in copy.words[:-1]}

    assert len(syncs) == 2
    assert "--no-install-workspace" in syncs[0]
    for sync in syncs:
        assert {"--frozen", "--no-dev"} <= set(sync.split())
        assert f"--package {member.replace('_', '-')} " in sync
    assert copied == {"pyproject.toml", "uv.lock", "api_shared", member}


@pytest.mark.parametrize("member", MEMBERS)
def test_the_image_that_runs_holds_no_tool_that_builds(member: str) -> None:
    stages = stages_of(dockerfile(member))
    final = stages[last_stage(member)]

    assert final.base == "base"
    assert [copy.value for copy in final.instructions] == ["--from=build /opt/venv /opt/venv"]
    assert not any("pip" in run.value for run in stages["base"].all("RUN"))


@pytest.mark.parametrize("member", MEMBERS)
def test_an_image_runs_the_command_of_compose_not_as_root_and_stops_on_sigterm(
    member: str,
) -> None:
    base = stages_of(dockerfile(member))["base"]
    service = services()[member.replace("workers_", "worker-")]

    assert json.loads(base.last("CMD").value) == service["command"]
    assert service["build"]["dockerfile"] == f"deploy/{member}.Dockerfile"
    assert base.last("STOPSIGNAL").value == "SIGTERM"
    assert base.last("USER").value == "10001:10001"


@pytest.mark.parametrize("member", MEMBERS)
def test_an_image_sets_only_settings_and_what_python_reads(member: str) -> None:
    variables = {
        word.partition("=")[0]
        for env in stages_of(dockerfile(member))["base"].all("ENV")
        for word in env.words
    }

    assert variables - {field.upper() for field in Settings.model_fields} == {
        "PATH",
        "PYTHONDONTWRITEBYTECODE",
        "PYTHONUNBUFFERED",
    }


@pytest.mark.parametrize("member", MEMBERS)
def test_all_that_an_image_copies_is_let_into_the_build(member: str) -> None:
    let_in = [line[1:] for line in lines(ROOT / ".dockerignore") if line.startswith("!")]

    for stage in stages_of(dockerfile(member)).values():
        for copy in stage.all("COPY"):
            if "--from=" in copy.value:
                continue
            for source in copy.words[:-1]:
                assert (ROOT / source).exists()
                assert any(source == path or source.startswith(f"{path}/") for path in let_in)


def test_the_images_differ_in_their_member_only() -> None:
    general, ml = (dockerfile(member).read_text() for member in MEMBERS)
    renamed = (
        general.replace("The general worker", "The ML worker")
        .replace("workers_general", "workers_ml")
        .replace("workers-general", "workers-ml")
        .replace('"--workers", "2"', '"--workers", "1"')
    )

    assert renamed == ml


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()
