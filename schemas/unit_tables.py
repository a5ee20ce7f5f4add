"""The tables of units: how each responds over the images, and to each class."""

from __future__ import annotations

from activarium.schemas.columns import Table, flag, integer, log10_p, p_value, real, share, text

LAYER = text("layer", "module path of the layer")
CHANNEL = integer("channel", "channel within the layer")
UNIT = text("unit", "name of the unit: <layer>/<channel>")

UNITS = Table(
    "units",
    "recording x layer x unit",
    "How each unit responds over the test set, and which class it prefers.",
    (
        LAYER,
        CHANNEL,
        UNIT,
        integer("depth", "place of the layer in the order of execution"),
        real("response_mean", "mean over images of the channel mean", "activation"),
        real(
            "response_sd",
            "standard deviation over images (n - 1); null for one image",
            "activation",
            low=0,
            nullable=True,
        ),
        real("response_min", "smallest channel mean", "activation"),
        real("response_p05", "5 % quantile of the channel means", "activation"),
        real("response_p25", "25 % quantile", "activation"),
        real("response_median", "median", "activation"),
        real("response_p75", "75 % quantile", "activation"),
        real("response_p95", "95 % quantile", "activation"),
        real("response_max", "largest channel mean", "activation"),
        share("active_fraction", "share of positions of all images above zero", nullable=True),
        flag(
            "is_dead",
            "constant over all images (two or more), or feeding a ReLU and never above zero at any position",
        ),
        share(
            "sparseness",
            "lifetime sparseness (Vinje and Gallant 2000); null for one image",
            nullable=True,
        ),
        share(
            "treves_rolls",
            "lifetime sparseness 1 - mean^2 / mean square (Treves, Rolls 1991); null for one image",
            nullable=True,
        ),
        integer("redundancy_group", "channel of the unit that stands for its group of copies"),
        text("copies_unit", "the unit that this one copies; null where none", nullable=True),
        real("copies_r", "Pearson correlation with it", low=-1, high=1, nullable=True),
        text(
            "preferred_class",
            "class of the largest mean response, of those with two images or more",
            nullable=True,
        ),
        share(
            "preferred_auroc",
            "AUROC of preferred_class against the rest; auroc is that of auroc_class",
            nullable=True,
        ),
        text("runner_up_class", "class of the second largest mean response", nullable=True),
        share(
            "selectivity",
            "class selectivity (best - rest) / (best + rest) of class means, after a shift to zero "
            "where responses are negative",
            nullable=True,
        ),
        share(
            "selectivity_morcos",
            "the same as published (Morcos et al. 2018), without a shift; null where a response is "
            "negative",
            nullable=True,
        ),
        share(
            "ccmas",
            "the same with the mean over all images of other classes as the rest (Zhou et al. 2018)",
            nullable=True,
        ),
        share(
            "auroc",
            "largest one-against-rest AUROC over the classes, that of auroc_class",
            nullable=True,
        ),
        text(
            "auroc_class",
            "class of the largest AUROC, of those with two images or more; often preferred_class, "
            "not always",
            nullable=True,
        ),
        share(
            "average_precision",
            "average precision of average_precision_class against the rest",
            nullable=True,
        ),
        share(
            "average_precision_chance",
            "its mean over all orders of the labels",
            nullable=True,
        ),
        text(
            "average_precision_class",
            "class of the largest (average precision - chance) / (1 - chance)",
            nullable=True,
        ),
        share(
            "average_precision_crossfit",
            "average precision, the class chosen on one half of the images and measured on the other; "
            "mean of both ways",
            nullable=True,
        ),
        real(
            "crossfit_gain",
            "(average_precision_crossfit - chance) / (1 - chance): 0 on average without a preference, 1 "
            "for a perfect detector; what units are ranked by",
            high=1,
            nullable=True,
        ),
        share(
            "auroc_crossfit",
            "AUROC, the class chosen on one half and measured on the other; mean of both ways",
            nullable=True,
        ),
        share(
            "class_agreement",
            "share of the two halves that choose average_precision_class too: 0, 0.5 or 1",
            nullable=True,
        ),
        p_value(
            "preferred_p",
            "p-value of the preferred class, chosen on one half and tested on the other (one-sided "
            "Mann-Whitney, twice the smaller of both ways); null with groups of images",
            nullable=True,
        ),
        text("suppressed_class", "class of the smallest AUROC", nullable=True),
        share("suppressed_auroc", "its AUROC", nullable=True),
        text("strongest_class", "class whose AUROC lies farthest from 0.5", nullable=True),
        real(
            "strongest_effect",
            "2 AUROC - 1 of strongest_class; negative where it is suppressed",
            low=-1,
            high=1,
            nullable=True,
        ),
        share(
            "top_precision",
            "largest precision of a class among as many of the strongest images as it has, at most "
            "top_images (Zhou et al. 2015)",
            nullable=True,
        ),
        text("top_class", "that class; null where several are as precise", nullable=True),
        real(
            "mutual_information",
            "with the class, of the response in bins of equally many images, with Miller and "
            "Madow's correction",
            "nat",
            low=0,
            nullable=True,
        ),
        real("anova_f", "one-way ANOVA F", low=0, nullable=True),
        p_value("anova_p", "p-value of F", nullable=True),
        log10_p("anova_log10p", "anova_p", nullable=True),
        share("eta2", "share of variance that is associated with the class", nullable=True),
        real("omega2", "the same, corrected for chance (Hays 1963)", high=1, nullable=True),
        real(
            "welch_f",
            "Welch's F, which allows for unequal variances; null where a class has none",
            low=0,
            nullable=True,
        ),
        p_value("welch_p", "p-value of Welch's F", nullable=True),
        log10_p("welch_log10p", "welch_p", nullable=True),
        real("kruskal_h", "Kruskal-Wallis H with tie correction", low=0, nullable=True),
        p_value("kruskal_p", "p-value of H (chi-squared)", nullable=True),
        log10_p("kruskal_log10p", "kruskal_p", nullable=True),
        share("epsilon2", "rank-based effect size H (N + 1) / (N^2 - 1)", nullable=True),
        p_value("permutation_p", "p-value of F by permuted labels", nullable=True),
        p_value(
            "q_value",
            "Benjamini-Hochberg q of kruskal_p over all units of the recording; of sparse units p counts "
            "no less than permutation_p",
            nullable=True,
        ),
        log10_p("q_log10", "q_value", nullable=True),
        p_value(
            "by_q_value", "the same by Benjamini and Yekutieli, under any dependence", nullable=True
        ),
        p_value(
            "fwer_p",
            "family-wise p over all units of the recording (Westfall-Young step-down max-T of F)",
            nullable=True,
        ),
    ),
    sort=("depth", "layer", "channel"),
)

UNIT_CLASSES = Table(
    "unit_classes",
    "recording x layer x unit x class",
    "How each unit responds to each class, and how well it tells that class from the rest.",
    (
        LAYER,
        CHANNEL,
        UNIT,
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
        integer(
            "class_rank",
            "1 for the class of the largest mean; 0 for a class that is not compared (below two images)",
        ),
        real("z", "class mean as a z-score across the unit's class means", "sd", nullable=True),
        share(
            "auroc",
            "probability that an image of the class gets the larger response; it and what follows are "
            "null for a class that is not compared",
            nullable=True,
        ),
        share(
            "auroc_low",
            "lower end of its confidence interval (a score interval by DeLong's variance); null where "
            "few_active",
            nullable=True,
        ),
        share("auroc_high", "upper end", nullable=True),
        real("u", "Mann-Whitney U of the class against the rest", low=0, nullable=True),
        p_value(
            "p_value",
            "two-sided p-value of U (normal, tie and continuity corrected)",
            nullable=True,
        ),
        log10_p("log10p", "p_value", nullable=True),
        p_value(
            "q_value",
            "Benjamini-Hochberg q of p_value over all units and classes of the recording; of sparse "
            "units p counts no less than Fisher's exact test of answering at all",
            nullable=True,
        ),
        real("hedges_g", "class against rest, in pooled sd, bias corrected", "sd", nullable=True),
        real(
            "hedges_g_low",
            "lower end of its confidence interval, for any shape of responses but heavy tails; null "
            "where few_active",
            "sd",
            nullable=True,
        ),
        real("hedges_g_high", "upper end", "sd", nullable=True),
        flag(
            "few_active",
            "fewer than ten active images, of the class or of the rest: responses above the unit's "
            "smallest; no interval holds its level there",
        ),
        share(
            "average_precision",
            "mean precision at the images of the class, ties as one threshold",
            nullable=True,
        ),
        share(
            "average_precision_chance",
            "its mean over all orders of the labels, of the unit's own ties",
            nullable=True,
        ),
        share("best_f1", "largest F1 over all thresholds on the response", nullable=True),
        real(
            "best_f1_threshold",
            "that threshold: images that respond as much or more are taken for the class",
            "activation",
            nullable=True,
        ),
        real(
            "point_biserial",
            "correlation of the response with membership of the class",
            low=-1,
            high=1,
            nullable=True,
        ),
    ),
)

UNIT_TARGETS = Table(
    "unit_targets",
    "recording x layer x unit",
    "How each unit follows a number per image; written by `analyse --target`.",
    (
        LAYER,
        CHANNEL,
        UNIT,
        integer("depth", "place of the layer in the order of execution"),
        text("target", "what the number is"),
        integer("n", "images that have it"),
        real("spearman_rho", "Spearman's rank correlation", low=-1, high=1),
        p_value("spearman_p", "its two-sided p-value (t approximation)"),
        log10_p("spearman_log10p", "spearman_p"),
        p_value("q_value", "Benjamini-Hochberg q of spearman_p over all units"),
        share("distance_correlation", "distance correlation (Szekely et al. 2007)"),
        p_value(
            "distance_p",
            "p-value of its bias-corrected form (chi-squared test of Shen et al. 2022)",
        ),
        log10_p("distance_log10p", "distance_p"),
    ),
    sort=("depth", "layer", "channel"),
)

EXEMPLARS = Table(
    "exemplars",
    "recording x layer x unit x rank",
    "The images that each unit answers most and least, over all images and within each class.",
    (
        LAYER,
        CHANNEL,
        UNIT,
        text("extreme", "most or least"),
        text("class", "class within which the images are ranked; null over all", nullable=True),
        integer("exemplar_rank", "1 is the most extreme", low=1),
        integer("image_index", "row of the image in the recording"),
        text("image", "stable id of the image"),
        real("response", "channel mean of the image", "activation"),
    ),
)
