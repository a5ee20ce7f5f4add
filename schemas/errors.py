"""The one error that users meet: one line that says what was expected, what came, and what to do."""

from __future__ import annotations

import re
import unicodedata

MOST_SHOWN = 100
"""Letters of a value that a message shows."""
MOST_LINE = 4_000
"""Letters of a whole message."""

UNSEEN = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters that are printable by Unicode's rules and show nothing."""

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
"""Where an object lies in memory, which tells nobody anything."""


def shown(text: str, *, kept: str = "") -> str:
    r"""Return a text as a terminal or page may show it, what cannot be seen in it escaped.

    These are control characters, marks that turn the direction of writing, and what takes no room:
    with them a name of a file passes for another, or moves the cursor.

    Parameters
    ----------
    text
        Any text, such as the name of a file that others have made.
    kept
        Characters that stay as they are, such as line feeds of a text of several lines.

    Examples
    --------
    >>> shown("layer\x1b[2J\n1")
    'layer\\x1b[2J\\n1'
    >>> shown("gpj.\u202etxt")
    'gpj.\\u202etxt'
    """
    if text.isascii() and text.isprintable():
        return text
    return _BESIDE_ASCII.sub(lambda found: _escaped(found[0], kept), text)


_BESIDE_ASCII = re.compile(r"[^\x20-\x7e]")


def _escaped(letter: str, kept: str) -> str:
    is_seen = letter.isprintable() and letter not in UNSEEN
    # Spaces of other widths are no printable letters to Python, and lead nobody astray.
    is_seen = is_seen or unicodedata.category(letter) == "Zs"
    return letter if is_seen or letter in kept else ascii(letter)[1:-1]


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text of at most so many letters: beginning and end of a longer one.

    >>> shortened("abcdefghij" * 3, 20)
    'abcdefgh ... efghij'
    """
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 6]} ... {text[-end:]}"


class UserError(Exception):
    """Something the user can mend; the command line prints it as one line and exits with 2."""

    def __str__(self) -> str:
        """Return the message; names in it may come from files that others have made."""
        return shown(shortened(ADDRESS.sub("", super().__str__()), MOST_LINE))


class IncompleteRecordingError(UserError):
    """A recording lacks shards that the asked-for work needs."""
