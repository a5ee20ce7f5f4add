"""A folder as a place: files by key, whole or absent."""

from __future__ import annotations

import os
import pickle
import threading

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.stores.files import temporary_name
from activarium.tasks.stores.folder import Folder


@pytest.fixture
def place(tmp_path):
    return Folder(tmp_path / "a.zarr")


def test_place__objects_come_and_go(place):
    assert (place.sizes(), place.names(), place.size("a/b")) == ({}, [], None)
    for key in ("a/b", "a", "a/b/c"):
        with pytest.raises(FileNotFoundError):
            place.read(key)
    place.write("a/b", b"123")
    place.write("a/b", memoryview(b"1234"))
    place.write("a/bc/d", b"", settle=False)
    place.write("e", b"1", settle=False)
    place.settle(["a/bc/d", "e"])
    assert place.read("a/b") == b"1234"
    assert place.sizes() == {"a/b": 4, "a/bc/d": 0, "e": 1}
    assert place.keys("a/b") == ["a/b", "a/bc/d"]
    assert place.names() == ["a", "e"]
    assert place.child("a").names() == ["b", "bc"]
    with pytest.raises(FileNotFoundError):
        place.read("a")
    place.delete("e")
    place.delete("e")
    assert place.keys() == ["a/b", "a/bc/d"]
    place.delete_all()
    assert place.keys() == []


def test_place__what_is_still_written_is_not_there(place):
    place.write("a/b", b"1")
    (place.path / temporary_name("c")).write_bytes(b"half")
    (place.path / "a" / temporary_name("b")).write_bytes(b"half")
    (place.path / "a" / "0.0123456789abcdef.partial").write_bytes(b"half")
    assert place.keys() == ["a/b"]
    assert place.names() == ["a"]


def test_create__exactly_one_of_many_is_first(place):
    contents = [f"{number}".encode() for number in range(16)]
    won = []
    threads = [
        threading.Thread(target=lambda c=content: place.create("a", c) and won.append(c))
        for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = won
    assert place.read("a") == winner
    assert os.listdir(place.path) == ["a"]  # noqa: PTH208 - hidden files too


def test_create_all__the_second_leaves_the_first(place):
    objects = {"a/b": b"1", "z": b"2"}
    assert place.create_all(objects, first="a/b", last="z")
    assert not place.create_all({"a/b": b"3", "z": b"4"}, first="a/b", last="z")
    assert {key: place.read(key) for key in place.sizes()} == objects
    assert os.listdir(place.path.parent) == ["a.zarr"]  # noqa: PTH208


def test_create_all__an_empty_folder_is_no_store(place):
    place.path.mkdir()
    assert place.create_all({"z": b"2"}, first="z", last="z")
    assert place.keys() == ["z"]


def test_write__where_a_file_is_in_the_way_is_one_line(place):
    place.write("a", b"1")
    with pytest.raises(UserError, match=r"cannot write .*a/b: ") as caught:
        place.write("a/b", b"1")
    assert "\n" not in str(caught.value)
    assert place.keys() == ["a"]


def test_place__is_found_from_other_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = Folder((tmp_path / "a.zarr").relative_to(tmp_path))
    assert (str(place), str(place.absolute())) == ("a.zarr", str(tmp_path / "a.zarr"))
    assert pickle.loads(pickle.dumps(place)) == place  # noqa: S301 - our own bytes


def test_free_bytes__of_a_folder_that_is_not_there_yet(place):
    assert place.free_bytes() > 0
