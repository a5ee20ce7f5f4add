"""The one error that users meet: one line that says what was expected, what came, and what to do."""

from __future__ import annotations


def shown(text: str) -> str:
    r"""Return a text as a terminal shows it: what is not printable, as in names of files, escaped.

    >>> shown("layer\x1b[2J\n1")
    'layer\\x1b[2J\\n1'
    """
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with 2."""

    def __str__(self) -> str:
        """Return the message; names in it may come from files that others have made."""
        return shown(super().__str__())


class IncompleteRecordingError(UserError):
    """A recording lacks shards that the asked-for work needs."""
