"""As `jobs.main`, with a middleware that raises wherever it is called."""

from typing import Any, NoReturn

from taskiq import TaskiqMiddleware

from api_shared.worker.engine import attach
from jobs.broker import broker


class Noisy(TaskiqMiddleware):
    def startup(self) -> NoReturn:
        raise RuntimeError("startup")

    def shutdown(self) -> NoReturn:
        raise RuntimeError("shutdown")

    def pre_send(self, message: Any) -> NoReturn:
        raise RuntimeError("pre_send")

    def post_send(self, message: Any) -> NoReturn:
        raise RuntimeError("post_send")

    def pre_execute(self, message: Any) -> NoReturn:
        raise RuntimeError("pre_execute")

    def post_execute(self, message: Any, result: Any) -> NoReturn:
        raise RuntimeError("post_execute")

    def post_save(self, message: Any, result: Any) -> NoReturn:
        raise RuntimeError("post_save")

    def on_error(self, message: Any, result: Any, exception: BaseException) -> NoReturn:
        raise RuntimeError("on_error")


broker.add_middlewares(Noisy())
attach(broker, tasks=("jobs.tasks",))
