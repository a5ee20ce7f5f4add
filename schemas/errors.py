"""The one error that users meet: one line that says what was expected, what came, and what to do."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with 2."""


class IncompleteRecordingError(UserError):
    """A recording lacks shards that the asked-for work needs."""
