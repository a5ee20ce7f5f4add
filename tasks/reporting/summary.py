"""Summary: the few numbers of a run that answer its question, read back from the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from activarium.schemas.tables import IMAGES, LAYERS, RECORDINGS, UNITS
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.recording_store import read_attributes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import zarr

    from activarium.schemas.atlas import Atlas

LAYER_COLUMNS = (
    "layer",
    "kind",
    "units",
    "selective_fraction",
    "dead_fraction",
    "knn_purity",
    "eta2_mean",
)
UNIT_COLUMNS = ("unit", "auroc_class", "auroc", "eta2", "q_value", "q_log10")


def summarise(atlas: Atlas, recordings: Sequence[str], *, strongest: int = 3) -> dict[str, Any]:
    """Return accuracy, layers and strongest units of a recording, with its controls' layers.

    The accuracy is None where the model's outputs are not the test set's classes.

    Parameters
    ----------
    atlas
        Where the tables are.
    recordings
        Ids, the main recording first.
    strongest
        How many units to name.

    Returns
    -------
    A mapping that JSON can hold.
    """
    main, *controls = recordings
    row = read_table(atlas.table_file(RECORDINGS, main)).to_pylist()[0]
    layers = _layers(atlas, main)
    for control in controls:
        name = str(read_attributes(place_at(atlas.recording(control)))["checkpoint"])
        for layer, other in zip(layers, _layers(atlas, control), strict=True):
            layer["controls"] = {**layer.get("controls", {}), name: other["eta2_mean"]}
    outputs, classes = _outputs_and_classes(atlas, main)
    fdr = read_table(atlas.table_file(LAYERS, main), ["fdr"]).column("fdr")[0].as_py()
    return {
        "recording": main,
        "controls": controls,
        "accuracy": row["accuracy"],
        "outputs": outputs,
        "classes": classes,
        "images": row["images"],
        "invalid_images": _invalid(atlas, main),
        "units": row["units"],
        "fdr": fdr,
        "layers": layers,
        "strongest": strongest_units(atlas, main, strongest),
    }


def _outputs_and_classes(atlas: Atlas, recording: str) -> tuple[int, int]:
    """Return how many outputs the model has and how many classes the test set."""
    opened = Recording(place_at(atlas.recording(recording)))
    logits = cast("zarr.Array[Any]", opened.group["logits"])
    return logits.shape[1], len(opened.class_names)


def _layers(atlas: Atlas, recording: str) -> list[dict[str, Any]]:
    rows = read_table(atlas.table_file(LAYERS, recording), LAYER_COLUMNS).to_pylist()
    return [dict(row) for row in rows]


def _invalid(atlas: Atlas, recording: str) -> list[str]:
    table = read_table(atlas.table_file(IMAGES, recording), ["image", "valid"])
    return [row["image"] for row in table.to_pylist() if not row["valid"]]


def strongest_units(atlas: Atlas, recording: str, count: int) -> list[dict[str, Any]]:
    """Return the units with the largest AUROC; equal ones by explained variance, then by name."""
    table = read_table(atlas.table_file(UNITS, recording), UNIT_COLUMNS)
    table = table.filter(table.column("auroc").is_valid())
    order = [("auroc", "descending"), ("eta2", "descending"), ("unit", "ascending")]
    return list(table.sort_by(order).slice(0, count).to_pylist())
