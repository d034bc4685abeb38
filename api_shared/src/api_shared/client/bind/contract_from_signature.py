"""Contracts derived from the signature of a function, as users of Taskiq know it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, create_model

from api_shared.client.contract import Contract
from api_shared.client.task_function import hints_of, is_injected
from api_shared.errors import InvalidOption
from api_shared.schedules.cron import timing_from_taskiq
from api_shared.schedules.schedule import Overlap, Schedule


def contract_from_signature(
    function: Callable[..., Any], name: str, *, schedule: Any = None, **limits: Any
) -> Contract[Any, Any]:
    """
    The contract of a function that `@broker.task` is given without a contract.

    Parameters that taskiq injects are left out. A parameter without an annotation takes any JSON
    value. `schedule` may be taskiq's list of dicts.
    """
    hints = hints_of(function)
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            problem = "must be a named parameter: *args and **kwargs cannot be validated"
            raise InvalidOption(name, str(parameter), problem)
        if is_injected(parameter, hints.get(parameter.name)):
            continue
        if parameter.name.startswith("_"):
            problem = f"must not begin with an underscore: it is an argument of {name}"
            raise InvalidOption("parameter", parameter.name, problem)
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints.get(parameter.name, Any), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a field may be called `copy` or `json`
            model = create_model(f"{name} arguments", __config__=config, **fields)
    except Exception as error:  # whatever pydantic raises for a name or a type that it cannot take
        raise InvalidOption("task", name, f"has arguments that cannot be: {error}") from error
    result = hints.get("return", Any)
    contract = Contract(name, model, result, positional=tuple(fields), **limits)
    if isinstance(schedule, list):
        schedule = tuple(_from_taskiq(contract, schedule))
    return replace(contract, schedule=schedule)


def _from_taskiq(
    contract: Contract[Any, Any], entries: list[Mapping[str, Any]]
) -> Iterator[Schedule]:
    """
    The schedules of taskiq's entries, read as its `LabelScheduleSource` does. Runs may overlap.
    """
    for number, entry in enumerate(entries, 1):
        name = contract.name if len(entries) == 1 else f"{contract.name}:{number}"
        labels = {key: str(value) for key, value in entry.get("labels", {}).items()}
        yield Schedule(
            timing_from_taskiq(
                cron=entry.get("cron"),
                cron_offset=entry.get("cron_offset"),
                interval=entry.get("interval"),
            ),
            contract.parse(entry.get("args", ()), entry.get("kwargs", {})),
            overlap=Overlap.ALLOW,
            priority=int(labels.pop("priority", 0)),
            owner=labels.pop("owner", None),
            labels=labels,
            name=entry.get("schedule_id", name),
        )
