"""A folder that cannot be used is said before any work."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.tables import UNITS
from activarium.tasks.stores.atlas_check import check_atlas
from activarium.tasks.stores.files import temporary_name
from activarium.tasks.stores.set_replacing import replacing_set
from activarium.tasks.stores.table_sets import analysis_set


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


def test_check__litter_of_the_dead_is_swept_and_nothing_else(tmp_path):
    atlas = Atlas(tmp_path)
    own = temporary_name("x")
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    dead = own.replace(f"-{os.getpid()}-", f"-{done.pid}-")
    folders = [
        atlas.models / "net",
        atlas.maps / "recording=a",
        atlas.reports,
        atlas.checksums / "units" / "recording=a",
        atlas.sets / "recording=a",
        atlas.tables / "units" / "recording=a",
        atlas.work / "a-0123456789ab",
    ]
    kept = [
        atlas.models / "net" / "epoch-0001.safetensors",
        atlas.work / "a-0123456789ab" / "p.npy",
    ]
    kept += [folder / own for folder in folders]
    gone = [folder / dead for folder in folders]
    for file in (*kept, *gone):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"half")
    # A set that is staged, by one who died and by one who lives.
    for name, left in ((dead, gone), (own, kept)):
        file = atlas.staged / name / "00000.parquet"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"half")
        left.append(file)
    old = atlas.work / "similarity" / "a~b~-0123456789ab"
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    check_atlas(tmp_path, needed=1)
    assert [file for file in gone if file.exists()] == []
    assert [file for file in kept if not file.exists()] == []
    assert not old.exists()


def test_check__what_others_keep_in_folders_of_these_names_stays(tmp_path):
    # As with `--root .` in a project that has folders of models and of work.
    own = [
        tmp_path / "work" / "thesis" / "draft.tex",
        tmp_path / "work" / "similarity" / "notes" / "a.txt",
        tmp_path / "models" / "download.partial",
        tmp_path / "reports" / "sent.partial" / "a.html",
    ]
    for file in own:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("mine")
        for each in (file, *file.relative_to(tmp_path).parents):
            os.utime(tmp_path / each, (0, 0))
    check_atlas(tmp_path, needed=1)
    assert [file for file in own if not file.exists()] == []


def test_check__work_of_an_analysis_that_is_written_is_swept(tmp_path):
    atlas = Atlas(tmp_path)
    found, path = analysis_set(atlas, "a"), atlas.table_file(UNITS, "a")
    with replacing_set(found, inputs="0123456789abcdef", command="") as staged:
        staged.path(path).write_bytes(b"table")
    for inputs in ("0123456789ab", "ba9876543210"):
        (atlas.work / f"a-{inputs}").mkdir(parents=True)
    check_atlas(tmp_path, needed=1)
    # The other is of an analysis that a run can go on with.
    assert [folder.name for folder in atlas.work.iterdir()] == ["a-ba9876543210"]
