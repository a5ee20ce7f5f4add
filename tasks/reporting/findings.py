"""What a stage found, in a line each: read back from the tables that it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from activarium.schemas.tables import EMBEDDING_QUALITY, IMAGES, LAYERS, UNIT_TARGETS
from activarium.tasks.reporting.report_tables import images_of_classes
from activarium.tasks.reporting.series_page import verdict
from activarium.tasks.reporting.series_tables import labels_of, read_series
from activarium.tasks.reporting.similarity_page import readings
from activarium.tasks.reporting.similarity_tables import read_pairs
from activarium.tasks.reporting.summary import LAYER_COLUMNS, answer, held_out, strongest_units
from activarium.tasks.stores.parquet_files import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas

_SHOWN = 3


def has_targets(atlas: Atlas, name: str) -> bool:
    """Return whether an analysis was of a number per image instead of classes."""
    return atlas.table_file(UNIT_TARGETS, name).is_file()


def analysis_findings(atlas: Atlas, name: str) -> list[str]:
    """Return what an analysis found: the class preference of its layers, or what follows a number."""
    if has_targets(atlas, name):
        return [_target_finding(atlas, name)]
    layers = read_table(atlas.table_file(LAYERS, name), LAYER_COLUMNS).to_pylist()
    images = read_table(atlas.table_file(IMAGES, name), ["image", "class", "valid"])
    strongest = [
        f"strongest unit: {unit['unit']} detects {unit['average_precision_class']}, {held_out(unit)}"
        for unit in strongest_units(atlas, name, 1)
    ]
    return [answer(layers, images_of_classes(images)), *strongest]


def _target_finding(atlas: Atlas, name: str) -> str:
    columns = ["unit", "target", "spearman_rho", "q_value"]
    units = read_table(atlas.table_file(UNIT_TARGETS, name), columns).to_pandas()
    top = units.loc[units["spearman_rho"].abs().idxmax()]
    return (
        f"strongest unit: {top['unit']} follows {top['target']} with Spearman's rho "
        f"{top['spearman_rho']:.3f}, q {top['q_value']:.1e}"
    )


def map_findings(files: Sequence[Path]) -> list[str]:
    """Return which map keeps images of a class together most, and how far it can be trusted."""
    quality = [file for file in files if file.parent.parent.name == EMBEDDING_QUALITY.name]
    if not quality:
        return []
    columns = ["features", "layer", "method", "knn_purity", "trustworthiness", "neighbours"]
    rows = pd.concat([read_table(file, columns).to_pandas() for file in quality])
    by = "knn_purity" if rows["knn_purity"].notna().any() else "trustworthiness"
    top = rows.sort_values(by, ascending=False).iloc[0]
    source = top["features"]
    if top["layer"] != source:
        source = f"{source} features of {top['layer']}"
    purity = (
        f"{100 * top['knn_purity']:.1f} % of an image's {top['neighbours']} neighbours have its class, "
        if by == "knn_purity"
        else ""
    )
    return [
        f"clearest map: {top['method']} of the {source} ({purity}trustworthiness {top['trustworthiness']:.3f})"
    ]


def comparison_findings(files: Sequence[Path]) -> list[str]:
    """Return how alike the layers of each compared pair are, of many pairs the first ones."""
    found = [line for pair in read_pairs(files) for line in readings(pair)]
    more = len(found) - _SHOWN
    return found[:_SHOWN] + ([f"and of {more} more pairs"] if more > 0 else [])


def series_findings(atlas: Atlas, recordings: Sequence[str]) -> list[str]:
    """Return the verdict on each series."""
    series = read_series(atlas, recordings)
    return [
        f"{label}: {verdict(each)}" for label, each in zip(labels_of(series), series, strict=True)
    ]
