"""The tables of layers: how classes lie in them, pair by pair, and how that changes with depth."""

from __future__ import annotations

from activarium.schemas.columns import (
    Column,
    Table,
    flag,
    integer,
    log10_p,
    p_value,
    real,
    share,
    text,
)
from activarium.schemas.layers import KINDS
from activarium.schemas.unit_tables import LAYER

CONTROLLED = (
    "selective_fraction",
    "selectivity_mean",
    "auroc_mean",
    "eta2_mean",
    "knn_purity",
    "probe_accuracy",
)
"""Measures of a layer that stand beside the same of the controls."""


def _controls(control: str, where: str) -> tuple[Column, ...]:
    return tuple(
        share(f"{name}_{control}", f"{name} {where}", nullable=True) for name in CONTROLLED
    )


LAYERS = Table(
    "layers",
    "recording x layer",
    "One line per layer: its size, how much its units prefer classes, how its images group by "
    "class, and the same for the controls.",
    (
        LAYER,
        integer("depth", "place in the order of execution, from 0"),
        text("kind", f"kind of layer: {', '.join(KINDS)}"),
        integer("units", "number of units"),
        integer("height", "height of the map", "position"),
        integer("width", "width of the map", "position"),
        text(
            "duplicates_layer",
            "earlier layer whose units this one's repeat, equal up to rounding; null for others",
            nullable=True,
        ),
        share("dead_fraction", "share of dead units"),
        share(
            "redundant_fraction",
            "share of units that copy another of the layer; null below three images",
            nullable=True,
        ),
        share("selective_fraction", "share of units with q_value at most `fdr`", nullable=True),
        share("fdr", "false discovery rate that selective_fraction uses"),
        share("familywise_fraction", "share of units with fwer_p at most 0.05", nullable=True),
        share("selectivity_mean", "mean selectivity index of the units", nullable=True),
        share("selectivity_low", "lower end of its bootstrap interval over units", nullable=True),
        share("selectivity_high", "upper end", nullable=True),
        share("auroc_mean", "mean over units of the largest one-against-rest AUROC", nullable=True),
        share(
            "eta2_mean",
            "mean share of a unit's variance that is associated with the class",
            nullable=True,
        ),
        share("epsilon2_mean", "mean rank-based effect size", nullable=True),
        real(
            "within_similarity",
            "mean cosine of two images of one class, by their standardised units",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "between_similarity",
            "mean cosine of two images of different classes",
            low=-1,
            high=1,
            nullable=True,
        ),
        real("permanova_f", "PERMANOVA pseudo-F (Anderson 2001)", low=0, nullable=True),
        share(
            "permanova_r2",
            "share of the images' spread that is associated with the class",
            nullable=True,
        ),
        p_value("permanova_p", "its p-value by permuted labels", nullable=True),
        real("anosim_r", "ANOSIM R (Clarke 1993), of a sample", low=-1, high=1, nullable=True),
        real(
            "silhouette",
            "mean silhouette of the classes, of a sample",
            low=-1,
            high=1,
            nullable=True,
        ),
        share(
            "knn_purity",
            "mean share of an image's nearest neighbours, by the layer's channel means, "
            "that carry its class",
            nullable=True,
        ),
        integer("knn_neighbours", "neighbours per image in knn_purity"),
        integer("knn_queries", "images whose neighbours were looked up; a declared sample"),
        integer("knn_images", "images among which they were looked up; a declared sample"),
        integer("sampled_images", "images in anosim_r and silhouette; a declared sample"),
        share(
            "probe_accuracy",
            "share of images that a linear classifier of the layer gets right, cross-validated",
            nullable=True,
        ),
        share("probe_chance", "share of the largest class", nullable=True),
        real(
            "effective_dimension",
            "participation ratio of the covariance's eigenvalues: (sum)^2 / sum of squares",
            low=0,
            nullable=True,
        ),
        integer("sufficient_dimensions", "principal components that hold 99 % of the variance"),
        *_controls("shuffled", "with permuted labels"),
        *_controls("untrained", "of the same layer of the untrained model"),
        flag(
            "beyond_chance",
            "whether the classes lie apart more than permuted ones do (permanova_p at most 0.05)",
            nullable=True,
        ),
        flag(
            "beyond_architecture",
            "whether the class explains more of the units than in the untrained model "
            "(architecture_p at most 0.05)",
            nullable=True,
        ),
        p_value(
            "architecture_p",
            "one-sided Mann-Whitney p of the units' eta2 against those of the untrained model, as if there "
            "were effective_dimension of them",
            nullable=True,
        ),
    ),
    sort=("depth",),
)

CLASS_PAIRS = Table(
    "class_pairs",
    "recording x layer x pair of classes",
    "How far two classes lie apart in a layer: whether related classes share a pattern.",
    (
        LAYER,
        integer("depth", "place of the layer in the order of execution"),
        text("class", "one class"),
        text("other_class", "the other"),
        real(
            "centroid_cosine",
            "cosine of the classes' mean images in standardised units",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "centroid_distance",
            "their distance per unit (root mean square)",
            "sd",
            low=0,
            nullable=True,
        ),
        real("fisher_ratio", "spread between the two over spread within", low=0, nullable=True),
        share("best_auroc", "AUROC of the unit that tells them apart best", nullable=True),
        text("best_unit", "that unit", nullable=True),
        integer(
            "separating_units",
            "units that tell them apart, by q of U at most `fdr`; it and the measures before are "
            "null where a class has fewer than two images",
            nullable=True,
        ),
        integer("units", "number of units of the layer"),
    ),
    sort=("depth", "layer"),
)

DEPTH_TRENDS = Table(
    "depth_trends",
    "recording x measure",
    "Whether a measure grows or falls with depth.",
    (
        text("measure", "what is followed: a column of units, averaged by layer for Spearman"),
        integer("layers", "number of layers"),
        integer("units", "number of units"),
        real(
            "spearman_rho",
            "rank correlation of depth and the layer's mean",
            low=-1,
            high=1,
            nullable=True,
        ),
        p_value("spearman_p", "its p-value", nullable=True),
        real(
            "jonckheere_j",
            "Jonckheere-Terpstra J over the units in order of depth",
            low=0,
            nullable=True,
        ),
        real(
            "jonckheere_z",
            "J in standard deviations, as if each layer had effective_dimension units; positive where the "
            "measure grows",
            nullable=True,
        ),
        p_value("jonckheere_p", "its two-sided p-value", nullable=True),
        log10_p("jonckheere_log10p", "jonckheere_p", nullable=True),
    ),
)

DENSITIES = Table(
    "densities",
    "recording x layer x class x bin",
    "Histogram of a layer's activations, at every position of every image of a class; bins without "
    "any have no row. Empty for recordings without `record.density`, unfinished ones and selections.",
    (
        LAYER,
        integer("depth", "place of the layer in the order of execution"),
        text("class", "class of the images; images without a class are not counted"),
        integer("bin", "place of the bin, the same in all recordings; 257 is the one around zero"),
        real("bin_low", "lower edge; -inf for the first"),
        real("bin_high", "upper edge; inf for the last"),
        integer("activations", "activations in the bin", low=1),
    ),
)
