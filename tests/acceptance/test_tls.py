"""
TLS to all three servers, through settings: a worker, a service and the CLI.

The TLS is ended by a tunnel in front of each real server: Valkey's wheel has none of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api_shared.errors import LedgerUnavailable
from api_shared.ledger.mongo.ledger import MongoLedger
from api_shared.settings import load_settings
from api_shared.testing.servers import Services
from fixtures.tls import Authority, tunnel
from fixtures.workers import LONG_S, Platform
from jobs import tasks
from jobs.broker import broker


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "ours")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"), "other")


@pytest.fixture
async def platform(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: Authority
) -> AsyncIterator[Platform]:
    """All of it over TLS, with certificates on both sides."""
    platform = Platform(services, tmp_path, monkeypatch)
    async with AsyncExitStack() as stack:
        port = {}
        for server in (services.rabbitmq, services.mongodb, services.redis):
            context = ours.server_context(asks_for_certificate=True)
            plain = urlsplit(server.url).port
            assert plain is not None
            port[server.name] = await stack.enter_async_context(tunnel(plain, context))
        login = urlsplit(platform.amqp_url).netloc.rpartition("@")[0]
        platform.env |= {
            "RABBITMQ_URL": f"amqps://{login}@127.0.0.1:{port['rabbitmq']}/{platform.name}",
            "MONGODB_URL": f"mongodb://127.0.0.1:{port['mongodb']}/?directConnection=true",
            "REDIS_URL": f"rediss://127.0.0.1:{port['redis']}/0",
        }
        for name in ("RABBITMQ", "MONGODB", "REDIS"):
            platform.env[f"{name}_TLS_CA_FILE"] = str(ours.ca_file)
            platform.env[f"{name}_TLS_CERT_FILE"] = str(ours.cert_file)
        for name, value in platform.env.items():
            monkeypatch.setenv(name, value)
        platform.make_vhost()
        try:
            yield platform
        finally:
            await platform.close()
            await platform.drop()


def doctor(platform: Platform, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "api_shared.cli.main", "doctor"],
        env={**os.environ, **platform.env, **env},
        cwd=platform.folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def doctor_until(
    platform: Platform, says_it: Callable[[str], bool], **env: str
) -> subprocess.CompletedProcess[str]:
    """
    What it says, asked again while it does not say it: a busy machine may take longer than the
    deadline of a client. In a thread, because the tunnels live in this event loop.
    """
    for _ in range(10):
        said = await asyncio.to_thread(lambda: doctor(platform, **env))
        if says_it(" ".join(said.stdout.split())):
            break
    return said


async def test_a_job_runs_over_tls_on_all_three_servers(platform: Platform) -> None:
    await platform.open()
    await platform.start(broker)
    await platform.worker("jobs.main:broker")
    handle = await tasks.add.kiq(2, 3)
    assert await handle.result(LONG_S) == 5
    said = await doctor_until(platform, lambda words: "away" not in words)
    assert "amqps://" in said.stdout
    for server in ("RabbitMQ", "MongoDB", "Valkey"):
        assert f"{server} " in said.stdout, said.stdout + said.stderr
    assert "away" not in said.stdout


async def test_a_server_with_a_certificate_of_another_ca_is_refused_and_that_is_said(
    platform: Platform, other: Authority
) -> None:
    names = ("RABBITMQ_TLS_CA_FILE", "MONGODB_TLS_CA_FILE", "REDIS_TLS_CA_FILE")
    wrong = dict.fromkeys(names, str(other.ca_file))
    refused = "its certificate is not trusted"
    said = await doctor_until(platform, lambda words: words.count(refused) == 3, **wrong)
    assert said.returncode == 4, said.stdout + said.stderr
    words = " ".join(said.stdout.split())
    assert words.count(refused) == 3, words
    assert all(f"name the CA that signed it in {name}" in words for name in names)
    assert "Traceback" not in said.stdout + said.stderr


async def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MONGODB_TLS_CERT_FILE")
    ledger = MongoLedger(load_settings())
    await ledger.start()
    try:
        with pytest.raises(LedgerUnavailable):
            await ledger.server_version()
    finally:
        await ledger.close()
