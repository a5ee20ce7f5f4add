"""Settings that Prefect must find before it is imported: where it lives, and how loud it is."""

from __future__ import annotations

import os
import re
from pathlib import Path

from activarium.schemas.errors import UserError, shortened

STARTUP_SECONDS = "90"
"""How long the first flow waits for Prefect's own server, which creates its database first."""


def prepare_prefect(root: Path, *, verbose: bool) -> None:
    """Set Prefect's environment, leaving alone what the user has set.

    Without `PREFECT_API_URL` and `PREFECT_HOME`, Prefect's database lives in the atlas, so that
    runs of different atlases do not meet in one database.

    Raises
    ------
    UserError
        If one of the two cannot be meant.
    """
    _check_environment()
    home = root / ".prefect"
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": STARTUP_SECONDS,
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_LOGGING_ROOT_LEVEL": "WARNING" if verbose else "CRITICAL",
        "PREFECT_LOGGING_INTERNAL_LEVEL": "WARNING" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING" if verbose else "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    if "PREFECT_API_URL" not in os.environ:
        home.mkdir(parents=True, exist_ok=True)
        defaults["PREFECT_HOME"] = str(home.resolve())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _check_environment() -> None:
    api, home = (os.environ.get(name) for name in ("PREFECT_API_URL", "PREFECT_HOME"))
    if api is not None and not re.match(r"https?://.", api):
        raise UserError(
            f"PREFECT_API_URL: expected http://HOST:PORT/api, got {shortened(api, 300)!r}: correct "
            "or unset it, or use --no-prefect"
        )
    if home is None:
        return
    try:
        Path(home).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"PREFECT_HOME: expected a folder that can be written, got {shortened(home, 300)!r} "
            f"({error.strerror}): correct or unset it, or use --no-prefect"
        ) from error


def explain_prefect_error(error: BaseException) -> str | None:
    """Return one line for a server that does not answer; None for any other error."""
    api = os.environ.get("PREFECT_API_URL")
    unreachable = type(error).__name__ in ("ConnectError", "ConnectTimeout", "ReadTimeout")
    if unreachable or "Failed to reach API" in str(error):
        if not api:
            return (
                "the Prefect server that this command started stopped answering (is the machine very "
                "busy?): run the same command again, or use --no-prefect; nothing that was finished "
                "is lost"
            )
        return (
            f"the Prefect server at {api} does not answer: start it (`prefect server start`), unset "
            "PREFECT_API_URL, or use --no-prefect; nothing that was finished is lost"
        )
    if "ephemeral Prefect API server" in str(error):
        return (
            "Prefect's own server did not start in time (is the disk full, or the machine very "
            "busy?): run the same command again, or use --no-prefect; nothing is lost"
        )
    return None
