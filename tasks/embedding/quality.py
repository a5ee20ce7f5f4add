"""How far a map can be trusted: all scores of one map beside those of its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.embedding.map_quality import continuity, normalised_stress
from activarium.tasks.embedding.neighbour_scores import knn_purity, trustworthiness
from activarium.tasks.embedding.neighbours import nearest_references, sample_queries
from activarium.tasks.statistics.comparable_classes import are_comparable
from activarium.tasks.statistics.layers.separation import silhouette

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.config import EmbedConfig

    Floats = NDArray[np.floating]

NAN = float("nan")


def most_neighbours(images: int) -> int:
    """Return the most neighbours that trustworthiness is defined for: fewer than half the images."""
    return (images - 1) // 2


def map_quality(
    points: Floats, flat: Floats, labels: NDArray[np.integer], config: EmbedConfig
) -> dict[str, Any]:
    """Return the scores of a map as columns of `embedding_quality`.

    Those of classes are NaN where no two classes have two images.

    Parameters
    ----------
    points
        The source, shape (N, F).
    flat
        The map, shape (N, D).
    labels
        Class code of each image, shape (N,); negative where there is none.
    config
        Neighbours, queries and seed.
    """
    near = min(config.quality_neighbours, most_neighbours(len(points)))
    queries = sample_queries(len(points), most=config.quality_queries, seed=config.seed)
    labelled = queries[labels[queries] >= 0]
    spaces = {"": flat, "source_": points}
    told = are_comparable(labels)
    purity = {
        f"{name}knn_purity": knn_purity(space, labels, k=near, queries=queries) if told else NAN
        for name, space in spaces.items()
    }
    apart = {
        f"{name}silhouette": silhouette(space[labelled], labels[labelled]) if told else NAN
        for name, space in spaces.items()
    }
    return {
        "quality_images": len(points),
        "trustworthiness": trustworthiness(points, flat, k=near, queries=queries),
        "continuity": continuity(points, flat, k=near, queries=queries),
        **purity,
        **apart,
        "stress": normalised_stress(points, flat, queries=queries),
        "neighbours": near,
        "queries": len(queries),
    }


def placed_purity(
    placed: Floats,
    classes: NDArray[np.str_],
    flat: Floats,
    there: NDArray[np.str_],
    config: EmbedConfig,
) -> float:
    """Return the mean share of the nearest images of a map that carry a placed image's class.

    Parameters
    ----------
    placed
        Coordinates of the images that were placed, shape (M, D).
    classes
        Their classes, empty where there is none, shape (M,).
    flat
        Coordinates of the map's own images, shape (N, D).
    there
        Their classes, shape (N,).
    config
        Neighbours, queries and seed.

    Returns
    -------
    Purity from 0 to 1; NaN without a labelled image that was placed, and where no two classes have
    two images in the map.
    """
    known = there != ""
    labelled = np.flatnonzero(classes != "")
    if not are_comparable(np.unique(there[known], return_inverse=True)[1]) or not len(labelled):
        return NAN
    drawn = sample_queries(len(labelled), most=config.quality_queries, seed=config.seed)
    queries = labelled[drawn]
    near = nearest_references(
        flat[known], placed[queries], k=min(config.quality_neighbours, int(known.sum()))
    )
    return float(np.mean(there[known][near] == classes[queries][:, None]))
