"""Wrong usage of `kiq`: one line and exit code 2, before any server is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from api_shared.cli.main import run_command

PROCESS = ("submit", "process_data", "user_id=a", "options.source=x")


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, scheme in (("RABBITMQ", "amqp"), ("MONGODB", "mongodb"), ("REDIS", "redis")):
        monkeypatch.setenv(f"{name}_URL", f"{scheme}://me:hunter2@127.0.0.1:9/")
    monkeypatch.setenv("MAX_ARGUMENTS_BYTES", "1024")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nope",), "No such command 'nope'"),
        (("submit",), "TASK"),
        (("submit", "nope"), "no contract named 'nope'; known: "),
        (("submit", "process_data"), "user_id: Field required"),
        (("submit", "health_check", "url=nonsense"), "url: Input should be a valid URL"),
        (("submit", "train_model", "dataset_id=iris"), "'digits', 'wine' or 'breast_cancer'"),
        (("submit", "train_model", "datset_id=wine"), "datset_id: Extra inputs are not permitted"),
        (("submit", "train_model", "hyperparameters.c=x"), "hyperparameters.c: Input should be"),
        (("submit", "process_data", "user_id"), ": must be key=value"),
        (("submit", "process_data", "--json", "{"), "must be JSON"),
        ((*PROCESS, "--json", "{}"), "must not be given together with key=value"),
        ((*PROCESS, "--priority", "11"), "from 0 to 10"),
        ((*PROCESS, "--queue", "training"), "no queue named 'training'; known: taskiq"),
        ((*PROCESS, "--job-id", "7"), "24 hexadecimal digits"),
        ((*PROCESS, "--at", "2030-01-31T08:00:00"), "with its zone"),
        ((*PROCESS, "--at", "tomorrow"), "ISO 8601"),
        ((*PROCESS, "--at", "2030-01-31T08:00:00Z", "--delay", "3"), "together with `delay`"),
        ((*PROCESS, "--timeout", "3"), "--wait"),
        ((*PROCESS, "--owner", ""), "1 to 200 characters"),
        ((*PROCESS, "--owner", "\udcff"), "owner='\\udcff': must be a text of 1 to 200 characters"),
        ((*PROCESS, "--unique-key", "a\udcff"), "unique_key="),
        (("reschedule", "0" * 24), "when? --in DURATION, or --at TIME"),
        (("submit", "process_data", f"user_id={'x' * 150}", f"options.source={'x' * 2000}"),
         "over the limit of 1,024"),
        (("list", "--status", "done"), "one of scheduled, queued"),
        (("list", "--limit", "0"), "--limit"),
        (("tasks", "nope"), "no contract named 'nope'"),
        (("dlq", "requeue"), "or --all to requeue all"),
        (("dlq", "purge", "--yes"), "or --all to purge all"),
        (("dlq", "requeue", "0" * 24, "foo", "--yes"), "KEY='foo': must be a job id, or a key"),
        (("dlq", "list", "--kind", "dead"), "must be one of failed, stale, unrecorded, garbage"),
        (("dlq", "list", "--older-than", "2 hours"), "--older-than"),
        (("dlq", "list", "--older-than", "9999999d"), "--older-than"),
        (("dlq", "list", "--newer-than", "9999999d"), "--newer-than"),
        (("dlq", "list", "--queue", "nope"), "no queue named 'nope'; known: taskiq"),
        (("verify", "--since", "yesterday"), "ISO 8601"),
        (("verify", "--until", "2030-01-31T08:00:00"), "with its zone"),
        (("verify", "--since", "9999999d"), "--since='9999999d'"),
        (("verify", "--since", "0001-01-01T00:00:00+14:00"), "--since="),
        (("-m", "no.such.module", "tasks"), "--module='no.such.module': cannot be imported"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)  # fmt: skip
def test_a_wrong_call_is_one_line_and_2(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert "hunter2" not in printed.err


@pytest.mark.parametrize(
    ("name", "value", "command"),
    [
        ("LEASE_S", "soon", "list"),
        ("DATABASE_NAME", "a b", "list"),
        ("DATABASE_NAME", "a.b", "list"),
        ("DATABASE_NAME", "x$y", "list"),
        ("MONGODB_URL", "mongodb://me:hunter2@h/?tls=true&tlsCAFile=/nope", "list"),
        ("RABBITMQ_URL", "amqp://me:hunter2@h:abc/", "dlq list"),
        ("RABBITMQ_URL", "amqp://me:hunter2@h:abc/", " ".join(PROCESS)),
        ("RABBITMQ_URL", "nonsense", "queues"),
        ("RABBITMQ_URL", "amqp:///vhost", "queues"),
        ("RABBITMQ_URL", "http://me:hunter2@h/", "dlq list"),
        ("REDIS_URL", "redis://me:hunter2@h:abc/", "cancel 692a6f1d9c41b2a7c3d5e8f0"),
    ],
)
def test_a_setting_that_is_wrong_is_named(
    name: str,
    value: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert run_command(command.split()) == 2
    printed = capsys.readouterr().err
    assert f"{name}: " in printed
    assert len(printed.splitlines()) == 1
    assert "hunter2" not in printed


def test_dlq_says_why_rabbitmq_cannot_be_reached(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["dlq", "list"]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert "RabbitMQ (RABBITMQ_URL) is not reachable: AMQPConnectionError" in line
    assert "hunter2" not in line


def test_tasks_lists_each_argument_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tasks", "process_data", "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in facts["arguments"]}
    assert list(rows) == ["user_id", "options.source", "options.chunk_lines", "options.pause_s"]
    assert rows["options.chunk_lines"]["default"] == 1000
    assert rows["user_id"]["required"]
    assert (facts["queue"], facts["hard_limit_s"]) == ("taskiq", 3600)
    assert run_command(["tasks"]) == 0
    assert "jsonl|tsv|parquet" in capsys.readouterr().out


def test_tasks_writes_each_type_as_one_would(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["tasks", "--json"]) == 0
    types = {
        (task["name"], row["name"]): row["type"]
        for task in json.loads(capsys.readouterr().out)
        for row in task["arguments"]
    }
    assert types["train_model", "project_id"] == "str | None"
    assert types["train_model", "dataset_id"] == "digits|wine|breast_cancer | None"
    assert types["train_model", "document_ids"] == "tuple[str, ...] | None"
    assert types["ml_inference", "input_data"] == "str | tuple[str, ...]"
    assert types["index_documents", "project_id"] == "str"


def test_config_names_the_source_of_each_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("LEASE_S=20\n", encoding="utf-8")
    assert run_command(["config"]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    assert rows["LEASE_S"] == [".env", "20.0"]
    assert rows["MONGODB_URL"] == ["environment", "mongodb://me:***@127.0.0.1:9/"]
    assert "hunter2" not in printed


def test_help_loads_no_driver() -> None:
    code = (
        "import sys, api_shared.cli.main\n"
        "heavy = {'motor', 'pymongo', 'redis', 'taskiq', 'aiormq', 'rich.table'}\n"
        "heavy.add('api_shared.settings')\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "from importlib.util import find_spec\n"
        "assert all(map(find_spec, heavy)), 'one has another name now'"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_the_broker_of_the_package_is_no_module() -> None:
    code = (
        "import api_shared.client.job_broker\n"
        "from api_shared.broker import broker, ml_broker\n"
        "print(broker.name, ml_broker.name)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "general ml\n"
