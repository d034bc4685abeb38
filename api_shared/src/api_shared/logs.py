"""Logging: structlog events, as JSON for machines or with colours for people."""

from __future__ import annotations

import logging
import os
import sys

import structlog

from api_shared.settings import Settings


class ReceiverNoise(logging.Filter):
    """Drops what taskiq's receiver says of each job: `run_job` has its own line for it."""

    NOISE = ("Executing task", "Exception found while executing", "Task %s with id %s skipped")

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(self.NOISE)


def configure_logging(settings: Settings) -> None:
    """To stderr, once a process. LOG_FORMAT=auto means colours on a terminal, else JSON."""
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
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[settings.log_level]
        ),
        # Looked up at each line: who exchanges sys.stderr later gets the lines from then on.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
    logging.getLogger("taskiq.receiver.receiver").addFilter(ReceiverNoise())
    # It says each failed attempt to connect; the link says once that RabbitMQ is away.
    logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)


def _has_colours() -> bool:
    """On a terminal, unless it asks for none: https://no-color.org"""
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
