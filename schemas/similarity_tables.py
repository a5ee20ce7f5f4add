"""The tables of comparisons: how alike layers are, and which of their units correspond."""

from __future__ import annotations

from activarium.schemas.columns import Table, flag, integer, real, share, text
from activarium.schemas.unit_tables import CHANNEL, LAYER, UNIT

_OTHER = text("other_recording", "the recording that it is compared with; may be the same")

SIMILARITIES = Table(
    "similarities",
    "recording x layer x other recording x other layer",
    "How alike two layers answer to the same images; within a recording both orders of a pair "
    "are there, between two recordings the one in which they were named (docs/similarity.md). "
    "Comparisons by channel means and by pooled features are rows of their own: see `features`.",
    (
        LAYER,
        integer("depth", "place of the layer in the order of execution"),
        _OTHER,
        text("other_layer", "module path of the other layer"),
        integer("other_depth", "its place in the order of execution"),
        text(
            "features",
            "what stands for an image in a layer: means, its channel means, or pooled, its pooled features",
        ),
        integer("units", "units of the layer"),
        integer("other_units", "units of the other layer"),
        integer("images", "images compared: all that are valid in both recordings"),
        integer("invalid_images", "images left out, which could not be decoded in one or both"),
        share(
            "cka",
            "linear centred kernel alignment (Kornblith et al. 2019); near 1 for any two layers of "
            "far more units than images",
            nullable=True,
        ),
        real(
            "cka_debiased",
            "the same of unbiased estimates (Song et al. 2012; Nguyen et al. 2021): 0 on average "
            "where nothing is shared",
            low=-1,
            high=1,
            nullable=True,
        ),
        real(
            "rsa",
            "Spearman correlation of the Euclidean distances between all pairs of a sample of "
            "images (Kriegeskorte et al. 2008)",
            low=-1,
            high=1,
            nullable=True,
        ),
        integer("rsa_images", "images in rsa; a declared sample"),
        share(
            "procrustes",
            "nuclear norm of X^T Y over |X| |Y|, the cosine after the best rotation (Ding et al. "
            "2021; Williams et al. 2021)",
            nullable=True,
        ),
        share(
            "alignment_r2",
            "share of the variance of one layer that the best rotation of the other, with one "
            "scale, explains: procrustes squared",
            nullable=True,
        ),
        integer("seed", "seed of the sample"),
    ),
    sort=("depth", "layer", "other_depth", "other_layer"),
)

UNIT_MATCHES = Table(
    "unit_matches",
    "recording x layer x unit x other recording",
    "Which unit of the same layer of another recording each unit corresponds to, and whether it "
    "prefers the same class there.",
    (
        LAYER,
        CHANNEL,
        UNIT,
        integer("depth", "place of the layer in the order of execution"),
        text("other_recording", "the recording that the unit is looked for in"),
        integer("images", "images compared: all that are valid in both recordings"),
        real(
            "same_r",
            "Pearson correlation with the unit of the same name",
            low=-1,
            high=1,
            nullable=True,
        ),
        text(
            "preferred_class",
            "class of the largest mean response, over the images compared",
            nullable=True,
        ),
        text(
            "other_preferred_class",
            "that of the unit of the same name in the other recording",
            nullable=True,
        ),
        flag("kept_class", "whether the two are the same", nullable=True),
        text("best_unit", "unit of the largest absolute correlation", nullable=True),
        real("best_r", "that correlation, with its sign", low=-1, high=1, nullable=True),
        text(
            "assigned_unit",
            "partner in the one-to-one assignment of the largest sum of correlations",
            nullable=True,
        ),
        real("assigned_r", "correlation with it", low=-1, high=1, nullable=True),
    ),
    sort=("depth", "layer", "channel"),
)
