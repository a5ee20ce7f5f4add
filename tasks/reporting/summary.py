"""Summary: the few numbers of a run that answer its question, read back from the tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pyarrow.compute as pc

from activarium.schemas.tables import IMAGES, LAYERS, RECORDINGS, UNITS
from activarium.tasks.reporting.report_tables import images_of_classes
from activarium.tasks.reporting.verdicts import lead
from activarium.tasks.statistics.comparable_classes import NOTHING_VARIES, why_not_compared
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import ANALYSIS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    import zarr

    from activarium.schemas.atlas import Atlas

LAYER_COLUMNS = (
    "layer",
    "kind",
    "units",
    "selective_fraction",
    "dead_fraction",
    "knn_purity",
    "probe_accuracy",
    "eta2_mean",
    "eta2_mean_shuffled",
    "eta2_mean_sampled",
    "eta2_mean_untrained",
    "eta2_mean_untrained_low",
    "eta2_mean_untrained_high",
    "eta2_mean_untrained_fwer_p",
    "draws",
    "draw_images",
    "permanova_p",
    "chance_verdict",
    "architecture_verdict",
    "duplicates_layer",
)
UNIT_COLUMNS = (
    "unit",
    "average_precision_class",
    "average_precision",
    "average_precision_crossfit",
    "crossfit_gain",
    "auroc_crossfit",
    "preferred_p",
    "eta2",
    "q_value",
    "q_log10",
)


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
    main = recordings[0]
    return read_settled(atlas, [main], lambda: _summary(atlas, recordings, strongest), (ANALYSIS,))


def _summary(atlas: Atlas, recordings: Sequence[str], strongest: int) -> dict[str, Any]:
    main, *controls = recordings
    row = read_table(atlas.table_file(RECORDINGS, main)).to_pylist()[0]
    layers = _layers(atlas, main)
    images = read_table(atlas.table_file(IMAGES, main), ["image", "class", "valid"])
    present = images_of_classes(images)
    outputs, classes = _outputs_and_classes(atlas, main)
    fdr = read_table(atlas.table_file(LAYERS, main), ["fdr"]).column("fdr")[0].as_py()
    return {
        "recording": main,
        "controls": controls,
        "accuracy": row["accuracy"],
        "outputs": outputs,
        "classes": classes,
        "images": row["images"],
        "analysed_images": row["analysed_images"],
        "classes_present": len(present),
        "invalid_images": _invalid(images),
        "units": row["units"],
        "fdr": fdr,
        "layers": layers,
        "answer": answer(layers, present),
        "strongest": strongest_units(atlas, main, strongest),
    }


def answer(layers: Sequence[dict[str, Any]], classes: Mapping[str, int]) -> str:
    """Return in one sentence whether there is class preference, beyond what, and how large.

    Parameters
    ----------
    layers
        Rows of `layers`.
    classes
        Images of each class that has any, by its name.
    """
    why = why_not_compared(classes)
    if why:
        return why
    # A narrow space is for pages.
    return lead(layers).replace("\u202f", " ") or NOTHING_VARIES


def _outputs_and_classes(atlas: Atlas, recording: str) -> tuple[int, int]:
    """Return how many outputs the model has and how many classes the test set."""
    opened = Recording(place_at(atlas.recording(recording)))
    logits = cast("zarr.Array[Any]", opened.group["logits"])
    return logits.shape[1], len(opened.class_names)


def _layers(atlas: Atlas, recording: str) -> list[dict[str, Any]]:
    rows = read_table(atlas.table_file(LAYERS, recording), LAYER_COLUMNS).to_pylist()
    return [dict(row) for row in rows]


def _invalid(images: pa.Table) -> list[str]:
    return [row["image"] for row in images.to_pylist() if not row["valid"]]


def strongest_units(atlas: Atlas, recording: str, count: int) -> list[dict[str, Any]]:
    """Return the units that detect a class best on images that did not choose it.

    In order of `crossfit_gain`: a maximum over many classes is large by chance alone, and chance
    differs between classes of different size. Equal ones by explained variance, then by name. Units
    that respond alike to all images, or whose classes cannot be compared, are not among them, nor
    those of layers that repeat another.
    """
    table = read_table(atlas.table_file(UNITS, recording), ["layer", *UNIT_COLUMNS])
    table = table.filter(table.column("average_precision_class").is_valid())
    layers = read_table(atlas.table_file(LAYERS, recording), ["layer", "duplicates_layer"])
    copies = layers.filter(layers.column("duplicates_layer").is_valid()).column("layer")
    table = table.filter(pc.invert(pc.is_in(table.column("layer"), copies))).drop_columns("layer")
    order = [("crossfit_gain", "descending"), ("eta2", "descending"), ("unit", "ascending")]
    return list(table.sort_by(order).slice(0, count).to_pylist())


def held_out(unit: Mapping[str, Any]) -> str:
    """Return the average precision of one of `strongest_units`, on images that did not choose the class.

    Of groups that leave no class in both halves there is that of all images alone, and it says so.
    """
    crossfit = unit["average_precision_crossfit"]
    if crossfit is None:
        return f"average precision {unit['average_precision']:.4f} (not held out)"
    return f"held-out average precision {crossfit:.4f}"
