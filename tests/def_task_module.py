"""Synchronous tasks, for tests of what only a process of their own can show."""

from __future__ import annotations

from datetime import UTC, datetime
from threading import Lock
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field
from taskiq import Context, TaskiqDepends

from api_shared import JobBroker

broker = JobBroker("defs")


class Report(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    at: datetime
    pages: tuple[int, ...]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def size(self) -> int:
        return len(self.pages)


class Source(BaseModel):
    name: str


class S3(Source):
    bucket: str


def a_lock() -> Any:
    return Lock()


@broker.task(task_name="strict_report")
def strict_report(at: datetime) -> Report:
    return Report(at=at, pages=(1, 2))


@broker.task(task_name="subclass")
def subclass() -> Source:
    return S3(name="a", bucket="b")


@broker.task(task_name="untyped")
def untyped():  # type: ignore[no-untyped-def]
    return {1: "a"}


@broker.task(task_name="labels_of_its_message")
def labels_of_its_message(context: Context = TaskiqDepends()) -> list[str]:
    return [context.message.task_id, context.message.labels["tenant"], context.broker.name]  # type: ignore[attr-defined]


@broker.task(task_name="with_a_lock")
def with_a_lock(lock: Any = TaskiqDepends(a_lock)) -> int:
    return 1


WHEN = datetime(2030, 1, 2, tzinfo=UTC)
