"""Logging: structlog events, as JSON for machines or with colours for people."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import structlog
from structlog.typing import EventDict

from api_shared.redaction import redact
from api_shared.settings import Settings


class ReceiverNoise(logging.Filter):
    """Drops the lines that taskiq's receiver logs for each job: `run_job` logs its own."""

    NOISE = ("Executing task", "Exception found while executing", "Task %s with id %s skipped")

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self.NOISE)


class WithoutSecrets(logging.Filter):
    """Redacts a whole record: its text with its arguments, and its traceback."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        with suppress(Exception):  # wrong arguments: the handler reports them
            record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:
            record.exc_text = redact(self._formatter.formatException(record.exc_info))
        return True


def redact_library_logs() -> None:
    """Redact what libraries log without structlog. Only in a worker, whose process is ours."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(WithoutSecrets())


def configure_logging(settings: Settings) -> None:
    """
    Log to stderr; call it once in a process. LOG_FORMAT=auto: colours on a terminal, else JSON.
    """
    as_json = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=_has_colours())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            without_secrets,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        # Looked up for each line, because sys.stderr may be replaced later.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    logging.getLogger("taskiq.receiver.receiver").addFilter(ReceiverNoise())
    # It logs each failed connect; our connection logs once that RabbitMQ is away.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def without_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """A processor that redacts all text of an event, in its lists and mappings too."""
    return {key: _scrubbed(value) for key, value in event.items()}


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _scrubbed(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_scrubbed(each) for each in value]
    if isinstance(value, BaseException):
        return redact(repr(value))
    return value


def _has_colours() -> bool:
    """Whether stderr is a terminal that shows colours: https://no-color.org"""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
