"""Damaged table files are told before they are read."""

from __future__ import annotations

import json
import os

import pytest

from activarium.schemas.atlas import Atlas
from activarium.schemas.tables import DENSITIES
from activarium.tasks.stores import readable_files as module
from activarium.tasks.stores.checksum_files import checksum_file
from activarium.tasks.stores.readable_files import readable_files
from activarium.tasks.stores.table_writing import write_columns


@pytest.fixture
def atlas(tmp_path):
    return Atlas(tmp_path)


@pytest.fixture
def file(atlas):
    """A table of some pages."""
    path = atlas.table_file(DENSITIES, "x")
    rows = 5_000
    columns = {
        each.name: (["a"] if each.type == "string" else [1]) * rows for each in DENSITIES.columns
    }
    write_columns(path, DENSITIES, columns, inputs="i")
    return path


def problem(atlas, *files):
    readable, damaged = readable_files(atlas, files)
    assert len(readable) + len(damaged) == len(files)
    return damaged[0].problem if damaged else ""


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def test_sound_file__is_readable(atlas, file):
    readable, damaged = readable_files(atlas, [file])
    assert [each.path for each in readable] == [file]
    assert not damaged
    assert not atlas.work.exists()


def test_flipped_byte__anywhere_is_found(atlas, file):
    whole = file.read_bytes()
    for place in range(0, len(whole), len(whole) // 60):
        flip(file, place)
        assert problem(atlas, file) == "its content differs from its sha256", place
        file.write_bytes(whole)
    assert not problem(atlas, file)


@pytest.mark.parametrize("size", [0, 3, 100, -1])
def test_cut_file__is_found_with_a_checksum_and_without(atlas, file, size):
    file.write_bytes(file.read_bytes()[:size])
    assert "sha256" in problem(atlas, file)
    checksum_file(file).unlink()
    assert problem(atlas, file)


def test_missing_or_damaged_checksum__pages_are_checked_instead(atlas, file):
    for content in (b"", b"nonsense", bytes(66)):
        checksum_file(file).write_bytes(content)
        assert not problem(atlas, file)
    checksum_file(file).unlink()
    assert not problem(atlas, file)
    flip(file, 40)
    assert problem(atlas, file)


def test_missing_file__is_told(atlas, file):
    file.unlink()
    assert problem(atlas, file) == "it cannot be read (No such file or directory)"


def test_large_file__is_remembered_until_it_changes(atlas, file, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 1)
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1.0)
    read = []
    sha256 = module.sha256_file
    monkeypatch.setattr(module, "sha256_file", lambda path: read.append(path) or sha256(path))
    assert not problem(atlas, file)
    assert not problem(atlas, file)
    assert read == [file]
    # The time of the last change that users see can be set back, the one that the system keeps cannot.
    status = file.stat()
    flip(file, 40)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert "sha256" in problem(atlas, file)
    assert len(read) == 2


@pytest.mark.parametrize("content", [b"", b"[]", b'{"tables": 3}', b"\xff\x00"])
def test_damaged_memory__is_made_anew(atlas, file, monkeypatch, content):
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 1)
    monkeypatch.setattr(module, "SETTLED_SECONDS", -1.0)
    atlas.work.mkdir()
    (atlas.work / "checked_tables.json").write_bytes(content)
    assert not problem(atlas, file)
    (known,) = json.loads((atlas.work / "checked_tables.json").read_bytes())
    assert atlas.root / known == file


def test_file_changed_just_now__is_not_remembered(atlas, file, monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED_BYTES", 1)
    monkeypatch.setattr(module, "SETTLED_SECONDS", 1e6)
    assert not problem(atlas, file)
    assert not atlas.work.exists()


def test_file_that_is_replaced_meanwhile__is_looked_at_again(atlas, file, monkeypatch):
    other = file.read_bytes()
    line = checksum_file(file).read_bytes()
    flip(file, 40)
    sha256 = module.sha256_file
    monkeypatch.setattr(module, "_PAUSE_SECONDS", 0.0)

    def replaced_first(path):
        found = sha256(path)
        file.write_bytes(other)
        checksum_file(file).write_bytes(line)
        return found

    monkeypatch.setattr(module, "sha256_file", replaced_first)
    monkeypatch.setattr(module, "TRIES", 5)
    readable, _ = readable_files(atlas, [file])
    assert [each.path for each in readable] == [file] or not readable
