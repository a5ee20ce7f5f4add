"""All pairs of layers of a ResNet-18, against matrices of all pairs of images.

    python benchmarks/similarity.py [--quick] [--width N] [--pairs N] [--folder FOLDER]

`activarium compare` of one recording on disk, with its reading and writing. The peer builds the
centred Gram matrices of both layers of a pair (N x N, float64) and takes CKA and debiased CKA from
them; it is measured on some pairs, and its time for all follows from that. Responses are made up:
half zero, of the sizes of a ResNet-18's layers. Seconds of the processor tell, on a machine that
does other work too, what the time would be without it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from statistics_growth import reset_peak, status_bytes
from synthetic_recordings import write_recording
from synthetic_responses import Case
from timings import circumstances, table

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig, Measure
from activarium.tasks.similarity.compare import compare
from activarium.tasks.stores.parquet_files import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from activarium.tasks.stores.recording import Recording

    Matrix = NDArray[np.float64]

IMAGES, WIDTH, GOAL = 10_000, 64, 60.0
QUICK_IMAGES, QUICK_WIDTH = 300, 2
MEASURES: tuple[Measure, ...] = ("cka", "procrustes", "rsa")


def layer_sizes(width: int) -> list[int]:
    """Return the units of a ResNet-18's layers: convolutions, batch norms, activations, sums."""
    stages = ((1, 15), (2, 14), (4, 14), (8, 15))
    return [width * factor for factor, count in stages for _ in range(count)] + [10]


@dataclass(frozen=True)
class Taken:
    """What a piece of work took."""

    seconds: float
    processor: float
    peak: int
    """Bytes beyond what the process held before."""
    found: Any


def measure(work: Callable[[], Any]) -> Taken:
    """Run a piece of work once."""
    reset_peak()
    before = status_bytes("VmRSS")
    began, processor = time.perf_counter(), time.process_time()
    found = work()
    return Taken(
        time.perf_counter() - began,
        time.process_time() - processor,
        status_bytes("VmHWM") - before,
        found,
    )


def own_similarities(recording: Recording, folder: Path, measures: Sequence[Measure]) -> Any:
    """Return the rows of `similarities` of all pairs of layers, in an atlas of their own."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        config = CompareConfig(measures=tuple(measures))
        receipt = compare(Atlas(Path(name)), [recording], config=config)
        return read_table(receipt.files[0]).to_pandas().set_index(["layer", "other_layer"])


def centred_gram(values: NDArray[np.float32]) -> Matrix:
    """Return the Gram matrix of all pairs of images."""
    centred = values.astype(np.float64)
    centred -= centred.mean(axis=0)
    return centred @ centred.T


def direct_cka(k: Matrix, l: Matrix) -> tuple[float, float]:  # noqa: E741 - as in the papers
    """Return CKA and its debiased form from the Gram matrices, which are changed."""

    def cosine() -> float:
        products = [np.vdot(*each) for each in ((k, l), (k, k), (l, l))]
        return float(products[0] / np.sqrt(products[1] * products[2]))

    cka = cosine()
    for gram in (k, l):
        # U-centred (Szekely and Rizzo 2014): their scalar product is the unbiased estimate.
        np.fill_diagonal(gram, 0)
        means = gram.sum(axis=0) / (len(gram) - 2)
        means -= means.sum() / (2 * (len(gram) - 1))
        np.subtract(gram, means[:, None], out=gram)
        np.subtract(gram, means, out=gram)
        np.fill_diagonal(gram, 0)
    return cka, cosine()


def direct_pair(recording: Recording, first: str, second: str) -> tuple[float, float]:
    """Return both for a pair of layers of a recording."""
    grams = []
    for name in (first, second):
        columns = recording.layer_slices[name]
        grams.append(centred_gram(recording.columns("channel_mean", columns.start, columns.stop)))
    return direct_cka(*grams)


def some_pairs(layers: int, count: int) -> list[tuple[str, str]]:
    """Return pairs of layers spread evenly over all sizes."""
    chosen = np.linspace(0, layers - 2, count).round().astype(int)
    return [(f"layer{each + 1}", f"layer{layers - 1 - each // 2}") for each in chosen.tolist()]


def lines(recording: Recording, folder: Path, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
    """Return the table's lines."""
    layers = len(recording.layers)
    every = layers * (layers + 1) // 2
    own = {
        each: measure(lambda each=each: own_similarities(recording, folder, [each]))
        for each in MEASURES
    }
    direct = [measure(lambda each=each: direct_pair(recording, *each)) for each in pairs]
    seconds, processor = (
        every * float(np.mean([getattr(each, name) for each in direct]))
        for name in ("seconds", "processor")
    )
    rows = own["cka"].found.loc[list(pairs)][["cka", "cka_debiased"]].to_numpy()
    apart = np.abs(rows - np.array([each.found for each in direct])).max()
    found = [_line(f"{name}, all pairs", each) for name, each in own.items()]
    cka = own["cka"]
    found[0][-2:] = [f"1 / {seconds / cka.seconds:,.0f}", f"within {apart:.0e} of the peer"]
    peer = Taken(seconds, processor, max(each.peak for each in direct), None)
    what = f"CKA by matrices of images, {len(pairs)} of {every:,} pairs, scaled"
    return [*found, _line(what, peer)]


def _line(what: str, taken: Taken) -> list[str]:
    peak = f"{taken.peak / 2**20:,.0f} MiB"
    return [what, f"{taken.seconds:,.1f} s", f"{taken.processor:,.1f} s", peak, "", ""]


HEADINGS = ("work", "time", "processor", "memory beyond before", "to the peer", "values")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=WIDTH, help="channels of the first layers")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of layers of the peer")
    parser.add_argument("--quick", action="store_true", help="few images, to try it")
    parser.add_argument("--folder", default=None, help="where recordings are written")
    asked = parser.parse_args(arguments)
    images, width = (QUICK_IMAGES, QUICK_WIDTH) if asked.quick else (IMAGES, asked.width)
    sizes = layer_sizes(width)
    case = Case(images, sum(sizes), 10)
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        small = write_recording(folder / "small.zarr", Case(50, 8, 10), [4, 4])
        own_similarities(small, folder, MEASURES)
        recording = write_recording(folder / "synthetic.zarr", case, sizes)
        found = lines(recording, folder, some_pairs(len(sizes), asked.pairs))
    print(circumstances("numpy", "scipy", "zarr"))
    print(f"{images:,} images, {len(sizes)} layers, {sum(sizes):,} units.\n")
    print(table(HEADINGS, found))
    print(f"\nGoal: CKA of all pairs within {GOAL:.0f} s on two cores.")


if __name__ == "__main__":
    main()
