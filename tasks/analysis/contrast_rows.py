"""What the tables tell of a network beside untrained ones: columns of `layers`, and `depth_trends`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.layer_tables import CONTRASTED, UNDECIDED, VERDICTS
from activarium.tasks.analysis.layer_contrast import UNIT_MEANS
from activarium.tasks.statistics.intervals.confidence import two_sided_z
from activarium.tasks.statistics.layers.depth_trend import depth_correlation
from activarium.tasks.statistics.testing.monte_carlo import (
    apart_p,
    monte_carlo_max_p,
    monte_carlo_p,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.layers import Layer

    Array = NDArray[np.float64]
    Columns = dict[str, Any]

LEVEL = 0.05
"""Level of verdicts."""
QUANTILES = {"p05": 0.05, "median": 0.5, "p95": 0.95}
_MEASURE = {"eta2_mean": "eta2"}
"""What measures of `layers` are called where each network is measured."""


def verdict(p: float, *, draws: int) -> str | None:
    """Return the verdict of a p-value among so many draws; None where there is none.

    >>> verdict(0.05, draws=19), verdict(0.1, draws=19), verdict(0.5, draws=1)
    ('beyond', 'not beyond', 'undecided')
    """
    if np.isnan(p):
        return None
    beyond, not_beyond = VERDICTS
    if 1.0 / (draws + 1) > LEVEL:
        return UNDECIDED
    return beyond if p <= LEVEL else not_beyond


def contrast_columns(
    contrast: dict[str, Array] | None, layers: int, *, images: int, confidence: float
) -> Columns:
    """Return the columns of `layers` that untrained networks give; null without them.

    Parameters
    ----------
    contrast
        Measures of every network by name, shape (network, layer), the network itself first.
    layers
        Number of layers.
    images
        Images that they were compared over.
    confidence
        Level of the interval of the gain.
    """
    nothing = np.full((2, layers), np.nan)
    found: Columns = {}
    for name in CONTRASTED:
        table = nothing if contrast is None else contrast[_MEASURE.get(name, name)]
        found |= _columns_of(name, table[0], table[1:])
    networks = nothing if contrast is None else contrast["eta2"]
    draws = None if contrast is None else len(networks) - 1
    unknown: list[bool] = np.asarray(np.isnan(networks).any(axis=0)).tolist()
    found["draws"] = [None if each else draws for each in unknown]
    found["draw_images"] = [None if each else images for each in unknown]
    sd = nothing[0] if contrast is None else contrast["gain_sd"][0]
    gain = networks[0] - networks[1:].mean(axis=0)
    half = two_sided_z(confidence) * sd
    found |= {"eta2_mean_gain": gain, "eta2_mean_gain_low": gain - half}
    found["eta2_mean_gain_high"] = gain + half
    p = found["eta2_mean_untrained_fwer_p"]
    found["architecture_verdict"] = [verdict(each, draws=draws or 0) for each in p]
    return found


def _columns_of(name: str, own: Array, draws: Array) -> Columns:
    sd = draws.std(axis=0, ddof=1) if len(draws) > 1 else np.full_like(own, np.nan)
    quantiles = np.quantile(draws, list(QUANTILES.values()), axis=0)
    return {
        f"{name}_sampled": own,
        f"{name}_untrained": draws.mean(axis=0),
        f"{name}_untrained_sd": sd,
        f"{name}_untrained_low": draws.min(axis=0),
        f"{name}_untrained_high": draws.max(axis=0),
        **{
            f"{name}_untrained_{each}": values
            for each, values in zip(QUANTILES, quantiles, strict=True)
        },
        f"{name}_untrained_p": monte_carlo_p(own, draws),
        f"{name}_untrained_fwer_p": monte_carlo_max_p(own, draws),
    }


def trend_rows(
    layers: Sequence[Layer],
    means: dict[str, Array],
    contrast: dict[str, Array] | None,
    *,
    kept: NDArray[np.bool_],
) -> Columns:
    """Return the rows of `depth_trends`; without classes only those of measures that need none.

    Parameters
    ----------
    layers
        The layers in order.
    means
        Mean over the units of each layer by measure, shape (layer,); NaN where there is none.
    contrast
        As `contrast_columns` takes it.
    kept
        Which layers count, shape (layer,): those that repeat another do not.
    """
    depth = np.array([layer.depth for layer in layers], np.float64)[kept]
    rows = []
    for measure in UNIT_MEANS:
        if np.isnan(means[measure]).any():
            continue
        row: Columns = {
            "measure": measure,
            "layers": len(depth),
            "spearman_rho": depth_correlation(depth, means[measure][kept]),
        }
        networks = None if contrast is None else contrast[measure][:, kept]
        rows.append(row | _among_untrained(depth, networks))
    names = list(rows[0]) if rows else []
    return {name: [row[name] for row in rows] for name in names}


def _among_untrained(depth: Array, networks: Array | None) -> Columns:
    """Return where the correlation lies among those of untrained networks, over the same images."""
    nan = float("nan")
    if networks is None:
        networks = np.full((2, len(depth)), nan)
    rho = np.array([depth_correlation(depth, each) for each in networks])
    own, draws = rho[0], rho[1:]
    p = apart_p(own, draws)
    return {
        "spearman_rho_sampled": own,
        "spearman_rho_untrained": draws.mean(),
        "spearman_rho_untrained_sd": draws.std(ddof=1) if len(draws) > 1 else nan,
        "spearman_rho_untrained_low": draws.min(),
        "spearman_rho_untrained_high": draws.max(),
        "spearman_p": p,
        "spearman_verdict": verdict(p, draws=len(draws)),
    }
