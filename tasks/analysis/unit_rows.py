"""Rows of the table `units`: responses, sparseness, and how a unit prefers classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.tasks.analysis.names import named
from activarium.tasks.statistics.moments import class_moments
from activarium.tasks.statistics.ranks.ranking import rank_units
from activarium.tasks.statistics.testing.sparse_units import LEAST_OF_UNITS, answers_too_few
from activarium.tasks.statistics.units.detectors import detectors
from activarium.tasks.statistics.units.mutual_information import mutual_information
from activarium.tasks.statistics.units.omega_squared import omega2
from activarium.tasks.statistics.units.preference import (
    anova,
    auroc,
    kruskal_wallis,
    lifetime_sparseness,
    preferred_classes,
)
from activarium.tasks.statistics.units.selectivity import ccmas, general_index, morcos_index
from activarium.tasks.statistics.units.sparseness import treves_rolls
from activarium.tasks.statistics.units.welch import welch_f

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.tasks.analysis.chosen_images import ChosenImages
    from activarium.tasks.analysis.unit_block import BlockData
    from activarium.tasks.statistics.moments import ClassMoments
    from activarium.tasks.statistics.ranks.detection import Detection
    from activarium.tasks.statistics.ranks.ranking import Ranks

QUANTILES = ("response_p05", "response_p25", "response_median", "response_p75", "response_p95")
"""Columns of the quantiles that `rank_units` gives."""


def unit_columns(data: BlockData, overall: ClassMoments, ranks: Ranks) -> dict[str, Any]:
    """Return what does not need classes; what does is there and null.

    Parameters
    ----------
    data
        The block.
    overall
        Moments over all images, in classes or as one.
    ranks
        Ranking of all images.
    """
    # A single image cannot tell whether a unit is constant, nor how it spreads.
    alone = overall.images < 2
    constant = overall.is_constant & (not alone)
    nothing = np.full(len(constant), np.nan)
    columns: dict[str, Any] = {
        "layer": data.layer,
        "channel": data.channel,
        "unit": data.unit,
        "depth": data.depth,
        "response_mean": overall.overall_mean,
        "response_sd": overall.overall_sd,
        "response_min": overall.low,
        "response_max": overall.high,
        **dict(zip(QUANTILES, ranks.quantile.T, strict=True)),
        "active_fraction": nothing,
        "is_dead": constant,
        "sparseness": nothing if alone else lifetime_sparseness(overall),
        "treves_rolls": nothing if alone else treves_rolls(overall),
    }
    if data.active_fraction is not None:
        columns["active_fraction"] = data.active_fraction
        columns["is_dead"] = constant | (data.feeds_relu & (data.active_fraction == 0))
    no_class = named(np.full(len(constant), -1), [""])
    columns |= dict.fromkeys(CLASS_COLUMNS, nothing)
    return columns | dict.fromkeys(CLASS_NAMES, no_class)


CLASS_COLUMNS = (
    "preferred_auroc",
    "selectivity",
    "selectivity_morcos",
    "ccmas",
    "auroc",
    "average_precision",
    "average_precision_chance",
    "average_precision_crossfit",
    "crossfit_gain",
    "auroc_crossfit",
    "class_agreement",
    "preferred_p",
    "suppressed_auroc",
    "strongest_effect",
    "top_precision",
    "mutual_information",
    "anova_f",
    "anova_p",
    "anova_log10p",
    "eta2",
    "omega2",
    "welch_f",
    "welch_p",
    "welch_log10p",
    "kruskal_h",
    "kruskal_p",
    "kruskal_log10p",
    "epsilon2",
)
CLASS_NAMES = (
    "preferred_class",
    "runner_up_class",
    "auroc_class",
    "average_precision_class",
    "suppressed_class",
    "strongest_class",
    "top_class",
)


def preference_columns(chosen: ChosenImages, moments: ClassMoments, ranks: Ranks) -> dict[str, Any]:
    """Return how each unit prefers classes.

    What picks a class, or compares the means of classes, takes those that can be compared; the
    tests of all classes together take every class with images.
    """
    class_names, count = chosen.class_names, moments.count
    compared = moments.of_classes(chosen.comparable)
    preferred = preferred_classes(compared.mean, compared.count)
    area = np.where(chosen.comparable, auroc(ranks.rank_sum, count), -1.0)
    best = np.where(moments.is_constant, -1, area.argmax(axis=1))
    f_test, welch = anova(moments), welch_f(moments)
    h_test = kruskal_wallis(ranks.rank_sum, count, ranks.tie_sum)
    detection = {} if ranks.detection is None else detection_columns(chosen, ranks.detection, area)
    return detection | {
        "preferred_class": named(preferred.preferred, class_names),
        "preferred_auroc": _of_class(area, preferred.preferred),
        "runner_up_class": named(preferred.runner_up, class_names),
        "selectivity": general_index(compared),
        "selectivity_morcos": morcos_index(compared),
        "ccmas": ccmas(compared),
        "auroc": area.max(axis=1),
        "auroc_class": named(best, class_names),
        "mutual_information": mutual_information(ranks.joint).corrected,
        "anova_f": f_test.f,
        "anova_p": f_test.p,
        "anova_log10p": f_test.log10_p,
        "eta2": f_test.eta2,
        "omega2": omega2(moments),
        "welch_f": welch.f,
        "welch_p": welch.p,
        "welch_log10p": welch.log10_p,
        "kruskal_h": h_test.h,
        "kruskal_p": h_test.p,
        "kruskal_log10p": h_test.log10_p,
        "epsilon2": h_test.epsilon2,
        "answers_too_few": answers_too_few(ranks.tie_sum, count, least=LEAST_OF_UNITS).any(axis=1),
    }


def _of_class(values: NDArray[np.float64], code: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return each unit's value of one class, shape (unit,); NaN where the code is negative."""
    found = np.take_along_axis(values, np.maximum(code, 0)[:, None], axis=1)[:, 0]
    return np.where(code < 0, np.nan, found)


def detection_columns(
    chosen: ChosenImages, detection: Detection, area: NDArray[np.float64]
) -> dict[str, Any]:
    """Return which class each unit detects, which it answers least, and whether that holds.

    Parameters
    ----------
    chosen
        The images.
    detection
        Detection of each class.
    area
        AUROC of each class, shape (unit, class).
    """
    names, comparable = chosen.class_names, chosen.comparable
    best = detectors(detection, comparable)
    precision, top = top_precision(np.where(comparable, detection.top, -1.0))
    effect = np.where(comparable, 2.0 * area - 1.0, 0.0)
    strongest = np.abs(effect).argmax(axis=1)
    least = np.where(comparable, area, 2.0).argmin(axis=1)
    constant = best.code < 0
    return {
        "average_precision": best.average_precision,
        "average_precision_chance": best.chance,
        "average_precision_class": named(best.code, names),
        "average_precision_crossfit": best.crossfit,
        "crossfit_gain": best.gain,
        "auroc_crossfit": best.auroc_crossfit,
        "class_agreement": best.agreement,
        # Images of a group are no independent ones, as the test takes them to be.
        "preferred_p": best.p if chosen.group is None else np.full(len(area), np.nan),
        "suppressed_auroc": _of_class(area, least),
        "suppressed_class": named(np.where(constant, -1, least), names),
        "strongest_effect": _of_class(effect, strongest),
        "strongest_class": named(np.where(constant, -1, strongest), names),
        "top_precision": precision,
        "top_class": named(top, names),
    }


def top_precision(top: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the largest precision of a class among its own number of top images, and its code.

    The code is -1 where several classes are as precise, as in constant units of balanced classes.

    Parameters
    ----------
    top
        `Detection.top`, shape (unit, class); -1 for classes that take no part.

    References
    ----------
    Zhou et al. (2015), Object detectors emerge in deep scene CNNs: precision among the 60 images
    of the strongest response.
    """
    most = np.minimum(top.max(axis=1), 1.0)
    # Shares of tied images are quotients: equal but for rounding.
    alone = (top >= most[:, None] * (1 - 1e-12)).sum(axis=1) == 1
    return most, np.where(alone, top.argmax(axis=1), -1)


def control_columns(responses: NDArray[np.float32], chosen: ChosenImages) -> dict[str, Any]:
    """Return what the layers tell of permuted labels, with names that end in `_shuffled`."""
    order, classes = np.argsort(chosen.shuffled, kind="stable"), len(chosen.class_names)
    moved, code = np.ascontiguousarray(responses[:, order]), chosen.shuffled[order]
    moments = class_moments(moved, code, classes)
    ranks = rank_units(moved, code, classes)
    h_test = kruskal_wallis(ranks.rank_sum, moments.count, ranks.tie_sum)
    # Permuted classes have as many images as the true ones.
    area = np.where(chosen.comparable, auroc(ranks.rank_sum, moments.count), -1.0)
    return {
        "selectivity_shuffled": general_index(moments.of_classes(chosen.comparable)),
        "auroc_shuffled": area.max(axis=1),
        "eta2_shuffled": anova(moments).eta2,
        "kruskal_log10p_shuffled": h_test.log10_p,
    }
