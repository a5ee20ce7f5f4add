"""A finished recording, opened for reading: its layers, labels and columns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import zarr

from activarium.schemas.atlas import SELECTION_MARK, recording_of
from activarium.schemas.errors import IncompleteRecordingError, UserError
from activarium.schemas.layers import Layer
from activarium.tasks.stores.missing_objects import check_objects, missing_shards
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording_store import read_attributes, read_receipts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.receipts import ShardReceipt
    from activarium.tasks.stores.places import Place


DRAWS_NAME = re.compile(r"-untrained-[0-9]+-draws-")
"""In the id of a recording of draws."""


@dataclass(frozen=True)
class Recording:
    """One recording; everything is read when it is asked for."""

    place: Place

    @property
    def name(self) -> str:
        """The recording's id."""
        return self.place.name.removesuffix(".zarr")

    @cached_property
    def attributes(self) -> dict[str, Any]:
        """Fingerprint, provenance and settings."""
        return read_attributes(self.place)

    @cached_property
    def group(self) -> zarr.Group:
        """The Zarr group, read-only."""
        return zarr.open_group(self.place.zarr_store(read_only=True), mode="r")

    @property
    def fingerprint(self) -> str:
        """The sha256 of everything the recording depends on."""
        return str(self.attributes["fingerprint"])

    @property
    def identity(self) -> str:
        """What the numbers that are read of it depend on."""
        return self.fingerprint

    @property
    def draws(self) -> int:
        """Untrained networks whose rows follow each other; 0 in a recording of one network."""
        return int(self.attributes.get("draws", 0))

    @property
    def images_per_draw(self) -> int:
        """Images that each draw answers to: row `draw * images_per_draw + i` is image i under it."""
        return self.images // max(self.draws, 1)

    def has(self, array: str) -> bool:
        """Return whether the recording holds the array."""
        return array in self.group

    def read(self, array: str) -> NDArray[Any]:
        """Return a whole array."""
        return self._checked(array, (slice(None),))

    def read_stored(self, array: str) -> NDArray[Any]:
        """Return an array by image, with its fill value where the image's shard is not there."""
        stored = self.stored_rows
        if stored.all():
            return self.read(array)
        placed = cast("zarr.Array[Any]", self.group[array])
        found = np.full(placed.shape, placed.fill_value, placed.dtype)
        edges = np.flatnonzero(np.diff(stored, prepend=False, append=False))
        for start, stop in edges.reshape(-1, 2):
            found[start:stop] = self._checked(array, (slice(start, stop),))
        return found

    def columns(self, array: str, start: int, stop: int) -> NDArray[Any]:
        """Return the columns from start to stop of an (image, column) array."""
        return self._checked(array, (slice(None), slice(start, stop)))

    def block(self, array: str, rows: slice, columns: slice) -> NDArray[Any]:
        """Return some rows and columns of an (image, column) array."""
        return self._checked(array, (rows, columns))

    def chunk_rows(self, array: str) -> int:
        """Return the images of one chunk of an array."""
        return int(cast("zarr.Array[Any]", self.group[array]).chunks[0])

    def shape(self, array: str) -> tuple[int, ...]:
        """Return the shape of an array."""
        return cast("zarr.Array[Any]", self.group[array]).shape

    def _checked(self, array: str, selection: tuple[slice, ...]) -> NDArray[Any]:
        try:
            return np.asarray(cast("zarr.Array[Any]", self.group[array])[selection])
        except KeyError as error:
            raise UserError(f"recording {self.name} has no array {array!r}") from error
        except (ValueError, OSError) as error:
            raise UserError(
                f"{self.place}/{array} cannot be read ({error}): `activarium verify` names the "
                "damaged shard, `activarium record --repair` makes it again"
            ) from error

    def text(self, array: str) -> list[str]:
        """Return an array of strings as a list."""
        return [str(value) for value in self.read(array)]

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Class names in the order of the codes."""
        return tuple(self.text("class"))

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Class code per image; -1 where there is none."""
        return self.read("label").astype(np.int32)

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Whether each image could be decoded; false where its shard is not there."""
        return self.read_stored("valid").astype(bool)

    @cached_property
    def taken(self) -> NDArray[np.bool_]:
        """Which images are looked at, decoded or not: all, but of a selection."""
        return np.ones(self.images, bool)

    @cached_property
    def receipts(self) -> tuple[ShardReceipt, ...]:
        """Receipts of the shards that are there: only these count, whatever the status says."""
        found = read_receipts(self.place)
        return tuple(each for each in found if each.fingerprint == self.fingerprint)

    @property
    def images(self) -> int:
        """Number of images, stored or not."""
        return int(cast("zarr.Array[Any]", self.group["label"]).shape[0])

    @cached_property
    def stored_rows(self) -> NDArray[np.bool_]:
        """Whether each image's shard is there, shape (image,)."""
        stored = np.zeros(self.images, bool)
        for receipt in self.receipts:
            stored[receipt.start : receipt.stop] = True
        return stored

    @cached_property
    def image_names(self) -> list[str]:
        """Stable id per image."""
        return self.text("image")

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The recorded layers in order."""
        columns = [
            self.text("layer"),
            self.text("layer_kind"),
            self.read("layer_depth").tolist(),
            self.read("layer_size").tolist(),
            self.read("layer_height").tolist(),
            self.read("layer_width").tolist(),
            self.text("layer_activation"),
        ]
        return tuple(Layer(*row) for row in zip(*columns, strict=True))

    @cached_property
    def layer_slices(self) -> dict[str, slice]:
        """Columns of each layer's units."""
        stops = np.cumsum([layer.units for layer in self.layers]).tolist()
        starts = [0, *stops[:-1]]
        pairs = zip(self.layers, starts, stops, strict=True)
        return {layer.name: slice(start, stop) for layer, start, stop in pairs}

    @property
    def units(self) -> int:
        """Number of units of all layers."""
        return sum(layer.units for layer in self.layers)


def open_analysed(atlas: Atlas, name: str) -> Recording:
    """Return a recording whose tables are shown: as `open_recording`, or one that is unfinished.

    Of an unfinished one there are tables only where `analyse --partial` was asked for.

    Raises
    ------
    UserError
        As `open_recording`, also where a complete recording lacks shards.
    """
    try:
        return open_recording(atlas, name)
    except IncompleteRecordingError:
        unfinished = open_recording(atlas, name, partial=True)
        if unfinished.attributes.get("status") == "complete":
            raise
        return unfinished


def open_recording(
    atlas: Atlas, name: str, *, partial: bool = False, draws: bool = False
) -> Recording:
    """Return a recording by its id, or by the beginning of it where that is enough.

    Parameters
    ----------
    atlas
        Where recordings lie.
    name
        The id, or its beginning.
    partial
        Take one that lacks shards too.
    draws
        Take one of draws too, and rather where a beginning fits both; others refuse it.

    Raises
    ------
    UserError
        If there is none, or more than one, an object is missing or cut off, or it is one of draws.
    IncompleteRecordingError
        If it is not complete, or lacks receipts; the message names the shards that are missing.
    """
    if SELECTION_MARK in name:
        raise UserError(
            f"expected a recording, got the selection {name}, of which there are only tables; give "
            f"{recording_of(name)}"
        )
    names = recording_names(atlas)
    begins = [each for each in names if each.startswith(name)]
    # A beginning that fits a recording of one network and one of draws means what can be taken.
    preferred = [each for each in begins if (DRAWS_NAME.search(each) is not None) == draws]
    matches = [each for each in names if each == name] or preferred or begins
    if len(matches) != 1:
        what = f"{len(matches)} recordings begin" if matches else "no recording begins"
        shown = ", ".join((matches or names)[:5]) or "none"
        raise UserError(f"{what} with {name!r} in {atlas.recordings}; there are: {shown}")
    recording = Recording(place_at(atlas.recording(matches[0])))
    if recording.draws and not draws:
        raise UserError(
            f"recording {recording.name} holds {recording.draws} untrained networks over a sample "
            "of images, with which others are compared: expected a recording of one network; give "
            f"this one as `activarium analyse RECORDING --control {recording.name}`"
        )
    is_complete = recording.attributes.get("status") == "complete"
    missing = missing_shards(recording.place, recording.receipts)
    if (missing or not is_complete) and not partial:
        again = "`activarium record --repair`" if is_complete else "`activarium record`"
        raise IncompleteRecordingError(
            f"recording {matches[0]} is not complete ({missing or 'all shards are there'}): run "
            f"{again} with its configuration again, it makes what has no receipt; `activarium "
            "analyse --partial` takes what is there"
        )
    check_objects(recording.place, recording.receipts, is_complete=is_complete)
    return recording
