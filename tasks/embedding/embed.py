"""Embed: maps of the images by their pooled features and raw pixels, with their quality."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.atlas import Atlas
from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.errors import UserError
from activarium.schemas.receipts import TablesReceipt
from activarium.schemas.tables import EMBEDDING_QUALITY, EMBEDDINGS
from activarium.tasks.embedding.neighbours import knn_purity, sample_queries, trustworthiness
from activarium.tasks.embedding.projections import largest_perplexity, pca, tsne, umap
from activarium.tasks.fingerprint import fingerprint, versions
from activarium.tasks.progress import silent
from activarium.tasks.scheduling import run_pieces
from activarium.tasks.stores.locking import only_process
from activarium.tasks.stores.parquet_files import is_current, to_table, write_table
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import EmbedConfig, Method
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.places import Place

MAPS_VERSION = 1
"""Raised when a method changes, so that maps made before are made again."""

PIXELS = "pixels"
"""Name that stands for a layer where the raw pixels are embedded."""

FEWEST_IMAGES = 10
"""Below this a map shows nothing."""

LIBRARIES = ("activarium", "numpy", "scikit-learn", "openTSNE", "umap-learn", "numba")


@dataclass(frozen=True)
class Map:
    """Coordinates of one map and how they came about."""

    coordinates: NDArray[np.float32]
    """(image, dimension)."""
    objective: float
    """KL divergence of t-SNE; NaN for other methods."""
    explained_variance: float
    """Share of variance of the PCA map; NaN for other methods."""
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Piece:
    """One map to make: which recording, from what, how, and where it goes."""

    recording: Place
    root: Path
    source: str
    method: Method
    config: EmbedConfig
    inputs: str

    def files(self) -> tuple[Path, Path]:
        """Return the file of coordinates and the file of quality."""
        atlas, name = Atlas(self.root), Recording(self.recording).name
        part = f"{self.method}-{self.source}"
        return (
            atlas.table_file(EMBEDDINGS, name, part),
            atlas.table_file(EMBEDDING_QUALITY, name, part),
        )


def choose_sources(recording: Recording, config: EmbedConfig) -> list[str]:
    """Return what is embedded: layers with pooled features in order, and the raw pixels first.

    Raises
    ------
    UserError
        If a pattern matches no layer with pooled features.
    """
    pooled = _pooled_layers(recording)
    if list(config.layers) == ["auto"]:
        places = sorted({0, len(pooled) // 2, len(pooled) - 1}) if pooled else []
        chosen = [pooled[place] for place in places]
    else:
        for pattern in config.layers:
            if not any(fnmatchcase(name, pattern) for name in pooled):
                raise UserError(
                    f"embed.layers: {pattern!r} matches none of the layers with pooled features: "
                    f"{', '.join(pooled) or 'there are none'}; record.pooled_layers chooses them"
                )
        chosen = [name for name in pooled if any(fnmatchcase(name, each) for each in config.layers)]
    has_pixels = config.pixels and recording.has("thumbnail")
    return [PIXELS, *chosen] if has_pixels else chosen


def _pooled_layers(recording: Recording) -> list[str]:
    if not recording.has("pooled"):
        return []
    return list(dict.fromkeys(recording.text("feature_layer")))


def read_source(recording: Recording, source: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the features of the chosen images, (image, feature)."""
    if source == PIXELS:
        return recording.read("thumbnail")[rows].reshape(len(rows), -1) / 255.0
    columns = np.flatnonzero(np.array(recording.text("feature_layer")) == source)
    features = recording.columns("pooled", int(columns[0]), int(columns[-1]) + 1)
    return features[rows].astype(np.float64)


def make_map(points: NDArray[np.float64], method: Method, config: EmbedConfig, threads: int) -> Map:
    """Return one map of the points (image, feature), reduced by PCA first.

    Perplexity and neighbours that do not fit a small set are lowered to the largest that do, which
    the parameters note.
    """
    nan = float("nan")
    if method == "pca":
        found = pca(points, dimensions=config.dimensions)
        # Rounding may carry a sum of shares past 1.
        share = min(float(found.explained_variance_ratio.sum()), 1.0)
        flat = np.zeros((len(points), config.dimensions), np.float32)
        flat[:, : found.coordinates.shape[1]] = found.coordinates
        return Map(flat, nan, share, {"dimensions": config.dimensions})
    reduced = pca(points, dimensions=config.pca_dimensions).coordinates.astype(np.float64)
    if not reduced.any():
        # A dead layer must not end a run: neighbours are undefined, and all images lie together.
        together = np.zeros((len(points), config.dimensions), np.float32)
        return Map(together, nan, nan, {"images_differ": False})
    if method == "tsne":
        perplexity = min(config.perplexity, largest_perplexity(len(points)))
        drawn = tsne(
            reduced,
            dimensions=config.dimensions,
            perplexity=perplexity,
            seed=config.seed,
            threads=threads,
        )
    else:
        neighbours = min(config.neighbours, len(points) - 1)
        drawn = umap(reduced, dimensions=config.dimensions, neighbours=neighbours, seed=config.seed)
    parameters = {**drawn.parameters, "pca_dimensions": reduced.shape[1]}
    return Map(
        drawn.coordinates, nan if drawn.objective is None else drawn.objective, nan, parameters
    )


def embed_piece(piece: Piece) -> None:
    """Make one map of a recording and write its coordinates and its quality."""
    recording, config = Recording(piece.recording), piece.config
    valid = np.flatnonzero(recording.valid)
    rows = valid[sample_queries(len(valid), most=config.max_images, seed=config.seed)]
    points = read_source(recording, piece.source, rows)
    threads = config.threads or os.cpu_count() or 1
    began = time.perf_counter()
    drawn = make_map(points, piece.method, config, threads)
    seconds = time.perf_counter() - began
    coordinates, quality = piece.files()
    names = recording.image_names
    columns = {
        "layer": [piece.source] * len(rows),
        "method": [piece.method] * len(rows),
        "image_index": rows,
        "image": [names[row] for row in rows],
        **_axes(drawn.coordinates),
    }
    write_table(coordinates, to_table(EMBEDDINGS, columns, inputs=piece.inputs))
    row = _quality(points, drawn, recording.labels[rows], config) | {
        "layer": piece.source,
        "method": piece.method,
        "seconds": seconds,
        "threads": drawn.parameters.get("threads", threads),
        "parameters": json.dumps(drawn.parameters, sort_keys=True),
        "versions": json.dumps(versions(LIBRARIES), sort_keys=True),
    }
    one_row = {name: np.array([value]) for name, value in row.items()}
    write_table(quality, to_table(EMBEDDING_QUALITY, one_row, inputs=piece.inputs))


def _axes(coordinates: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    axes = np.full((len(coordinates), 3), np.nan)
    axes[:, : coordinates.shape[1]] = coordinates
    return dict(zip(("x", "y", "z"), axes.T, strict=True))


def _quality(
    points: NDArray[np.float64], drawn: Map, labels: NDArray[np.int32], config: EmbedConfig
) -> dict[str, Any]:
    neighbours = min(config.quality_neighbours, (len(points) - 1) // 2)
    queries = sample_queries(len(points), most=config.quality_queries, seed=config.seed)
    flat = drawn.coordinates.astype(np.float64)
    labelled = bool((labels >= 0).any())
    purity, source_purity = (
        knn_purity(space, labels, k=neighbours, queries=queries) if labelled else float("nan")
        for space in (flat, points)
    )
    return {
        "images": len(points),
        "source_features": points.shape[1],
        "dimensions": drawn.coordinates.shape[1],
        "trustworthiness": trustworthiness(points, flat, k=neighbours, queries=queries),
        "knn_purity": purity,
        "source_knn_purity": source_purity,
        "neighbours": neighbours,
        "queries": len(queries),
        "objective": drawn.objective,
        "explained_variance": drawn.explained_variance,
        "seed": config.seed,
    }


def embed(
    atlas: Atlas, recording: Recording, *, config: EmbedConfig, progress: Progress = silent
) -> TablesReceipt:
    """Make every map of a recording that is not current.

    Raises
    ------
    UserError
        If there are too few images, a layer has no pooled features, or the disk is full.
    """
    began = time.perf_counter()
    if recording.valid.sum() < FEWEST_IMAGES:
        raise UserError(
            f"recording {recording.name}: expected at least {FEWEST_IMAGES} valid images to embed, "
            f"got {int(recording.valid.sum())}"
        )
    own = ("layers", "methods", "pixels", "threads", "scheduler")
    inputs = fingerprint(
        {
            "recording": recording.fingerprint,
            "settings": config.model_dump(mode="json", exclude=set(own)),
            "columns": FORMAT_VERSION,
            "maps": MAPS_VERSION,
        }
    )
    pieces = [
        Piece(recording.place.absolute(), atlas.root.absolute(), source, method, config, inputs)
        for source in choose_sources(recording, config)
        for method in config.methods
    ]
    pending = [
        piece for piece in pieces if not all(is_current(path, inputs) for path in piece.files())
    ]
    if pending:
        with only_process(atlas.lock(f"{recording.name}.tables"), f"tabulating {recording.name}"):
            _make_pieces(recording.name, pieces, pending, config=config, progress=progress)
    return TablesReceipt(
        recording=recording.name,
        files=tuple(path for piece in pieces for path in piece.files()),
        made=bool(pending),
        seconds=time.perf_counter() - began,
    )


def _make_pieces(
    name: str,
    pieces: Sequence[Piece],
    pending: Sequence[Piece],
    *,
    config: EmbedConfig,
    progress: Progress,
) -> None:
    with progress(f"embedding {name}", len(pieces)) as advance:
        advance(len(pieces) - len(pending))
        run_pieces(
            embed_piece,
            [(each,) for each in pending],
            scheduler=config.scheduler,
            advance=advance,
        )
