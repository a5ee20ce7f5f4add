"""The command line: `activarium`."""

from __future__ import annotations

import sys
import warnings

import typer

from activarium.flows import cli_atlas, cli_compare, cli_run, cli_stages, cli_watch
from activarium.flows.cli_options import Session
from activarium.flows.interruption import INTERRUPTED, end_soon_after_interruption
from activarium.flows.output import err, print_error
from activarium.flows.prefect_settings import explain_prefect_error
from activarium.schemas.errors import UserError

app = typer.Typer(
    name="activarium",
    help="Which classes does each channel of a vision model prefer, how strongly, and is it "
    "more than chance?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
)
for commands in (cli_run, cli_stages, cli_compare, cli_watch, cli_atlas):
    app.add_typer(commands.app)


def _say_interrupted() -> None:
    err.print("interrupted; run the same command again to go on")


def main() -> None:
    """Run the command line; a user's error is one line and exit code 2."""
    if not sys.warnoptions:
        # Warnings of libraries are for developers; python -W shows them.
        warnings.simplefilter("ignore")
    session = Session()
    end_soon_after_interruption(_say_interrupted)
    try:
        app(obj=session)
    except UserError as error:
        print_error(error, str(error), verbose=session.verbose)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer makes an exit with this code of a KeyboardInterrupt.
        if isinstance(stop, SystemExit) and stop.code != INTERRUPTED:
            raise
        _say_interrupted()
        sys.exit(INTERRUPTED)
    except Exception as error:
        reason = explain_prefect_error(error)
        if reason is None:
            raise
        print_error(error, reason, verbose=session.verbose)
        sys.exit(2)


if __name__ == "__main__":
    main()
