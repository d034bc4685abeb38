"""A guard around middlewares: what one of them raises is logged, and no job fails for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from taskiq import TaskiqMiddleware, TaskiqResult
from taskiq.message import TaskiqMessage
from taskiq.utils import maybe_awaitable

log = structlog.get_logger()


class GuardedMiddleware(TaskiqMiddleware):
    """
    Calls the hooks of a middleware and logs what they raise.

    Without it, what a hook raises reaches taskiq's receiver. The message is then neither acked nor
    requeued, and its slot is lost until the connection closes.
    """

    def __init__(self, inner: TaskiqMiddleware) -> None:
        super().__init__()
        self.inner = inner

    def set_broker(self, broker: Any) -> None:
        super().set_broker(broker)
        self.inner.set_broker(broker)

    async def startup(self) -> None:
        await self._call(self.inner.startup)

    async def shutdown(self) -> None:
        await self._call(self.inner.shutdown)

    async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
        changed = await self._call(self.inner.pre_send, message)
        return changed if isinstance(changed, TaskiqMessage) else message

    async def post_send(self, message: TaskiqMessage) -> None:
        await self._call(self.inner.post_send, message)

    async def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
        changed = await self._call(self.inner.pre_execute, message)
        return changed if isinstance(changed, TaskiqMessage) else message

    async def post_execute(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        await self._call(self.inner.post_execute, message, result)

    async def post_save(self, message: TaskiqMessage, result: TaskiqResult[Any]) -> None:
        await self._call(self.inner.post_save, message, result)

    async def on_error(
        self, message: TaskiqMessage, result: TaskiqResult[Any], exception: BaseException
    ) -> None:
        await self._call(self.inner.on_error, message, result, exception)

    async def _call(self, hook: Callable[..., Any], *args: Any) -> Any:
        try:
            return await maybe_awaitable(hook(*args))
        except Exception as error:
            name = f"{type(self.inner).__name__}.{hook.__name__}"
            log.warning("middleware.failed", hook=name, error=f"{type(error).__name__}: {error}")
            return None
