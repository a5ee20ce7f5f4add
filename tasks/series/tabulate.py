"""Tabulate series: from the tables of recorded checkpoints to how their layers change."""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import DENSITIES, LAYER_CHANGES, LAYERS, SIMILARITIES, UNITS
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import begin_work, silent
from activarium.tasks.series.find_series import series_of, step_of
from activarium.tasks.series.layer_changes import UNIT_COLUMNS, Checkpoint, layer_changes
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.parquet_files import inputs_of, read_table
from activarium.tasks.stores.set_replacing import replacing_set, settle_tables
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import ANALYSIS, PAIR, series_set
from activarium.tasks.stores.table_writing import write_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.recording import Recording

SERIES_VERSION = 1
"""Raised when a measure changes, so that tables made before are made again."""


def tabulate_series(
    atlas: Atlas, recordings: Sequence[Recording], *, progress: Progress = silent
) -> TablesReceipt:
    """Write how the layers of every series among the recordings change, unless that is current.

    Parameters
    ----------
    atlas
        Where the tables are, and where these go.
    recordings
        Analysed recordings; those of a series are compared with its first and last among them.
    progress
        Shows that it is at work.

    Raises
    ------
    UserError
        If a recording is not analysed, or the recordings of a series have different layers.
    """
    began = time.perf_counter()
    settle_tables(atlas)
    series = series_of(recordings)
    pending: list[str] = []
    for name, members in series.items():
        inputs = _inputs(atlas, members)
        files = [atlas.table_file(LAYER_CHANGES, each.name) for each in members]
        if not series_set(atlas, name).is_current(inputs, files):
            begin_work(progress)
            with (
                only_process(atlas.lock(f"{name}.series"), f"tabulating the series {name}"),
                progress(f"tabulating {name}", None),
            ):
                _write(atlas, name, members, inputs)
            pending.append(name)
    whole = [each for members in series.values() for each in members]
    return TablesReceipt(
        recording=", ".join(series),
        files=tuple(atlas.table_file(LAYER_CHANGES, each.name) for each in whole),
        made=bool(pending),
        seconds=time.perf_counter() - began,
    )


def _inputs(atlas: Atlas, members: Sequence[Recording]) -> str:
    last = members[-1].name
    tables = [
        [inputs_of(atlas.table_file(table, each.name)) for table in (UNITS, LAYERS, DENSITIES)]
        + [inputs_of(atlas.table_file(SIMILARITIES, each.name, last))]
        for each in members
    ]
    return fingerprint(
        {
            "recordings": [each.name for each in members],
            "tables": tables,
            "columns": FORMAT_VERSION,
            "series": SERIES_VERSION,
        }
    )


def _write(atlas: Atlas, name: str, members: Sequence[Recording], inputs: str) -> None:
    last = members[-1].name
    names = [each.name for each in members]
    checkpoints = read_settled(
        atlas,
        names,
        lambda: [read_checkpoint(atlas, each, last) for each in members],
        (ANALYSIS, PAIR),
    )
    # A layer is like itself; its own file of similarities may not be there.
    itself = dict.fromkeys(checkpoints[-1].layers["layer"], 1.0)
    checkpoints[-1] = replace(checkpoints[-1], cka_to_last=itself)
    for each in checkpoints[1:]:
        if len(each.units) != len(checkpoints[0].units):
            raise UserError(
                f"series {name}: expected the {len(checkpoints[0].units)} units of "
                f"{checkpoints[0].recording} in {each.recording} too, got {len(each.units)}; record "
                "all checkpoints of a series with the same settings"
            )
    rows = layer_changes(checkpoints, name)
    command = shlex.join(["activarium", "compare", "--series", name])
    with replacing_set(series_set(atlas, name), inputs=inputs, command=command) as staged:
        for member, columns in zip(members, rows, strict=True):
            path = staged.path(atlas.table_file(LAYER_CHANGES, member.name))
            write_columns(path, LAYER_CHANGES, columns, inputs=inputs)


def not_analysed(atlas: Atlas, recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings whose tables of layers and units are not there."""
    return [
        each
        for each in recordings
        if not all(atlas.table_file(table, each.name).is_file() for table in (LAYERS, UNITS))
    ]


def read_checkpoint(atlas: Atlas, recording: Recording, last: str) -> Checkpoint:
    """Return what the tables say of one recording of a series.

    Raises
    ------
    UserError
        If it is not analysed.
    """
    layers, units = (atlas.table_file(table, recording.name) for table in (LAYERS, UNITS))
    if not_analysed(atlas, [recording]):
        raise UserError(
            f"recording {recording.name} is not analysed yet: run `activarium analyse "
            f"{recording.name}`, then compare again"
        )
    density = atlas.table_file(DENSITIES, recording.name)
    columns = ["layer", "bin", "activations"]
    counts = read_table(density, columns).to_pandas() if density.is_file() else None
    return Checkpoint(
        recording.name,
        step_of(recording),
        read_table(layers).to_pandas().sort_values("depth", ignore_index=True),
        read_table(units, list(UNIT_COLUMNS)).to_pandas(),
        pd.DataFrame(columns=columns)
        if counts is None
        else counts.groupby(["layer", "bin"], as_index=False)["activations"].sum(),
        _cka(atlas, recording.name, last),
    )


def _cka(atlas: Atlas, name: str, last: str) -> dict[str, float]:
    """Return the CKA of each layer with itself at the last checkpoint, where it was compared."""
    path = atlas.table_file(SIMILARITIES, name, last)
    if not path.is_file():
        return {}
    rows = read_table(path, ["layer", "other_layer", "cka"]).to_pandas()
    same = rows[(rows["layer"] == rows["other_layer"]) & rows["cka"].notna()]
    return dict(zip(same["layer"], same["cka"], strict=True))
