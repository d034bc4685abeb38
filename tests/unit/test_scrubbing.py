"""No secret in what many can read."""

from __future__ import annotations

import io
import json
import logging
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr

from api_shared import redaction
from api_shared.contracts.general import HEALTH_CHECK
from api_shared.errors import Snooze
from api_shared.job import JobError, Reason
from api_shared.logs import WithoutSecrets, without_secrets
from api_shared.redaction import MASK, redact, register_secret
from api_shared.testing import default_settings
from api_shared.worker.run.outcome import failure, snoozed

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def nothing_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test hides, and what other tests have hidden, stays out of the others."""
    monkeypatch.setattr(redaction, "_hidden", set())
    monkeypatch.setattr(redaction, "_literal", None)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("amqp://me:hunter2@host:5672/v", "amqp://me:***@host:5672/v"),
        ("mongodb+srv://me:p%40ss@a,b/?x=1", "mongodb+srv://me:***@a,b/?x=1"),
        ("redis://:hunter2@host/0", "redis://:***@host/0"),
        ("http://me:p@ss@host/path", "http://me:***@host/path"),
        ("'https://a:b@c' and https://d:e@f", "'https://a:***@c' and https://d:***@f"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'authorization': 'Basic dXNlcjpw'}", "{'authorization': 'Basic ***'}"),
        ("sent bearer sk_live-123456 there", "sent bearer *** there"),
        ("GET /v1?api_key=abc&n=1", "GET /v1?api_key=***&n=1"),
        ("host=db password=hunter2 user=me", "host=db password=*** user=me"),
        ("AWS_SECRET_ACCESS_KEY=abcdef", "AWS_SECRET_ACCESS_KEY=***"),
        ('{"token": "abc", "n": 1}', '{"token": "***", "n": 1}'),
        ("key sk-abcdefghijklmnop1234 is bad", "key *** is bad"),
        ("ghp_" + "a" * 36, "***"),
        ("AKIAABCDEFGHIJKLMNOP", "***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "[Errno 2] No such file or directory: '/data/missing.txt'",
        "max_tokens=500 is over the limit; prompt_tokens: 12",
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        "unexpected token: '}'",
        "http://localhost:9/ answered 503; https://example.org/@user",
        "a basic mistake by the bearer of it",
        "ada@example.org wrote to bob@example.org",
        '  File "/app/x.py", line 3, in f\n    raise ValueError(f"{a}: {b}@{c}")',
    ],
)
def test_what_is_none_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


# Letters that a mask, a URL or JSON have a meaning for, among others.
secrets = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=6, max_size=40
).filter(lambda secret: secret not in MASK * 20 and "://" not in secret)


@given(secret=secrets, before=st.text(max_size=10), after=st.text(max_size=10))
@example(secret="a\"b\\c'd", before="", after="")
def test_a_hidden_secret_is_in_no_form_of_the_text(secret: str, before: str, after: str) -> None:
    register_secret([secret])
    for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
        assert form not in redact(f"{before}{form}{after}").replace(MASK, "")


@given(password=secrets)
def test_of_a_url_the_password_is_hidden_quoted_and_not(password: str) -> None:
    quoted = quote(password, safe="")
    register_secret([f"mongodb://me:{quoted}@host/db"])
    for form in (password, quoted):
        assert form not in redact(f"no user {form}!").replace(MASK, "")
    assert redact("host/db me") == "host/db me" or password in "host/db me"


@given(st.text(max_size=200))
def test_what_was_scrubbed_stays_as_it_is(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_short_words_are_not_hunted_for() -> None:
    register_secret(["guest", ""])
    assert redact("a guest of the house") == "a guest of the house"


def test_the_settings_secrets_are_hidden_once_they_are_read() -> None:
    default_settings(
        rabbitmq_password=SecretStr("rabbit-pass"),
        mongodb_url=SecretStr("mongodb://me:mongo-pass@host/"),
        llm_api_key=SecretStr("llm-key-123"),
    )
    assert redact("rabbit-pass, mongo-pass, llm-key-123") == "***, ***, ***"


def test_an_error_on_its_way_to_the_ledger_loses_its_secrets() -> None:
    register_secret([SECRET])
    try:
        raise ConnectionError(f"login with {SECRET} to amqp://me:p4ss@host failed")
    except ConnectionError as raised:
        failed = failure(raised, HEALTH_CHECK).error
    assert failed.message == "login with *** to amqp://me:***@host failed"
    assert SECRET not in failed.traceback
    assert "ConnectionError: login with ***" in failed.traceback
    assert snoozed(Snooze(1, f"waits for {SECRET}")).why == "waits for ***"


def test_a_secret_at_the_edge_of_a_message_is_not_shown_in_half() -> None:
    register_secret([SECRET])
    for cut in range(1, len(SECRET) + 1):
        message = "x" * (2000 - cut) + SECRET
        assert "hunter" not in failure(ValueError(message), HEALTH_CHECK).error.message


def test_whoever_makes_a_job_error_it_holds_no_secret() -> None:
    register_secret([SECRET])
    error = JobError(Reason.ERROR, "E", f"is {SECRET}", f"raise E('{SECRET}')")
    assert (error.message, error.traceback) == ("is ***", "raise E('***')")


def test_log_events_are_scrubbed_deep_down() -> None:
    register_secret([SECRET])
    event = {
        "event": "x.failed",
        "error": f"no {SECRET}",
        "urls": [("http://a:b@c", 1)],
        "by": {"name": ValueError(SECRET)},
        "run_s": 0.4,
    }
    assert without_secrets(None, "info", event) == {
        "event": "x.failed",
        "error": "no ***",
        "urls": [["http://a:***@c", 1]],
        "by": {"name": "ValueError('***')"},
        "run_s": 0.4,
    }


def test_what_libraries_log_is_scrubbed_with_its_traceback() -> None:
    register_secret([SECRET])
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.addFilter(WithoutSecrets())
    library = logging.Logger("library")
    library.addHandler(handler)
    library.info("GET %s", "http://a:b@c/")
    try:
        raise ValueError(SECRET)
    except ValueError:
        library.exception("failed with %s", SECRET)
    assert written.getvalue().startswith("GET http://a:***@c/\nfailed with ***\n")
    assert written.getvalue().endswith("ValueError: ***\n")
