"""Rows of the table `layers`: units summed up by layer, beside permuted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.analysis.contrast_rows import LEVEL, verdict
from activarium.tasks.analysis.layer_contrast import UNIT_MEANS
from activarium.tasks.analysis.layer_measures import FEWEST_TO_CORRELATE
from activarium.tasks.statistics.testing.permutation_tests import Permanova, permanova

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.schemas.layers import Layer

    Columns = dict[str, Any]

CONTROLLED_UNITS = {"selectivity_mean": "selectivity", "auroc_mean": "auroc", "eta2_mean": "eta2"}
"""Means over units that the controls have too, and the columns that they are of."""


def unit_slices(layers: Sequence[Layer]) -> list[slice]:
    """Return the units of each layer among all units."""
    stops = np.cumsum([layer.units for layer in layers]).tolist()
    return [slice(start, stop) for start, stop in zip([0, *stops[:-1]], stops, strict=True)]


def layer_rows(  # noqa: PLR0913 - what a layer is summed up from
    layers: Sequence[Layer],
    units: Columns,
    measures: Columns,
    grouping: Sequence[Permanova],
    config: AnalyseConfig,
    *,
    images: int,
) -> Columns:
    """Return the rows of `layers`, but for what the untrained model's tables say.

    Parameters
    ----------
    layers
        The layers in order.
    units
        Columns of `units`, and those of the control.
    measures
        Columns of `LayerMeasures`.
    grouping
        PERMANOVA of each layer.
    config
        Levels and seed.
    images
        Images that are analysed.
    """
    slices = unit_slices(layers)
    copies = np.where(np.isnan(np.asarray(units["copies_r"], np.float64)), 0.0, 1.0)
    if images < FEWEST_TO_CORRELATE:
        copies[:] = np.nan

    def means(values: Any) -> NDArray[np.float64]:
        array = np.asarray(values, dtype=np.float64)
        return np.array([array[each].mean() for each in slices])

    p = np.array([each.p for each in grouping])
    return {
        "layer": [layer.name for layer in layers],
        "depth": [layer.depth for layer in layers],
        "kind": [layer.kind for layer in layers],
        "units": [layer.units for layer in layers],
        "height": [layer.height for layer in layers],
        "width": [layer.width for layer in layers],
        "dead_fraction": means(units["is_dead"]),
        "redundant_fraction": means(copies),
        "selective_fraction": means(_share_up_to(units["q_value"], config.fdr)),
        "fdr": np.full(len(layers), config.fdr),
        "familywise_fraction": means(_share_up_to(units["fwer_p"], LEVEL)),
        **{name: means(units[of]) for name, of in CONTROLLED_UNITS.items()},
        "epsilon2_mean": means(units["epsilon2"]),
        "permanova_f": np.array([each.pseudo_f for each in grouping]),
        "permanova_r2": np.array([each.r2 for each in grouping]),
        "permanova_p": p,
        "chance_verdict": [verdict(each, draws=config.permutations) for each in p],
        **measures,
        **_shuffled_means(units, config, means),
    }


def _share_up_to(values: Any, level: float) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(array), np.nan, array <= level)


def unit_means(layers: Sequence[Layer], units: Columns) -> dict[str, NDArray[np.float64]]:
    """Return the mean over each layer's units of what is followed over depth, by column."""
    slices = unit_slices(layers)
    columns = {name: np.asarray(units[name], dtype=np.float64) for name in UNIT_MEANS}
    return {
        name: np.array([values[each].mean() for each in slices]) for name, values in columns.items()
    }


def _shuffled_means(units: Columns, config: AnalyseConfig, means: Any) -> Columns:
    """Return the control of permuted labels, as far as units tell it; NaN where there is none."""
    names = ("selective_fraction", *CONTROLLED_UNITS)
    if "eta2_shuffled" not in units:
        nothing = means(np.full(len(units["unit"]), np.nan))
        return {f"{name}_shuffled": nothing for name in names}
    found = {
        f"{name}_shuffled": means(units[f"{of}_shuffled"]) for name, of in CONTROLLED_UNITS.items()
    }
    return {
        "selective_fraction_shuffled": means(_share_up_to(units["q_value_shuffled"], config.fdr)),
        **found,
    }


def groupings(
    layers: Sequence[Layer],
    units: Columns,
    permuted: NDArray[np.float32] | None,
    *,
    images: int,
    classes: int,
) -> list[Permanova]:
    """Return PERMANOVA of every layer: p is NaN where labels were not permuted, all without classes.

    Parameters
    ----------
    layers
        The layers in order.
    units
        Columns of `units`, and `observed_effect` where labels were permuted.
    permuted
        Eta squared with permuted labels, shape (unit, permutation); None where none were.
    images
        Images with a class; 0 where classes cannot be compared.
    classes
        Classes with images.
    """
    slices, nan = unit_slices(layers), float("nan")
    if not images:
        return [Permanova(nan, nan, nan) for _ in layers]
    size = {"images": images, "classes": classes}
    if permuted is not None:
        observed = np.asarray(units["observed_effect"], np.float64)
        return [permanova(observed[each], permuted[each], **size) for each in slices]
    observed, none = np.asarray(units["eta2"], np.float64), np.empty((len(units["unit"]), 0))
    # A unit that varies has a class of the largest AUROC, even where its classes are all alike.
    varies = units["auroc_class"].is_valid().to_numpy()
    return [
        permanova(observed[each], none[each], **size, varying=int(varies[each].sum()))._replace(
            p=nan
        )
        for each in slices
    ]
