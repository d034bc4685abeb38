"""`kiq tasks`: the contracts and their arguments. It uses no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from api_shared.cli.completion import task_names
from api_shared.cli.contracts import contract_named, known_contracts
from api_shared.cli.output import AsJson, print_json, print_line, print_table

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api_shared.client.contract import Contract
    from api_shared.settings import Settings

EPILOG = """
Examples:

kiq tasks

kiq tasks train_model --json | jq .[].arguments
"""


def tasks(
    name: str | None = typer.Argument(
        None, metavar="[TASK]", help="This one alone.", autocompletion=task_names
    ),
    as_json: AsJson = False,
) -> None:
    """List the tasks that can be kiqed: arguments with types and defaults, queue and limits."""
    from api_shared.settings import load_settings

    settings = load_settings()
    contracts = known_contracts() if name is None else (contract_named(name),)
    if as_json:
        print_json([_as_json(contract, settings) for contract in contracts])
        return
    for position, contract in enumerate(contracts):
        facts = _as_json(contract, settings)
        if position:
            print_line("")
        print_line(f"{contract.name}  {facts['broker']}/{facts['queue']}  {_limits(facts)}")
        rows = [
            (f"  {row['name']}", row["type"], _default(row), row["rules"])
            for row in facts["arguments"]
        ]
        print_table(("  argument", "type", "default", "rules"), rows)


def _as_json(contract: Contract[Any, Any], settings: Settings) -> dict[str, Any]:
    from api_shared.transport.topology import topology_of

    topology = topology_of(contract.broker, settings)
    retries = contract.max_retries
    return {
        "name": contract.name,
        "broker": contract.broker,
        "queue": topology.queue(contract.queue).name,
        "soft_limit_s": contract.soft_limit_s or settings.task_soft_time_limit,
        "hard_limit_s": contract.hard_limit_s or settings.task_time_limit,
        "memory_limit_mb": contract.memory_limit_mb,
        "max_retries": settings.task_max_retries if retries is None else retries,
        "backoff_s": contract.backoff_s,
        "permanent_errors": [error.__name__ for error in contract.permanent],
        "arguments": arguments_of(contract.args),
        "result": getattr(contract.result, "__name__", str(contract.result)),
    }


def arguments_of(model: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """
    One row for each argument, as it is written on the command line: the fields of a nested model as
    `options.source`.
    """
    from pydantic import BaseModel

    rows: list[dict[str, Any]] = []
    for name_in_python, field in model.model_fields.items():
        name, kind = field.alias or name_in_python, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += arguments_of(kind, f"{prefix}{name}.")
            continue
        default = None
        if not field.is_required():
            default = field.get_default(call_default_factory=True, validated_data={})
        rows.append(
            {
                "name": f"{prefix}{name}",
                "type": _type_text(kind),
                "required": field.is_required(),
                "default": _json_value(default),
                "rules": _rules(field.metadata),
                "description": field.description,
            }
        )
    return rows


def _type_text(kind: Any) -> str:
    """A type as a person writes it, `Annotated` and `Optional` resolved."""
    from types import NoneType, UnionType
    from typing import Annotated, Literal, Union, get_args, get_origin

    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _type_text(inner[0])
    if origin is Literal:
        return "|".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(map(_type_text, inner))
    if kind in (NoneType, ...):
        return "None" if kind is NoneType else "..."
    if inner:
        return f"{getattr(origin, '__name__', origin)}[{', '.join(map(_type_text, inner))}]"
    return str(getattr(kind, "__name__", kind))


_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "multiple of"}
_SIGNS |= {"min_length": "length >=", "max_length": "length <=", "pattern": "matches"}


def _rules(metadata: list[Any]) -> str:
    """What pydantic checks besides the type, in the order of the source."""
    found = []
    for rule in metadata:
        for attribute, sign in _SIGNS.items():
            value = getattr(rule, attribute, None)
            if value is not None:
                found.append(f"{sign} {value}")
    return ", ".join(found)


def _default(row: dict[str, Any]) -> str:
    import json

    return "required" if row["required"] else json.dumps(row["default"])


def _json_value(value: Any) -> Any:
    from pydantic import TypeAdapter

    try:
        return TypeAdapter(Any).dump_python(value, mode="json")
    except Exception:
        return str(value)


def _limits(facts: dict[str, Any]) -> str:
    memory = f", {facts['memory_limit_mb']} MB" if facts["memory_limit_mb"] else ""
    return f"at most {facts['hard_limit_s']:g} s{memory}, {facts['max_retries']} retries"
