"""Analyse: from one recording to its tables of class preference.

Blocks of units and layers are independent Dask tasks that read their own columns; what needs all
units at once (false discovery rates, layer summaries) follows when they are done.
"""

from __future__ import annotations

import glob
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.layout import BLOCK_UNITS
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import (
    CLASS_PAIRS,
    DENSITIES,
    DEPTH_TRENDS,
    EXEMPLARS,
    IMAGES,
    LAYERS,
    RECORDINGS,
    UNIT_CLASSES,
    UNIT_TARGETS,
    UNITS,
)
from activarium.tasks.analysis.analyse_command import analyse_command
from activarium.tasks.analysis.contrast_rows import contrast_columns, trend_rows
from activarium.tasks.analysis.density_rows import density_pieces
from activarium.tasks.analysis.duplicate_layers import duplicate_layers, original_units
from activarium.tasks.analysis.layer_contrast import contrast_layer
from activarium.tasks.analysis.layer_measures import measure_layer
from activarium.tasks.analysis.layer_summary import groupings, layer_rows, unit_means
from activarium.tasks.analysis.merging import (
    Parts,
    columns_of,
    false_discovery_columns,
    permutation_columns,
    redundancy_columns,
    shuffled_columns,
)
from activarium.tasks.analysis.recording_rows import recording_row
from activarium.tasks.analysis.replaced_tables import replaced_tables
from activarium.tasks.analysis.selected import select, selection_text, table_name
from activarium.tasks.analysis.target_block import correlate_block, target_rows
from activarium.tasks.analysis.unit_block import CHOICE, TARGET, Block, analyse_block
from activarium.tasks.analysis.untrained import IMAGES as SHARED
from activarium.tasks.analysis.untrained import shared_images, untrained_recording
from activarium.tasks.analysis.work_plan import tell_plan
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.statistics.comparable_classes import NOTHING_VARIES
from activarium.tasks.stores.files import replacing, sweep_partial_files
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording, open_recording
from activarium.tasks.stores.set_replacing import replacing_set, settle_tables
from activarium.tasks.stores.table_sets import ANALYSED, analysis_set
from activarium.tasks.stores.table_writing import write_columns, write_in_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.schemas.config import AnalyseConfig
    from activarium.schemas.layers import Layer
    from activarium.tasks.analysis.selected import Selected
    from activarium.tasks.analysis.untrained import SharedImages
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.table_sets import TableSet

STATISTICS_VERSION = 5
"""Raised when a statistic changes, so that tables made before are made again."""

WRITTEN = (
    UNITS,
    UNIT_CLASSES,
    CLASS_PAIRS,
    DEPTH_TRENDS,
    EXEMPLARS,
    LAYERS,
    DENSITIES,
    IMAGES,
    RECORDINGS,
)
"""Tables of an analysis by classes."""
WRITTEN_OF_TARGET = (UNIT_TARGETS, IMAGES, RECORDINGS)
"""Tables of an analysis by a number."""

_PLACES = {"scheduler", "classes", "where", "where_of", "target", "name", "controls", "partial"}
"""Settings that change no number themselves, or are said otherwise."""


@dataclass(frozen=True)
class _Job:
    """One analysis under way."""

    atlas: Atlas
    recording: Recording
    selected: Selected
    work: Path
    config: AnalyseConfig
    control: tuple[Recording, SharedImages] | None
    """Untrained networks, and the images that they answer to as well."""
    progress: Progress

    @property
    def blocks(self) -> list[Block]:
        """Blocks of units, as the recording is chunked."""
        units = self.recording.units
        return [
            Block(start, min(start + BLOCK_UNITS, units)) for start in range(0, units, BLOCK_UNITS)
        ]

    def run(self, what: str, task: Callable[..., None], *arguments: Sequence[Any]) -> None:
        """Run a task for each set of arguments after the store and the work folder."""
        place, work = self.recording.place.absolute(), self.work.absolute()
        pieces = [(place, work, *each) for each in zip(*arguments, strict=True)]
        with self.progress(f"{what} {self.selected.name}", len(pieces)) as advance:
            run_pieces(
                task,
                pieces,
                scheduler=self.config.scheduler,
                advance=advance,
                shared=[self.atlas.root],
            )


def analysis_inputs(
    atlas: Atlas, recording: Recording, config: AnalyseConfig, asked: Recording | None = None
) -> str:
    """Return the fingerprint of everything that the tables of an analysis depend on."""
    untrained = untrained_recording(config) if config.target is None else None
    return fingerprint(
        {
            "recording": recording.fingerprint,
            "stored": _stored(recording),
            "asked": asked and [asked.fingerprint, _stored(asked)],
            "settings": _settings(config),
            "selection": selection_text(config),
            "shuffle": SHUFFLE in config.controls,
            "untrained": untrained and _control_inputs(atlas, untrained),
            "columns": FORMAT_VERSION,
            "statistics": STATISTICS_VERSION,
        }
    )


def _control_inputs(atlas: Atlas, control: str) -> list[Any]:
    opened = Recording(place_at(atlas.recording(control)))
    return [opened.fingerprint, _stored(opened)]


def _settings(config: AnalyseConfig) -> dict[str, Any]:
    """Return the settings that decide what is written; those of before are said as they were."""
    later = {"top_classes"} if config.top_classes is None else set()
    return config.model_dump(mode="json", exclude=_PLACES | later)


def _stored(recording: Recording) -> list[int]:
    """Return where stored images begin and end: [0, images] for a whole recording."""
    ends = np.diff(recording.stored_rows, prepend=False, append=False)
    return [int(each) for each in np.flatnonzero(ends)]


def _whose_answers(
    atlas: Atlas, recording: Recording, config: AnalyseConfig
) -> tuple[Recording | None, AnalyseConfig]:
    """Return the other recording that a condition asks, if any, and the settings with its id."""
    if config.where_of is None:
        return None, config
    asked = open_recording(atlas, config.where_of, partial=config.partial)
    other = None if asked.name == recording.name else asked
    name = None if other is None else other.name
    return other, config.model_copy(update={"where_of": name})


def analyse(
    atlas: Atlas, recording: Recording, *, config: AnalyseConfig, progress: Progress = silent
) -> TablesReceipt:
    """Compute the tables of one recording, or of a selection of it, unless they are current.

    Parameters
    ----------
    atlas
        Where the tables go.
    recording
        A recording.
    config
        Selection, levels, controls, exemplars, and where the tasks run.
    progress
        Shows how far it is.

    Returns
    -------
    The files; `made` is false where all were there already.

    Raises
    ------
    UserError
        If the recording is damaged or holds no valid image, the selection does not fit it, a
        control is not analysed or is none of it, the scheduler cannot be reached, or the disk is full.
    """
    began = time.perf_counter()
    settle_tables(atlas)
    asked, config = _whose_answers(atlas, recording, config)
    name = table_name(recording.name, config)
    inputs = analysis_inputs(atlas, recording, config, asked)
    written = WRITTEN if config.target is None else WRITTEN_OF_TARGET
    files = tuple(atlas.table_file(table, name) for table in written)
    work = atlas.work / f"{name}-{inputs[:12]}"
    if analysis_set(atlas, name).is_current(inputs, files):
        shutil.rmtree(work, ignore_errors=True)  # of one that was killed when all was written
        return TablesReceipt(recording=name, files=files, made=False)
    begin_work(progress)
    with only_process(atlas.lock(f"{name}.tables"), f"tabulating {name}"):
        selected = select(recording, config, asked)
        # Before the work begins, that may take hours.
        untrained = untrained_recording(config) if config.target is None else None
        control, told = _control(atlas, untrained, recording, selected)
        notices = [*selected.notices, *told, *replaced_tables(atlas, selected, config)]
        _sweep(atlas, name, work)
        selected.chosen.save(work / CHOICE)
        job = _Job(atlas, recording, selected, work, config, control, progress)
        if config.target is None:
            sizes = [each.units for each in recording.layers]
            tell_plan(name, selected.chosen, sizes, config, progress)
        tables = _class_tables(job) if config.target is None else _target_tables(job)
        notices += _findings(recording, tables)
        tables["images"] = selected.images
        tables["recordings"] = recording_row(recording, selected, config)
        _write(
            analysis_set(atlas, name), dict(zip(written, files, strict=True)), tables, job, inputs
        )
        shutil.rmtree(work, ignore_errors=True)
    seconds = time.perf_counter() - began
    return TablesReceipt(
        recording=name, files=files, made=True, seconds=seconds, notices=tuple(notices)
    )


def _control(
    atlas: Atlas, control: str | None, recording: Recording, selected: Selected
) -> tuple[tuple[Recording, SharedImages] | None, tuple[str, ...]]:
    """Return the untrained networks with the images that are compared, and what there is to say."""
    if control is None:
        return None, ()
    opened, images, told = shared_images(atlas, control, recording, selected)
    return None if images is None else (opened, images), told


def _sweep(atlas: Atlas, name: str, work: Path) -> None:
    """Delete what killed analyses of this recording left, but for blocks that still count."""
    for folder in atlas.work.glob(f"{glob.escape(name)}-*"):
        # Not that of a recording whose id goes on with a dash.
        if folder != work and folder.name.rpartition("-")[0] == name:
            shutil.rmtree(folder, ignore_errors=True)
    sweep_partial_files(work)
    work.mkdir(parents=True, exist_ok=True)


def _write(
    found: TableSet, files: dict[Table, Path], tables: dict[str, Any], job: _Job, inputs: str
) -> None:
    """Write the tables of an analysis, which take the places of those of another as one."""
    others = [job.atlas.table_file(table, found.name) for table in ANALYSED]
    command = analyse_command(job.recording.name, job.config)
    with replacing_set(found, inputs=inputs, command=command, others=others) as staged:
        for table, path in files.items():
            rows = tables[table.name]
            write = write_columns if isinstance(rows, dict) else write_in_pieces
            write(staged.path(path), table, rows, inputs=inputs)


def _class_tables(job: _Job) -> dict[str, Any]:
    """Return the columns of each table, or pieces of them where a table is long."""
    blocks, layers = job.blocks, job.recording.layers
    job.run("analysing", analyse_block, blocks, [job.config] * len(blocks))
    places = range(len(layers))
    job.run("measuring the layers of", measure_layer, places, [job.config] * len(layers))
    if job.control is not None:
        control, images = job.control
        images.save(job.work / SHARED)
        count, classes = len(layers), len(job.selected.chosen.class_names)
        where = control.place.absolute()
        job.run(
            "comparing with untrained networks",
            contrast_layer,
            places,
            [where] * count,
            [classes] * count,
            [job.config] * count,
        )
    parts = Parts(job.work, blocks, layers)
    permuted = parts.permuted()
    units = columns_of(parts.units())
    duplicates = duplicate_layers(job.recording, job.selected.chosen.row, units)
    units |= _corrected_columns(parts, layers, units, permuted, original_units(layers, duplicates))
    rows = _layer_table(job, parts, units, permuted)
    rows["duplicates_layer"] = duplicates
    known = {column.name for column in UNITS.columns}
    return {
        "units": {key: value for key, value in units.items() if key in known},
        "unit_classes": parts.class_rows(),
        "exemplars": parts.pieces("exemplars"),
        "layers": rows,
        "depth_trends": trend_rows(
            layers,
            unit_means(layers, units),
            parts.contrast(),
            kept=np.array([each is None for each in duplicates]),
        ),
        "class_pairs": columns_of(parts.class_pairs()),
        "densities": density_pieces(job.recording, is_whole=job.selected.text is None),
    }


def _findings(recording: Recording, tables: dict[str, Any]) -> Iterator[str]:
    """Tell what makes the tables less than they seem."""
    stored = recording.stored_rows
    if not stored.all():
        yield (
            f"{recording.name} is not complete: {int(stored.sum()):,} of its {len(stored):,} images "
            "are analysed, and the table recordings marks it (is_partial)"
        )
    layers = tables.get("layers")
    if layers is not None and (np.asarray(layers["dead_fraction"]) == 1).all():
        yield NOTHING_VARIES


def _observed(units: dict[str, Any]) -> NDArray[np.float64] | None:
    """Return eta squared as permuted labels are compared with; None where none were."""
    return units["observed_effect"].to_numpy() if "observed_effect" in units else None


def _corrected_columns(
    parts: Parts,
    layers: Sequence[Layer],
    units: dict[str, Any],
    permuted: NDArray[np.float32] | None,
    original: NDArray[np.int64],
) -> dict[str, Any]:
    """Return the columns of `units` and of the control that need all units."""
    permutation = permutation_columns(_observed(units), permuted, len(units["unit"]))
    tested = units | permutation
    return (
        permutation
        | false_discovery_columns(tested, original)
        | shuffled_columns(tested, permuted, original)
        | redundancy_columns(parts.redundancy(), layers, units["unit"].to_pylist())
    )


def _layer_table(
    job: _Job, parts: Parts, units: dict[str, Any], permuted: NDArray[np.float32] | None
) -> dict[str, Any]:
    layers, chosen = job.recording.layers, job.selected.chosen
    grouping = groupings(
        layers,
        units,
        permuted,
        images=chosen.labelled if chosen.is_comparable else 0,
        classes=len(np.unique(chosen.code)),
    )
    rows = layer_rows(
        layers, units, parts.layer_measures(), grouping, job.config, images=len(chosen.row)
    )
    images = 0 if job.control is None else len(job.control[1].own)
    confidence = job.config.confidence
    return rows | contrast_columns(
        parts.contrast(), len(layers), images=images, confidence=confidence
    )


def _target_tables(job: _Job) -> dict[str, Any]:
    if job.selected.target is None:
        raise ValueError("a target is needed")
    name, values = job.selected.target
    with replacing(job.work / TARGET) as temporary, temporary.open("wb") as file:
        np.save(file, values)
    job.run("correlating", correlate_block, job.blocks)
    return {"unit_targets": target_rows(job.work, job.blocks, name)}
