"""A file counts once it no longer grows, and once only."""

from __future__ import annotations

import os

import pytest

from activarium.tasks.series.folder_watch import FolderWatch


@pytest.fixture
def watch():
    return FolderWatch()


def test_has_news__needs_two_looks_that_see_the_same(watch, tmp_path):
    (tmp_path / "step-1.pt").write_bytes(b"weights")
    assert [watch.has_news(tmp_path.iterdir()) for _ in range(4)] == [False, True, False, False]


def test_has_news__file_that_grows_is_waited_for(watch, tmp_path):
    path = tmp_path / "step-1.pt"
    for size in (1, 2, 3):
        path.write_bytes(b"x" * size)
        assert not watch.has_news([path])
    assert watch.has_news([path])


def test_has_news__changed_file_is_news_again_and_a_deleted_one_is_not(watch, tmp_path):
    one, two = tmp_path / "step-1.pt", tmp_path / "step-2.pt"
    one.write_bytes(b"x")
    two.write_bytes(b"y")
    assert [watch.has_news([one, two]) for _ in range(2)] == [False, True]
    os.utime(one, ns=(1, 1))
    assert [watch.has_news([one, two]) for _ in range(3)] == [False, True, False]
    two.unlink()
    # Listed before it was deleted.
    assert [watch.has_news([one, two]) for _ in range(3)] == [False, False, False]


def test_has_news__nothing_there_is_no_news(watch):
    assert [watch.has_news([]) for _ in range(3)] == [False, False, False]
