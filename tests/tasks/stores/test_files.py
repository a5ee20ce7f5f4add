"""Files whole or absent, and the temporary ones of the living and the dead."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.stores.files import (
    ABANDONED_SECONDS,
    replacing,
    sweep_partial_files,
    temporary_name,
    write_bytes,
)


def dead_process():
    """Return the id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def made(folder, name, *, age=0):
    path = folder / name
    path.write_bytes(b"half")
    os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
    return path


def test_sweep__spares_what_somebody_may_still_write(tmp_path):
    own = temporary_name("a")
    other_machine = re.sub(r"\.[0-9a-f]{6}-", ".zzzzzz-".replace("z", "0"), own)
    assert other_machine != own
    kept = [made(tmp_path, own), made(tmp_path, other_machine), made(tmp_path, "a.parquet")]
    gone = [
        made(tmp_path, own.replace(f"-{os.getpid()}-", f"-{dead_process()}-")),
        made(tmp_path, other_machine.replace("-", "-9", 1), age=ABANDONED_SECONDS + 60),
        made(tmp_path, ".old-style.0a1b2c3d.partial"),
        made(tmp_path, "0.0123456789abcdef.partial"),
    ]
    assert sweep_partial_files(tmp_path) == len(gone)
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert sweep_partial_files(tmp_path) == 0


def test_sweep__of_a_folder_that_is_not_there(tmp_path):
    assert sweep_partial_files(tmp_path / "none") == 0


def replace_it(path):
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")


@pytest.mark.parametrize("write", [lambda path: write_bytes(path, b"new"), replace_it])
def test_write__that_fails_leaves_what_was_there(tmp_path, monkeypatch, write):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=f"cannot write {path}: No space left on device"):
        write(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
