"""Places: objects by key, whole or absent."""

from __future__ import annotations

from pathlib import Path

from activarium.schemas.atlas import Atlas
from activarium.tasks.stores.places import recording_names


def test_recording_names__are_those_of_the_stores_sorted(tmp_path):
    atlas = Atlas(tmp_path)
    assert recording_names(atlas) == []
    for name in ("b.zarr", "a.x.zarr", ".half-made.zarr.12345678.partial"):
        (Path(atlas.recordings) / name).mkdir(parents=True)
    (Path(atlas.recordings) / "notes.txt").touch()
    assert recording_names(atlas) == ["a.x", "b"]
