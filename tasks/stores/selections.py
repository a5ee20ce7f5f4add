"""Selections, of which there are only tables: found by their ids, and read as recordings are."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.atlas import SELECTION_MARK, recording_of
from activarium.schemas.errors import UserError
from activarium.schemas.tables import IMAGES, RECORDINGS
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.stores.parquet_files import inputs_of, read_table
from activarium.tasks.stores.recording import Recording, open_analysed, open_recording

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas

_SHOWN = 5


def selections_of(atlas: Atlas, recording: str) -> list[str]:
    """Return the ids of the analysed selections of a recording, sorted."""
    return _selections(atlas, f"{glob.escape(recording)}{SELECTION_MARK}*")


def _selections(atlas: Atlas, pattern: str) -> list[str]:
    folders = (atlas.tables / RECORDINGS.name).glob(f"recording={pattern}")
    return sorted(folder.name.removeprefix("recording=") for folder in folders)


def selection_name(atlas: Atlas, name: str) -> str:
    """Return the id of an analysed selection.

    Parameters
    ----------
    atlas
        Where its tables lie.
    name
        The id as `list` shows it, <recording>~<selection>, or the beginnings of both.

    Raises
    ------
    UserError
        If there is none, or more than one.
    """
    known = _selections(atlas, f"*{SELECTION_MARK}*")
    recording, _, ending = name.partition(SELECTION_MARK)
    pairs = [(*each.partition(SELECTION_MARK)[::2], each) for each in known]
    # What is named in full is meant, whatever else begins so.
    matches = (
        [each for each in known if each == name]
        or [each for one, other, each in pairs if one.startswith(recording) and other == ending]
        or [
            each
            for one, other, each in pairs
            if one.startswith(recording) and other.startswith(ending)
        ]
    )
    if len(matches) == 1:
        return matches[0]
    what = f"{len(matches)} selections are" if matches else "no analysed selection is"
    shown = ", ".join((matches or known)[:_SHOWN]) or "none"
    raise UserError(
        f"{what} called {name!r} in {atlas.tables}; there are: {shown}; `activarium analyse "
        "RECORDING --where ... --name NAME` makes RECORDING~NAME"
    )


def analysed_name(atlas: Atlas, name: str) -> str:
    """Return the id of tables: of a selection, or of a recording that may be unfinished.

    Raises
    ------
    UserError
        As `selection_name` and `open_analysed`.
    """
    if SELECTION_MARK not in name:
        return open_analysed(atlas, name).name
    found = selection_name(atlas, name)
    open_analysed(atlas, recording_of(found))
    return found


def open_compared(atlas: Atlas, name: str, *, draws: bool = False) -> Recording:
    """Return a complete recording, of draws where that is allowed, or an analysed selection of one.

    Raises
    ------
    UserError
        As `selection_name` and `open_recording`.
    """
    if SELECTION_MARK not in name:
        return open_recording(atlas, name, draws=draws)
    found = selection_name(atlas, name)
    place = open_recording(atlas, recording_of(found)).place
    ending = found.partition(SELECTION_MARK)[2]
    return Selection(place, ending, atlas.table_file(IMAGES, found))


@dataclass(frozen=True)
class Selection(Recording):
    """A recording of which only some images are looked at, perhaps in other classes."""

    ending: str
    """Name of the selection."""
    images_file: Path
    """The table `images` of its analysis."""

    @property
    def name(self) -> str:
        """The id of its tables."""
        return f"{super().name}{SELECTION_MARK}{self.ending}"

    @property
    def identity(self) -> str:
        """What its numbers depend on: the recording, and which images and classes were taken."""
        return fingerprint({"of": self.fingerprint, "images": inputs_of(self.images_file)})

    @cached_property
    def _rows(self) -> pa.Table:
        return read_table(self.images_file, ["image_index", "label", "class", "valid"])

    @cached_property
    def taken(self) -> NDArray[np.bool_]:
        """Which images take part, shape (image,)."""
        taken = np.zeros(self.images, bool)
        taken[self._rows["image_index"].to_numpy()] = self._rows["valid"].to_numpy()
        return taken

    @cached_property
    def valid(self) -> NDArray[np.bool_]:
        """Whether each image takes part and could be decoded."""
        decoded: NDArray[np.bool_] = self.read_stored("valid").astype(bool)
        return self.taken & decoded

    @cached_property
    def labels(self) -> NDArray[np.int32]:
        """Code of each image's class as it was analysed; -1 where there is none."""
        labels = np.full(self.images, -1, np.int32)
        labels[self._rows["image_index"].to_numpy()] = self._rows["label"].to_numpy()
        return labels

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes as they were analysed, in the order of the codes."""
        pairs = self._rows.group_by(["label", "class"]).aggregate([]).to_pylist()
        names = {each["label"]: each["class"] for each in pairs if each["label"] >= 0}
        own = dict(enumerate(self.text("class")))
        if names.items() <= own.items():  # not grouped; some of them may have no image here
            return tuple(own.values())
        return tuple(names.get(code, "") for code in range(max(names, default=-1) + 1))
