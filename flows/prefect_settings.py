"""Settings that Prefect must find before it is imported: where it lives, and how loud it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

STARTUP_SECONDS = "90"
"""How long the first flow waits for Prefect's own server, which creates its database first."""


def prepare_prefect(root: Path, *, verbose: bool) -> None:
    """Set Prefect's environment, leaving alone what the user has set.

    Without `PREFECT_API_URL` and `PREFECT_HOME`, Prefect's database lives in the atlas, so that
    runs of different atlases do not meet in one database.
    """
    home = root / ".prefect"
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": STARTUP_SECONDS,
        "PREFECT_LOGGING_LEVEL": "INFO" if verbose else "CRITICAL",
        "PREFECT_LOGGING_ROOT_LEVEL": "WARNING" if verbose else "CRITICAL",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING" if verbose else "CRITICAL",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    if "PREFECT_API_URL" not in os.environ:
        home.mkdir(parents=True, exist_ok=True)
        defaults["PREFECT_HOME"] = str(home.resolve())
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
