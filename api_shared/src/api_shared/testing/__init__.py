"""
Tests of code that kiqs, without servers and workers.

    async with running_in_place(broker):    # kiq runs the job before it returns
        handle = await greet.kiq("Ada")
        assert await handle.result() == "Hello, Ada"

    async with recording(broker) as kiqs:   # kiq runs nothing
        await sign_up("Ada")
        assert [job.task for job in kiqs] == ["greet"]

Settings are the defaults: neither the environment nor `.env` is read.
"""

from typing import TYPE_CHECKING

from api_shared.lazy import lazy_names

if TYPE_CHECKING:
    from api_shared.testing.inline import CannotRunInPlace, Place, running_in_place
    from api_shared.testing.memory_broker import default_settings
    from api_shared.testing.recorder import recording

__all__ = ["CannotRunInPlace", "Place", "default_settings", "recording", "running_in_place"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "inline": ("CannotRunInPlace", "Place", "running_in_place"),
        "memory_broker": ("default_settings",),
        "recorder": ("recording",),
    },
)
