"""The model connections of a worker process, from its start to its stop."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from random import Random

import structlog
from taskiq import TaskiqEvents, TaskiqState

from api_shared.client.job_broker import JobBroker
from api_shared.errors import Snooze
from workers_general.llm.errors import LLMError
from workers_general.llm.job_llm import MODELS
from workers_general.llm.limits.rate_gate import gated_call
from workers_general.llm.models import Models, open_models

log = structlog.get_logger()

PROBE_S = 30.0


def serve_models(broker: JobBroker) -> None:
    """
    Let the jobs of this broker's workers share the connections of their process.

    If the server does not answer at the start, that is logged; jobs wait and retry.
    """
    resources = AsyncExitStack()
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs a line for each request

    async def start(state: TaskiqState) -> None:
        settings = broker.runtime.settings
        models = await resources.enter_async_context(open_models(settings, shared=True))
        state[MODELS] = models
        probing = asyncio.create_task(_probe(models))
        resources.callback(probing.cancel)

    async def stop(state: TaskiqState) -> None:
        state.data.pop(MODELS, None)
        await resources.aclose()

    broker.add_event_handler(TaskiqEvents.WORKER_STARTUP, start)
    broker.add_event_handler(TaskiqEvents.WORKER_SHUTDOWN, stop)


async def _probe(models: Models) -> None:
    backend = models.chat
    if backend is None:
        log.info("llm.extractive", why="LLM_SERVER_URL is not set")
        return
    try:
        patience_s = models.settings.llm_patience_s
        async with (
            gated_call(models.admission, backend.server, patience_s=patience_s, rng=Random()),  # noqa: S311 - jitter
            asyncio.timeout(PROBE_S),  # for the answer; the wait for a slot is no sign of a fault
        ):
            probed = await backend.probe()
    except Snooze as error:
        log.info("llm.busy", backend=backend.name, server=backend.server, why=error.why)
        return
    except (LLMError, TimeoutError) as error:
        why = str(error) or f"no answer within {PROBE_S:g} s"
        log.warning("llm.not_ready", backend=backend.name, server=backend.server, why=why)
        return
    log.info("llm.ready", backend=backend.name, server=backend.server, model=probed.model)
