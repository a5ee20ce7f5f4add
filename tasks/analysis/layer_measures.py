"""Measures of a whole layer: how its images group by class, and how many dimensions it uses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from activarium.schemas.analysis_config import SHUFFLE
from activarium.tasks.analysis.chosen_images import load_choice
from activarium.tasks.analysis.layer_pairs import pair_rows
from activarium.tasks.analysis.unit_block import CHOICE
from activarium.tasks.embedding.neighbours import nearest_neighbours, sample_queries
from activarium.tasks.features.stored_rows import layer_rows
from activarium.tasks.statistics.intervals.hit_intervals import accuracy_interval, purity_interval
from activarium.tasks.statistics.intervals.layer_jackknife import (
    NO_INTERVALS,
    layer_mean_intervals,
)
from activarium.tasks.statistics.layers.class_similarity import class_similarity
from activarium.tasks.statistics.layers.layer_moments import column_moments, standardised
from activarium.tasks.statistics.layers.linear_probe import FOLDS, probe_accuracy
from activarium.tasks.statistics.layers.redundancy import redundancy_groups
from activarium.tasks.statistics.layers.separation import separation
from activarium.tasks.statistics.layers.spectrum import (
    covariance,
    effective_dimension,
    sufficient_dimensions,
)
from activarium.tasks.stores.files import replacing
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.statistics.layers.layer_moments import ColumnMoments
    from activarium.tasks.statistics.layers.layer_rows import LayerRows
    from activarium.tasks.stores.places import Place

NAN = float("nan")
FEWEST_TO_CORRELATE = 3
"""Images below which any two units correlate fully."""


@dataclass(frozen=True)
class LayerMeasures:
    """What is measured over all units of a layer together; NaN where it is not defined."""

    effective_dimension: float
    sufficient_dimensions: int
    within_similarity: float = NAN
    between_similarity: float = NAN
    anosim_r: float = NAN
    silhouette: float = NAN
    sampled_images: int = 0
    knn_purity: float = NAN
    knn_purity_low: float = NAN
    knn_purity_high: float = NAN
    knn_purity_shuffled: float = NAN
    knn_neighbours: int = 0
    knn_queries: int = 0
    knn_images: int = 0
    probe_accuracy: float = NAN
    probe_accuracy_low: float = NAN
    probe_accuracy_high: float = NAN
    probe_accuracy_shuffled: float = NAN
    probe_chance: float = NAN
    eta2_mean_low: float = NAN
    eta2_mean_high: float = NAN
    selectivity_low: float = NAN
    selectivity_high: float = NAN


def layer_part(work: Path, name: str, depth: int) -> Path:
    """Return where a layer's rows of a table are kept until all layers are done."""
    return work / f"{name}-layer-{depth:05d}.arrow"


def measure_layer(place: Place, work: Path, index: int, config: AnalyseConfig) -> None:
    """Measure one layer of a recording by its channel means; keep the rows in the work folder.

    Parameters
    ----------
    place
        The recording's store.
    work
        The folder, with the choice of images.
    index
        Place of the layer among the recording's.
    config
        Sizes of samples, thresholds, controls.
    """
    done = layer_part(work, "layers", index)
    if done.exists():
        return
    recording, chosen = Recording(place), load_choice(work / CHOICE)
    layer = recording.layers[index].name
    # By id: the folds of the probe and the samples must not depend on the order of the recording.
    by_id = np.argsort(chosen.place)
    labelled = chosen.row[by_id]
    whole = chosen.labelled == len(chosen.row)
    rows = layer_rows(recording, layer, labelled if whole else np.sort(chosen.row))
    moments = column_moments(rows)
    spread = covariance(rows, moments=moments)
    # Over two images every two units that vary would be copies.
    correlated = spread if len(chosen.row) >= FEWEST_TO_CORRELATE else np.zeros_like(spread)
    groups = redundancy_groups(correlated, threshold=config.redundancy)
    measures: dict[str, Any] = {
        "effective_dimension": effective_dimension(spread),
        "sufficient_dimensions": sufficient_dimensions(spread),
    }
    if chosen.is_comparable:
        if not whole:
            rows = layer_rows(recording, layer, labelled)
            moments = column_moments(rows)
        code, shuffled = chosen.code[by_id], chosen.shuffled[by_id]
        if SHUFFLE not in config.controls:
            shuffled = np.zeros(0, np.int64)
        classes = len(chosen.class_names)
        measures |= _class_measures(rows, moments, (code, shuffled), classes, config)
        keep_columns(
            layer_part(work, "class_pairs", index), pair_rows(recording, layer, chosen, config)
        )
    keep_columns(layer_part(work, "redundancy", index), groups._asdict())
    row = asdict(LayerMeasures(**measures))
    keep_columns(done, {name: [value] for name, value in row.items()})


def keep_columns(path: Path, columns: Mapping[str, object]) -> None:
    """Keep columns aside until all layers are done."""
    with replacing(path) as temporary:
        feather.write_feather(pa.table({**columns}), temporary, compression="lz4")


def _class_measures(
    rows: LayerRows,
    moments: ColumnMoments,
    codes: tuple[NDArray[np.int64], NDArray[np.int64]],
    classes: int,
    config: AnalyseConfig,
) -> dict[str, Any]:
    """Return how the images group by class, of a layer where any unit varies.

    Where none does, all images are in one place: what is said of their distances would be the
    rule for ties. The probe names the largest class, which is its chance level.
    """
    code, shuffled = codes
    probe = probe_accuracy(rows, code, classes, moments=moments)
    found: dict[str, Any] = {"probe_accuracy": probe.accuracy, "probe_chance": probe.chance}
    found |= _ends(
        "probe_accuracy", accuracy_interval(probe.right, folds=FOLDS, level=config.confidence)
    )
    if len(shuffled):
        control = probe_accuracy(rows, shuffled, classes, moments=moments)
        found["probe_accuracy_shuffled"] = control.accuracy
    if moments.is_constant.all():
        return found
    similarity = class_similarity(rows, code, classes, moments=moments)
    sample = sample_queries(len(code), most=config.sample_images, seed=config.seed)
    apart = separation(standardised(rows.take(sample), moments), code[sample])
    means = layer_mean_intervals(rows, code, classes, moments=moments, level=config.confidence)
    found |= _ends("eta2_mean", means.eta2) | _ends("selectivity", means.selectivity)
    purity = _knn_measures(rows, codes, config)
    if means == NO_INTERVALS:
        # So few images hold up no interval of their neighbours either.
        purity |= _ends("knn_purity", (NAN, NAN))
    return found | {
        "within_similarity": similarity.within,
        "between_similarity": similarity.between,
        "anosim_r": apart.anosim_r,
        "silhouette": apart.silhouette,
        "sampled_images": len(sample),
        **purity,
    }


def _ends(name: str, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}_low": interval[0], f"{name}_high": interval[1]}


def _knn_measures(
    rows: LayerRows, codes: tuple[NDArray[np.int64], NDArray[np.int64]], config: AnalyseConfig
) -> dict[str, Any]:
    """Return the class purity of nearest neighbours, looked up once for both sets of classes."""
    code, shuffled = codes
    taken = sample_queries(len(code), most=config.knn_images, seed=config.seed)
    queries = sample_queries(len(taken), most=config.knn_queries, seed=config.seed)
    # Of all other images, or nearly all, each would have the same classes among its neighbours.
    k = min(config.knn_neighbours, (len(taken) - 1) // 2)
    # One more than purity looks at: the next one tells what each of them adds.
    further = nearest_neighbours(rows.take(taken), k=k + 1, queries=queries)
    near = further[:, :k]

    def purity(of: NDArray[np.int64]) -> float:
        known = of[taken]
        return float((known[near] == known[queries, None]).mean())

    found: dict[str, Any] = {
        "knn_purity": purity(code),
        "knn_neighbours": k,
        "knn_queries": len(queries),
        "knn_images": len(taken),
    }
    found |= _ends(
        "knn_purity", purity_interval(code[taken], further, queries, level=config.confidence)
    )
    return found | ({"knn_purity_shuffled": purity(shuffled)} if len(shuffled) else {})
