"""`kiq watch`: the changes of a job, live. It works without Redis too, a little slower."""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing, suppress
from dataclasses import asdict
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

import typer

from api_shared.cancellation import cancel_and_wait
from api_shared.cli.connections import run, runtime_of
from api_shared.cli.durations import now, until
from api_shared.cli.exit_codes import ExitCode
from api_shared.cli.output import (
    STYLES,
    AsJson,
    clean,
    console,
    print_json,
    print_line,
    print_part,
    say,
)
from api_shared.errors import ApiWorkersError

if TYPE_CHECKING:
    from api_shared.client.follow.stream import StreamPiece
    from api_shared.client.runtime import Runtime
    from api_shared.job import Job
    from api_shared.notifier.events import JobEvent
    from api_shared.settings import Settings

EPILOG = """
Examples:

kiq watch 692a6f1d9c41b2a7c3d5e8f0

kiq watch 692a6f1d9c41b2a7c3d5e8f0 --json | jq .status
"""


def watch(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="What submit printed.")],
    timeout: Annotated[
        float | None, typer.Option(min=0.001, help="At most so many seconds; then exit code 124.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """
    Print each change of status and the text it writes, and show the progress, until the job ends.

    Ends with 0 if it completed, with 1 if it failed or was cancelled. --json prints one event a
    line, progress and pieces of text included.
    """

    async def main(settings: Settings) -> ExitCode:
        async with runtime_of(settings) as runtime:
            code, job = await follow(job_id, runtime, timeout, story="json" if as_json else "text")
            if job is not None:
                from api_shared.cli.job_text import end_of

                say(end_of(job))
            return code

    raise typer.Exit(run(main))


async def follow(
    job_id: str, runtime: Runtime, timeout_s: float | None, *, story: str = ""
) -> tuple[ExitCode, Job | None]:
    """
    Watch a job to its end; returns the exit code of a command that waited for it, and the job.

    Its changes go to stdout as `story` ("text" or "json"), its progress to stderr. None: not ended
    within `timeout_s`, and a message says so. Raises `InvalidJobId`, `JobNotFound`,
    `LedgerUnavailable`.
    """
    from api_shared.client.follow.handle import read_job
    from api_shared.client.follow.watch import watch as events_of
    from api_shared.job import Status, parse_job_id

    job_id = parse_job_id(job_id)
    status = None
    try:
        async with asyncio.timeout(timeout_s):
            with Board(story) as board:
                source = events_of(job_id, ledger=runtime.ledger, notifier=runtime.notifier)
                async with aclosing(source) as events, _TextShown(job_id, runtime, board) as text:
                    async for event in events:
                        status = event.status
                        text.begin()  # after what the ledger knew has been shown
                        if event.status.is_terminal:
                            await text.whole()  # before the end is shown
                        board.show(event)
    except TimeoutError:
        say(
            f"job {job_id} was still {status} after {timeout_s:g} s; it goes on: kiq watch {job_id}"
        )
        return ExitCode.TIMED_OUT, None
    except asyncio.CancelledError:
        say(f"job {job_id} goes on: kiq watch {job_id}, or kiq cancel {job_id}")
        raise
    job = await read_job(job_id, runtime)
    return ExitCode.OK if job.status is Status.COMPLETED else ExitCode.JOB_FAILED, job


class _TextShown:
    """Shows the text that a job writes, beside its events."""

    def __init__(self, job_id: str, runtime: Runtime, board: Board) -> None:
        self._job_id = job_id
        self._runtime = runtime
        self._board = board
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> _TextShown:
        return self

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            await cancel_and_wait(self._task)

    def begin(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._show())

    async def whole(self) -> None:
        if self._task is not None:
            await self._task

    async def _show(self) -> None:
        from api_shared.client.follow.stream import stream

        ledger, notifier = self._runtime.ledger, self._runtime.notifier
        with suppress(ApiWorkersError):  # the reader of the events gets it too
            async with aclosing(stream(self._job_id, ledger=ledger, notifier=notifier)) as pieces:
                async for piece in pieces:
                    self._board.write(self._job_id, piece)


class Board:
    """
    Shows events: as a bar if stderr is a terminal, otherwise as a line now and then.

    The text that the job writes goes to stdout with the story. Without a story it goes to stderr if
    that is a terminal, in place of the bar.
    """

    EVERY_S = 2.0

    def __init__(self, story: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._story = story
        self._again_at = 0.0
        self._in_text = False
        target = console(sys.stderr)
        can_move = target.is_terminal and not target.is_dumb_terminal
        self._has_bar = can_move and not (story == "json" and sys.stdout.isatty())
        self._bar = Progress(
            TextColumn("{task.fields[status]:10}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[words]}", markup=False),
            console=target,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._row = self._bar.add_task("", total=None, status="", words="")

    def __enter__(self) -> Board:
        if self._has_bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end_text()
        if self._has_bar:
            self._bar.stop()

    def write(self, job_id: str, piece: StreamPiece) -> None:
        """Show more of the job's text."""
        if self._story == "json":
            fields = {"kind": "text", "job_id": job_id, **asdict(piece)}
            print_json(fields, indent=None)
            return
        if self._story != "text" and not sys.stderr.isatty():
            return
        if self._has_bar:
            self._bar.stop()
            self._has_bar = False
        if piece.restart:
            self._end_text()
            say("the text starts anew")
        if piece.text:
            print_part(piece.text, sys.stdout if self._story == "text" else sys.stderr)
            self._in_text = not piece.text.endswith("\n")

    def _end_text(self) -> None:
        """End the text, so that what follows begins on a new line."""
        if self._in_text:
            print_part("\n", sys.stdout if self._story == "text" else sys.stderr)
            self._in_text = False

    def show(self, event: JobEvent) -> None:
        if event.kind == "status":
            self._end_text()
        if self._story == "json":
            print_line(event.to_json())
        if event.kind == "progress":
            self._show_progress(event)
        else:
            self._bar.update(self._row, status=event.status, words="", total=None, completed=0)
            if self._story == "text":
                self._print_change(event)

    def _print_change(self, event: JobEvent) -> None:
        at = f"{(event.at or now()).astimezone():%H:%M:%S}"
        attempt = f"attempt {event.attempt}" if event.attempt else ""
        waits = f"waits {until(event.due_at, now())}" if event.due_at else ""
        words = "  ".join(filter(None, (attempt, event.why or event.error, waits)))
        line = clean(f"{at}  {event.status:10}  {words}".rstrip().replace("\n", " "))
        if self._has_bar and sys.stdout.isatty():
            from rich.text import Text

            # Above the bar, on the same terminal.
            self._bar.console.print(Text(line, style=STYLES.get(event.status, "")))
        else:
            print_line(line)

    def _show_progress(self, event: JobEvent) -> None:
        from api_shared.cli.job_text import progress_text

        progress = event.progress
        if progress is None:
            return
        words = clean(": ".join(filter(None, (progress.stage, progress.message))))
        self._bar.update(
            self._row, completed=progress.done, total=progress.total, words=words[:200]
        )
        if self._in_text:
            return
        if not self._has_bar and self._story != "json" and monotonic() >= self._again_at:
            self._again_at = monotonic() + self.EVERY_S
            say(f"{event.status}  {progress_text(progress)}")
