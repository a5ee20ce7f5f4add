"""Untrained networks, over the images of an analysis: what a trained one is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.atlas import recording_of
from activarium.schemas.errors import UserError
from activarium.schemas.layout import drawn_image
from activarium.tasks.statistics.comparable_classes import comparable_classes
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.selected import Selected

IMAGES = "control.npz"
"""File in the work folder that says which images the networks are compared over."""


@dataclass(frozen=True)
class SharedImages:
    """Labelled images that the recording and all untrained networks answer to, in order of class."""

    own: NDArray[np.int64]
    """Row of each in the recording, shape (image,)."""
    drawn: NDArray[np.int64]
    """Row of each under each network in the control, shape (draw, image)."""
    code: NDArray[np.int64]
    """Class of each, ascending, shape (image,)."""
    place: NDArray[np.int64]
    """Place of each among them by id, shape (image,)."""

    def save(self, path: Path) -> None:
        """Write them to a file."""
        with replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, own=self.own, drawn=self.drawn, code=self.code, place=self.place)


def load_shared(path: Path) -> SharedImages:
    """Return the images that a file holds."""
    with np.load(path) as stored:
        return SharedImages(**{name: stored[name] for name in ("own", "drawn", "code", "place")})


def untrained_recording(config: AnalyseConfig) -> str | None:
    """Return the id of the recording of untrained networks among the controls; None without one.

    Raises
    ------
    UserError
        If there is more than one.
    """
    names = [each for each in config.controls if each != SHUFFLE]
    if len(names) > 1:
        raise UserError(f"controls: expected shuffle and one recording, got {', '.join(names)}")
    return recording_of(names[0]) if names else None


def shared_images(
    atlas: Atlas, control: str, recording: Recording, selected: Selected
) -> tuple[Recording, SharedImages | None, tuple[str, ...]]:
    """Return a control, the analysed images that it answers to as well, and what there is to say.

    Parameters
    ----------
    atlas
        Where the control lies.
    control
        Its id: of draws of untrained networks, or of a recording of one network.
    recording
        What is held against it.
    selected
        The images of it that are analysed.

    Returns
    -------
    No images where classes cannot be compared over those that both have.

    Raises
    ------
    UserError
        If the control is the recording itself, is not whole, or has other images or no layer in
        common.
    """
    if control == recording.name:
        raise UserError(
            f"control {recording.name} is the recording itself: give a recording of the untrained "
            "model"
        )
    other = Recording(place_at(atlas.recording(control)))
    _check_control(other, recording)
    draws = max(other.draws, 1)
    sample = other.images // draws
    names = [drawn_image(each)[1] if other.draws else each for each in other.image_names[:sample]]
    rows = np.flatnonzero((other.stored_rows & other.valid).reshape(draws, sample).all(axis=0))
    at = {names[row]: row for row in rows.tolist()}
    chosen, ids = selected.chosen, recording.image_names
    labelled = chosen.row[: chosen.labelled]
    found = np.array([at.get(ids[row], -1) for row in labelled], np.int64)
    kept = found >= 0
    if labelled.size and not kept.any():
        raise UserError(
            f"control {control} holds none of the {len(labelled):,} labelled images that are analysed "
            f"of {recording.name}: record the untrained model over the same test set"
        )
    code = chosen.code[kept]
    if not comparable_classes(np.bincount(code, minlength=len(chosen.class_names))).any():
        told = _too_few(control, int(kept.sum())) if chosen.is_comparable else ""
        return other, None, (told,) if told else ()
    drawn = found[kept] + sample * np.arange(draws)[:, None]
    place = np.argsort(np.argsort(chosen.place[kept]))
    return other, SharedImages(labelled[kept], drawn, code, place), ()


def _too_few(control: str, images: int) -> str:
    return (
        f"control {control} holds {images:,} of the analysed images, over which classes cannot be "
        "compared: nothing is said of untrained networks; record it over more images "
        "(untrained.images)"
    )


def _check_control(control: Recording, recording: Recording) -> None:
    key = "sampled_from_sha256" if control.draws else "images_sha256"
    if control.attributes.get(key) != recording.attributes["images_sha256"]:
        raise UserError(
            f"control {control.name} was recorded over other images or labels than {recording.name}: "
            "record the untrained model over the same test set"
        )
    if control.attributes["status"] != "complete":
        raise UserError(
            f"control {control.name} is not complete: finish it with `activarium record` first"
        )
    here, there = ([layer.name for layer in each.layers] for each in (recording, control))
    if not {*here} & {*there}:
        raise UserError(
            f"control {control.name} has no layer in common with {recording.name} (it has {there[0]}, "
            f"..., not {here[0]}, ...): give a recording of the same architecture"
        )
