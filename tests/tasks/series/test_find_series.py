"""Series are found among the recordings of an atlas, in order of their steps."""

from __future__ import annotations

from pathlib import Path

import pytest

from activarium.schemas.errors import UserError
from activarium.tasks.series.find_series import find_series, step_of


@pytest.fixture
def series(atlas, make_raw, write_recording):
    """Two series and a recording that belongs to none, written in no order."""
    for name, step in (("slow", 20), ("slow", 0), ("fast", 100), ("slow", 100)):
        write_recording(atlas, make_raw(), f"{name}-{step}", series=name, step=step)
    write_recording(atlas, make_raw(), "alone")
    return atlas


@pytest.mark.parametrize("name", ["slow", "sl", "s*w"])
def test_find_series__by_name_beginning_or_glob_in_order_of_steps(series, name):
    found = find_series(series, [name])
    assert [(each, [step_of(one) for one in members]) for each, members in found.items()] == [
        ("slow", [0, 20, 100])
    ]


def test_find_series__several_are_kept_apart(series):
    assert {name: len(members) for name, members in find_series(series, ["*"]).items()} == {
        "fast": 1,
        "slow": 3,
    }


def test_find_series__unknown_name_is_an_error_that_names_those_there_are(series):
    with pytest.raises(UserError, match=r"series 'quick': expected one of fast, slow"):
        find_series(series, ["quick"])


def test_find_series__two_recordings_of_one_step_are_refused(series, make_raw, write_recording):
    write_recording(series, make_raw(), "again", series="slow", step=20)
    with pytest.raises(UserError, match=r"series slow: again and slow-20 are both step 20"):
        find_series(series, ["slow"])


def test_find_series__recording_that_lacks_an_object_is_refused(series):
    (folder,) = Path(series.recordings).glob("slow-20.zarr")
    next((folder / "label" / "c").iterdir()).unlink()
    with pytest.raises(UserError, match=r"slow-20.*label/c/.* is missing"):
        find_series(series, ["slow"])
