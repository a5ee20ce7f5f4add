"""Rows of the tables `layers` and `depth_trends`: units summed up by layer, beside the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.layer_tables import CONTROLLED
from activarium.tasks.analysis.layer_measures import FEWEST_TO_CORRELATE
from activarium.tasks.statistics.layers.depth_trend import jonckheere_terpstra, spearman_trend
from activarium.tasks.statistics.layers.layer_comparison import exceeds_p, rises_z
from activarium.tasks.statistics.tail_probabilities import normal_two_sided_log10_p
from activarium.tasks.statistics.testing.permutation_tests import Permanova, permanova

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import AnalyseConfig
    from activarium.schemas.layers import Layer

    Columns = dict[str, Any]

BEYOND = 0.05
"""Level of the two verdicts, and of the family-wise share."""
TRENDS = ("selectivity", "auroc", "eta2", "epsilon2", "mutual_information", "sparseness")
"""Columns of units whose trend over depth is tested."""
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
        "familywise_fraction": means(_share_up_to(units["fwer_p"], BEYOND)),
        **{name: means(units[of]) for name, of in CONTROLLED_UNITS.items()},
        "epsilon2_mean": means(units["epsilon2"]),
        "permanova_f": np.array([each.pseudo_f for each in grouping]),
        "permanova_r2": np.array([each.r2 for each in grouping]),
        "permanova_p": p,
        "beyond_chance": [None if np.isnan(each) else bool(each <= BEYOND) for each in p],
        **measures,
        **_shuffled_means(units, config, means),
    }


def _share_up_to(values: Any, level: float) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isnan(array), np.nan, array <= level)


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


def untrained_columns(
    rows: Columns, eta2: Iterable[NDArray[np.float64]], control: Columns | None
) -> Columns:
    """Return what the untrained model's tables say of the same layers; null without them.

    Parameters
    ----------
    rows
        The rows of `layers`.
    eta2
        eta squared of the units of each layer.
    control
        By layer name, the control's row of `layers` and its units' eta squared.
    """
    names = rows["layer"]
    found = [control.get(name) if control else None for name in names]
    columns: Columns = {
        f"{measure}_untrained": np.array(
            [np.nan if each is None else _number(each["row"][measure]) for each in found]
        )
        for measure in CONTROLLED
    }
    p = np.array(
        [
            np.nan
            if each is None
            else exceeds_p(
                own,
                each["eta2"],
                own_size=size,
                other_size=_number(each["row"]["effective_dimension"]),
            )
            for own, size, each in zip(eta2, rows["effective_dimension"], found, strict=True)
        ]
    )
    columns["architecture_p"] = p
    columns["beyond_architecture"] = [
        None if np.isnan(each) else bool(each <= BEYOND) for each in p
    ]
    return columns


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def trend_rows(layers: Sequence[Layer], units: Columns, sizes: Sequence[float]) -> Columns:
    """Return the rows of `depth_trends`; without classes only those of measures that need none.

    Parameters
    ----------
    layers
        The layers in order.
    units
        Columns of `units`.
    sizes
        Independent units that the units of each layer are worth.
    """
    slices = unit_slices(layers)
    depth = np.array([layer.depth for layer in layers], np.float64)
    rows = []
    for measure in TRENDS:
        values = np.asarray(units[measure], dtype=np.float64)
        if np.isnan(values).any():
            continue
        groups = [values[each] for each in slices]
        rank = spearman_trend(depth, np.array([group.mean() for group in groups]))
        z = rises_z(groups, sizes)
        log10_p = float(normal_two_sided_log10_p(z))
        rows.append(
            {
                "measure": measure,
                "layers": len(layers),
                "units": len(values),
                "spearman_rho": rank.rho,
                "spearman_p": rank.p,
                "jonckheere_j": jonckheere_terpstra(groups).j,
                "jonckheere_z": z,
                "jonckheere_p": 10.0**log10_p,
                "jonckheere_log10p": log10_p,
            }
        )
    names = list(rows[0]) if rows else []
    return {name: [row[name] for row in rows] for name in names}
