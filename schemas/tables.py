"""The tables: what each row is and what each column holds.

A table is written as one file per recording (and layer, where it is computed layer by layer), in
the Hive partition `recording=<id>`; readers add `recording` as a column from the folder's name.
"""

from __future__ import annotations

import pyarrow as pa

from activarium.schemas.columns import Table, flag, integer, real, share, text
from activarium.schemas.layer_tables import CLASS_PAIRS, DENSITIES, DEPTH_TRENDS, LAYERS
from activarium.schemas.series_tables import LAYER_CHANGES
from activarium.schemas.similarity_tables import SIMILARITIES, UNIT_MATCHES
from activarium.schemas.unit_tables import EXEMPLARS, UNIT_CLASSES, UNIT_TARGETS, UNITS

__all__ = [
    "CLASS_PAIRS",
    "DENSITIES",
    "DEPTH_TRENDS",
    "EMBEDDINGS",
    "EMBEDDING_QUALITY",
    "EXEMPLARS",
    "IMAGES",
    "LAYERS",
    "LAYER_CHANGES",
    "RECORDINGS",
    "RECORDING_TYPE",
    "SIMILARITIES",
    "TABLES",
    "UNITS",
    "UNIT_CLASSES",
    "UNIT_MATCHES",
    "UNIT_TARGETS",
]

_IMAGE = text("image", "stable id of the image")
_METHOD = text("method", "pca, tsne, umap or autoencoder")

RECORDINGS = Table(
    "recordings",
    "recording",
    "Where each recording comes from, its size, and how well its model classifies.",
    (
        text("model", "name of the model"),
        text("checkpoint", "name of the saved state; `untrained` for the control"),
        text("series", "series of checkpoints that it belongs to", nullable=True),
        integer(
            "step",
            "place in the series: optimiser steps that were taken, or the number in the file's name",
            nullable=True,
        ),
        text("architecture", "architecture as configured"),
        text("test_set", "name of the test set"),
        text("split", "split of the test set"),
        text(
            "selection_of",
            "recording that the images were selected from; null where all were taken",
            nullable=True,
        ),
        text(
            "selection",
            "what was selected (where, where_of, classes, target), as JSON",
            nullable=True,
        ),
        text(
            "controls",
            "what stands beside it in layers: shuffle, and the untrained recording; null without",
            nullable=True,
        ),
        flag("is_partial", "whether shards were missing when it was analysed"),
        integer("images", "number of images"),
        integer("analysed_images", "images that the statistics are computed from"),
        integer("invalid_images", "images that could not be decoded"),
        integer("classes", "number of classes"),
        integer("layers", "number of layers recorded"),
        integer("units", "number of units recorded"),
        integer("features", "number of pooled features"),
        share("accuracy", "share of valid, labelled images classified rightly", nullable=True),
        text("fingerprint", "sha256 of everything the recording depends on"),
        text("weights_sha256", "sha256 of the model's weights"),
        text("images_sha256", "sha256 of the images' and labels' identity"),
        text("preprocessing", "preprocessing, as JSON"),
        text("engine", "how the layers were captured"),
        text("precision", "precision of the forward pass"),
        text("device", "device that ran the model"),
        integer("batch_size", "images per forward pass"),
        real("seconds", "time spent in recording, all shards added", "s", low=0),
        integer("stored_bytes", "size of the chunks that the receipts list", "byte"),
        text("versions", "versions of the libraries, as JSON"),
    ),
)

IMAGES = Table(
    "images",
    "recording x image",
    "What the model answered to each image.",
    (
        integer("image_index", "row of the image in the recording"),
        _IMAGE,
        integer("label", "class code; -1 where there is none", low=-1),
        text("class", "class name", nullable=True),
        flag("valid", "false where the image could not be decoded"),
        text(
            "predicted",
            "class of the largest logit; null where the outputs are not the classes, or there is one",
            nullable=True,
        ),
        flag("correct", "whether the prediction is the label", nullable=True),
        share(
            "confidence",
            "largest softmax probability; it, margin, entropy and loss are null for one output, whose "
            "softmax is always 1",
            nullable=True,
        ),
        real("margin", "largest logit minus the runner-up's", "logit", low=0, nullable=True),
        real("entropy", "entropy of the softmax probabilities", "nat", low=0, nullable=True),
        real("loss", "cross-entropy of the label", "nat", low=0, nullable=True),
    ),
    sort=("image_index",),
)

_SPACE = (
    text("features", "what is embedded: pixels, pooled, means (of channels) or logits"),
    text("layer", "layer that the features are of; `pixels` or `logits` where they are of none"),
    _METHOD,
    text(
        "into",
        "recording in whose map the images are placed; null in a map of its own",
        nullable=True,
    ),
)

EMBEDDINGS = Table(
    "embeddings",
    "recording x features x layer x method x image",
    "Coordinates of each image in each map.",
    (
        *_SPACE,
        integer("image_index", "row of the image in the recording"),
        _IMAGE,
        flag("is_placed", "whether the image was placed in a map that was fitted without it"),
        real("x", "first coordinate"),
        real("y", "second coordinate"),
        real("z", "third coordinate; null in a plane", nullable=True),
    ),
)

EMBEDDING_QUALITY = Table(
    "embedding_quality",
    "recording x features x layer x method",
    "How far each map can be trusted.",
    (
        *_SPACE,
        integer("images", "images that the map was fitted to"),
        integer("placed_images", "images that were placed in it"),
        integer("quality_images", "images among which quality is measured; a declared sample"),
        integer("source_features", "features before the reduction by PCA"),
        integer("dimensions", "dimensions of the map"),
        share("trustworthiness", "share-like score: are the map's neighbours real neighbours?"),
        share("continuity", "share-like score: are real neighbours neighbours on the map?"),
        share("knn_purity", "class purity of the neighbours in the map", nullable=True),
        share("source_knn_purity", "class purity of the neighbours in the source", nullable=True),
        share(
            "placed_knn_purity",
            "share of the nearest images that the map was fitted to that carry the class of a placed one",
            nullable=True,
        ),
        real(
            "silhouette", "mean silhouette of the classes in the map", low=-1, high=1, nullable=True
        ),
        real("source_silhouette", "the same in the source", low=-1, high=1, nullable=True),
        real(
            "stress", "Kruskal's stress-1 of the distances, at the best scale", low=0, nullable=True
        ),
        integer("neighbours", "neighbours in trustworthiness, continuity and purity"),
        integer(
            "queries",
            "images whose neighbours were looked up, and in silhouette and stress; a declared sample",
        ),
        real(
            "objective",
            "what the method minimised: KL divergence of t-SNE (nat), mean squared error per feature "
            "of the autoencoder",
            nullable=True,
        ),
        share(
            "explained_variance",
            "share of the variance that PCA or the autoencoder keeps",
            nullable=True,
        ),
        text("parameters", "parameters of the method, as JSON"),
        integer("seed", "random seed"),
        integer("threads", "threads used"),
        real("seconds", "time to compute the map", "s", low=0),
        text("versions", "versions of the libraries, as JSON"),
    ),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        RECORDINGS,
        IMAGES,
        LAYERS,
        LAYER_CHANGES,
        DEPTH_TRENDS,
        CLASS_PAIRS,
        DENSITIES,
        UNITS,
        UNIT_CLASSES,
        UNIT_TARGETS,
        EXEMPLARS,
        EMBEDDINGS,
        EMBEDDING_QUALITY,
        SIMILARITIES,
        UNIT_MATCHES,
    )
}

RECORDING_TYPE = pa.string()
"""Type of the partition column `recording`."""
