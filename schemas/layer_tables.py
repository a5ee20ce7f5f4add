"""The tables of layers: how classes lie in them, pair by pair, and how that changes with depth."""

from __future__ import annotations

from activarium.schemas.columns import (
    Column,
    Table,
    integer,
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
"""Measures of a layer that stand beside the same with permuted labels."""

CONTRASTED = ("eta2_mean", "knn_purity", "probe_accuracy")
"""Measures of a layer that stand beside those of untrained networks."""
VERDICTS = ("beyond", "not beyond")
UNDECIDED = "undecided"
"""The verdict where the smallest possible p is above 0.05: too few draws or permutations."""


def _shuffled() -> tuple[Column, ...]:
    return tuple(
        share(f"{name}_shuffled", f"{name} with permuted labels", nullable=True)
        for name in CONTROLLED
    )


def _untrained(name: str) -> tuple[Column, ...]:
    """Return the columns of a measure among those of untrained networks."""
    parts = {
        "sampled": "of the network itself, over the images of the draws",
        "untrained": "mean over the untrained networks (one draw where draws is 1)",
        "untrained_sd": "standard deviation over them (n - 1); null for one draw",
        "untrained_low": "smallest of them",
        "untrained_p05": "5 % quantile",
        "untrained_median": "median",
        "untrained_p95": "95 % quantile",
        "untrained_high": "largest",
    }
    return (
        *(share(f"{name}_{part}", text, nullable=True) for part, text in parts.items()),
        p_value(
            f"{name}_untrained_p",
            "Monte-Carlo p: share of the draws and the network that reach the network",
            nullable=True,
        ),
        p_value(
            f"{name}_untrained_fwer_p",
            "the same by the largest deviation over all layers (max-T)",
            nullable=True,
        ),
    )


def _interval(name: str, of: str, how: str) -> tuple[Column, Column]:
    return (
        share(f"{name}_low", f"lower end of the confidence interval of {of}, {how}", nullable=True),
        share(f"{name}_high", "upper end", nullable=True),
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
        *_interval(
            "selectivity", "selectivity_mean", "by leaving out images; null where they are few"
        ),
        share("auroc_mean", "mean over units of the largest one-against-rest AUROC", nullable=True),
        share(
            "eta2_mean",
            "mean share of a unit's variance that is associated with the class",
            nullable=True,
        ),
        *_interval("eta2_mean", "eta2_mean", "by leaving out images; null where they are few"),
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
        *_interval("knn_purity", "knn_purity", "by leaving out images; null where they are few"),
        integer("knn_neighbours", "neighbours per image in knn_purity"),
        integer("knn_queries", "images whose neighbours were looked up; a declared sample"),
        integer("knn_images", "images among which they were looked up; a declared sample"),
        integer("sampled_images", "images in anosim_r and silhouette; a declared sample"),
        share(
            "probe_accuracy",
            "share of images that a linear classifier of the layer gets right, cross-validated",
            nullable=True,
        ),
        *_interval("probe_accuracy", "probe_accuracy", "over images"),
        share("probe_chance", "share of the largest class", nullable=True),
        real(
            "effective_dimension",
            "participation ratio of the covariance's eigenvalues: (sum)^2 / sum of squares",
            low=0,
            nullable=True,
        ),
        integer("sufficient_dimensions", "principal components that hold 99 % of the variance"),
        *_shuffled(),
        integer("draws", "untrained networks that the layer is compared with", nullable=True),
        integer("draw_images", "images that they are compared over", nullable=True),
        *(column for name in CONTRASTED for column in _untrained(name)),
        real(
            "eta2_mean_gain",
            "eta2_mean_sampled less eta2_mean_untrained",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "eta2_mean_gain_low",
            "lower end of its confidence interval over images and draws; null for one draw",
            nullable=True,
        ),
        real("eta2_mean_gain_high", "upper end", nullable=True),
        text(
            "chance_verdict",
            "whether the classes lie apart more than permuted ones do: beyond (permanova_p at most "
            "0.05), not beyond, or undecided (too few permutations)",
            nullable=True,
        ),
        text(
            "architecture_verdict",
            "whether the class is associated with more of the units' variance than in untrained "
            "networks, over all layers together: beyond (eta2_mean_untrained_fwer_p at most 0.05), not "
            "beyond, or undecided (too few draws)",
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
        real(
            "spearman_rho",
            "rank correlation of depth and the layer's mean; a description, as layers of one network "
            "depend on each other",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "spearman_rho_sampled",
            "the same over the images of the draws",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "spearman_rho_untrained",
            "mean of the same over untrained networks",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "spearman_rho_untrained_sd",
            "standard deviation over them; null for one draw",
            low=0,
            nullable=True,
        ),
        real("spearman_rho_untrained_low", "smallest of them", low=-1, high=1, nullable=True),
        real("spearman_rho_untrained_high", "largest", low=-1, high=1, nullable=True),
        p_value(
            "spearman_p",
            "share of the draws and the network whose correlation lies as far from the mean of all as "
            "the network's; null without untrained networks",
            nullable=True,
        ),
        text(
            "spearman_verdict",
            "beyond (spearman_p at most 0.05), not beyond, or undecided (too few draws)",
            nullable=True,
        ),
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
