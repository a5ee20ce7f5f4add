"""Work in a process of its own: what it yields, and how it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks import limited_process
from activarium.tasks.limited_process import run_limited

FOLDER = Path(__file__).parents[__name__.count(".")]
LIMITS = {"seconds": 30.0, "what": "the work", "more": "ask for more"}


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    """Let the processes find the functions of this file."""
    monkeypatch.setenv("PYTHONPATH", str(FOLDER))


def numbers(count):
    yield from range(count)


def process_id():
    yield os.getpid()
    time.sleep(60)


def endless():
    yield os.getpid()
    sum(range(10**12))  # within C, deaf to Python's own signals


def fails(error):
    yield 1
    raise error


def takes_memory():
    yield len(bytearray(2**45))


def writes(path):
    with Path(path).open("w", encoding="ascii") as file:
        file.write("x")
        file.flush()
    yield None


def dies():
    yield 1
    os.kill(os.getpid(), signal.SIGSEGV)


def prints():
    print("noise")  # noqa: T201 - as a library might
    yield "item"


def is_gone(process):
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_run__yields_what_the_function_yields():
    assert list(run_limited(numbers, 3, **LIMITS)) == [0, 1, 2]
    assert list(run_limited(prints, **LIMITS)) == ["item"]


def test_run__ends_what_takes_too_long_even_within_c():
    items = run_limited(endless, **{**LIMITS, "seconds": 0.5})
    process = next(items)
    with pytest.raises(UserError, match=r"the work did not end within 0\.5 s; ask for more"):
        next(items)
    assert is_gone(process)


def test_run__time_between_items_does_not_count():
    items = run_limited(numbers, 3, **{**LIMITS, "seconds": 0.5})
    first = next(items)
    time.sleep(1)
    assert [first, *items] == [0, 1, 2]


def test_run__errors_of_users_are_theirs_and_others_are_faults():
    for error, kind in ((UserError("no"), UserError), (KeyError("x"), RuntimeError)):
        items = run_limited(fails, error, **LIMITS)
        assert next(items) == 1
        with pytest.raises(kind, match=r"no|KeyError: 'x'"):
            next(items)


def test_run__memory_is_limited():
    with pytest.raises(UserError, match="GiB of memory"):
        list(run_limited(takes_memory, **LIMITS))


def test_run__writes_no_file(tmp_path):
    with pytest.raises(RuntimeError, match="File too large"):
        list(run_limited(writes, str(tmp_path / "x"), **LIMITS))
    assert not (tmp_path / "x").read_bytes()


def test_run__death_is_one_line():
    with pytest.raises(UserError, match=r"the work was ended by the system \(SIGSEGV\)") as caught:
        list(run_limited(dies, **LIMITS))
    assert "\n" not in str(caught.value)


def test_run__process_ends_with_the_loop():
    items = run_limited(process_id, **LIMITS)
    process = next(items)
    items.close()
    assert is_gone(process)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent")
def test_run__process_ends_with_a_killed_parent():
    code = (
        f"from {__name__} import LIMITS, endless, run_limited\n"
        "for each in run_limited(endless, **LIMITS): print(each, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE) as parent:
        process = int(parent.stdout.readline())
        parent.kill()
    assert is_gone(process)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e300])
def test_run__odd_limits_are_refused(seconds):
    with pytest.raises(UserError, match="expected a time limit above 0"):
        next(run_limited(numbers, 1, **{**LIMITS, "seconds": seconds}))


def test_memory__is_a_share_of_what_the_container_has(tmp_path, monkeypatch):
    whole = limited_process.memory_bytes()
    (tmp_path / "memory.max").write_text("1000000\n", encoding="ascii")
    monkeypatch.setattr(limited_process, "_MEMORY_LIMITS", (tmp_path / "memory.max",))
    assert limited_process.memory_bytes() == 500_000 < whole
    (tmp_path / "memory.max").write_text("max\n", encoding="ascii")
    assert limited_process.memory_bytes() >= whole
