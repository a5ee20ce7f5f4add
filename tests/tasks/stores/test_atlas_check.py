"""A folder that cannot be used is said before any work."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.stores.atlas_check import check_atlas


def fails(root, message, *, needed=1):
    with pytest.raises(UserError, match=message) as caught:
        check_atlas(root, needed=needed)
    assert "\n" not in str(caught.value)


def test_check__makes_the_folder_and_leaves_it_empty(tmp_path):
    root = tmp_path / "a" / "b"
    check_atlas(root, needed=1)
    check_atlas(root, needed=1)
    assert list(root.iterdir()) == []


def test_check__file_in_the_way_is_named(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    fails(file, "cannot make the atlas folder .*file: .*is a file; use another --root")
    fails(file / "x", "is a file; use another --root")
    fails(Path("/dev/null/x"), "/dev/null/x")


def test_check__too_little_space_tells_both_sizes(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=3 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    check_atlas(tmp_path, needed=3 * 2**20)
    fails(tmp_path, "200 MiB are needed at .*, 3 MiB are free: free some", needed=200 * 2**20)


def test_check__folder_that_takes_no_file_says_why(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    fails(tmp_path, "cannot write to the atlas folder .*Read-only file system; use another --root")
