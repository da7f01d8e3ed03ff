"""The command line: commands, no logic. A user's mistake is one line and exit code 2."""

from __future__ import annotations

import logging
import os
import sys

import click
import typer

from sammit.cli import data, deploy, export, figures, inspect, run, site, study, use, watch, weights
from sammit.errors import UserError

STOPPED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    name="sammit",
    help="Federated fine-tuning of the Segment Anything Model: hospitals meet, no image leaves.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(run.demo)
app.command("run")(run.run)
app.command("study")(study.study)
app.command("watch")(watch.watch)
app.command("predict")(use.predict)
app.command("evaluate")(use.evaluate)
app.command("report")(use.report)
app.command("figures")(figures.figures)
app.command("export")(export.export)
app.command("list")(inspect.list_plugins)
app.command("recipes")(inspect.recipes)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(deploy.app, name="deploy")
app.add_typer(site.app, name="site")


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and leave."),
    debug: bool = typer.Option(False, "--debug", help="Log in detail; let errors show where they arose."),
) -> None:
    if version:
        from sammit.version import VERSION

        typer.echo(f"sammit {VERSION}")
        raise typer.Exit
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("sammit").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug:
        os.environ["SAMMIT_DEBUG"] = "1"


def main() -> None:
    """The `sammit` command."""
    # No hub is ever asked for anything: weights come from files whose hash is known.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        code = app(prog_name="sammit", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as asked:
        asked.show()
        sys.exit(2)
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx else "sammit"
        typer.echo(f"error: {' '.join(error.format_message().split())} See '{where} --help'", err=True)
        sys.exit(2)
    except (UserError, OSError) as error:
        if os.environ.get("SAMMIT_DEBUG"):
            raise
        typer.echo(f"error: {' '.join(_text(error).split())}", err=True)
        sys.exit(2)
    except click.Abort:
        code = STOPPED
    if code == STOPPED:
        typer.echo("stopped; `sammit run ... --resume`, or the same study again, goes on from the last round", err=True)
    sys.exit(code)


def _text(error: Exception) -> str:
    """The system's own complaints need a mend too."""
    if isinstance(error, OSError):
        where = error.filename or "the system"
        return f"{where}: {error.strerror or error}; check the path, its permissions and the disk"
    return str(error)
