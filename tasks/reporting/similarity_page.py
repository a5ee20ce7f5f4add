"""Write the page of a comparison: how alike the layers are, as heat maps, and what units became."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.receipts import ReportReceipt
from activarium.tasks.progress import silent
from activarium.tasks.reporting.chart_parts import even_places
from activarium.tasks.reporting.colour_picture import picture_address, ramp_style
from activarium.tasks.reporting.depth_lines import DepthLines, depth_lines
from activarium.tasks.reporting.page_files import json_inside, render, replace_page
from activarium.tasks.reporting.similarity_tables import (
    MEASURES,
    OVER_DEPTH,
    ComparedPair,
    read_pairs,
)
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import PAIR

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.receipts import TablesReceipt
    from activarium.tasks.progress import Progress

LABELS = 24
"""Layers at most whose names stand beside a picture; of more, some evenly spread ones."""
DIGITS = 3
LONGEST_NAME = 200
"""Characters of a page's default name at most: file systems take 255 bytes."""


@dataclass(frozen=True)
class HeatMap:
    """One measure of all pairs of layers."""

    title: str
    address: str
    """The picture as a data address: a pixel per pair of layers, the first at the top left."""
    cells: list[list[float | None]]
    """The same as numbers, rounded; None where they are undefined."""
    reading: str
    """What there is to see, in a line."""


@dataclass(frozen=True)
class PairView:
    """One pair of recordings as the page shows it."""

    heading: str
    first: str
    second: str
    facts: str
    layers: list[str]
    other_layers: list[str]
    ticks: list[tuple[str, float]]
    """Layers of the first to name, and their height as a share from the top."""
    other_ticks: list[tuple[str, float]]
    """Layers of the second to name, and their place as a share from the left."""
    maps: list[HeatMap]
    lines: DepthLines | None
    """What is kept from layer to layer; None within one recording."""


def write_similarity_page(
    atlas: Atlas,
    compared: TablesReceipt,
    *,
    name: str | None = None,
    title: str | None = None,
    progress: Progress = silent,
) -> ReportReceipt:
    """Write one self-contained page of the pairs of recordings that were compared.

    Parameters
    ----------
    atlas
        Where the page goes.
    compared
        What `compare` made or found.
    name
        Names the file; made of the recordings and features by default.
    title
        Heading; made of the recordings by default.
    progress
        Told that the page is being made.

    Raises
    ------
    UserError
        If a table is missing or damaged, or tables are of two comparisons.
    """
    compared_names = compared.recording.split(", ")
    pairs = read_settled(atlas, compared_names, lambda: read_pairs(compared.files), (PAIR,))
    names = _names(pairs)
    path = atlas.report(name or _page_name(names, _features(pairs)))
    written = replace_page(path, render_similarities(pairs, title=title), progress=progress)
    return ReportReceipt(path=path, recordings=names, made=written.made, notices=written.notices)


def render_similarities(pairs: Sequence[ComparedPair], *, title: str | None = None) -> str:
    """Return the page as HTML, with styles and pictures inside."""
    views = [_view(pair) for pair in pairs]
    names = _names(pairs)
    heading = f"The layers of {names[0]}" if len(names) == 1 else f"{len(names)} recordings"
    return render(
        "similarity",
        of=names,
        styles=("page", "similarity"),
        scripts=("similarity",),
        title=title or f"{heading} compared",
        answer=_answer(views),
        views=views,
        features=_features(pairs),
        ramp=ramp_style(),
        payload=json_inside([_payload(view) for view in views]),
    )


def _names(pairs: Sequence[ComparedPair]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for pair in pairs for name in (pair.first, pair.second)))


def _features(pairs: Sequence[ComparedPair]) -> str:
    return str(pairs[0].similarities["features"].iloc[0])


def _page_name(names: Sequence[str], features: str) -> str:
    """Return a name of the page: two recordings by their ids, more by the first and the last."""
    between = len(names) - 2
    others = f"-and-{between}-more" if between > 0 else ""
    last = f"-with-{names[-1]}" if len(names) > 1 else ""
    by = "" if features == "means" else f"-by-{features}"
    whole = f"layers-of-{names[0]}{others}{last}"
    if len(whole) > LONGEST_NAME:
        whole = f"{whole[: LONGEST_NAME - 9]}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"
    return f"{whole}{by}"


def _answer(views: Sequence[PairView]) -> str:
    """Say what a single comparison found; nothing of several, which say it each."""
    if len(views) != 1 or not views[0].maps:
        return ""
    first = views[0].maps[0]
    return f"{first.title} of {first.reading}."


def readings(pair: ComparedPair) -> list[str]:
    """Say what there is to see in a pair of recordings, by the first measure that there is."""
    alone = pair.first == pair.second
    who = pair.first if alone else f"{pair.first} with {pair.second}"
    for name in pair.measures[:1]:
        values = pair.measure(name)
        return [f"{who}: {MEASURES[name]} of {_reading(values, alone=alone)}"]
    return []


def _payload(view: PairView) -> dict[str, Any]:
    """Return what the page tells of the cell that is pointed at."""
    maps = [{"title": each.title, "cells": each.cells} for each in view.maps]
    return {"layers": view.layers, "others": view.other_layers, "maps": maps}


def _view(pair: ComparedPair) -> PairView:
    rows, alone = pair.similarities, pair.first == pair.second
    left_out = int(rows["invalid_images"].iloc[0])
    facts = f"{int(rows['images'].iloc[0]):,} images"
    facts += f", {left_out:,} left out that could not be decoded" if left_out else ""
    sampled = int(rows["rsa_images"].iloc[0])
    facts += f"; RSA of {sampled:,}" if sampled else ""
    kept = None if alone else pair.over_depth()
    return PairView(
        pair.first if alone else f"{pair.first} with {pair.second}",
        pair.first,
        pair.second,
        facts,
        pair.layers,
        pair.other_layers,
        _ticks(pair.layers),
        _ticks(pair.other_layers),
        [_heat_map(pair.measure(name), MEASURES[name], alone=alone) for name in pair.measures],
        None if kept is None or kept.empty else depth_lines(kept.rename(index=OVER_DEPTH)),
    )


def _heat_map(values: pd.DataFrame, title: str, *, alone: bool) -> HeatMap:
    numbers = values.to_numpy(dtype=np.float64)
    known = np.isfinite(numbers)
    rounded = np.round(numbers, DIGITS)
    return HeatMap(
        title,
        picture_address(numbers, ~known),
        [[float(each) if np.isfinite(each) else None for each in row] for row in rounded],
        _reading(values.where(known), alone=alone),
    )


def _reading(values: pd.DataFrame, *, alone: bool) -> str:
    """Say what there is to see: how alike neighbouring layers are, or the same of both."""
    if alone:
        beside = np.diagonal(values.to_numpy(), offset=1)
        if not np.isfinite(beside).any():
            return "nothing is known of neighbouring layers"
        least = int(np.nanargmin(beside))
        return (
            f"neighbouring layers: median {np.nanmedian(beside):.2f}, lowest {beside[least]:.2f} "
            f"({values.index[least]} with {values.columns[least + 1]})"
        )
    shared = [name for name in values.index if name in values.columns]
    same = np.array([values.loc[name, name] for name in shared], np.float64)
    if not np.isfinite(same).any():
        return "no layer of one name is known in both"
    least = int(np.nanargmin(same))
    return (
        f"the same layer of both: median {np.nanmedian(same):.2f}, lowest {same[least]:.2f} "
        f"({shared[least]})"
    )


def _ticks(layers: Sequence[str]) -> list[tuple[str, float]]:
    count = len(layers)
    return [(layers[place], (place + 0.5) / count) for place in even_places(count, most=LABELS)]
