"""
Code as users write it, for the type checker alone: `tests/unit/test_typing.py` runs mypy on it.

Each `type: ignore` marks a wrong call and names its error. mypy's strict mode makes an ignore that
ignores nothing an error, so that a wrong call that passes is one too.
"""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from pydantic import BaseModel
from taskiq import Context, TaskiqDepends

from api_shared import Contract, JobBroker, JobHandle
from api_shared.contracts.general import HEALTH_CHECK, HealthCheckArgs, HealthCheckResult
from api_shared.job import Status

broker = JobBroker("snippets")


class ResizeArgs(BaseModel):
    path: str
    width: int = 100


class Image(BaseModel):
    path: str


RESIZE = Contract("resize", ResizeArgs, Image)


# A contract.


async def kiq_a_contract() -> None:
    handle = await RESIZE.kiq(ResizeArgs(path="a.png"), priority=9, delay=timedelta(seconds=5))
    assert_type(handle, JobHandle[Image])
    assert_type(await handle.result(timeout=5), Image)
    assert_type(await handle.status(), Status)
    assert_type((await handle.wait_result()).return_value, Image)
    await RESIZE.kiq(HealthCheckArgs(url="x"))  # type: ignore[arg-type]
    await RESIZE.kiq("a.png")  # type: ignore[arg-type]
    await RESIZE.kiq(path="a.png")  # type: ignore[call-arg]
    await RESIZE.kiq(ResizeArgs(path="a.png"), priority="high")  # type: ignore[arg-type]
    await RESIZE.kiq(ResizeArgs(path="a.png"), later=True)  # type: ignore[call-arg]
    await RESIZE.kiq(ResizeArgs(widht=3, path="a.png"))  # type: ignore[call-arg]
    await RESIZE.kiq(ResizeArgs(path=3))  # type: ignore[arg-type]


# A function bound to a contract.


@broker.task(RESIZE)
async def resize(args: ResizeArgs) -> Image:
    return Image(path=args.path)


@broker.task(RESIZE)
def resize_in_a_process(args: ResizeArgs) -> Image:
    return Image(path=args.path)


@broker.task(HEALTH_CHECK)
async def check(args: HealthCheckArgs) -> HealthCheckResult:
    return HealthCheckResult(url=str(args.url), ok=True, latency_ms=0)


@broker.task(RESIZE)  # type: ignore[arg-type]
async def returns_a_wrong_type(args: ResizeArgs) -> str:
    return args.path


@broker.task(RESIZE)  # type: ignore[arg-type]
def returns_nothing(args: ResizeArgs) -> None: ...


async def kiq_a_bound_task() -> None:
    handle = await resize.kiq(ResizeArgs(path="a.png"))
    assert_type(handle, JobHandle[Image])
    assert_type(await (await resize_in_a_process.kiq(ResizeArgs(path="a.png"))).result(), Image)
    assert_type(await (await resize.kicker().with_labels(priority=9).kiq(
        ResizeArgs(path="a.png"))).result(), Image)  # fmt: skip
    await resize.kiq("a.png")  # type: ignore[call-overload]
    await resize.kiq()  # type: ignore[call-overload]


# A task of its own signature.


@broker.task
async def add(a: int, b: int = 1) -> int:
    return a + b


@broker.task(task_name="shout", timeout=5, max_retries=0)
def shout(text: str) -> str:
    return text.upper()


@broker.task
async def asks(name: str, context: Context = TaskiqDepends()) -> list[str]:
    return [name, context.message.task_id]


async def kiq_a_task() -> None:
    assert_type(await (await add.kiq(1, b=2)).result(), int)
    assert_type(await (await shout.kiq("a")).result(), str)
    assert_type(await (await asks.kiq("a")).result(), list[str])
    assert_type(await (await add.kicker().with_task_id("x").kiq(1)).status(), Status)
    await add.kiq("1")  # type: ignore[call-overload]
    await add.kiq(1, 2, 3)  # type: ignore[call-overload]
    await add.kiq(1, c=2)  # type: ignore[call-overload]
    await shout.kiq(1)  # type: ignore[arg-type]
    await add.kicker().kiq("1")  # type: ignore[call-overload]


async def call_the_function_itself() -> None:
    assert_type(await add(1), int)
    assert_type(shout("a"), str)
    shout(1)  # type: ignore[arg-type]
