"""docs/log-events.md, compared with the log calls in the code."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("api_shared", "workers_general", "workers_ml")
LEVELS = {name: name for name in ("debug", "info", "warning", "error", "critical")}
LEVELS["exception"] = "error"
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]*) \| [^|]+ \|$", re.MULTILINE)


@dataclass
class Event:
    levels: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    has_more_keys: bool = False


def events_in_the_code() -> dict[str, Event]:
    events: dict[str, Event] = defaultdict(Event)
    for package in PACKAGES:
        for file in sorted((ROOT / package / "src").rglob("*.py")):
            for call, levels in log_calls(ast.parse(file.read_text())):
                text = text_of(call.args[0])
                event = events[text.split()[0]]
                event.levels |= levels
                event.keys |= {keyword.arg for keyword in call.keywords if keyword.arg}
                event.keys |= set(re.findall(r"(\w+)=%", text))
                event.has_more_keys |= any(keyword.arg is None for keyword in call.keywords)
    return events


def log_calls(module: ast.Module) -> Iterator[tuple[ast.Call, set[str]]]:
    """Calls such as `log.info(...)`, and of `say`, where `say = log.debug if ... else log.info`."""
    said: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            said = {
                level
                for each in ast.walk(node)
                if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "say"
                for value in ast.walk(each.value)
                if (level := level_of(value))
            }
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "say" and said:
                    yield call, said
        if isinstance(node, ast.Call) and (level := level_of(node.func)):
            yield node, {level}


def level_of(function: ast.expr | ast.AST) -> str | None:
    match function:
        case ast.Attribute(value=ast.Name(id="log"), attr=method):
            return LEVELS.get(method)
    return None


def text_of(argument: ast.expr) -> str:
    """The event's name as it stands there; a part that is computed is `<its last name>`."""
    match argument:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) for value in values)
        case ast.FormattedValue(value=ast.Attribute(attr=name)):
            return f"<{name}>"
    raise AssertionError(f"no name of an event: {ast.unparse(argument)}")


def events_in_the_docs() -> dict[str, tuple[set[str], set[str]]]:
    rows = ROW.findall((ROOT / "docs" / "log-events.md").read_text(encoding="utf-8"))
    names = [name for name, _, _ in rows]
    assert names == sorted(set(names)), "one row for each event, by name"
    return {
        name: (set(levels.split(", ")), set(re.findall(r"`(\w+)`", keys)))
        for name, levels, keys in rows
    }


def test_the_table_names_each_event_of_the_code_and_no_other() -> None:
    assert sorted(events_in_the_docs()) == sorted(events_in_the_code())


def test_the_table_has_the_levels_and_the_keys_of_the_code() -> None:
    in_the_docs = events_in_the_docs()
    for name, event in events_in_the_code().items():
        levels, keys = in_the_docs[name]
        assert levels == event.levels, name
        assert keys >= event.keys if event.has_more_keys else keys == event.keys, name
