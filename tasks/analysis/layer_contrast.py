"""One layer of a network and of untrained ones, by the same measures over the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.analysis.layer_measures import keep_columns, layer_part
from activarium.tasks.analysis.untrained import IMAGES, load_shared
from activarium.tasks.embedding.neighbours import nearest_neighbours
from activarium.tasks.features.stored_rows import layer_rows
from activarium.tasks.statistics.comparable_classes import comparable_classes
from activarium.tasks.statistics.intervals.image_bootstrap import (
    resample_counts,
    resampled_eta2,
)
from activarium.tasks.statistics.layers.layer_moments import column_moments, standardised
from activarium.tasks.statistics.layers.layer_rows import ArrayRows
from activarium.tasks.statistics.layers.linear_probe import probe_accuracy
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.units.mutual_information import mutual_information
from activarium.tasks.statistics.units.preference import (
    anova,
    auroc,
    kruskal_wallis,
    lifetime_sparseness,
)
from activarium.tasks.statistics.units.selectivity import general_index
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.untrained import SharedImages
    from activarium.tasks.stores.places import Place

RESAMPLES = 199
"""Resamples of the images, for how far the gain depends on them."""
UNIT_MEANS = ("selectivity", "auroc", "eta2", "epsilon2", "mutual_information", "sparseness")
"""Columns of units whose mean over a layer is compared, as depth_trends follows them."""
MEASURES = (*UNIT_MEANS, "knn_purity", "probe_accuracy")
"""What is measured of each network; no unit counts for more because its values are larger."""


def contrast_layer(  # noqa: PLR0913, PLR0917 - a task: where things lie, which layer, and how
    place: Place, work: Path, index: int, control: Place, classes: int, config: AnalyseConfig
) -> None:
    """Measure a layer of the recording and of every untrained network; keep the rows aside.

    Parameters
    ----------
    place
        The recording's store.
    work
        The folder, with the images that both answer to.
    index
        Place of the layer among the recording's.
    control
        The control's store.
    classes
        Number of classes.
    config
        Neighbours and seed.
    """
    done = layer_part(work, "contrast", index)
    if done.exists():
        return
    recording, other, images = Recording(place), Recording(control), load_shared(work / IMAGES)
    layer = recording.layers[index]
    units = {each.name: each.units for each in other.layers}
    if units.get(layer.name) != layer.units:
        nothing = np.full(len(images.drawn) + 1, np.nan)
        keep_columns(done, dict.fromkeys((*MEASURES, "gain_sd"), nothing))
        return
    own = _values(recording, layer.name, images.own)
    drawn = _values(other, layer.name, images.drawn.ravel())
    networks = [own, *drawn.reshape(*images.drawn.shape, -1)]
    measured = [measure_network(each, images, classes, config) for each in networks]
    columns = {name: np.array([each[name] for each in measured]) for name in MEASURES}
    sd = gain_sd(networks, images, classes, seed=config.seed)
    keep_columns(done, columns | {"gain_sd": np.full(len(networks), sd)})


def _values(recording: Recording, layer: str, row: NDArray[np.int64]) -> NDArray[np.float32]:
    return layer_rows(recording, layer, row).take(np.arange(len(row)))


def measure_network(
    values: NDArray[np.float32], images: SharedImages, classes: int, config: AnalyseConfig
) -> dict[str, float]:
    """Return the measures of a layer of one network, by name.

    Parameters
    ----------
    values
        Responses, shape (image, unit), images in order of class.
    images
        Whose they are.
    classes
        Number of classes.
    config
        Neighbours and seed.
    """
    by_unit, code = np.ascontiguousarray(values.T), images.code
    moments, ranks = class_moments(by_unit, code, classes), rank_units(by_unit, code, classes)
    comparable = comparable_classes(moments.count)
    area = np.where(comparable, auroc(ranks.rank_sum, moments.count), -1.0)
    test = kruskal_wallis(ranks.rank_sum, moments.count, ranks.tie_sum)
    of_units = {
        "selectivity": general_index(moments.of_classes(comparable)),
        "auroc": area.max(axis=1),
        "eta2": anova(moments).eta2,
        "epsilon2": test.epsilon2,
        "mutual_information": mutual_information(ranks.joint).corrected,
        "sparseness": lifetime_sparseness(moments),
    }
    return {name: float(each.mean()) for name, each in of_units.items()} | _grouping(
        values, images, classes, config
    )


def _grouping(
    values: NDArray[np.float32], images: SharedImages, classes: int, config: AnalyseConfig
) -> dict[str, float]:
    """Return how the images group by class, by standardised units and in order of ids."""
    by_id = np.argsort(images.place)
    rows, code = ArrayRows(np.ascontiguousarray(values[by_id])), images.code[by_id]
    moments = column_moments(rows)
    probe = probe_accuracy(rows, code, classes, moments=moments).accuracy
    if moments.is_constant.all():
        return {"knn_purity": float("nan"), "probe_accuracy": probe}
    points = standardised(rows.values, moments).astype(np.float32)
    near = nearest_neighbours(points, k=min(config.knn_neighbours, (len(code) - 1) // 2))
    purity = float((code[near] == code[:, None]).mean())
    return {"knn_purity": purity, "probe_accuracy": probe}


def gain_sd(
    networks: list[NDArray[np.float32]], images: SharedImages, classes: int, *, seed: int
) -> float:
    """Return the standard error of the mean eta squared less the mean of the draws'.

    From resamples of the images, which all networks share, and from how the draws differ; NaN of
    one draw, which does not tell how draws differ.

    Parameters
    ----------
    networks
        Responses (image, unit) of the network, then of each draw.
    images
        Whose they are.
    classes
        Number of classes.
    seed
        Seed of the resamples.
    """
    draws = len(networks) - 1
    if draws < 2:
        return float("nan")
    counts = resample_counts(images.code, resamples=RESAMPLES, seed=seed, place=images.place)
    means = np.array(
        [
            resampled_eta2(np.ascontiguousarray(each.T), images.code, classes, counts).mean(axis=0)
            for each in networks
        ]
    )
    by_images = (means[0] - means[1:].mean(axis=0)).var(ddof=1)
    # The mean over resamples stands for each network's own value.
    by_draws = means[1:].mean(axis=1).var(ddof=1) / draws
    return float(np.sqrt(by_images + by_draws))
