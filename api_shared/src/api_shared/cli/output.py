"""The output of commands: data on stdout (text, tables, JSON), messages on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO

import typer

from api_shared.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

UNLIMITED = 10_000
"""Columns without a terminal: what a program reads is never cut."""

STYLES = {
    "completed": "green",
    "ok": "green",
    "failed": "red",
    "bad": "red",
    "away": "red",
    "cancelled": "yellow",
    "retrying": "yellow",
    "warn": "yellow",
    "processing": "cyan",
}


def say(text: str) -> None:
    """A message for a person."""
    _write(sys.stderr, clean(text))


def print_line(text: str) -> None:
    _write(sys.stdout, text)


def print_part(text: str, stream: TextIO) -> None:
    """Print a part of a text without a line end of its own."""
    _write(stream, clean(text), end="")


def print_json(value: Any, *, indent: int | None = 2) -> None:
    separators = None if indent else (",", ":")
    _write(sys.stdout, json.dumps(value, indent=indent, separators=separators, default=_plain))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table as wide as the terminal; its last column takes the rest of the width."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    cells = [[_cell(value) for value in row] for row in rows]
    for position, name in enumerate(columns[:-1]):
        widths = [len(name), *(row[position].cell_len for row in cells)]
        table.add_column(name, no_wrap=True, min_width=max(widths))
    table.add_column(columns[-1], overflow="fold")
    for row in cells:
        table.add_row(*row)
    _print(table)


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Keys and values, one below the other; a value of several lines stays in its column."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        table.add_row(name, _cell(value))
    _print(table)


def console(stream: TextIO) -> Console:
    """A console with colours only on a terminal, and never with NO_COLOR."""
    from rich.console import Console

    width = None if stream.isatty() else UNLIMITED
    return Console(file=stream, width=width, highlight=False, soft_wrap=False, emoji=False)


def clean(text: str) -> str:
    """Text of a job cannot control the terminal: control characters are shown as escapes."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )


def _cell(value: str) -> Text:
    from rich.text import Text

    return Text(clean(value), style=STYLES.get(value, ""))


def _print(renderable: Any) -> None:
    target = console(sys.stdout)
    with target.capture() as captured:
        target.print(renderable)
    _write(sys.stdout, "\n".join(line.rstrip() for line in captured.get().splitlines()))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    raise TypeError(f"{type(value).__name__} is not JSON")


def _write(stream: TextIO, text: str, *, end: str = "\n") -> None:
    try:
        stream.write(f"{text}{end}")
        stream.flush()
    except BrokenPipeError:
        end_quietly()


def end_quietly() -> NoReturn:
    """End without a message when no program reads the output, as SIGPIPE would."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    raise typer.Exit(ExitCode.BROKEN_PIPE)
