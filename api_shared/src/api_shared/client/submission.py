"""The submission of a job, as the caller's values and as taskiq's message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel
from taskiq.message import TaskiqMessage

from api_shared.client.contract import Contract
from api_shared.client.options import KiqOptions
from api_shared.job import new_job_id

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Submission(Generic[A, R]):
    """A request to run a job. Its arguments are validated, its options not yet."""

    contract: Contract[A, R]
    args: A
    options: KiqOptions


def message_of(contract: Contract[A, R], args: A, options: KiqOptions) -> TaskiqMessage:
    """
    The message that taskiq's middlewares see. Its only argument is the model itself, unchanged.
    """
    return TaskiqMessage.model_construct(
        task_id=options.job_id or new_job_id(),
        task_name=contract.name,
        labels=options.to_labels(),
        labels_types=None,
        args=[args],
        kwargs={},
    )


def submission_of(
    message: TaskiqMessage, contract: Contract[A, R], *, from_json: bool = False
) -> Submission[A, R]:
    """
    The submission of a taskiq message, whose arguments are a caller's values, or those of JSON.

    Raises `InvalidArguments` and `InvalidOption`.
    """
    parse = contract.parse_json if from_json else contract.parse
    return Submission(
        contract,
        parse(message.args, message.kwargs),
        KiqOptions.from_labels(message.labels, message.task_id),
    )
