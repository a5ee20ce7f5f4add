"""Measures of a whole layer: how its images group by class, and how many dimensions it uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activarium.tasks.embedding.neighbours import knn_purity, sample_queries
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.stores.places import Place


ROWS = 4_096
"""Images per step, so that float64 copies stay small."""


@dataclass(frozen=True)
class LayerMeasures:
    """What is measured over all units of a layer together."""

    knn_purity: float
    """NaN below two labelled images."""
    neighbours: int
    """Neighbours per image in the purity."""
    queries: int
    """Images whose neighbours were looked up."""
    effective_dimension: float
    """NaN where all units are constant."""


def effective_dimension(responses: NDArray[np.floating]) -> float:
    """Return the participation ratio of the covariance's eigenvalues.

    (sum of eigenvalues)^2 / (sum of their squares), from 1 (one direction holds all variance) to
    the number of units; NaN where nothing varies.

    Parameters
    ----------
    responses
        Responses, shape (image, unit).

    References
    ----------
    Gao et al. (2017), A theory of multineuronal dimensionality, equation 1.
    """
    mean = responses.mean(axis=0, dtype=np.float64)
    units = responses.shape[1]
    products = np.zeros((units, units))
    for start in range(0, len(responses), ROWS):
        centred = responses[start : start + ROWS] - mean
        products += centred.T @ centred
    squares = float((products**2).sum())
    return float(np.trace(products)) ** 2 / squares if squares > 0 else float("nan")


def measure_layer(
    place: Place, layer: str, neighbours: int, most_queries: int, seed: int
) -> LayerMeasures:
    """Measure one layer of a recording by its channel means.

    Parameters
    ----------
    place
        The recording's store.
    layer
        Name of the layer.
    neighbours
        Neighbours per image in the k-NN purity; lowered where fewer images are labelled.
    most_queries
        Images at most whose neighbours are looked up, among all labelled images.
    seed
        Seed of the sample of those images.
    """
    recording = Recording(place)
    columns = recording.layer_slices[layer]
    rows = np.flatnonzero(recording.valid)
    responses = recording.columns("channel_mean", columns.start, columns.stop)[rows]
    labels = recording.labels[rows]
    labelled = np.flatnonzero(labels >= 0)
    dimension = effective_dimension(responses)
    if len(labelled) < 2:
        return LayerMeasures(float("nan"), 0, 0, dimension)
    queries = labelled[sample_queries(len(labelled), most=most_queries, seed=seed)]
    k = min(neighbours, len(labelled) - 1)
    purity = knn_purity(responses, labels, k=k, queries=queries)
    return LayerMeasures(purity, k, len(queries), dimension)
