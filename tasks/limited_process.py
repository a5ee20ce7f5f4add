"""Work in a process of its own, which the system ends where it takes too long or too much memory.

For what others wrote and only looks harmless: a query in SQL can ask for more than any check of its
text would tell, and much of that runs in C, where nothing in the same process could stop it.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUERY_SECONDS = 300.0
"""How long a query may take where nothing else is asked for."""

MOST_SECONDS = 1e7
"""The most that can be asked for."""

ADDRESS_BYTES = 4 * 2**30
"""Address space for libraries and threads, beside the memory for the work."""

MEMORY_SHARE = 0.5
"""Of the machine's or the container's memory, for the work."""

_MEMORY_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_PARENT_DEATH = 1  # prctl's PR_SET_PDEATHSIG

_ITEM, _END, _FAULT, _USER_FAULT = range(4)


def run_limited(
    function: Callable[..., Iterator[Any]], *arguments: Any, seconds: float, what: str, more: str
) -> Iterator[Any]:
    """Yield what a generator function yields in a process of its own.

    The process ends with the loop, with an exception in it, and with its parent. The time that the
    caller takes between two items does not count.

    Parameters
    ----------
    function
        A generator function of a module.
    *arguments
        Its arguments; they and what it yields are pickled.
    seconds
        How long it may take.
    what
        What runs, for messages.
    more
        How to allow more time, for messages.

    Raises
    ------
    UserError
        As the function does, or if it takes longer, or more memory than there is.
    RuntimeError
        If the function raises anything else.
    """
    if not 0 < seconds <= MOST_SECONDS:
        raise UserError(
            f"expected a time limit above 0 and at most {MOST_SECONDS:,.0f} s, got {seconds:g}"
        )
    command = [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"]
    environment = {**os.environ, "PYTHONPATH": _python_path()}
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
    ) as process:
        try:
            with suppress(BrokenPipeError), cast("IO[bytes]", process.stdin) as stream:
                pickle.dump((function, arguments, seconds), stream)
            yield from _items(cast("IO[bytes]", process.stdout))
        except EOFError as error:
            raise _ended(process.wait(), seconds, what, more) from error
        finally:
            process.kill()


def _python_path() -> str:
    """Return the path on which the process finds this package, wherever this one found it."""
    known = os.environ.get("PYTHONPATH", "")
    here = str(Path(__file__).parents[2])
    return f"{known}{os.pathsep}{here}" if known else here


def _items(stream: IO[bytes]) -> Iterator[Any]:
    while True:
        try:
            kind, content = pickle.load(stream)  # noqa: S301 - of our own process
        except pickle.UnpicklingError as error:  # cut off
            raise EOFError from error
        if kind == _END:
            return
        if kind == _USER_FAULT:
            raise UserError(content)
        if kind == _FAULT:
            raise RuntimeError(content)
        yield content


def _ended(code: int, seconds: float, what: str, more: str) -> BaseException:
    """Return what an end of the process before its work's end means."""
    if code == -signal.SIGALRM:
        return UserError(f"{what} did not end within {seconds:g} s; {more}")
    if code == -signal.SIGINT:
        return KeyboardInterrupt()
    if code >= 0:
        return RuntimeError(f"the process of {what} ended with exit code {code}")
    return UserError(
        f"{what} was ended by the system ({signal.Signals(-code).name}), most likely for more than the "
        f"{memory_bytes() / 2**30:.1f} GiB of memory that it may take; ask for less at once"
    )


def memory_bytes() -> int:
    """Return how much memory the work of such a process may take."""
    amounts = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for file in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):
            amounts.append(int(Path(file).read_text("ascii")))
    return int(MEMORY_SHARE * min(amounts))


def serve() -> None:
    """Do the work that the standard input describes, and write what it yields to the output."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Nothing but items may get into the output.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with suppress(OSError, AttributeError):  # not on macOS, where the time limit has to do
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)
    try:
        function, arguments, seconds = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our parent
        _limit()
        for item in _timed(_packed(function, arguments), seconds):
            _send(output, item)
        _send(output, pickle.dumps((_END, None)))
    except BrokenPipeError:
        os._exit(0)
    except UserError as error:
        _send(output, pickle.dumps((_USER_FAULT, error.args[0])))
    except MemoryError:
        needed = f"more than {memory_bytes() / 2**30:.1f} GiB of memory are needed"
        _send(output, pickle.dumps((_USER_FAULT, f"{needed}: ask for less at once")))
    except Exception as error:  # noqa: BLE001 - told to the parent
        _send(output, pickle.dumps((_FAULT, f"{type(error).__name__}: {error}")))
    os._exit(0)  # without waiting for threads that are still at work


def _limit() -> None:
    """Take no more memory than is allowed, and write no file."""
    for kind, most in (
        (resource.RLIMIT_AS, memory_bytes() + ADDRESS_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(OSError, ValueError):  # where the system knows no such limit
            _, highest = resource.getrlimit(kind)
            lowered = most if highest == resource.RLIM_INFINITY else min(most, highest)
            resource.setrlimit(kind, (lowered, lowered))


def _packed(function: Callable[..., Iterator[Any]], arguments: tuple[Any, ...]) -> Iterator[bytes]:
    for item in function(*arguments):
        yield pickle.dumps((_ITEM, item), protocol=pickle.HIGHEST_PROTOCOL)


def _timed(items: Iterator[Any], seconds: float) -> Iterator[Any]:
    """Yield the items; the system ends this process where they take longer than that together."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    left = seconds
    while True:
        signal.setitimer(signal.ITIMER_REAL, left)
        try:
            item = next(items)
        except StopIteration:
            return
        finally:
            left = max(signal.setitimer(signal.ITIMER_REAL, 0)[0], 1e-3)
        yield item


def _send(output: BinaryIO, message: bytes) -> None:
    output.write(message)
    output.flush()
