"""The untrained model's tables, which stand beside the trained one's in `layers`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.atlas import recording_of
from activarium.schemas.errors import UserError
from activarium.schemas.layer_tables import CONTROLLED
from activarium.schemas.tables import LAYERS, UNITS
from activarium.tasks.analysis.selected import table_name
from activarium.tasks.stores.parquet_files import read_table

if TYPE_CHECKING:
    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import AnalyseConfig


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
    # A selection is compared with the same selection of the control.
    return table_name(names[0], config) if names else None


def untrained_layers(atlas: Atlas, recording: str) -> dict[str, dict[str, Any]]:
    """Return the row of `layers` and the units' eta squared of each layer of a control.

    Raises
    ------
    UserError
        If the control is not analysed.
    """
    if not all(atlas.table_file(table, recording).exists() for table in (LAYERS, UNITS)):
        same = " with the same selection" if recording != recording_of(recording) else ""
        raise UserError(
            f"control {recording} is not analysed: run `activarium analyse "
            f"{recording_of(recording)}`{same} first"
        )
    columns = ["layer", "effective_dimension", *CONTROLLED]
    rows = read_table(atlas.table_file(LAYERS, recording), columns).to_pylist()
    units = read_table(atlas.table_file(UNITS, recording), ["layer", "eta2"])
    eta2 = units.to_pandas().groupby("layer").eta2
    found = {name: values.to_numpy() for name, values in eta2}
    return {row["layer"]: {"row": row, "eta2": found[row["layer"]]} for row in rows}
