"""What the tables of an earlier analysis hold that a new one of the same id replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activarium.schemas.analysis_config import SHUFFLE
from activarium.schemas.errors import UserError
from activarium.schemas.tables import RECORDINGS
from activarium.tasks.stores.parquet_files import read_table

if TYPE_CHECKING:
    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.selected import Selected


def replaced_tables(atlas: Atlas, selected: Selected, config: AnalyseConfig) -> list[str]:
    """Return what tables of the same id hold that an analysis is about to lose, as notices."""
    path = atlas.table_file(RECORDINGS, selected.name)
    try:
        (before,) = read_table(path).to_pylist() if path.exists() else ({},)
    except (UserError, ValueError):
        return []  # Damaged: nothing that could be lost.
    if not before:
        return []
    if before.get("selection") != selected.text:
        return [f"replaces the selection {before.get('selection')} of the name {selected.name}"]
    now = config.class_controls
    kinds = {each == SHUFFLE for each in now}
    # Tables of older versions do not say.
    controls = (before.get("controls") or "").split(", ")
    return [
        f"the tables had the control {each}, which these lack: give --control {each} to keep it"
        for each in controls
        if each and (each == SHUFFLE) not in kinds
    ]
