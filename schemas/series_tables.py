"""The table of a series: every layer at every checkpoint of a training."""

from __future__ import annotations

from activarium.schemas.columns import Table, integer, real, share, text
from activarium.schemas.unit_tables import LAYER

HEALTHY = "healthy"
HEALTH = (HEALTHY, "exploding", "dead", "collapsed", "saturated")
"""What a layer can be; the first that holds after `healthy`, in this order, is said."""

LAYER_CHANGES = Table(
    "layer_changes",
    "recording x layer",
    "Layers over a training: one line per checkpoint of a series, compared with the first, the "
    "one before and the last.",
    (
        LAYER,
        integer("depth", "place in the order of execution, from 0"),
        text("series", "name of the series"),
        integer("step", "optimiser steps before this checkpoint", "step"),
        integer("units", "number of units"),
        real("response_mean", "mean over units and images of the channel mean", "activation"),
        real(
            "response_sd",
            "spread over units and images together: root of the units' mean variance over images plus "
            "the variance of their means; null for one image",
            "activation",
            low=0,
            nullable=True,
        ),
        real(
            "image_sd",
            "root mean square over units of the standard deviation over images; null for one image",
            "activation",
            low=0,
            nullable=True,
        ),
        share("dead_fraction", "share of dead units"),
        share("active_fraction", "share of positions above zero, where recorded", nullable=True),
        share(
            "near_zero_fraction",
            "share of all activations below 2^-16 in size, where densities were recorded",
            nullable=True,
        ),
        share(
            "extreme_fraction",
            "share of all activations in the two outermost bins in use at either end (zero left "
            "out), where densities were recorded",
            nullable=True,
        ),
        share("selective_fraction", "share of units that differ between classes", nullable=True),
        share("selectivity_mean", "mean selectivity index of the units", nullable=True),
        share(
            "eta2_mean",
            "mean share of a unit's variance that is associated with the class",
            nullable=True,
        ),
        share(
            "class_kept",
            "share of the units that prefer the class that they prefer at the last checkpoint, among "
            "those that prefer one at both",
            nullable=True,
        ),
        share(
            "class_kept_since",
            "the same, against the checkpoint before; null at the first",
            nullable=True,
        ),
        share("cka_to_last", "linear CKA of the layer here and at the last", nullable=True),
        text("health", "healthy, exploding, dead, collapsed or saturated"),
        text("health_reason", "the numbers behind it; null where healthy", nullable=True),
    ),
    sort=("depth",),
)
