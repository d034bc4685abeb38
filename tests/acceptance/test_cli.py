"""`kiq` as a person runs it, on real servers with real workers."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from fixtures.cli import DEADLINE_S, NOWHERE, Cli, Place

UNKNOWN_ID = "0123456789abcdef01234567"


@pytest.fixture
def go(tmp_path: Path) -> Path:
    """The file that lets `cli_steps` end."""
    return tmp_path / "go"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("one two\nthree\n", encoding="utf-8")
    return path


def is_running(job: dict[str, object]) -> bool:
    return job["status"] == "processing"


def has_ended(job: dict[str, object]) -> bool:
    return job["status"] in ("completed", "failed", "cancelled")


# Submit.


def test_submit_prints_the_id_alone_and_show_finds_the_job(cli: Cli, text: Path) -> None:
    ran = cli("submit", "process_data", "user_id=42", f"options.source={text}", "--owner", "ada")
    assert len(ran.out.strip()) == 24
    assert ran.err == ""
    job = cli.until(has_ended, "show", ran.out.strip())
    assert (job["status"], job["owner"]) == ("completed", "ada")


def test_submit_that_waits_prints_the_result_alone(cli: Cli, text: Path) -> None:
    arguments = json.dumps({"user_id": "ada", "options": {"source": str(text)}})
    ran = cli("submit", "process_data", "--json", arguments, "--wait")
    assert ran.json["words"] == 3
    assert "job " in ran.err


def test_a_job_of_the_ml_broker_can_be_waited_for(cli: Cli) -> None:
    ran = cli(
        "submit",
        "train_model",
        "dataset_id=wine",
        "hyperparameters.folds=2",
        "-w",
        "--output",
        "json",
    )
    assert ran.json["result"]["fits"] == 2
    assert ran.json["queue"] == "training"


def test_the_same_job_id_twice_is_one_job(cli: Cli, text: Path) -> None:
    own = f"{uuid4().int:x}"[:24].zfill(24)
    submit = ("submit", "process_data", "user_id=a", f"options.source={text}", "--job-id", own)
    assert cli(*submit).out == cli(*submit).out == f"{own}\n"
    other = cli("submit", "health_check", "url=http://localhost/", "--job-id", own, code=2)
    assert "exists already" in other.err


def test_a_job_that_fails_ends_a_waiting_submit_with_1_and_one_line(cli: Cli) -> None:
    ran = cli("-m", "fixtures.cli_tasks", "submit", "cli_fail", "message=no hope", "-w", code=1)
    assert ran.out == ""
    assert ran.err.splitlines()[-1].endswith("failed (error): no hope")


def test_a_wait_that_times_out_ends_with_124_and_the_job_goes_on(cli: Cli, go: Path) -> None:
    ran = cli(
        "-m", "fixtures.cli_tasks", "submit", "cli_steps", f"go={go}", "-w", "--timeout", "0.5",
        code=124,
    )  # fmt: skip
    job_id = ran.err.split("job ")[1].split()[0]
    assert f"kiq watch {job_id}" in ran.err
    go.touch()
    assert cli.until(has_ended, "show", job_id)["status"] == "completed"


def test_ctrl_c_ends_a_wait_with_130_and_the_job_goes_on(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_steps", f"go={go}")
    watcher = cli.start("watch", job_id)
    assert watcher.stderr is not None
    assert "half of them" in watcher.stderr.readline()
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=DEADLINE_S)
    assert watcher.returncode == 130
    assert f"job {job_id} goes on" in err
    assert "Traceback" not in err
    go.touch()
    assert cli.until(has_ended, "show", job_id)["status"] == "completed"


def test_with_rabbitmq_away_a_job_is_accepted_and_that_is_said(cli: Cli, go: Path) -> None:
    away = {"RABBITMQ_URL": NOWHERE["RABBITMQ_URL"], "CONNECT_DEADLINE_S": "0.5"}
    ran = cli("submit", "health_check", "url=http://127.0.0.1:9/", "--queue", "low", env=away)
    job_id = ran.out.strip()
    assert f"{job_id} is accepted" in ran.err
    assert "RabbitMQ (RABBITMQ_URL) is not reachable" in ran.err
    cli("cancel", job_id, env=away)


# Text and usage.


def test_watch_shows_the_text_of_a_job_while_it_is_written(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_recite", f"go={go}", "--owner", uuid4().hex)
    with cli.start("watch", job_id) as watcher, cli.start("watch", job_id, "--json") as objects:
        assert watcher.stdout is not None
        assert objects.stdout is not None
        assert any(line == "The first line.\n" for line in watcher.stdout)
        record = cli("show", job_id, "--json").json
        go.touch()
        rest = watcher.stdout.read()
        assert watcher.wait(timeout=DEADLINE_S) == 0
        told = [json.loads(line) for line in objects.stdout]
    assert rest.startswith("The second.\\x1b[2J\n"), "whole, and it does not steer the terminal"
    assert "completed" in rest.splitlines()[-1]
    pieces = [each for each in told if each["kind"] == "text"]
    assert "".join(each["text"] for each in pieces) == "The first line.\nThe second.\x1b[2J"
    assert [each["restart"] for each in pieces] == [False] * len(pieces)
    assert told[-1]["status"] == "completed"
    used = {"completion_tokens": 4, "prompt_tokens": 1200}
    assert record["usage"] == record["owner_usage"] == used
    assert "completion_tokens 4, prompt_tokens 1,200" in cli("show", job_id).out
    late = cli("watch", job_id).out
    assert "The first line.\nThe second." in late


def test_a_submit_that_waits_prints_no_text_but_the_result(cli: Cli, go: Path) -> None:
    go.touch()
    ran = cli("-m", "fixtures.cli_tasks", "submit", "cli_recite", f"go={go}", "--wait")
    assert ran.json["text"].startswith("The first line.")


# Show and list.


def test_show_keeps_arguments_results_and_traceback_to_itself(cli: Cli) -> None:
    job_id = cli.submit("cli_fail", "message=s3cret")
    cli("watch", job_id, code=1)
    told = cli("show", job_id)
    assert "20 bytes (--args)" in told.out
    assert "RuntimeError" in told.out
    assert "raise RuntimeError" not in told.out
    assert '"message":"s3cret"' in cli("show", job_id, "--args").out
    assert "raise RuntimeError" in cli("show", job_id, "--traceback").out
    record = cli("show", job_id, "--json").json
    assert {"args", "result", "token", "args_json"}.isdisjoint(record)
    assert [entry["status"] for entry in record["history"]] == ["queued", "processing", "failed"]


def test_show_says_what_a_job_waits_for(cli: Cli, text: Path) -> None:
    later = cli.submit("process_data", "user_id=a", f"options.source={text}", "--delay", "500")
    assert "when it is due" in cli("show", later).out
    again = cli.submit("cli_retry")
    job = cli.until(lambda job: job["status"] == "retrying", "show", again)
    assert "the next attempt, after error: ConnectionError: the other side is away" in job["waits"]
    for job_id in (later, again):
        assert cli("cancel", job_id).out == "cancelled\n"


def test_a_snoozed_job_says_until_when_and_for_what_it_waits(cli: Cli) -> None:
    owner = uuid4().hex
    job_id = cli.submit("cli_snooze", "--owner", owner)
    job = cli.until(lambda job: job["status"] == "retrying", "show", job_id)
    assert re.fullmatch(
        r"until (\S+ )?\d\d:\d\d:\d\d \(in \d+ min\): the model server is full", job["waits"]
    )
    listed = cli("list", "--owner", owner).out
    assert "in 10 min" in listed
    assert "the model server is full" in listed
    with cli.start("watch", job_id) as watcher:
        assert watcher.stdout is not None
        told = next(line for line in watcher.stdout if "retrying" in line)
        assert "the model server is full  waits until" in told
        cli("cancel", job_id)
        assert watcher.wait(timeout=DEADLINE_S) == 1


def test_what_asks_the_ledger_alone_works_while_rabbitmq_and_redis_are_away(
    cli: Cli, text: Path
) -> None:
    job_id = cli.submit("process_data", "user_id=a", f"options.source={text}")
    cli("watch", job_id)
    away = {name: NOWHERE[name] for name in ("RABBITMQ_URL", "REDIS_URL", "CONNECT_DEADLINE_S")}
    assert cli("show", job_id, env=away).out
    assert job_id in cli("list", env=away).out
    assert "workers_" not in cli("workers", env=away).out
    watched = cli("watch", job_id, env=away)
    assert "completed" in watched.out
    assert cli("cancel", job_id, env=away).out == "too_late\n"


def test_list_filters_and_pages_newest_first(cli: Cli) -> None:
    owner = uuid4().hex
    ids = [
        cli.submit("cli_fail", f"message={number}", "--owner", owner, "--delay", "500")
        for number in range(3)
    ]
    newest_first = ids[::-1]
    listed = cli("list", "--owner", owner, "--json").json
    assert [job["id"] for job in listed] == newest_first
    page = cli("list", "--owner", owner, "--limit", "2")
    assert [line.split()[0] for line in page.lines[1:]] == newest_first[:2]
    assert f"--before {newest_first[1]}" in page.err
    rest = cli("list", "--owner", owner, "--before", newest_first[1], "--json").json
    assert [job["id"] for job in rest] == newest_first[2:]
    assert cli("list", "--owner", owner, "--status", "failed").out == ""
    assert len(cli("list", "--owner", owner, "--status", "scheduled", "--json").json) == 3
    for job_id in ids:
        cli("cancel", job_id)


def test_a_wrong_id_is_a_usage_error_and_an_unknown_one_is_not_found(cli: Cli) -> None:
    for command in ("show", "watch", "cancel"):
        assert "24 hexadecimal digits" in cli(command, "nonsense", code=2).err
        assert f"no job {UNKNOWN_ID}" in cli(command, UNKNOWN_ID, code=3).err
    assert f"no job {UNKNOWN_ID}" in cli("list", "--before", UNKNOWN_ID, code=3).err


# Watch and cancel.


def test_watch_prints_an_event_a_line_and_ends_as_the_job_does(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_steps", f"go={go}")
    watcher = cli.start("watch", job_id, "--json")
    assert watcher.stdout is not None
    events: list[dict[str, Any]] = []
    while not events or events[-1]["kind"] != "progress":
        events.append(json.loads(watcher.stdout.readline()))
    assert events[-1]["progress"] == {
        "done": 5.0, "total": 10.0, "stage": "steps", "message": "half of them",
    }  # fmt: skip
    go.touch()
    out, _ = watcher.communicate(timeout=DEADLINE_S)
    events += [json.loads(line) for line in out.splitlines()]
    assert watcher.returncode == 0
    told = [event["status"] for event in events if event["kind"] == "status"]
    assert told == ["queued", "processing", "completed"]


def test_a_running_job_is_asked_to_stop_and_its_watcher_ends_with_1(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_steps", f"go={go}")
    cli.until(is_running, "show", job_id)
    assert cli("cancel", job_id, "--json").json == {"job_id": job_id, "answer": "requested"}
    watched = cli("watch", job_id, code=1)
    assert watched.lines[-1].endswith("cancelled")
    assert cli("cancel", job_id).out == "too_late\n"


def test_a_watch_without_redis_sees_the_end_all_the_same(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_steps", f"go={go}")
    watcher = cli.start("watch", job_id, env={"REDIS_URL": NOWHERE["REDIS_URL"]})
    assert watcher.stdout is not None
    assert "queued" in watcher.stdout.readline()
    go.touch()
    out, err = watcher.communicate(timeout=DEADLINE_S)
    assert (watcher.returncode, out.splitlines()[-1].split()[-1]) == (0, "completed"), err


# The platform.


def test_queues_shows_both_brokers_with_the_ledgers_counts(cli: Cli) -> None:
    job_id = cli.submit("cli_fail", "message=x", "--delay", "500", "--queue", "keywords")
    rows = {row["queue"]: row for row in cli("queues", "--json").json}
    assert len(rows) == 11
    assert rows["keywords"]["waiting"] == 1
    assert rows["training"] | {"consumers": None} == {
        "broker": "ml", "queue": "training", "declared": True, "ready": 0, "consumers": None,
        "dead_letters": 0, "queued": 0, "processing": 0, "waiting": 0,
    }  # fmt: skip
    cli("cancel", job_id)
    assert cli("queues").lines[0].split()[:3] == ["broker", "queue", "ready"]


def test_queues_tells_what_it_can_while_rabbitmq_is_away(cli: Cli) -> None:
    away = {name: NOWHERE[name] for name in ("RABBITMQ_URL", "CONNECT_DEADLINE_S")}
    ran = cli("queues", code=4, env=away)
    assert ran.lines[1].split() == ["general", "taskiq", "?", "?", "?", "0", "0", "0"]
    assert "RabbitMQ (RABBITMQ_URL) is not reachable" in ran.err


def test_workers_lists_each_process_with_its_queues(cli: Cli) -> None:
    general, ml = cli("workers", "--json").json
    assert (general["broker"], ml["broker"]) == ("general", "ml")
    assert "critical" in general["queues"]
    assert str(ml["pid"]) in cli("workers").lines[2]


def test_doctor_finds_a_healthy_platform_healthy(place: Place) -> None:
    report = place.cli("doctor", "--json").json
    assert report["healthy"]
    told = {(each["area"], each["level"]) for each in report["findings"]}
    assert {(area, "ok") for area in ("rabbitmq", "mongodb", "redis", "workers")} <= told
    assert "14 queues of 'general' are declared as they should be" in place.cli("doctor").out


def test_doctor_says_of_each_server_that_is_away_what_to_do(cli: Cli) -> None:
    ran = cli("doctor", code=4, env=NOWHERE)
    for name in ("RABBITMQ_URL", "MONGODB_URL", "REDIS_URL"):
        assert f"correct {name}" in ran.out
    assert "not healthy: 3 findings" in ran.err


def test_doctor_misses_workers_and_changes_nothing(bare_place: Place) -> None:
    ran = bare_place.cli("doctor", code=1)
    assert "taskiq worker workers_general.main:broker" in ran.out
    assert "not declared yet" in ran.out
    assert bare_place.management("GET", f"queues/{bare_place.name}") == []


def test_a_queue_with_other_arguments_is_named_with_the_way_out(bare_place: Place) -> None:
    place = bare_place
    place.management("PUT", f"queues/{place.name}/critical", {"durable": True, "arguments": {}})
    ran = place.cli("doctor", code=1)
    assert "queue 'critical' exists with other arguments" in ran.out
    assert "delete it in the management UI" in ran.out
    refused = place.cli("submit", "health_check", "url=http://localhost/", code=4)
    assert "'critical' exists in RabbitMQ with other arguments" in refused.err
    assert place.cli("list", "--json").json == []


def test_doctor_finds_an_exchange_that_routes_nothing_and_rights_that_lack(
    bare_place: Place,
) -> None:
    place, user = bare_place, f"u{uuid4().hex[:8]}"
    place.cli("submit", "health_check", "url=http://localhost/", "--delay", "500")
    place.management("DELETE", f"bindings/{place.name}/e/taskiq/q/low/low")
    assert "does not route to queue 'low'" in place.cli("doctor", code=1).out
    place.management("PUT", f"users/{user}", {"password": "hunter2", "tags": ""})
    try:
        place.allow(user, write="^$")
        host = place.cli.env["RABBITMQ_URL"].rpartition("@")[2]
        url = f"amqp://{user}:hunter2@{host}"
        ran = place.cli("doctor", code=1, env={"RABBITMQ_URL": url})
        assert "may not declare or publish" in ran.out
        assert "rabbitmqctl set_permissions" in ran.out
    finally:
        place.management("DELETE", f"users/{user}")


def test_doctor_finds_queues_that_no_worker_consumes(bare_place: Place) -> None:
    bare_place.cli.env["WORKER_QUEUES"] = "critical,low"
    bare_place.worker("workers_general.main:broker")
    bare_place.cli.until(bool, "workers")
    ran = bare_place.cli("doctor", code=1)
    assert "WORKER_QUEUES=taskiq,summarize,keywords,normalize,ai_jobs" in ran.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", UNKNOWN_ID),
        ("watch", UNKNOWN_ID),
        ("cancel", UNKNOWN_ID),
        ("queues",),
        ("submit", "health_check", "url=http://localhost/"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_ledger_that_is_away_is_one_sentence_and_4(cli: Cli, arguments: tuple[str, ...]) -> None:
    ran = cli(*arguments, code=4, env=NOWHERE | {"KIQ_DEADLINE_S": "2"})
    assert "the ledger (MONGODB_URL) is not reachable" in ran.err


# The terminal.


def test_a_reader_that_goes_away_ends_it_without_a_word(cli: Cli) -> None:
    process = cli.start("tasks")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=DEADLINE_S) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_a_terminal_gets_a_bar_and_colours_unless_it_asks_for_none(cli: Cli, go: Path) -> None:
    job_id = cli.submit("cli_steps", f"go={go}")
    go.touch()
    cli("watch", job_id)
    assert "\x1b[32mcompleted" in in_terminal(cli, "list", "--limit", "1")
    plain = in_terminal(cli, "list", "--limit", "1", NO_COLOR="1")
    assert job_id in plain and "\x1b[3" not in plain
    shown = in_terminal(cli, "watch", job_id)
    assert "\x1b[?25l" in shown and "100 %" not in shown.splitlines()[0]
    assert "completed" in shown


def in_terminal(cli: Cli, *arguments: str, **env: str) -> str:
    """What kiq writes to a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **cli.env, "COLUMNS": "120", **env}
    if not env.get("NO_COLOR"):
        environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "api_shared.cli.main", *arguments]
    process = subprocess.Popen(
        command, cwd=cli.folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=DEADLINE_S) == 0, shown
    return shown.decode()


def test_the_shell_is_offered_the_names_of_tasks(cli: Cli) -> None:
    typed = {"COMP_WORDS": "kiq submit process_d", "COMP_CWORD": "2"}
    asked = {"_KIQ_COMPLETE": "complete_bash", **typed}
    assert cli(env=asked, code=None).out.split() == ["process_data"]


def test_services_are_part_of_the_command(cli: Cli) -> None:
    assert "up" in cli("services", "--help").out
