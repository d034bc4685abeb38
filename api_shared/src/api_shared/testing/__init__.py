"""
Testing code that kiqs, with no server and no worker.

    async with running_in_place(broker):    # kiq runs the job before it returns
        handle = await greet.kiq("Ada")
        assert await handle.result() == "Hello, Ada"

    async with recording(broker) as kiqs:   # kiq runs nothing
        await sign_up("Ada")
        assert [job.task for job in kiqs] == ["greet"]

Settings are the defaults: neither the environment nor `.env` is read.
"""

from api_shared.testing.in_place import CannotRunInPlace, Place, running_in_place
from api_shared.testing.recording import recording
from api_shared.testing.standing import default_settings

__all__ = ["CannotRunInPlace", "Place", "default_settings", "recording", "running_in_place"]
