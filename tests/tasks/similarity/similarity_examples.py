"""Similarities through the product's sums, and directly by matrices of all pairs of images."""

from __future__ import annotations

import numpy as np
from scipy.linalg import orthogonal_procrustes
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from activarium.tasks.similarity.centred_kernel_alignment import Sums, debiased_cka, linear_cka
from activarium.tasks.similarity.centred_responses import centre
from activarium.tasks.similarity.cross_products import (
    Part,
    panel_products,
    squared_product,
    vector_products,
)
from activarium.tasks.similarity.distance_ranks import distance_ranks, rank_correlation
from activarium.tasks.similarity.procrustes import nuclear_norm, procrustes_similarity
from activarium.tasks.statistics.layers.layer_rows import ArrayRows


def similarities(x, y, *, block=7):
    """Return the measures of two matrices (image, unit), as a comparison computes them."""
    layers = [centre(ArrayRows(each.astype(np.float32), block)) for each in (x, y)]
    whole = [(Part(0, 0, each.units, True),) for each in layers]
    products = panel_products({0: layers[0]}, whole[0], {0: layers[1]}, whole[1])
    norms = [np.concatenate([(b**2).sum(1) for b in each.blocks(5)]) for each in layers]
    sums = [
        Sums(
            own=np.array([squared_product(each, each)]),
            total=np.array([norm.sum()]),
            squared_norms=np.array([(norm**2).sum()]),
        )
        for each, norm in zip(layers, norms, strict=True)
    ]
    square = np.array([[squared_product(*layers)]])
    ranks = [distance_ranks(each.astype(np.float32)) for each in (x, y)]
    own = [vector_products([each], [each])[0] for each in ranks]
    nuclear = np.array([[nuclear_norm(products)]])
    found = {
        "cka": linear_cka(square, sums[0].own, sums[1].own),
        "cka_debiased": debiased_cka(
            square, vector_products(norms[:1], norms[1:]), *sums, images=len(x)
        ),
        "rsa": rank_correlation(vector_products(ranks[:1], ranks[1:]), *own),
        "procrustes": procrustes_similarity(nuclear, sums[0].total, sums[1].total),
    }
    return {name: float(value[0, 0]) for name, value in found.items()}


def direct_cka(x, y):
    """CKA by Gram matrices and the centring matrix."""
    n = len(x)
    h = np.eye(n) - 1 / n
    k, l = (h @ (each @ each.T) @ h for each in (x, y))  # noqa: E741 - as in the paper
    return np.trace(k @ l) / np.sqrt(np.trace(k @ k) * np.trace(l @ l))


def direct_debiased_cka(x, y):
    """The same by the three terms of Song et al. (2012), equation 5."""

    def hsic(k, l):  # noqa: E741
        n = len(k)
        one = np.ones(n)
        first = np.trace(k @ l)
        second = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
        third = 2 / (n - 2) * (one @ k @ l @ one)
        return (first + second - third) / (n * (n - 3))

    k, l = (each @ each.T for each in (x, y))  # noqa: E741
    for each in (k, l):
        np.fill_diagonal(each, 0)
    return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))


def direct_rsa(x, y):
    return spearmanr(pdist(x, "sqeuclidean"), pdist(y, "sqeuclidean")).statistic


def direct_procrustes(x, y):
    """By scipy's best orthogonal map of matrices filled up with units that are 0."""
    units = max(x.shape[1], y.shape[1])
    x, y = (np.pad(each - each.mean(0), ((0, 0), (0, units - each.shape[1]))) for each in (x, y))
    return orthogonal_procrustes(x, y)[1] / (np.linalg.norm(x) * np.linalg.norm(y))


DIRECT = {
    "cka": direct_cka,
    "cka_debiased": direct_debiased_cka,
    "procrustes": direct_procrustes,
}


def directly(x, y):
    """Return the measures of two matrices by the references, which lose digits of large means."""
    centred = [each - each.mean(0) for each in (x, y)]
    found = {name: float(of(*centred)) for name, of in DIRECT.items()}
    # Centring would part distances that are equal.
    return found | {"rsa": float(direct_rsa(x, y))}


def related(seed=0, images=60, units=(5, 9)):
    """Return two layers that share some of their variance, with halves of zeros and ties."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, units[0])) * rng.uniform(0.5, 3, units[0]) + 2
    y = rng.normal(size=(images, units[1])) + x @ rng.normal(size=units) / 2
    y = np.round(np.maximum(y + 1, 0) * 4) / 4
    return x.astype(np.float32).astype(np.float64), y


def rotation(units, seed=0):
    """Return a random orthogonal matrix."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(units, units)))[0]
