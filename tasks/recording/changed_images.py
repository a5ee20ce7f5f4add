"""Tells when a begun recording was of other images than the ones that are there now."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from activarium.schemas.errors import UserError
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.recording_store import read_attributes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.images.labelled_images import TestSet
    from activarium.tasks.stores.places import Place

SAME = ("model", "checkpoint", "weights_sha256", "test_set", "split")
"""Attributes of a recording that agree where only the images have changed."""


def describe_change(
    name: str,
    begun: Mapping[str, Any],
    begun_ids: Iterable[str],
    planned: Mapping[str, Any],
    test_set: TestSet,
) -> str | None:
    """Return one line for the user where a begun recording waits for images that have changed.

    Parameters
    ----------
    name
        Name of the other recording.
    begun
        Its attributes.
    begun_ids
        Ids of its images.
    planned
        Attributes of the recording that is about to begin.
    test_set
        The images that are there now.

    Returns
    -------
    None where the other recording is complete, or is of something else than these images before
    they changed.
    """
    is_other = any(begun.get(key) != planned.get(key) for key in SAME)
    same_images = begun.get("images_sha256") == planned.get("images_sha256")
    if begun.get("status") == "complete" or is_other or same_images:
        return None
    before, now = set(begun_ids), set(test_set.ids)
    parts = [
        f"{len(images):,} {what} (first {min(images)!r})"
        for images, what in ((now - before, "new"), (before - now, "gone"))
        if images
    ]
    change = ", ".join(parts) or "the same names, other sizes, labels or content"
    return (
        f"{name} was begun with {len(before):,} images and is not finished; {test_set.name} now has "
        f"{len(now):,}: {change}. This is another recording and starts anew; put the images back to "
        "finish that one, or delete it"
    )


def changed_images(atlas: Atlas, planned: Mapping[str, Any], test_set: TestSet) -> Iterator[str]:
    """Tell of unfinished recordings of these images before they changed.

    Parameters
    ----------
    atlas
        Where the recordings lie.
    planned
        Attributes of the recording that is begun.
    test_set
        Its images.
    """
    for name in recording_names(atlas):
        place = place_at(atlas.recording(name))
        with suppress(UserError):  # a damaged recording is told of by `verify`
            attributes = read_attributes(place)
            if attributes["status"] != "complete":
                line = describe_change(name, attributes, _ids(place), planned, test_set)
                if line is not None:
                    yield line


def _ids(place: Place) -> Iterator[str]:
    yield from Recording(place).text("image")  # read only when it is asked for
