"""What is said of a begun recording whose images have changed."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.images.labelled_images import TestSet
from activarium.tasks.recording.changed_images import describe_change

PLANNED = {
    "model": "resnet18",
    "checkpoint": "epoch-015",
    "weights_sha256": "w",
    "test_set": "photos",
    "split": "test",
    "images_sha256": "now",
}
BEGUN = {**PLANNED, "images_sha256": "before", "status": "recording"}


def said(begun_ids, ids, **changes):
    labels = np.zeros(len(ids), np.int32)
    test_set = TestSet("photos", "test", ("one",), tuple(ids), labels, "now", 3)
    return describe_change("photos-1", BEGUN | changes, begun_ids, PLANNED, test_set)


def test_change__names_what_is_new_and_what_is_gone():
    line = said(["a.png", "b.png", "c.png"], ["a.png", "c.png", "e.png", "d.png"])
    assert line is not None
    assert line.startswith(
        "photos-1 was begun with 3 images and is not finished; photos now has 4: "
        "2 new (first 'd.png'), 1 gone (first 'b.png')."
    )
    assert "\n" not in line


def test_change__of_content_alone_is_said():
    assert "the same names, other sizes, labels or content" in said(["a.png"], ["a.png"])


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "complete"},
        {"images_sha256": "now"},
        {"weights_sha256": "others"},
        {"split": "train"},
        {"test_set": "others"},
    ],
)
def test_change__of_something_else_is_not_said(changes):
    assert said(["a.png"], ["b.png"], **changes) is None
