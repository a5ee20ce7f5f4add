"""The report page's units: effects, class profiles and exemplars, small enough to travel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from activarium.schemas.tables import EXEMPLARS, UNIT_CLASSES
from activarium.tasks.reporting.report_packing import (
    packed,
    packed_coarse_shares,
    packed_codes,
    packed_floats,
    packed_magnitudes,
    packed_shares,
)
from activarium.tasks.reporting.report_tables import codes_in, numbers, read_batches

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.reporting.report_packing import Packed
    from activarium.tasks.reporting.report_tables import RecordingTables

TOP_CLASSES = 5
"""Classes kept per unit where a page with all of them would be too large."""

EXEMPLAR_RANKS = 8
"""Exemplars shown per unit and extreme at most."""

_MOST_CLASSES = 100
_MOST_CELLS = 2_000_000
_DEAD = 1
_SIGNIFICANT = 2


def classes_kept(units: int, classes: int) -> int:
    """Return how many classes per unit the page holds; `units` counts all recordings.

    >>> classes_kept(28_000, 10), classes_kept(28_000, 1_000), classes_kept(120_000, 50)
    (10, 5, 5)
    """
    fits = classes <= _MOST_CLASSES and units * classes <= _MOST_CELLS
    return classes if fits else min(classes, TOP_CLASSES)


def units_payload(tables: RecordingTables, classes: list[str]) -> dict[str, Any]:
    """Return what the page draws of each unit, in the order of the units table."""
    units = tables.units
    names = pa.array(classes, pa.string())
    fdr = numbers(tables.layers, "fdr")
    significant = numbers(units, "q_value") <= (fdr[0] if len(fdr) else 0.0)
    dead = np.asarray(units["is_dead"].to_numpy(zero_copy_only=False), dtype=bool)
    shares = ("auroc", "eta2", "epsilon2", "selectivity")
    return {
        "channel": packed_codes(numbers(units, "channel").astype(np.int64), largest=1 << 16),
        "flags": packed((dead * _DEAD + significant * _SIGNIFICANT).astype(np.uint8)),
        "preferred": packed_codes(codes_in(units["preferred_class"], names)),
        "runner_up": packed_codes(codes_in(units["runner_up_class"], names)),
        "auroc_class": packed_codes(codes_in(units["auroc_class"], names)),
        "q_tenths": packed_magnitudes(numbers(units, "q_log10")),
        "mean": packed_floats(numbers(units, "response_mean")),
        "sd": packed_floats(numbers(units, "response_sd")),
        **{name: packed_shares(numbers(units, name)) for name in shares},
        **{name: _known_shares(numbers(units, name)) for name in ("permutation_p", "fwer_p")},
        "copies": _copies(units),
    }


def _known_shares(values: NDArray[np.float64]) -> Packed | None:
    return None if np.isnan(values).all() else packed_shares(values)


def _copies(units: pa.Table) -> dict[str, Packed]:
    """Return which units copy another, by their places among all units; most copy none."""
    source = codes_in(units["copies_unit"], units["unit"].combine_chunks())
    copy = np.flatnonzero(source >= 0)
    return {
        "unit": packed_codes(copy),
        "of": packed_codes(source[copy]),
        "r": packed_floats(numbers(units, "copies_r")[copy]),
    }


@dataclass(frozen=True)
class ClassProfiles:
    """How each unit answers each class."""

    mean: NDArray[np.float32]
    """Mean response, shape (unit, class); NaN where there is none."""
    auroc: NDArray[np.float32]
    """One-against-rest AUROC, shape (unit, class)."""


def read_profiles(atlas: Atlas, tables: RecordingTables, classes: list[str]) -> ClassProfiles:
    """Read the class means and AUROCs of a recording's units."""
    shape = (tables.units.num_rows, len(classes))
    mean, auroc = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    units, names = _unit_names(tables), pa.array(classes, pa.string())
    path = atlas.table_file(UNIT_CLASSES, tables.recording)
    columns = ("unit", "class", "response_mean", "auroc")
    for batch in read_batches(path, columns, coded=("unit", "class")):
        row, column = codes_in(batch["unit"], units), codes_in(batch["class"], names)
        known = (row >= 0) & (column >= 0)
        for target, name in ((mean, "response_mean"), (auroc, "auroc")):
            values = batch[name].to_numpy(zero_copy_only=False)
            target[row[known], column[known]] = values[known]
    return ClassProfiles(mean, auroc)


def profiles_payload(profiles: ClassProfiles, keep: int) -> dict[str, Any]:
    """Return the class profiles, the `keep` largest class means per unit where not all are kept."""
    mean, auroc = profiles.mean, profiles.auroc
    unknown = np.isnan(mean)
    # A class without images is unknown of every unit; others where not all classes were kept.
    is_partial = bool((unknown.any(axis=0) & ~unknown.all(axis=0)).any())
    codes = None
    if keep < mean.shape[1]:
        order = np.argsort(np.where(np.isnan(mean), np.inf, -mean), axis=1, kind="stable")
        codes = order[:, :keep]
        mean, auroc = (np.take_along_axis(values, codes, axis=1) for values in (mean, auroc))
    # A unit without any class mean keeps NaN as its range, which the page reads as "none".
    low, high = (
        np.fmin.reduce(mean, axis=1, initial=np.nan),
        np.fmax.reduce(mean, axis=1, initial=np.nan),
    )
    span = np.where(high > low, high - low, 1.0)
    return {
        "kept": mean.shape[1],
        "partial": is_partial,
        "codes": None if codes is None else packed_codes(codes.ravel()),
        "low": packed_floats(low),
        "high": packed_floats(high),
        "mean": packed_coarse_shares(((mean - low[:, None]) / span[:, None]).ravel()),
        "auroc": packed_coarse_shares(auroc.ravel()),
    }


def read_exemplars(atlas: Atlas, tables: RecordingTables) -> NDArray[np.int64]:
    """Return the images of the most and the least activation over all classes.

    Returns
    -------
    exemplars
        Image indices, shape (unit, 2, rank): most, then least; -1 where there is none.
    """
    exemplars = np.full((tables.units.num_rows, 2, EXEMPLAR_RANKS), -1, dtype=np.int64)
    units, extremes = _unit_names(tables), pa.array(["most", "least"])
    path: Path = atlas.table_file(EXEMPLARS, tables.recording)
    columns = ("unit", "extreme", "class", "exemplar_rank", "image_index")
    for batch in read_batches(path, columns, coded=("unit", "extreme", "class")):
        unit, extreme = codes_in(batch["unit"], units), codes_in(batch["extreme"], extremes)
        rank = batch["exemplar_rank"].to_numpy(zero_copy_only=False)
        overall = np.asarray(batch["class"].indices.is_null())
        shown = overall & (rank <= EXEMPLAR_RANKS) & (unit >= 0) & (extreme >= 0)
        image = batch["image_index"].to_numpy(zero_copy_only=False)
        exemplars[unit[shown], extreme[shown], rank[shown] - 1] = image[shown]
    return exemplars


def exemplars_payload(exemplars: NDArray[np.int64], ranks: int) -> dict[str, Any] | None:
    """Return the first `ranks` exemplars of each unit; nothing where no unit has any."""
    shown = exemplars[:, :, :ranks]
    if not (shown >= 0).any():
        return None
    most, least = shown[:, 0].ravel(), shown[:, 1].ravel()
    return {"ranks": ranks, "most": packed_codes(most), "least": packed_codes(least)}


def _unit_names(tables: RecordingTables) -> pa.Array:
    return tables.units["unit"].combine_chunks()
