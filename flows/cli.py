"""The command line: `activarium`."""

from __future__ import annotations

import sys
import warnings

import typer

from activarium.flows import cli_atlas, cli_compare, cli_run, cli_stages, cli_watch
from activarium.flows.cli_options import Session, Version
from activarium.flows.interruption import INTERRUPTED, end_soon_after_interruption
from activarium.flows.output import err, print_error, telling_what_is_loaded
from activarium.flows.prefect_settings import explain_prefect_error
from activarium.flows.system_errors import check_environment, explain_error, unexpected
from activarium.schemas.errors import UserError, shortened

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


@app.callback()
def _program(version: Version = False) -> None:
    """Tell of the whole program."""
    del version


def _say_interrupted() -> None:
    err.print("interrupted; run the same command again to go on")


PLAINER = {
    "Input should be a valid integer, unable to parse string as an integer": "expected a whole number",
    "Input should be a valid number, unable to parse string as a number": "expected a number",
    "Input should be greater than or equal to": "expected at least",
    "Input should be less than or equal to": "expected at most",
    "Input should be": "expected",
    "Value error, ": "",
}
"""Words of the library that reads the command line, and ours."""


def _given(error: BaseException) -> str:
    """Return what was given for the option that an error is about; nothing where that is unknown."""
    names = getattr(getattr(error, "param", None), "opts", ())
    for place, word in enumerate(sys.argv):
        name, mark, value = word.partition("=")
        if name in names and (mark or place + 1 < len(sys.argv)):
            return f", got {shortened(repr(value if mark else sys.argv[place + 1]))}"
    return ""


def _usage_line(error: BaseException) -> str | None:
    """Return one line for a command line that cannot be read; None for any other error."""
    # The classes of these errors lie in click, or within newer versions of typer.
    if not hasattr(error, "format_message"):
        return None
    message = " ".join(str(error.format_message()).split()).removesuffix(".")
    for words, plain in PLAINER.items():
        message = message.replace(words, plain)
    context = getattr(error, "ctx", None)
    see = f"; see `{context.command_path} --help`" if context is not None else ""
    given = _given(error) if message.startswith("Invalid value") else ""
    return f"{message}{given}{see}"


def main() -> None:
    """Run the command line; a user's error is one line and exit code 2."""
    if not sys.warnoptions:
        # Warnings of libraries are for developers; python -W shows them.
        warnings.simplefilter("ignore")
    session = Session()
    end_soon_after_interruption(_say_interrupted)
    try:
        check_environment()
        with telling_what_is_loaded():
            code = app(obj=session, standalone_mode=False, prog_name="activarium")
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is one line
        code = _tell(error, verbose=session.verbose)
    if code == INTERRUPTED:  # typer's word for a KeyboardInterrupt, too
        _say_interrupted()
    sys.exit(code if isinstance(code, int) else 0)


def _tell(error: BaseException, *, verbose: bool) -> int:
    """Print an error as one line, and return the exit code: 1 for a fault of this program."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()  # type: ignore[attr-defined]
        return 2
    if isinstance(error, SystemExit) and isinstance(error.__context__, BrokenPipeError):
        return 1  # who reads what is printed has gone, as `| head` does
    reason = str(error) if isinstance(error, UserError) else None
    reason = reason or _usage_line(error) or explain_prefect_error(error) or explain_error(error)
    print_error(error, reason or unexpected(error), verbose=verbose)
    return 2 if reason else 1


if __name__ == "__main__":
    main()
