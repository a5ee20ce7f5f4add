"""Maps against the libraries called directly: PCA, t-SNE, UMAP; and the memory of PCA.

    python benchmarks/embedding.py [--quick] [--repeats N] [--case NAME] [--folder FOLDER]

PCA is measured on a matrix in memory, against scikit-learn's `covariance_eigh`. t-SNE and UMAP run
as embedding runs them, on features that PCA has reduced to 50, against openTSNE's and umap-learn's
own classes with their own neighbour search on the same threads; UMAP's compilation is not counted.
Memory is the peak of a process that embeds a recording by PCA, coordinates of every image included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.decomposition import PCA
from synthetic_recordings import write_recording
from synthetic_responses import Case
from threadpoolctl import threadpool_limits
from timings import circumstances, table, take_turns

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import EmbedConfig
from activarium.tasks.embedding.embed import embed
from activarium.tasks.embedding.principal_components import pca
from activarium.tasks.embedding.tsne import tsne
from activarium.tasks.embedding.umap import umap
from activarium.tasks.stores.places import Folder
from activarium.tasks.stores.recording import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Works = dict[str, Callable[[], object]]

THREADS = 2
DIMENSIONS = 50
CASES = ("pca", "tsne", "umap", "memory")
GOALS = {"pca": 1.5, "tsne": 1.0, "umap": 1.0}
MOST_BYTES = 4 * 2**30
LARGE, QUICK = Case(1_000_000, 512, 10), Case(5_000, 64, 10)


def classes_apart(images: int, features: int) -> NDArray[np.float32]:
    """Return features of images of ten classes that overlap."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(10, features))
    noise = rng.normal(size=(images, features)) * np.linspace(3, 0.3, features)
    return (centre[rng.integers(0, 10, images)] + noise).astype(np.float32)


def pca_works(points: NDArray[np.float32]) -> Works:
    """Return PCA to 50 by us and by scikit-learn, both in float64."""
    exact = points.astype(np.float64)
    size = min(DIMENSIONS, *points.shape)
    return {
        "ours": lambda: pca(exact, dimensions=size),
        "scikit-learn": lambda: PCA(size, svd_solver="covariance_eigh").fit_transform(exact),
    }


def tsne_works(points: NDArray[np.float32]) -> Works:
    """Return t-SNE by us and by openTSNE."""
    from openTSNE import TSNE

    rows = reduced(points)
    return {
        "ours": lambda: tsne(rows, seed=0, threads=THREADS),
        "openTSNE": lambda: TSNE(n_jobs=THREADS, random_state=0).fit(rows),
    }


def umap_works(points: NDArray[np.float32]) -> Works:
    """Return UMAP by us and by umap-learn, both with a seed and so on one thread."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

    rows = reduced(points)

    def direct() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return UMAP(random_state=0).fit_transform(rows)

    return {"ours": lambda: umap(rows, seed=0), "umap-learn": direct}


def reduced(points: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the features as t-SNE and UMAP get them."""
    return pca(points, dimensions=DIMENSIONS).coordinates.astype(np.float64)


WORKS = {"pca": pca_works, "tsne": tsne_works, "umap": umap_works}


def compared(case: str, points: NDArray[np.float32], repeats: int) -> list[str]:
    """Return one line of the table of times."""
    with threadpool_limits(THREADS):
        works = WORKS[case](points)
        times = take_turns(works, repeats=repeats)
    (_, own), (peer, other) = times.items()
    ratio = own.ratio(other)
    images, features = points.shape
    return [
        f"{case}, {images:,} x {features}", f"{own.median:.3f} s", peer, f"{other.median:.3f} s",
        f"{ratio:.2f}", f"{own.least_ratio(other):.2f}", f"{GOALS[case]:g}",
        "yes" if ratio <= GOALS[case] else "no",
    ]  # fmt: skip


def embed_here(folder: Path) -> int:
    """Embed a folder's recording by PCA and return this process's peak in bytes."""
    config = EmbedConfig(features=("means",), layers=("*",), methods=("pca",), threads=THREADS)
    recording = Recording(Folder(folder / "synthetic.zarr"))
    embed(Atlas(folder / "atlas"), recording, config=config)
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def memory(case: Case, folder: str | None) -> list[str]:
    """Return one line of the table of memory."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        write_recording(Path(name) / "synthetic.zarr", case)
        command = [sys.executable, __file__, "--measure", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        done.check_returncode()
    peak = int(done.stdout)
    size = f"{case.images:,} x {case.units}"
    reached = "yes" if peak <= MOST_BYTES else "no"
    return [f"pca, {size}", f"{peak / 2**20:,.0f} MiB", f"{MOST_BYTES / 2**20:,.0f} MiB", reached]


TIMES = ("work", "ours", "peer", "its time", "ratio, median", "min", "at most", "met")
PEAKS = ("work", "peak of the process", "at most", "met")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", action="append", choices=CASES, help="by default all")
    parser.add_argument("--folder", default=None, help="where the recording is written (2 GB)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    asked = parse(arguments)
    if asked.measure:
        print(embed_here(asked.measure))
        return
    cases = asked.case or CASES
    points = classes_apart(*((600, 64) if asked.quick else (10_000, 512)))
    print(circumstances("numpy", "scikit-learn", "openTSNE", "umap-learn"), end="\n\n")
    rows = [compared(case, points, asked.repeats) for case in cases if case in WORKS]
    if rows:
        print(table(TIMES, rows), end="\n\n")
    if "memory" in cases:
        print(table(PEAKS, [memory(QUICK if asked.quick else LARGE, asked.folder)]))


if __name__ == "__main__":
    main()
