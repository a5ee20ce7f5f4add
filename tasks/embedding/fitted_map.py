"""A map and what places further images in it: fitted, used, kept in a file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from activarium.tasks.embedding.autoencoder import autoencoder, encode
from activarium.tasks.embedding.principal_components import PrincipalComponents, pca
from activarium.tasks.embedding.tsne import largest_perplexity, place_by_tsne, tsne
from activarium.tasks.embedding.umap import place_by_umap, umap
from activarium.tasks.stores.parquet_files import damaged
from activarium.tasks.stores.table_sets import file_problem, set_of

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import EmbedConfig, Method

    Floats = NDArray[np.floating]

NAN = float("nan")


@dataclass(frozen=True)
class FittedMap:
    """A map of N images, and what places further ones in it."""

    method: Method
    features: int
    """Features of an image."""
    coordinates: NDArray[np.float32]
    """Of the images that the map was fitted to, or a sample of them: shape (N, dimension)."""
    parameters: dict[str, Any]
    objective: float = NAN
    """What the method minimised; NaN where it does not tell."""
    explained_variance: float = NAN
    """Share of variance that is kept; NaN where that means nothing."""
    state: dict[str, NDArray[Any]] | None = None
    """Arrays that place images; None where all images were alike, and all lie at 0."""

    @property
    def dimensions(self) -> int:
        """Dimensions of the map."""
        return int(self.coordinates.shape[1])

    def place(self, points: Floats, *, threads: int) -> NDArray[np.float32]:
        """Return the coordinates of further images (M, feature), shape (M, dimension)."""
        if self.state is None:
            return np.zeros((len(points), self.dimensions), np.float32)
        first = PrincipalComponents(np.zeros(0), self.state["mean"], self.state["components"])
        reduced = first.project(points)
        if self.method == "pca":
            return _padded(reduced, self.dimensions)
        if self.method == "autoencoder":
            names = [name for name in self.state if name.startswith(("weight", "bias"))]
            coded = encode({name: self.state[name] for name in names}, reduced)
            return _padded(coded, self.dimensions)
        near = reduced.astype(np.float64), self.state["reference"].astype(np.float64)
        if self.method == "tsne":
            return place_by_tsne(*near, self.coordinates, threads=threads)
        return place_by_umap(*near, self.coordinates, neighbours=int(self.parameters["neighbours"]))


def _padded(coordinates: NDArray[np.float32], dimensions: int) -> NDArray[np.float32]:
    """Return coordinates with flat ones for dimensions that the images do not have."""
    return np.pad(coordinates, ((0, 0), (0, dimensions - coordinates.shape[1])))


def pca_map(found: PrincipalComponents, points: Floats, *, dimensions: int) -> FittedMap:
    """Return the map of principal components.

    Parameters
    ----------
    found
        Components, at most as many as dimensions.
    points
        Images whose coordinates the map keeps, (image, feature).
    dimensions
        Dimensions of the map; those without a component stay flat.
    """
    return FittedMap(
        "pca",
        points.shape[1],
        _padded(found.project(points), dimensions),
        {"dimensions": dimensions},
        # Rounding may carry a sum of shares past 1.
        explained_variance=min(float(found.explained_variance_ratio.sum()), 1.0),
        state={"mean": found.mean, "components": found.components},
    )


def fit_map(points: Floats, method: Method, config: EmbedConfig, threads: int) -> FittedMap:
    """Return a map of the points (image, feature), reduced by PCA first.

    Perplexity and neighbours that do not fit a small set are lowered to the largest that do, which
    the parameters note.
    """
    if method == "pca":
        found = pca(points, dimensions=config.dimensions)
        return pca_map(found, points, dimensions=config.dimensions)
    first = pca(points, dimensions=config.pca_dimensions)
    reduced = first.coordinates.astype(np.float64)
    if not reduced.any():
        # A dead layer must not end a run: neighbours are undefined, and all images lie together.
        together = np.zeros((len(points), config.dimensions), np.float32)
        return FittedMap(method, points.shape[1], together, {"images_differ": False})
    kept = {"mean": first.mean, "components": first.components}
    if method == "autoencoder":
        coded = autoencoder(
            reduced, dimensions=config.dimensions, hidden=config.hidden, seed=config.seed
        )
        share = float(first.explained_variance_ratio.sum())
        return FittedMap(
            method,
            points.shape[1],
            _padded(coded.coordinates, config.dimensions),
            {**coded.parameters, "pca_dimensions": reduced.shape[1]},
            objective=coded.objective,
            explained_variance=min(coded.explained_variance * share, 1.0),
            state=kept | coded.encoder,
        )
    if method == "tsne":
        drawn = tsne(
            reduced,
            dimensions=config.dimensions,
            perplexity=min(config.perplexity, largest_perplexity(len(points))),
            seed=config.seed,
            threads=threads,
        )
    else:
        neighbours = min(config.neighbours, len(points) - 1)
        drawn = umap(reduced, dimensions=config.dimensions, neighbours=neighbours, seed=config.seed)
    return FittedMap(
        method,
        points.shape[1],
        drawn.coordinates,
        {**drawn.parameters, "pca_dimensions": reduced.shape[1]},
        objective=NAN if drawn.objective is None else drawn.objective,
        state=kept | {"reference": first.coordinates},
    )


@dataclass(frozen=True)
class KeptMap:
    """A map as a file keeps it."""

    fitted: FittedMap
    images: int
    """Images that it was fitted to."""
    classes: NDArray[np.str_]
    """Class of each image of its coordinates, empty where there is none: shape (N,)."""
    inputs: str
    """Fingerprint of what it was fitted to and how."""


def keep_map(path: Path, kept: KeptMap) -> None:
    """Write a map to where its set is staged."""
    fitted = kept.fitted
    told = {
        "method": fitted.method,
        "features": fitted.features,
        "parameters": fitted.parameters,
        "objective": fitted.objective,
        "explained_variance": fitted.explained_variance,
        "state": None if fitted.state is None else sorted(fitted.state),
        "images": kept.images,
        "inputs": kept.inputs,
    }
    arrays: dict[str, Any] = {f"state_{name}": each for name, each in (fitted.state or {}).items()}
    arrays |= {"coordinates": fitted.coordinates, "classes": kept.classes}
    with path.open("wb") as file:
        np.savez(file, told=np.array(json.dumps(told)), **arrays)


def _check_sizes(path: Path) -> None:
    """Refuse arrays that are packed: those of maps lie in the file as they are."""
    with ZipFile(path) as archive:
        if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
            raise BadZipFile("its arrays are larger than it is")


def kept_map(path: Path) -> KeptMap:
    """Return the map that a file keeps.

    Raises
    ------
    UserError
        If the file is damaged.
    """
    problem = file_problem(set_of(path), path)
    if problem:
        raise damaged(path, problem)
    try:
        _check_sizes(path)
        with path.open("rb") as stream, np.load(stream) as stored:
            told = json.loads(str(stored["told"]))
            names = told.pop("state")
            state = None if names is None else {each: stored[f"state_{each}"] for each in names}
            coordinates, classes = stored["coordinates"], stored["classes"]
        images, inputs = int(told.pop("images")), str(told.pop("inputs"))
        fitted = FittedMap(coordinates=coordinates, state=state, **told)
    except (
        BadZipFile, OSError, ValueError, KeyError, MemoryError, TypeError, AttributeError
    ) as error:  # fmt: skip
        raise damaged(path, type(error).__name__) from error
    return KeptMap(fitted, images, classes, inputs)
