"""One map of a recording: fitted or taken from another recording, filled, scored and written."""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.tables import EMBEDDING_QUALITY, EMBEDDINGS
from activarium.tasks.embedding.fitted_map import (
    FittedMap,
    KeptMap,
    fit_map,
    keep_map,
    kept_map,
    pca_map,
)
from activarium.tasks.embedding.neighbours import sample_queries
from activarium.tasks.embedding.quality import map_quality, placed_purity
from activarium.tasks.embedding.space_components import space_components
from activarium.tasks.features.spaces import open_space, stored_space
from activarium.tasks.fingerprint import versions
from activarium.tasks.stores.parquet_files import to_table, write_table
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.set_replacing import replacing_set
from activarium.tasks.stores.table_sets import TableSet, file_problem, map_set, set_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import EmbedConfig, Method
    from activarium.tasks.features.spaces import Space
    from activarium.tasks.statistics.layers.layer_rows import LayerRows
    from activarium.tasks.stores.places import Place

LIBRARIES = ("activarium", "numpy", "scipy", "scikit-learn", "openTSNE", "umap-learn", "numba")


@dataclass(frozen=True)
class Piece:
    """One map to make: which recording, from what, how, and where it goes."""

    recording: Place
    root: Path
    space: Space
    method: Method
    config: EmbedConfig
    inputs: str

    @property
    def part(self) -> str:
        """What names the map among those of its recording."""
        return f"{self.method}-{self.space.part}"

    @property
    def name(self) -> str:
        """Id of the recording."""
        return Recording(self.recording).name

    def tables(self) -> tuple[Path, Path]:
        """Return the file of coordinates and the file of quality."""
        atlas, into = Atlas(self.root), self.config.into
        part = self.part if into is None else f"{self.part}>{into}"
        return (
            atlas.table_file(EMBEDDINGS, self.name, part),
            atlas.table_file(EMBEDDING_QUALITY, self.name, part),
        )

    def map_file(self) -> Path:
        """Return the file of what places further images: this recording's, or the other's."""
        return Atlas(self.root).map_file(self.config.into or self.name, self.part)

    def set(self) -> TableSet:
        """Return its files as a set."""
        return map_set(Atlas(self.root), self.name, self.tables()[0])

    def files(self) -> tuple[Path, ...]:
        """Return the files of the set: the tables, and the map that was fitted for them."""
        return (*self.tables(), *(() if self.config.into else (self.map_file(),)))

    def is_current(self) -> bool:
        """Return whether the map is there, made of exactly the same."""
        if not self.set().is_current(self.inputs, self.files()):
            return False
        path = self.map_file()
        return self.config.into is None or not file_problem(set_of(path), path)

    def command(self) -> str:
        """Return the command that makes it."""
        words = ["activarium", "embed", self.name, "--features", self.space.features]
        if self.space.layer != self.space.features:
            words += ["--layer", self.space.layer]
        words += ["--method", self.method]
        words += ["--into", self.config.into] if self.config.into else []
        return shlex.join(words)


@dataclass(frozen=True)
class _Images:
    """The images of one map."""

    row: NDArray[np.int64]
    """Rows of all valid images in the recording, ascending."""
    sample: NDArray[np.int64]
    """Places in `row` of those that maps are fitted to and quality is measured among."""
    shown: NDArray[np.int64]
    """Places in `row` of those that get coordinates."""

    def of_sample(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of the sample among those of the images shown."""
        return values[np.searchsorted(self.shown, self.sample)]


def make_piece(piece: Piece) -> list[str]:
    """Make one map and write its coordinates and its quality; return what users should know."""
    recording, config = Recording(piece.recording), piece.config
    images = _images(recording, config)
    threads = config.threads or os.cpu_count() or 1
    began = time.perf_counter()
    with threadpool_limits(threads):
        kept = _map_of(piece, recording, images, threads)
        rows = open_space(recording, piece.space, images.row[images.shown])
        flat, is_placed = _coordinates(kept.fitted, rows, images, config, threads)
        seconds = time.perf_counter() - began
        points = rows.take(np.searchsorted(images.shown, images.sample)).astype(np.float64)
        scores = _scores(recording, images, kept, (points, flat, is_placed), config)
    row = scores | {
        "images": kept.images,
        "placed_images": int(is_placed.sum()),
        "seconds": seconds,
        "threads": kept.fitted.parameters.get("threads", threads),
    }
    shown = images.row[images.shown]
    drawn = _coordinate_columns(piece, recording, shown, flat, is_placed)
    _write(piece, kept, drawn, _quality_columns(piece, kept.fitted, row))
    told = f"{recording.name}, {piece.space}: all images have the same features"
    return [f"{told}; {piece.method} puts them on one point"] if not points.std(0).any() else []


def _images(recording: Recording, config: EmbedConfig) -> _Images:
    row = np.flatnonzero(recording.valid)
    sample = sample_queries(len(row), most=config.max_images, seed=config.seed)
    return _Images(row, sample, np.arange(len(row)) if config.place_rest else sample)


def _map_of(piece: Piece, recording: Recording, images: _Images, threads: int) -> KeptMap:
    """Return the map that is fitted to the images, or that of the other recording."""
    config, space = piece.config, piece.space
    if config.into is not None:
        return _other_map(piece, recording)
    points = stored_space(recording, space, images.row[images.sample])
    values = points.take(np.arange(points.images))
    fitted_to = images.sample
    if piece.method == "pca":
        fitted_to = images.shown
        rows = stored_space(recording, space, images.row[fitted_to])
        found = space_components(rows, dimensions=config.dimensions, threads=threads)
        fitted = pca_map(found, values, dimensions=config.dimensions)
    else:
        fitted = fit_map(values.astype(np.float64), piece.method, config, threads)
    classes = _classes(recording, images.row[images.sample])
    return KeptMap(fitted, len(fitted_to), classes, piece.inputs)


def _other_map(piece: Piece, recording: Recording) -> KeptMap:
    kept = kept_map(piece.map_file())
    features = stored_space(recording, piece.space, np.zeros(0, np.int64)).units
    if kept.fitted.features != features:
        raise UserError(
            f"cannot place {recording.name} into {piece.config.into}: {piece.space} have {features} "
            f"features, those of the map {kept.fitted.features}; choose others by --features and --layer"
        )
    return kept


def _coordinates(
    fitted: FittedMap, rows: LayerRows, images: _Images, config: EmbedConfig, threads: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the coordinates of the images shown, and which of them were placed."""
    own = np.zeros(rows.images, np.bool_)
    if config.into is None:
        own[np.searchsorted(images.shown, images.sample)] = True
    flat = np.empty((rows.images, fitted.dimensions), np.float32)
    start = 0
    for block in rows.blocks():
        part = slice(start, start + len(block))
        flat[part][~own[part]] = fitted.place(block[~own[part]], threads=threads)
        start += len(block)
    if config.into is None:
        flat[own] = fitted.coordinates
        # The components of PCA are those of all images that are shown.
        if fitted.method == "pca":
            own[:] = True
    return flat, ~own


def _scores(
    recording: Recording,
    images: _Images,
    kept: KeptMap,
    drawn: tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]],
    config: EmbedConfig,
) -> dict[str, Any]:
    points, flat, is_placed = drawn
    own = images.of_sample(flat).astype(np.float64)
    scores = map_quality(points, own, recording.labels[images.row[images.sample]], config)
    shown = images.row[images.shown]
    purity = placed_purity(
        flat[is_placed].astype(np.float64),
        _classes(recording, shown[is_placed]),
        kept.fitted.coordinates.astype(np.float64),
        kept.classes,
        config,
    )
    return scores | {"source_features": points.shape[1], "placed_knn_purity": purity}


def _classes(recording: Recording, row: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return the class name of each image, empty where there is none."""
    # A code of -1 takes the last.
    return np.array([*recording.class_names, ""])[recording.labels[row]]


def _keys(piece: Piece) -> dict[str, str | None]:
    return {
        "features": piece.space.features,
        "layer": piece.space.layer,
        "method": piece.method,
        "into": piece.config.into,
    }


def _write(piece: Piece, kept: KeptMap, drawn: dict[str, Any], quality: dict[str, Any]) -> None:
    """Write a map, which takes the place of the one before as a whole."""
    command = piece.command()
    with replacing_set(piece.set(), inputs=piece.inputs, command=command) as staged:
        for path, table, columns in zip(
            piece.tables(), (EMBEDDINGS, EMBEDDING_QUALITY), (drawn, quality), strict=True
        ):
            write_table(staged.path(path), to_table(table, columns, inputs=piece.inputs))
        if piece.config.into is None:
            keep_map(staged.path(piece.map_file()), kept)


def _coordinate_columns(
    piece: Piece,
    recording: Recording,
    row: NDArray[np.int64],
    flat: NDArray[np.float32],
    is_placed: NDArray[np.bool_],
) -> dict[str, Any]:
    axes = np.full((len(flat), 3), np.nan)
    axes[:, : flat.shape[1]] = flat
    names = recording.image_names
    return {
        **{name: [value] * len(row) for name, value in _keys(piece).items()},
        "image_index": row,
        "image": [names[each] for each in row],
        "is_placed": is_placed,
        **dict(zip(("x", "y", "z"), axes.T, strict=True)),
    }


def _quality_columns(piece: Piece, fitted: FittedMap, scores: dict[str, Any]) -> dict[str, Any]:
    row = scores | {
        **_keys(piece),
        "dimensions": fitted.dimensions,
        "objective": fitted.objective,
        "explained_variance": fitted.explained_variance,
        "seed": piece.config.seed,
        "parameters": json.dumps(fitted.parameters, sort_keys=True),
        "versions": json.dumps(versions(LIBRARIES), sort_keys=True),
    }
    return {name: [value] for name, value in row.items()}
