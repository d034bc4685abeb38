"""The settings: what is wrong is named at start, and the example lists them all."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from api_shared.settings import InvalidSettings, Settings, load_settings
from api_shared.testing import default_settings

EXAMPLE = Path(__file__).parents[2] / ".env.example"
DEFAULTS = default_settings().model_dump()
SETTING = re.compile(r"^#([A-Z][A-Z_]*)=(.*)$", re.MULTILINE)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the machine's own: no variable of ours, no `.env`."""
    for name in os.environ:
        if name.lower() in Settings.model_fields:
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RABBITMQ_PORT", "amqp"),
        ("RABBITMQ_PORT", "70000"),
        ("RABBITMQ_HEARTBEAT_S", "0"),
        ("TASK_MAX_RETRIES", "-1"),
        ("TASK_MAX_LOST", "0"),
        ("TASK_TIME_LIMIT", "soon"),
        ("TASK_TIME_LIMIT", "0"),
        ("WORKER_PREFETCH", "0"),
        ("ML_WORKER_COUNT", "0"),
        ("LEASE_S", "-5"),
        ("DRAIN_S", "-1"),
        ("RETENTION_S", "0"),
        ("RETENTION_S", "inf"),
        ("RETENTION_S", "1e300"),
        ("LEASE_S", "nan"),
        ("DRAIN_S", "inf"),
        ("MAX_ARGUMENTS_BYTES", "9000000"),
        ("MAX_RESULT_BYTES", "10"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("LEASE_S", "5"),
        ("TASK_SOFT_TIME_LIMIT", "500"),
    ],
)
def test_each_wrong_value_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=rf"\b{name}\b"):
        load_settings()


def test_all_wrong_values_are_told_at_once_and_none_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RABBITMQ_PORT", "hunter2")
    monkeypatch.setenv("LOG_LEVEL", "hunter2")
    with pytest.raises(InvalidSettings) as raised:
        load_settings()
    assert len(raised.value.problems) == 2
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "queues"),
    [("", ()), ("critical", ("critical",)), (" critical , low,", ("critical", "low"))],
)
def test_queues_are_separated_by_commas(
    monkeypatch: pytest.MonkeyPatch, value: str, queues: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WORKER_QUEUES", value)
    assert load_settings().worker_queues == queues


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "")
    assert load_settings().model_dump() == DEFAULTS


def test_variables_of_other_programs_are_no_concern(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("SOMETHING_ELSE=1\nTASK_MAX_RETRIES=7\n")
    assert load_settings().task_max_retries == 7
    monkeypatch.setenv("TASK_MAX_RETRIES", "8")
    assert load_settings().task_max_retries == 8


def test_secrets_are_never_shown() -> None:
    settings = default_settings(
        rabbitmq_password=SecretStr("hunter2"), mongodb_url=SecretStr("mongodb://a:hunter2@b")
    )
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()


def test_a_password_may_hold_any_character() -> None:
    settings = default_settings(
        rabbitmq_username="a@b", rabbitmq_password=SecretStr("p/s:w@rd%"), rabbitmq_vhost="/one two"
    )
    assert settings.amqp_url == "amqp://a%40b:p%2Fs%3Aw%40rd%25@localhost:5672/%2Fone%20two"
    assert default_settings(rabbitmq_url=SecretStr("amqps://x")).amqp_url == "amqps://x"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("LLM_BACKEND", "vllm", "LLM_BACKEND=vllm needs LLM_SERVER_URL"),
        ("LLM_SERVER_URL", "llm:8080", "LLM_SERVER_URL must be a URL with http:// or https://"),
        ("LLM_TEMPERATURE", "3", "LLM_TEMPERATURE"),
        ("LLM_BACKEND", "chatty", "LLM_BACKEND"),
    ],
)
def test_a_model_server_that_cannot_be_is_told_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings, match=told):
        load_settings()


def test_texts_that_stop_a_model_are_a_json_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_STOP", '["\\n", ","]')
    assert load_settings().llm_stop == ("\n", ",")


# The example.


def test_the_example_lists_every_setting_and_no_other() -> None:
    listed = [name.lower() for name, _ in SETTING.findall(EXAMPLE.read_text())]
    assert sorted(listed) == sorted(Settings.model_fields)
    assert listed == list(Settings.model_fields), "in their order"


def test_the_examples_values_are_the_defaults() -> None:
    Path(".env").write_text(SETTING.sub(r"\1=\2", EXAMPLE.read_text()))
    read = load_settings()
    assert read.amqp_url == default_settings().amqp_url
    assert read.model_dump() | {"rabbitmq_url": None} == DEFAULTS


def test_the_example_as_it_is_changes_nothing() -> None:
    Path(".env").write_text(EXAMPLE.read_text())
    assert load_settings().model_dump() == DEFAULTS
