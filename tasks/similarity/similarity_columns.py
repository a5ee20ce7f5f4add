"""Columns of the tables `similarities` and `unit_matches`, from the pieces of a comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.tasks.analysis.names import named
from activarium.tasks.similarity.centred_kernel_alignment import Sums, debiased_cka, linear_cka
from activarium.tasks.similarity.cross_products import vector_products
from activarium.tasks.similarity.distance_ranks import rank_correlation
from activarium.tasks.similarity.layer_profile import PRODUCTS
from activarium.tasks.similarity.procrustes import procrustes_similarity

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.compare_config import CompareConfig
    from activarium.tasks.similarity.layer_profile import Subject

    Matrix = NDArray[np.float64]

FEWEST_IMAGES = 3
"""Over fewer images any two layers, and any two units, that vary are alike."""


@dataclass(frozen=True)
class Compared:
    """A pair of recordings, profiled; both are the same where one is compared with itself."""

    first: Subject
    second: Subject
    invalid_images: int
    """Images that would be compared, could they be decoded in both."""

    @property
    def shape(self) -> tuple[int, int]:
        """Layers of the first, and of the second."""
        return len(self.first.layers), len(self.second.layers)

    @property
    def is_same(self) -> bool:
        """Whether a recording is compared with itself."""
        return self.first == self.second

    @property
    def images(self) -> int:
        """Number of images compared."""
        return len(self.first.row)


def similarity_columns(
    pair: Compared, products: Sequence[Path], config: CompareConfig
) -> dict[str, Any]:
    """Return the columns of `similarities`.

    Parameters
    ----------
    pair
        Two recordings, profiled.
    products
        Files that `multiply_panels` wrote of all panels.
    config
        Measures, and the sample of RSA.
    """
    undefined = np.full(pair.shape, np.nan)
    measures = dict.fromkeys(("cka", "cka_debiased", "rsa", "procrustes"), undefined)
    if pair.images < FEWEST_IMAGES:
        config = config.model_copy(update={"measures": ()})
    if PRODUCTS & {*config.measures}:
        measures |= _product_measures(pair, products, config)
    sampled = 0
    if "rsa" in config.measures:
        sampled = min(pair.images, config.rsa_images)
        measures["rsa"] = _rank_correlation(pair)
    repeated = {
        "other_recording": pair.second.name,
        "features": config.features,
        "images": pair.images,
        "invalid_images": pair.invalid_images,
        "rsa_images": sampled,
        "seed": config.seed,
    }
    rows = pair.shape[0] * pair.shape[1]
    return {
        **_layer_columns(pair),
        **{name: [value] * rows for name, value in repeated.items()},
        **{name: values.ravel() for name, values in measures.items()},
        "alignment_r2": measures["procrustes"].ravel() ** 2,
    }


def _layer_columns(pair: Compared) -> dict[str, Any]:
    layers, others = pair.shape
    columns: dict[str, Any] = {}
    sides = ((pair.first, ""), (pair.second, "other_"))
    for place, (subject, prefix) in zip(np.indices((layers, others)), sides, strict=True):
        every = [subject.layers[each] for each in place.ravel()]
        columns[f"{prefix}layer"] = [layer.name for layer in every]
        columns[f"{prefix}depth"] = [layer.depth for layer in every]
        columns[f"{prefix}units"] = [layer.units for layer in every]
    return columns


def _product_measures(
    pair: Compared, products: Sequence[Path], config: CompareConfig
) -> dict[str, Matrix]:
    squared, nuclear = _merged(pair, products)
    norms, other_norms = pair.first.vectors("norms"), pair.second.vectors("norms")
    first, second = _sums(pair.first, norms), _sums(pair.second, other_norms)
    found = {}
    if "cka" in config.measures:
        found["cka"] = linear_cka(squared, first.own, second.own)
        found["cka_debiased"] = debiased_cka(
            squared, vector_products(norms, other_norms), first, second, images=pair.images
        )
    if "procrustes" in config.measures:
        found["procrustes"] = procrustes_similarity(nuclear, first.total, second.total)
    return found


def _sums(subject: Subject, norms: Sequence[NDArray[np.float64]]) -> Sums:
    return Sums(
        own=subject.own(),
        total=np.array([each.sum() for each in norms]),
        squared_norms=np.array([float(each @ each) for each in norms]),
    )


def _merged(pair: Compared, products: Sequence[Path]) -> tuple[Matrix, Matrix]:
    """Return sums of squares, added over the parts of divided layers, and nuclear norms."""
    squared, nuclear = np.zeros(pair.shape), np.full(pair.shape, np.nan)
    for path in products:
        lines = np.load(path)
        row, column = lines[:, :2].astype(np.int64).T
        np.add.at(squared, (row, column), lines[:, 2])
        nuclear[row, column] = lines[:, 3]
    if pair.is_same:
        below = np.tril_indices(len(squared), -1)
        for each in (squared, nuclear):
            each[below] = each.T[below]
    return squared, nuclear


def _rank_correlation(pair: Compared) -> Matrix:
    ranks, other_ranks = pair.first.vectors("ranks"), pair.second.vectors("ranks")
    products = vector_products(ranks, other_ranks)
    if pair.is_same:
        own = other = np.diagonal(products)
    else:
        own, other = (_own_products(each) for each in (ranks, other_ranks))
    return rank_correlation(products, own, other)


def _own_products(vectors: Sequence[NDArray[np.int32]]) -> NDArray[np.float64]:
    return np.array([vector_products([each], [each])[0, 0] for each in vectors])


def match_columns(pair: Compared, layers: Sequence[str], matches: Sequence[Path]) -> dict[str, Any]:
    """Return the columns of `unit_matches`.

    Parameters
    ----------
    pair
        Two recordings.
    layers
        Layers that both have.
    matches
        The file that `match_layer` wrote of each.
    """
    depth = {layer.name: layer.depth for layer in pair.first.layers}
    pieces = []
    for layer, path in zip(layers, matches, strict=True):
        with np.load(path) as found:
            values = {name: found[name] for name in found.files}
        channels = np.arange(len(values["best"]))
        piece = {
            "layer": [layer] * len(channels),
            "channel": channels,
            "unit": [f"{layer}/{channel}" for channel in channels],
            "depth": [depth[layer]] * len(channels),
            "other_recording": [pair.second.name] * len(channels),
            "images": [pair.images] * len(channels),
            **_partners(layer, values if pair.images >= FEWEST_IMAGES else _unmatched(values)),
            **_classes(values, pair.first.classes, pair.second.classes),
        }
        pieces.append(pa.table(piece))
    if not pieces:
        return {}
    joined = pa.concat_tables(pieces)
    return {name: joined[name] for name in joined.column_names}


def _unmatched(values: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return no partner for any unit: over two images any two that vary correlate fully."""
    unknown = {"best": -1, "assigned": -1, "same_r": np.nan, "best_r": np.nan, "assigned_r": np.nan}
    return values | {name: np.full_like(values[name], value) for name, value in unknown.items()}


def _partners(layer: str, values: dict[str, NDArray[Any]]) -> dict[str, Any]:
    channels = max(values["best"].max(), values["assigned"].max()) + 1
    names = [f"{layer}/{channel}" for channel in range(max(channels, 1))]
    return {
        "same_r": values["same_r"],
        "best_unit": named(values["best"], names),
        "best_r": values["best_r"],
        "assigned_unit": named(values["assigned"], names),
        "assigned_r": values["assigned_r"],
    }


def _classes(
    values: dict[str, NDArray[Any]], names: Sequence[str], other_names: Sequence[str]
) -> dict[str, Any]:
    """Return the classes preferred; those of the unit of the same name, where there is one."""
    preferred = values["preferred"]
    beside = np.full(len(preferred), -1, np.int64)
    both = min(len(preferred), len(values["other_preferred"]))
    beside[:both] = values["other_preferred"][:both]
    own = named(preferred, names)
    other = named(beside, other_names)
    # Of classes beside groups of them nothing is kept or lost.
    same = {*names} == {*other_names}
    return {
        "preferred_class": own,
        "other_preferred_class": other,
        "kept_class": pa.array(
            [
                None if one is None or two is None or not same else one == two
                for one, two in zip(own.to_pylist(), other.to_pylist(), strict=True)
            ],
            pa.bool_(),
        ),
    }
