"""compose.yaml and its override, held to the settings, to the README and to what stops a worker."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest

from api_shared.settings import Settings
from api_shared.testing.servers.compose import MANAGEMENT_URL, SERVICE_NAMES, URLS
from fixtures.compose import ROOT, VARIABLE, load, services

FILES = ("compose.yaml", "compose.dev.yaml")
SERVERS = sorted(SERVICE_NAMES.values())
WORKERS = ["worker-general", "worker-ml"]
NOT_SETTINGS = {"PYTHONPATH"}
STOP_MARGIN_S = 15
"""What a stop takes besides the drain: bodies that do not end, processes, connections, taskiq."""


def settings_of(environment: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return Settings(_env_file=None)


@pytest.mark.parametrize("name", FILES)
def test_each_variable_of_a_worker_is_a_setting(name: str) -> None:
    known = {field.upper() for field in Settings.model_fields} | NOT_SETTINGS

    for worker in WORKERS:
        assert set(services(name)[worker]["environment"]) <= known


@pytest.mark.parametrize("name", FILES)
def test_each_variable_that_a_file_asks_for_is_a_setting_and_has_a_default(name: str) -> None:
    asked = VARIABLE.findall((ROOT / name).read_text())

    assert {variable for variable, _ in asked} <= {field.upper() for field in Settings.model_fields}
    assert all(default for _, default in asked)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_has_more_time_to_stop_than_its_drain_takes(
    name: str, worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = services(name)[worker]
    settings = settings_of(service["environment"], monkeypatch)

    assert int(service["stop_grace_period"].removesuffix("s")) >= settings.drain_s + STOP_MARGIN_S


@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_finds_its_servers_by_their_names(
    worker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(services()[worker]["environment"], monkeypatch)
    mongodb = settings.mongodb_url.get_secret_value()

    assert urlsplit(settings.amqp_url).hostname == "rabbitmq"
    assert urlsplit(settings.rabbitmq_management_url).hostname == "rabbitmq"
    assert urlsplit(settings.redis_url.get_secret_value()).hostname == "valkey"
    assert urlsplit(mongodb).hostname == "mongo"
    assert "directConnection=true" in mongodb, "the replica set's member is called localhost"


def test_rabbitmq_has_the_user_that_the_workers_log_in_as(monkeypatch: pytest.MonkeyPatch) -> None:
    rabbitmq = services()["rabbitmq"]["environment"]
    settings = settings_of(services()["worker-ml"]["environment"], monkeypatch)
    address = urlsplit(settings.amqp_url)

    assert address.username == rabbitmq["RABBITMQ_DEFAULT_USER"]
    assert address.password == rabbitmq["RABBITMQ_DEFAULT_PASS"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("worker", WORKERS)
def test_a_worker_runs_the_command_of_the_readme(name: str, worker: str) -> None:
    command = services(name)[worker]["command"]

    assert command[:2] == ["taskiq", "worker"]
    assert " ".join(command[:3]) in (ROOT / "README.md").read_text()
    assert f"{worker.replace('worker-', 'workers_')}.main:broker" == command[2]


def test_the_servers_listen_where_kiq_services_looks_for_them_and_on_loopback_only() -> None:
    wanted = {f"127.0.0.1:{urlsplit(url).port}" for url in (*URLS.values(), MANAGEMENT_URL)}
    published = [port for service in services().values() for port in service.get("ports", [])]

    assert {port.rpartition(":")[0] for port in published} == wanted
    assert all(port.split(":")[1] == port.split(":")[2] for port in published)


def test_the_servers_start_without_the_workers() -> None:
    for server in SERVERS:
        assert "depends_on" not in services()[server]
        assert "build" not in services()[server]
        assert services()[server]["healthcheck"]["test"]


def test_volumes_are_declared_and_used() -> None:
    mounts = [mount for service in services().values() for mount in service.get("volumes", [])]

    named = {mount.partition(":")[0] for mount in mounts if not mount.startswith("./")}
    assert named == set(load("compose.yaml")["volumes"])


def test_the_model_server_starts_only_with_its_profile_and_is_reached_by_the_workers_alone() -> (
    None
):
    text = (ROOT / "compose.yaml").read_text()
    llama = services()["llama"]
    port = llama["command"][llama["command"].index("--port") + 1]

    assert llama["profiles"] == ["llm"]
    assert "ports" not in llama
    assert f"LLM_SERVER_URL=http://llama:{port}" in text
    assert not any("llama" in services()[worker]["depends_on"] for worker in WORKERS)
    assert services()["llama"]["volumes"] == ["./models:/models:ro"]


def test_the_override_mounts_sources_that_are_there_and_are_imported() -> None:
    for worker in WORKERS:
        service = services("compose.dev.yaml")[worker]
        mounts = dict(mount.split(":")[:2] for mount in service["volumes"])
        assert all((ROOT / source).is_dir() for source in mounts)
        assert sorted(mounts.values()) == sorted(service["environment"]["PYTHONPATH"].split(":"))
        assert "--reload" in service["command"]


def test_images_from_elsewhere_are_pinned_to_a_major_version() -> None:
    for server in SERVERS:
        assert re.search(r":\d+[\w.-]*$", services()[server]["image"])


@pytest.mark.parametrize("name", [*SERVERS, *WORKERS, "llama"])
def test_each_service_restarts_rotates_its_log_and_has_a_memory_limit(name: str) -> None:
    service = services()[name]

    assert service["restart"] == "unless-stopped"
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}
    assert service["deploy"]["resources"]["limits"]["memory"]


def test_no_server_runs_as_root() -> None:
    assert {name: services()[name]["user"] for name in SERVERS} == {
        "mongo": "mongodb",
        "rabbitmq": "rabbitmq",
        "valkey": "valkey",
    }
