"""A web server that forks its children after the start, as gunicorn does with --preload."""

from __future__ import annotations

import asyncio
import os
import sys

from pydantic import HttpUrl

from api_shared.broker import broker, running, running_in_thread
from api_shared.contracts.general import HEALTH_CHECK, HealthCheckArgs
from api_shared.errors import NotStarted

ARGS = HealthCheckArgs(url=HttpUrl("http://127.0.0.1:9/"))


def child_of_a_thread() -> None:
    with running_in_thread(broker) as call:
        job = call(HEALTH_CHECK.kiq(ARGS, owner="before"))
        if os.fork() == 0:
            told = ""
            try:
                call(HEALTH_CHECK.kiq(ARGS, owner="never"))
            except NotStarted as error:
                told = str(error)
            assert "forked" in told, told
            with running_in_thread(broker) as own:
                own(HEALTH_CHECK.kiq(ARGS, owner="child"))
                assert own(broker.handle(job.task_id).status()) == "queued"
                try:
                    own(job.status())
                except RuntimeError as error:
                    told = str(error)
                assert "handles from it" in told, told
            sys.exit(0)
        assert os.wait()[1] == 0
        call(HEALTH_CHECK.kiq(ARGS, owner="after"))


async def start_in_a_loop() -> None:
    async with running(broker):
        await HEALTH_CHECK.kiq(ARGS, owner="before")
        if os.fork() == 0:
            try:
                broker.runtime  # noqa: B018 - it raises
            except NotStarted as error:
                os._exit(0 if "forked" in str(error) else 1)
            os._exit(2)
        assert os.wait()[1] == 0  # noqa: ASYNC222 - nothing else runs in this loop
        await HEALTH_CHECK.kiq(ARGS, owner="after")


if __name__ == "__main__":
    if sys.argv[1] == "thread":
        child_of_a_thread()
    else:
        asyncio.run(start_in_a_loop())
