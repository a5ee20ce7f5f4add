"""Analyse: from one recording to its tables of class preference.

Blocks of units and layers are independent Dask tasks that read their own columns; what needs all
units at once (false discovery rates, layer summaries) follows when the blocks are done.
"""

from __future__ import annotations

import glob
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import feather

from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.errors import UserError
from activarium.schemas.layout import BLOCK_UNITS
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import EXEMPLARS, IMAGES, LAYERS, RECORDINGS, UNIT_CLASSES, UNITS
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import silent
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.statistics.image_answers import accuracy_of, image_rows
from activarium.tasks.statistics.layer_measures import LayerMeasures, measure_layer
from activarium.tasks.statistics.multiple_testing import (
    benjamini_hochberg,
    benjamini_hochberg_log10,
)
from activarium.tasks.statistics.unit_block import Block, analyse_block, part_file
from activarium.tasks.stores.files import sweep_partial_files
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.parquet_files import is_current, to_table, write_table
from activarium.tasks.stores.recording_store import read_receipts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.recording import Recording

STATISTICS_VERSION = 1
"""Raised when a statistic changes, so that tables made before are made again."""

WRITTEN = (UNITS, UNIT_CLASSES, EXEMPLARS, LAYERS, IMAGES, RECORDINGS)


def analysis_inputs(recording: Recording, config: AnalyseConfig) -> str:
    """Return the fingerprint of everything that the tables of an analysis depend on."""
    settings = config.model_dump(mode="json", exclude={"scheduler"})
    return fingerprint(
        {
            "recording": recording.fingerprint,
            "settings": settings,
            "columns": FORMAT_VERSION,
            "statistics": STATISTICS_VERSION,
        }
    )


def analyse(
    atlas: Atlas, recording: Recording, *, config: AnalyseConfig, progress: Progress = silent
) -> TablesReceipt:
    """Compute the class-preference tables of one recording, unless they are current.

    Parameters
    ----------
    atlas
        Where the tables go.
    recording
        A complete recording.
    config
        Levels, exemplars, and where the tasks run.
    progress
        Shows how far it is.

    Returns
    -------
    The files; `made` is false where all were there already.

    Raises
    ------
    UserError
        If the recording is damaged or holds no valid image, the scheduler cannot be reached, or the
        disk is full.
    """
    began = time.perf_counter()
    inputs = analysis_inputs(recording, config)
    files = {table.name: atlas.table_file(table, recording.name) for table in WRITTEN}
    if all(is_current(path, inputs) for path in files.values()):
        return TablesReceipt(recording=recording.name, files=tuple(files.values()), made=False)
    if not recording.valid.any():
        raise UserError(f"recording {recording.name} has no image that could be decoded")
    with only_process(atlas.lock(f"{recording.name}.tables"), f"tabulating {recording.name}"):
        _make_tables(atlas, recording, inputs, config=config, progress=progress)
    return TablesReceipt(
        recording=recording.name,
        files=tuple(files.values()),
        made=True,
        seconds=time.perf_counter() - began,
    )


def _make_tables(
    atlas: Atlas, recording: Recording, inputs: str, *, config: AnalyseConfig, progress: Progress
) -> None:
    _sweep(atlas, recording.name, inputs)
    work = atlas.work / f"{recording.name}-{inputs[:12]}"
    blocks = _run_blocks(recording, work, config, progress)
    measures = _run_layers(recording, config, progress)
    tables = _merge(work, blocks)
    del blocks
    images = image_rows(recording)
    tables["layers"] = _layer_rows(recording, tables["units"], measures, config)
    tables["images"] = images
    tables["recordings"] = _recording_row(recording, images)
    for table in WRITTEN:
        path = atlas.table_file(table, recording.name)
        _write(table, path, tables[table.name], inputs)
    shutil.rmtree(work, ignore_errors=True)


def _sweep(atlas: Atlas, name: str, inputs: str) -> None:
    """Delete what killed analyses of this recording left, but for blocks that still count."""
    for folder in atlas.work.glob(f"{glob.escape(name)}-*"):
        if folder.name != f"{name}-{inputs[:12]}":
            shutil.rmtree(folder, ignore_errors=True)
    for table in WRITTEN:
        sweep_partial_files(atlas.partition(table, name))


def _run_blocks(
    recording: Recording, work: Path, config: AnalyseConfig, progress: Progress
) -> list[Block]:
    blocks = [
        Block(
            start,
            min(start + BLOCK_UNITS, recording.units),
            config.exemplars,
            config.class_exemplars,
        )
        for start in range(0, recording.units, BLOCK_UNITS)
    ]
    with progress(f"analysing {recording.name}", len(blocks)) as advance:
        run_pieces(
            analyse_block,
            [(recording.place.absolute(), work.absolute(), block) for block in blocks],
            scheduler=config.scheduler,
            advance=advance,
        )
    return blocks


def _run_layers(
    recording: Recording, config: AnalyseConfig, progress: Progress
) -> list[LayerMeasures]:
    layers = recording.layers
    with progress(f"measuring the layers of {recording.name}", len(layers)) as advance:
        return run_pieces(
            measure_layer,
            [
                (
                    recording.place.absolute(),
                    layer.name,
                    config.knn_neighbours,
                    config.knn_queries,
                    0,
                )
                for layer in layers
            ],
            scheduler=config.scheduler,
            advance=advance,
        )


def _merge(work: Path, blocks: Sequence[Block]) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for table in (UNITS, UNIT_CLASSES, EXEMPLARS):
        parts = [feather.read_table(part_file(work, table.name, block)) for block in blocks]
        # Without labels a block has no rows per class.
        filled = [part for part in parts if part.num_columns]
        whole = pa.concat_tables(filled) if filled else table.schema().empty_table()
        merged[table.name] = {name: whole.column(name) for name in whole.column_names}
    units, pairs = merged["units"], merged["unit_classes"]
    units |= _q_values(units["kruskal_p"], units["kruskal_log10p"])
    if len(pairs["class"]):
        pairs["q_value"] = benjamini_hochberg(pairs["p_value"].to_numpy())
    return merged


def _q_values(p: pa.ChunkedArray, log10_p: pa.ChunkedArray) -> dict[str, Any]:
    values = p.to_numpy()
    if np.isnan(values).any():
        return {"q_value": values, "q_log10": values}
    return {
        "q_value": benjamini_hochberg(values),
        "q_log10": benjamini_hochberg_log10(log10_p.to_numpy()),
    }


def _layer_rows(
    recording: Recording,
    units: dict[str, Any],
    measures: Sequence[LayerMeasures],
    config: AnalyseConfig,
) -> dict[str, Any]:
    layers = recording.layers
    slices = [recording.layer_slices[layer.name] for layer in layers]

    def means(values: Any) -> list[float]:
        array = np.asarray(values, dtype=np.float64)
        return [float(array[each].mean()) for each in slices]

    selective = np.asarray(units["q_value"], dtype=np.float64)
    known = ~np.isnan(selective)
    return {
        "layer": [layer.name for layer in layers],
        "depth": [layer.depth for layer in layers],
        "kind": [layer.kind for layer in layers],
        "units": [layer.units for layer in layers],
        "height": [layer.height for layer in layers],
        "width": [layer.width for layer in layers],
        "dead_fraction": means(units["is_dead"]),
        "selective_fraction": np.array(means(np.where(known, selective <= config.fdr, np.nan))),
        "fdr": np.full(len(layers), config.fdr),
        "selectivity_mean": np.array(means(units["selectivity"])),
        "auroc_mean": np.array(means(units["auroc"])),
        "eta2_mean": np.array(means(units["eta2"])),
        "epsilon2_mean": np.array(means(units["epsilon2"])),
        "knn_purity": np.array([each.knn_purity for each in measures]),
        "knn_neighbours": [each.neighbours for each in measures],
        "knn_queries": [each.queries for each in measures],
        "effective_dimension": np.array([each.effective_dimension for each in measures]),
    }


def _recording_row(recording: Recording, images: dict[str, Any]) -> dict[str, Any]:
    attributes = recording.attributes
    receipts = read_receipts(recording.place)
    invalid = int((~recording.valid).sum())
    features = len(recording.read("feature")) if recording.has("feature") else 0
    row = {
        name: attributes[name]
        for name in (
            "model",
            "checkpoint",
            "architecture",
            "test_set",
            "split",
            "fingerprint",
            "weights_sha256",
            "images_sha256",
            "engine",
            "precision",
            "batch_size",
        )
    } | {
        "images": len(recording.valid),
        "invalid_images": invalid,
        "classes": len(recording.class_names),
        "layers": len(recording.layers),
        "units": recording.units,
        "features": features,
        "accuracy": accuracy_of(images),
        "preprocessing": json.dumps(attributes["preprocessing"], sort_keys=True),
        "versions": json.dumps(attributes["versions"], sort_keys=True),
        "device": ", ".join(sorted({receipt.device for receipt in receipts})),
        "seconds": sum(
            each.read_seconds + each.forward_seconds + each.write_seconds for each in receipts
        ),
        "stored_bytes": sum(stored.size for each in receipts for stored in each.objects),
    }
    return {
        name: np.array([value]) if name == "accuracy" else [value] for name, value in row.items()
    }


def _write(table: Table, path: Path, columns: dict[str, Any], inputs: str) -> None:
    built = to_table(table, columns, inputs=inputs)
    if table.sort:
        order = pc.sort_indices(built, [(name, "ascending") for name in table.sort])
        built = built.take(order)
    write_table(path, built)
