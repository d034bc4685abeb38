"""The parts of the servers for development that touch no server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from api_shared.testing.servers import ServicesError, ServiceUnavailable
from api_shared.testing.servers.compose import engine_answers
from api_shared.testing.servers.from_environment import server_from_environment
from api_shared.testing.servers.ports import are_free, free_ports
from api_shared.testing.servers.process_identity import ProcessIdentity
from api_shared.testing.servers.programs.cache import cache_folder
from api_shared.testing.servers.programs.wheel import program_from_wheel
from api_shared.testing.servers.rabbitmq.amqp_handshake import ask_rabbitmq
from api_shared.testing.servers.rabbitmq.program import find_rabbitmq
from api_shared.testing.servers.state import (
    BackgroundServer,
    State,
    env_lines,
    load_state,
    save_state,
    without_stale,
)


def test_free_ports_are_different_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert are_free(ports)


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not are_free([server.getsockname()[1]])


def test_rabbitmq_can_be_named_by_its_parts() -> None:
    server = server_from_environment(
        "rabbitmq",
        {
            "RABBITMQ_HOST": "broker",
            "RABBITMQ_PORT": "5673",
            "RABBITMQ_USERNAME": "me",
            "RABBITMQ_PASSWORD": "p@ss/word",
            "RABBITMQ_VHOST": "/jobs",
        },
    )
    assert server is not None
    assert server.url == "amqp://me:p%40ss%2Fword@broker:5673/%2Fjobs"


@pytest.mark.parametrize("name", ["rabbitmq", "mongodb", "redis"])
def test_an_empty_variable_names_no_server(name: str) -> None:
    assert server_from_environment(name, {f"{name.upper()}_URL": "", "RABBITMQ_HOST": ""}) is None


def test_the_cache_falls_back_to_a_folder_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))  # root may write to any folder, but not here
    monkeypatch.setenv("HOME", str(file))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = cache_folder()
    assert folder == tmp_path / f"api-workers-cache-{os.getuid()}"
    assert folder.stat().st_mode & 0o777 == 0o700


def test_without_apt_rabbitmq_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(ServiceUnavailable, match="there is no apt-get to fetch it with") as raised:
        find_rabbitmq(lambda _: None)
    assert "\n" not in str(raised.value)


def test_a_program_without_its_run_bit_is_copied_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packaged = tmp_path / "site-packages" / "server"
    packaged.parent.mkdir()
    packaged.write_text("#!/bin/sh\necho runs\n")
    packaged.chmod(0o644)
    located = SimpleNamespace(name="server", locate=lambda: packaged)
    monkeypatch.setattr("api_shared.testing.servers.programs.wheel.files", lambda _: [located])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    program = program_from_wheel("some-wheel", "server")
    assert program is not None
    assert program.is_relative_to(tmp_path / "cache")
    assert subprocess.check_output([program]) == b"runs\n"
    assert packaged.stat().st_mode & 0o777 == 0o644
    assert program_from_wheel("some-wheel", "server") == program


def test_a_wheel_that_is_not_installed_has_no_program() -> None:
    assert program_from_wheel("no-such-wheel-anywhere", "server") is None


def test_an_engine_that_does_not_answer_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text("#!/bin/sh\nexit 1\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not engine_answers()


def test_a_process_is_told_apart_from_another_with_its_id() -> None:
    identity = ProcessIdentity.of(os.getpid())
    assert identity is not None
    assert identity.is_running()
    assert not identity.model_copy(update={"started": "earlier"}).is_running()
    assert not identity.model_copy(update={"started": "earlier"}).end(grace_s=1)


def test_an_env_line_is_read_back_by_a_shell() -> None:
    values = {"A": "amqp://u:p@127.0.0.1:1/", "B": "it's $HOME & `id`"}
    script = f'{env_lines(values)}\nprintf \'%s\\n\' "$A" "$B"'
    read = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert read.splitlines() == list(values.values())


def test_variables_of_an_earlier_up_do_not_count_as_given() -> None:
    ours = BackgroundServer(
        name="redis", url="redis://a", management_url=None, pid=1, env={"REDIS_URL": "redis://a"}
    )
    state = State(servers=(ours,))
    assert without_stale({"REDIS_URL": "redis://a", "HOME": "/"}, state) == {"HOME": "/"}
    assert without_stale({"REDIS_URL": "redis://b"}, state) == {"REDIS_URL": "redis://b"}


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    save_state(tmp_path, State())
    assert load_state(tmp_path) == State()
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ServicesError, match=r"state\.json is not a readable record of servers"):
        load_state(tmp_path)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x01\x00\x00"])
def test_what_does_not_speak_amqp_is_not_ready(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(8)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises((ServicesError, OSError)):
            ask_rabbitmq(f"amqp://127.0.0.1:{server.getsockname()[1]}/")
        thread.join()


def test_importing_the_library_does_not_import_the_starter() -> None:
    script = (
        "import importlib.util, sys, api_shared\n"
        "assert 'api_shared.testing.servers' not in sys.modules\n"
        "assert importlib.util.find_spec('api_shared.testing.servers'), 'it has another name now'\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
