"""Which classes can be compared, and what is said where none can."""

from __future__ import annotations

import numpy as np
import pytest

from activarium.tasks.statistics.comparable_classes import (
    are_comparable,
    comparable_classes,
    has_lone_classes,
    why_not_compared,
)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        ([2, 2], [True, True]),
        ([2, 1, 0, 3], [True, False, False, True]),
        ([5, 1, 1], [False] * 3),
        ([1, 1], [False] * 2),
        ([9, 0], [False] * 2),
        ([0, 0], [False] * 2),
        ([], []),
    ],
)
def test_comparable_classes__are_two_of_two_images_at_least(count, expected):
    found = comparable_classes(np.array(count, np.int64))
    assert found.tolist() == expected
    label = np.repeat(np.arange(len(count)), count)
    assert are_comparable(np.append(label, -1)) == any(expected)
    names = {f"class {code}": images for code, images in enumerate(count)}
    assert (why_not_compared(names) == "") == any(expected)


@pytest.mark.parametrize(
    ("images", "said", "advised"),
    [
        ({}, "no image has a class", False),
        ({"ant": 0}, "no image has a class", False),
        ({"ant": 7, "bee": 0}, "all images with a class are of one, ant", False),
        ({"ant": 1, "bee": 1}, "1 image per class: classes cannot be tested", False),
        (dict.fromkeys("abcd", 1), "1 image per class: classes cannot be tested", True),
        ({"ant": 3, "bee": 1}, "only ant has two images or more", True),
    ],
)
def test_why_not_compared__groups_are_advised_where_they_help(images, said, advised):
    found = why_not_compared(images)
    assert found.startswith(said)
    assert ("--classes" in found) == advised


@pytest.mark.parametrize(
    ("label", "expected"),
    [([0, 0, 1, 1, -1], False), ([0, 0, 1], True), ([0, 0], True), ([-1, -1], False), ([], False)],
)
def test_has_lone_classes__of_one_image_or_alone(label, expected):
    assert has_lone_classes(np.array(label, np.int64)) == expected
