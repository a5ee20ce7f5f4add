"""Tells in one line what the system refused: a file, memory, threads; and what foreign code raised."""

from __future__ import annotations

import errno
import os
import re

from activarium.schemas.errors import UserError, shortened
from activarium.schemas.settings import MOST_THREADS

ADVICE = {
    errno.ENOSPC: "free some room, or use another --root",
    errno.EDQUOT: "free some room, or use another --root",
    errno.EACCES: "change its permissions, or use another --root",
    errno.EPERM: "change its permissions, or use another --root",
    errno.EROFS: "use a --root that can be written",
    errno.ENAMETOOLONG: "use shorter names",
    errno.ENOTDIR: "a file lies where a folder is expected: move it away",
    errno.EEXIST: "a file lies where a folder is expected: move it away",
    errno.EISDIR: "a folder lies where a file is expected: move it away",
    errno.ENOTEMPTY: "another program writes there: run the same command again",
    errno.ENOENT: "was it moved or deleted meanwhile? run the same command again",
    errno.EMFILE: "too many files are open: raise `ulimit -n`",
    errno.ELOOP: "a link leads to itself: delete it",
    errno.EIO: "look at the disk",
    errno.ENOMEM: "free some memory",
    errno.EAGAIN: "the system gives no more threads or processes: free some, or use fewer",
}
"""What to do, by the system's number of the error."""

NO_MEMORY = re.compile(
    r"out of memory|(can't|cannot|unable to) allocate|not enough memory|bad_alloc", re.IGNORECASE
)
NO_THREADS = re.compile(r"can't start new thread|Resource temporarily unavailable", re.IGNORECASE)


THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "DASK_NUM_WORKERS",
)
"""Variables of the environment by which libraries start threads."""


def check_environment() -> None:
    """Refuse numbers of threads at which libraries end the process without a word.

    Raises
    ------
    UserError
        If one is too large.
    """
    for name in THREADS:
        value = os.environ.get(name, "").partition(",")[0].strip()
        if value.isdecimal() and (len(value) > 9 or int(value) > MOST_THREADS):
            raise UserError(
                f"{name} in the environment: expected at most {MOST_THREADS:,}, got {shortened(value)}"
            )


def explain_error(error: BaseException) -> str | None:
    """Return one line for what the system or foreign code did; None for a fault of this program."""
    if isinstance(error, SystemExit):
        return (
            f"code that was loaded ended the program with {shortened(repr(error.code))}: entry points "
            "return or raise"
        )
    if not isinstance(error, Exception):  # ours are all of that kind
        return (
            f"code that was loaded raised {type(error).__name__}: {shortened(_text(error), 1_000)}"
        )
    if isinstance(error, MemoryError) or NO_MEMORY.search(_text(error)):
        return (
            f"out of memory ({shortened(_text(error), 200) or 'nothing is free'}): free some, or use "
            "smaller sizes, batches or fewer processes; nothing that was stored is lost"
        )
    if isinstance(error, OSError) and error.errno is not None:
        return _told(error)
    if isinstance(error, RuntimeError) and NO_THREADS.search(_text(error)):
        return f"{_text(error)}: {ADVICE[errno.EAGAIN]}"
    return None


def _told(error: OSError) -> str:
    names = [each for each in (error.filename, error.filename2) if each is not None]
    where = " to ".join(shortened(str(each), 300) for each in names)
    what = error.strerror or _text(error) or type(error).__name__
    advice = ADVICE.get(error.errno or 0)
    line = f"{where}: {what[:1].lower()}{what[1:]}" if where else f"{what}"
    line += "" if advice is None else f": {advice}"
    return f"{line}; nothing that was stored is lost"


def _text(error: BaseException) -> str:
    return " ".join(str(error).split())


def unexpected(error: BaseException) -> str:
    """Return one line for a fault of this program."""
    text = shortened(_text(error), 1_000)
    named = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return (
        f"this should not have happened ({named}): nothing that was stored is lost; --verbose tells "
        "where it came from"
    )
