"""The untrained model's tables, which stand beside the trained one's in `layers`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.atlas import SELECTION_MARK, recording_of
from activarium.schemas.errors import UserError
from activarium.schemas.layer_tables import CONTROLLED
from activarium.schemas.tables import IMAGES, LAYERS, RECORDINGS, UNITS
from activarium.tasks.analysis.selected import table_name
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import ANALYSIS

if TYPE_CHECKING:
    import pyarrow as pa

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.selected import Selected
    from activarium.tasks.stores.recording import Recording


def untrained_recording(config: AnalyseConfig) -> str | None:
    """Return the id of the untrained model's tables among the controls; None without one.

    Raises
    ------
    UserError
        If there is more than one.
    """
    names = [each for each in config.controls if each != SHUFFLE]
    if len(names) > 1:
        raise UserError(f"controls: expected shuffle and one recording, got {', '.join(names)}")
    if not names or SELECTION_MARK in names[0]:
        return names[0] if names else None
    # A selection is compared with the same selection of the control.
    return table_name(names[0], config)


def untrained_layers(
    atlas: Atlas, control: str, recording: Recording, selected: Selected, config: AnalyseConfig
) -> dict[str, dict[str, Any]]:
    """Return the row of `layers` and the units' eta squared of each layer of a control.

    Parameters
    ----------
    atlas
        Where the control's tables lie.
    control
        Their id.
    recording
        What the control stands beside.
    selected
        The images of it that are analysed.
    config
        How they were selected.

    Raises
    ------
    UserError
        If the control is not analysed, is the recording itself, has other images or classes, or
        no layer in common.
    """
    if recording_of(control) == recording.name:
        raise UserError(
            f"control {recording.name} is the recording itself: give a recording of the untrained "
            "model"
        )
    same = _same_analysis(recording_of(control), recording, config)
    needed = (LAYERS, UNITS, IMAGES, RECORDINGS)
    if not all(atlas.table_file(table, control).exists() for table in needed):
        raise UserError(f"control {control} is not analysed: run {same} first")
    advice = f"run {same}"
    if config.where is None and not recording.stored_rows.all():
        advice = "complete the recording with `activarium record`, or leave the control out"
    rows, units = read_settled(
        atlas,
        [control],
        lambda: _read_control(atlas, control, recording, selected, advice),
        (ANALYSIS,),
    )
    here, there = [layer.name for layer in recording.layers], [row["layer"] for row in rows]
    if not {*here} & {*there}:
        raise UserError(
            f"control {control} has no layer in common with {recording.name} (it has {there[0]}, "
            f"..., not {here[0]}, ...): give a recording of the same architecture"
        )
    eta2 = units.to_pandas().groupby("layer").eta2
    found = {name: values.to_numpy() for name, values in eta2}
    return {row["layer"]: {"row": row, "eta2": found[row["layer"]]} for row in rows}


def _read_control(
    atlas: Atlas, control: str, recording: Recording, selected: Selected, advice: str
) -> tuple[list[dict[str, Any]], pa.Table]:
    """Return the rows of `layers` and the units' eta squared of a control of the same images."""
    _check_images(atlas, control, recording, selected, advice)
    columns = ["layer", "effective_dimension", *CONTROLLED]
    rows = read_table(atlas.table_file(LAYERS, control), columns).to_pylist()
    return rows, read_table(atlas.table_file(UNITS, control), ["layer", "eta2"])


def _same_analysis(control: str, recording: Recording, config: AnalyseConfig) -> str:
    """Return the command that analyses the same images and classes of a control."""
    asked = None if config.where is None else config.where_of or recording.name
    options = {
        "where": config.where,
        "where-of": asked,
        "classes": config.classes,
        "name": config.name,
    }
    said = "".join(f" --{key} {shlex.quote(value)}" for key, value in options.items() if value)
    if asked is not None and config.partial:
        said += " --partial"
    return f"`activarium analyse {control}{said}`"


def _check_images(
    atlas: Atlas, control: str, recording: Recording, selected: Selected, advice: str
) -> None:
    """Refuse a control of other images, or of the same in other classes."""
    (row,) = read_table(atlas.table_file(RECORDINGS, control), ["images_sha256"]).to_pylist()
    if row["images_sha256"] != recording.attributes["images_sha256"]:
        raise UserError(
            f"control {control} was recorded over other images or labels than {recording.name}: "
            "record the untrained model over the same test set, and analyse it"
        )
    table = read_table(atlas.table_file(IMAGES, control), ["image", "class", "valid"])
    columns = table.filter(table.column("valid")).to_pydict()
    there = dict(zip(columns["image"], columns["class"], strict=True))
    here = _classes_of_images(recording, selected)
    if here.keys() != there.keys():
        raise UserError(
            f"control {control} was analysed over other images ({len(there):,}, of which "
            f"{len(here.keys() & there.keys()):,} are among the {len(here):,} of {selected.name}): "
            f"{advice}"
        )
    if any(here.values()) and any(there.values()) and here != there:
        raise UserError(
            f"control {control} was analysed with other classes than {selected.name}: {advice}"
        )


def _classes_of_images(recording: Recording, selected: Selected) -> dict[str, str | None]:
    """Return the class of each analysed image by its id; None where it has none."""
    chosen, names = selected.chosen, recording.image_names
    known = [chosen.class_names[code] for code in chosen.code]
    unknown = [None] * (len(chosen.row) - chosen.labelled)
    images = [names[row] for row in chosen.row]
    return dict(zip(images, [*known, *unknown], strict=True))
