"""`kiq`: all commands, and the exit code of each."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn, TextIO

import typer
from typer.main import get_command

from api_shared.cli.commands import (
    chaos,
    config,
    cron,
    jobs,
    queues,
    submit,
    tasks,
    verify,
    watch,
    workers,
)
from api_shared.cli.commands.dlq.command import dlq_app
from api_shared.cli.commands.doctor.command import doctor
from api_shared.cli.connections import Verbosity
from api_shared.cli.contracts import Modules
from api_shared.cli.exit_codes import ExitCode, exit_code_of
from api_shared.cli.output import say
from api_shared.errors import ApiWorkersError

HELP = """
Kiq jobs, watch them, and look after the platform.

Data goes to stdout, words to stderr; --json prints JSON. Settings come from the environment and
.env (see: kiq config).

Exit codes: 0 ok, 1 the job failed (doctor, verify: something is wrong), 2 usage, 3 no such job, 4 a
server is unreachable, 124 timed out, 130 interrupted.
"""

app = typer.Typer(
    name="kiq",
    help=HELP,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help takes half the time, and suits a pipe too
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"kiq {version('api-shared')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log more on stderr; -vv: all.")
    ] = 0,
    module: Annotated[
        list[str] | None,
        typer.Option(
            "--module",
            "-m",
            envvar="KIQ_MODULES",
            help="Import this module first: its contracts and tasks can be kiqed by name.",
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="And exit.")
    ] = False,
) -> None:
    Verbosity.count = verbose
    Modules.names = tuple(module or ())
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


app.command("submit", epilog=submit.EPILOG)(submit.submit)
app.command("show", epilog=jobs.SHOW_EPILOG)(jobs.show)
app.command("watch", epilog=watch.EPILOG)(watch.watch)
app.command("list", epilog=jobs.LIST_EPILOG)(jobs.list_jobs)
app.command("cancel")(jobs.cancel)
app.command("reschedule", epilog=jobs.RESCHEDULE_EPILOG)(jobs.reschedule)
app.command("queues")(queues.queues)
app.add_typer(dlq_app, name="dlq")
app.command("verify", epilog=verify.EPILOG)(verify.verify)
app.command("tasks", epilog=tasks.EPILOG)(tasks.tasks)
app.command("workers")(workers.workers)
app.add_typer(cron.cron_app, name="cron")
app.command("doctor")(doctor)
app.command("config")(config.config)
app.command("chaos", epilog=chaos.EPILOG)(chaos.chaos)

try:
    from api_shared.testing.servers.cli import services_app
except ImportError as missing:
    _lacking = str(missing)

    @app.command(
        "services",
        help="Servers for development (not installed: pip install 'api-shared[services]').",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )
    def _services() -> None:
        say(f"this command needs an extra: pip install 'api-shared[services]' ({_lacking})")
        raise typer.Exit(ExitCode.USAGE)
else:
    app.add_typer(services_app, name="services")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: no error that a person can fix ends in a traceback."""
    _accept_any_text(sys.stdout)
    _accept_any_text(sys.stderr)
    code = run_command(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    # Every command has closed what it opened. The interpreter's own way out waits for threads of
    # MongoDB's driver that sleep, up to a second for each command.
    os._exit(code)


def run_command(arguments: Sequence[str] | None) -> int:
    try:
        code = get_command(app).main(arguments, prog_name="kiq", standalone_mode=False)
    except ApiWorkersError as error:
        say(f"kiq: {error}")
        return exit_code_of(error)
    except typer.Exit as ended:
        return ended.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return ExitCode.INTERRUPTED
    except Exception as error:
        # Typer's own errors of usage: their class has been in several modules.
        if not hasattr(error, "format_message"):
            raise
        if words := error.format_message():
            say(f"kiq: {words.rstrip('.')}; try --help")
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.OK


def _accept_any_text(stream: TextIO) -> None:
    """A lone surrogate in a job's text, or a terminal without UTF-8, is no error."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
