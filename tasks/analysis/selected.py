"""What an analysis looks at: the whole recording, or a selection of its images and classes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.schemas.atlas import LONGEST_ID, SELECTION_MARK
from activarium.schemas.errors import UserError
from activarium.schemas.tables import IMAGES
from activarium.tasks.analysis.chosen_images import arrange_images
from activarium.tasks.analysis.class_groups import class_groups
from activarium.tasks.analysis.image_answers import image_rows
from activarium.tasks.analysis.image_conditions import select_images
from activarium.tasks.analysis.names import named
from activarium.tasks.analysis.numeric_targets import NumericTarget, check_numbers, numeric_target
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.statistics.comparable_classes import why_not_compared
from activarium.tasks.stores.files import sha256_file
from activarium.tasks.stores.parquet_files import to_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.chosen_images import ChosenImages
    from activarium.tasks.stores.recording import Recording

_SHOWN = 5
"""Classes that a notice names."""
_COLUMNS = {column.name for column in IMAGES.columns}


@dataclass(frozen=True)
class Selected:
    """The images and classes of one analysis, and what its tables are called."""

    name: str
    """Id in the tables: the recording's, or <recording>~<selection>."""
    text: str | None
    """What was selected, as JSON; None for the whole recording."""
    chosen: ChosenImages
    images: dict[str, Any]
    """Rows of the table `images` of the images that take part or could not be decoded."""
    target: tuple[str, NDArray[np.float64]] | None = None
    """Name and values of a numeric target, by image of `chosen`."""
    notices: tuple[str, ...] = ()


def selection_text(config: AnalyseConfig) -> str | None:
    """Return what a configuration selects, as JSON with the sha256 of its files; None for all."""
    if not config.is_selection:
        return None
    asked = {} if config.where_of is None else {"where_of": config.where_of}
    return json.dumps(_said(config) | asked, sort_keys=True)


def _said(config: AnalyseConfig) -> dict[str, str]:
    """Return what is selected, but for whose answers are asked."""
    said: dict[str, str] = {}
    for key in ("where", "classes", "target"):
        value = getattr(config, key)
        if value is None:
            continue
        said[key] = value
        path = Path(value).expanduser()
        # A column of the images is one, whatever files lie around.
        names_a_file = key == "classes" or (key == "target" and value not in _COLUMNS)
        if names_a_file and path.is_file():
            said[key] = f"{path.name} (sha256 {sha256_file(path)[:16]})"
    return said


def table_name(recording: str, config: AnalyseConfig) -> str:
    """Return the id under which the tables of an analysis lie.

    Whose answers are asked is no part of it: a recording and its control have the same ending.
    """
    if not config.is_selection:
        return recording
    text = json.dumps(_said(config), sort_keys=True)
    own = config.name or fingerprint({"selection": text})[:8]
    most = LONGEST_ID - len(recording) - len(SELECTION_MARK)
    if len(own) > most:
        raise UserError(
            f"--name: expected at most {most} letters for a selection of {recording}, got {len(own)}: "
            "the files of its tables carry both names"
        )
    return f"{recording}{SELECTION_MARK}{own}"


def select(recording: Recording, config: AnalyseConfig, asked: Recording | None = None) -> Selected:
    """Choose the images and classes that a configuration asks for.

    Parameters
    ----------
    recording
        The recording to choose from.
    config
        What to choose.
    asked
        The recording whose answers the condition asks; by default the same.

    Raises
    ------
    UserError
        If the condition, the groups or the target do not fit the recording, or nothing is left.
    """
    whole = _decoded(recording)
    rows, label = image_rows(recording), recording.labels
    chosen, names, notices = whole, recording.class_names, []
    table = None
    if config.where is not None or config.target is not None:
        table = to_table(IMAGES, rows, inputs="")
    if config.where is not None and table is not None:
        chosen = chosen & (
            select_images(table, config.where)
            if asked is None
            else _images_of(asked, recording, config.where)
        )
    if config.classes is not None:
        groups = class_groups(Path(config.classes).expanduser(), names)
        label = np.where(label >= 0, groups.codes[label], -1)
        # Classes outside the groups take no part, as images without a class do.
        chosen, names = chosen & (label >= 0), groups.names
        if groups.left_out:
            notices.append(f"classes without a group are left out: {', '.join(groups.left_out)}")
        rows |= {"label": label, "class": named(label, names)}
    target = None
    if config.target is not None and table is not None:
        target = _target(config.target, table)
        chosen, label = chosen & ~np.isnan(target.values), np.full_like(label, -1)
    if not chosen.any():
        raise UserError(
            f"the selection leaves no image of recording {recording.name} that could be decoded"
        )
    if target is not None:
        # What was left out may have been all the difference.
        check_numbers(target.name, target.values[chosen], len(whole))
    if target is None:
        notices += _class_notices(label[chosen], names)
    elif config.controls:
        notices.append("controls stand beside statistics of classes: left out with a target")
    arranged = arrange_images(chosen, label, recording.image_names, names, seed=config.seed)
    kept = chosen if config.is_selection else np.ones(len(whole), bool)
    return Selected(
        name=table_name(recording.name, config),
        text=selection_text(config),
        chosen=arranged,
        images=_taken(rows, kept),
        target=None if target is None else (target.name, target.values[arranged.row]),
        notices=tuple(notices),
    )


def _decoded(recording: Recording) -> NDArray[np.bool_]:
    """Return which images are stored and could be decoded; refuse where none are."""
    if not recording.stored_rows.any():
        raise UserError(
            f"recording {recording.name} has no shard yet: run `activarium record` with its "
            "configuration first"
        )
    whole = recording.stored_rows & recording.valid
    if not whole.any():
        raise UserError(f"recording {recording.name} has no image that could be decoded")
    return whole


def _images_of(asked: Recording, recording: Recording, where: str) -> NDArray[np.bool_]:
    """Return which images of a recording a condition selects by the answers of another one."""
    sha256 = "images_sha256"
    if asked.attributes[sha256] != recording.attributes[sha256]:
        raise UserError(
            f"--where-of {asked.name}: expected a recording of the same images, but its images are "
            f"others than those of {recording.name}"
        )
    table = to_table(IMAGES, image_rows(asked), inputs="")
    taken = select_images(table, where) & asked.stored_rows & asked.valid
    names = {name for name, is_taken in zip(asked.image_names, taken, strict=True) if is_taken}
    return np.array([name in names for name in recording.image_names])


def _class_notices(label: NDArray[np.integer], names: Sequence[str]) -> list[str]:
    """Return which classes cannot be compared, and why."""
    count = np.bincount(label[label >= 0], minlength=len(names))
    why = why_not_compared(dict(zip(names, count.tolist(), strict=True)))
    if why:
        return [why]
    alone = [name for name, images in zip(names, count, strict=True) if images == 1]
    if not alone:
        return []
    have = (
        "1 class has one image"
        if len(alone) == 1
        else f"{len(alone):,} classes have one image each"
    )
    shown = ", ".join(alone[:_SHOWN]) + (", ..." if len(alone) > _SHOWN else "")
    return [f"{have} and cannot be told from the others (null): {shown}"]


def _target(spec: str, images: pa.Table) -> NumericTarget:
    path = spec if spec in _COLUMNS else str(Path(spec).expanduser())
    try:
        return numeric_target(path, images)
    except UserError as error:
        raise UserError(f"--target {error}") from error


def _taken(rows: dict[str, Any], kept: NDArray[np.bool_]) -> dict[str, Any]:
    if kept.all():
        return rows
    mask = pa.array(kept)
    return {
        name: (values if isinstance(values, pa.Array) else pa.array(values)).filter(mask)
        for name, values in rows.items()
    }
