"""The tables: what each row is and what each column holds.

A table is written as one file per recording (and layer, where it is computed layer by layer), in
the Hive partition `recording=<id>`; readers add `recording` as a column from the folder's name.
"""

from __future__ import annotations

import pyarrow as pa

from activarium.schemas.columns import Table, flag, integer, log10_p, p_value, real, share, text

_LAYER = text("layer", "module path of the layer")
_CHANNEL = integer("channel", "channel within the layer")
_UNIT = text("unit", "name of the unit: <layer>/<channel>")
_IMAGE = text("image", "stable id of the image")
_METHOD = text("method", "pca, tsne or umap")

RECORDINGS = Table(
    "recordings",
    "recording",
    "Where each recording comes from, its size, and how well its model classifies.",
    (
        text("model", "name of the model"),
        text("checkpoint", "name of the saved state; `untrained` for the control"),
        text("architecture", "architecture as configured"),
        text("test_set", "name of the test set"),
        text("split", "split of the test set"),
        integer("images", "number of images"),
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
        text("predicted", "class of the largest logit", nullable=True),
        flag("correct", "whether the prediction is the label", nullable=True),
        share("confidence", "largest softmax probability", nullable=True),
        real("margin", "largest logit minus the runner-up's", "logit", low=0, nullable=True),
        real("entropy", "entropy of the softmax probabilities", "nat", low=0, nullable=True),
        real("loss", "cross-entropy of the label", "nat", low=0, nullable=True),
    ),
    sort=("image_index",),
)

LAYERS = Table(
    "layers",
    "recording x layer",
    "One line per layer: its size, and how much its units prefer classes.",
    (
        _LAYER,
        integer("depth", "place in the order of execution, from 0"),
        text("kind", "conv, linear, block or pool"),
        integer("units", "number of units"),
        integer("height", "height of the map", "position"),
        integer("width", "width of the map", "position"),
        share("dead_fraction", "share of dead units"),
        share("selective_fraction", "share of units with q_value at most `fdr`", nullable=True),
        share("fdr", "false discovery rate that selective_fraction uses"),
        share("selectivity_mean", "mean selectivity index of the units", nullable=True),
        share("auroc_mean", "mean over units of the largest one-against-rest AUROC", nullable=True),
        share(
            "eta2_mean", "mean share of a unit's variance that the class explains", nullable=True
        ),
        share("epsilon2_mean", "mean rank-based effect size", nullable=True),
        share(
            "knn_purity",
            "mean share of an image's nearest neighbours, by the layer's channel means, "
            "that carry its class",
            nullable=True,
        ),
        integer("knn_neighbours", "neighbours per image in knn_purity"),
        integer("knn_queries", "images whose neighbours were looked up; a declared sample"),
        real(
            "effective_dimension",
            "participation ratio of the covariance's eigenvalues: (sum)^2 / sum of squares",
            low=0,
            nullable=True,
        ),
    ),
    sort=("depth",),
)

UNITS = Table(
    "units",
    "recording x layer x unit",
    "How each unit responds over the test set, and which class it prefers.",
    (
        _LAYER,
        _CHANNEL,
        _UNIT,
        integer("depth", "place of the layer in the order of execution"),
        real("response_mean", "mean over images of the channel mean", "activation"),
        real("response_sd", "standard deviation over images (n - 1)", "activation", low=0),
        real("response_min", "smallest channel mean", "activation"),
        real("response_max", "largest channel mean", "activation"),
        share("active_fraction", "share of positions of all images above zero", nullable=True),
        flag(
            "is_dead",
            "constant over all images, or feeding a ReLU and never above zero at any position",
        ),
        text("preferred_class", "class of the largest mean response", nullable=True),
        text("runner_up_class", "class of the second largest mean response", nullable=True),
        share(
            "selectivity",
            "selectivity index (Morcos et al. 2018): (best - rest) / (best + rest) of class means, "
            "after a shift to zero where responses are negative",
            nullable=True,
        ),
        share("auroc", "largest one-against-rest AUROC over the classes", nullable=True),
        text("auroc_class", "class of the largest AUROC", nullable=True),
        real("anova_f", "one-way ANOVA F", low=0, nullable=True),
        p_value("anova_p", "p-value of F", nullable=True),
        log10_p("anova_log10p", "anova_p", nullable=True),
        share("eta2", "share of variance explained by the class", nullable=True),
        real("kruskal_h", "Kruskal-Wallis H with tie correction", low=0, nullable=True),
        p_value("kruskal_p", "p-value of H (chi-squared)", nullable=True),
        log10_p("kruskal_log10p", "kruskal_p", nullable=True),
        share("epsilon2", "rank-based effect size H (N + 1) / (N^2 - 1)", nullable=True),
        p_value(
            "q_value",
            "Benjamini-Hochberg q of kruskal_p over all units of the recording",
            nullable=True,
        ),
        log10_p("q_log10", "q_value", nullable=True),
        share("sparseness", "lifetime sparseness (Vinje and Gallant 2000)"),
    ),
    sort=("depth", "layer", "channel"),
)

UNIT_CLASSES = Table(
    "unit_classes",
    "recording x layer x unit x class",
    "How each unit responds to each class, and how well it tells that class from the rest.",
    (
        _LAYER,
        _CHANNEL,
        _UNIT,
        text("class", "class name"),
        integer("n", "valid images of the class"),
        real("response_mean", "mean response to the class", "activation", nullable=True),
        real(
            "response_sd",
            "standard deviation (n - 1); null below two images",
            "activation",
            low=0,
            nullable=True,
        ),
        real("z", "class mean as a z-score across the unit's class means", "sd", nullable=True),
        share("auroc", "probability that an image of the class gets the larger response"),
        real("u", "Mann-Whitney U of the class against the rest", low=0),
        p_value("p_value", "two-sided p-value of U (normal, tie and continuity corrected)"),
        log10_p("log10p", "p_value"),
        p_value(
            "q_value", "Benjamini-Hochberg q of p_value over all units and classes of the recording"
        ),
        real("hedges_g", "class against rest, in pooled sd, bias corrected", "sd", nullable=True),
    ),
)

EXEMPLARS = Table(
    "exemplars",
    "recording x layer x unit x rank",
    "The images that each unit answers most and least, over all images and within each class.",
    (
        _LAYER,
        _CHANNEL,
        _UNIT,
        text("extreme", "most or least"),
        text("class", "class within which the images are ranked; null over all", nullable=True),
        integer("exemplar_rank", "1 is the most extreme", low=1),
        integer("image_index", "row of the image in the recording"),
        _IMAGE,
        real("response", "channel mean of the image", "activation"),
    ),
)

EMBEDDINGS = Table(
    "embeddings",
    "recording x layer x method x image",
    "Coordinates of each image in each map.",
    (
        text("layer", "layer whose pooled features are embedded; `pixels` for the raw pixels"),
        _METHOD,
        integer("image_index", "row of the image in the recording"),
        _IMAGE,
        real("x", "first coordinate"),
        real("y", "second coordinate"),
        real("z", "third coordinate; null in a plane", nullable=True),
    ),
)

EMBEDDING_QUALITY = Table(
    "embedding_quality",
    "recording x layer x method",
    "How far each map can be trusted.",
    (
        text("layer", "layer whose pooled features are embedded; `pixels` for the raw pixels"),
        _METHOD,
        integer("images", "images embedded"),
        integer("source_features", "features before the reduction by PCA"),
        integer("dimensions", "dimensions of the map"),
        share("trustworthiness", "share-like score: are the map's neighbours real neighbours?"),
        share("knn_purity", "class purity of the neighbours in the map", nullable=True),
        share("source_knn_purity", "class purity of the neighbours in the source", nullable=True),
        integer("neighbours", "neighbours in trustworthiness and purity"),
        integer("queries", "images whose neighbours were looked up; a declared sample"),
        real("objective", "KL divergence reached by t-SNE", "nat", nullable=True),
        share("explained_variance", "share of variance that the PCA map keeps", nullable=True),
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
        UNITS,
        UNIT_CLASSES,
        EXEMPLARS,
        EMBEDDINGS,
        EMBEDDING_QUALITY,
    )
}

RECORDING_TYPE = pa.string()
"""Type of the partition column `recording`."""
