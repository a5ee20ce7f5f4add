"""Ratios of the main job's parts to peers doing the same work in the same run.

`make benchmark` prints them as the table that docs/performance.md keeps.
"""

from __future__ import annotations

import platform
import tempfile
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import stats
from torch import nn

from activarium.schemas.config import ModelConfig
from activarium.schemas.layout import RecordingLayout
from activarium.tasks.capture import HookCapture
from activarium.tasks.layers import find_layers
from activarium.tasks.models import build_model
from activarium.tasks.moments import class_moments
from activarium.tasks.preference import (
    anova,
    auroc,
    hedges_g,
    kruskal_wallis,
    mann_whitney_p,
    mann_whitney_u,
    selectivity_index,
)
from activarium.tasks.ranking import rank_sums

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS = 5


def fastest(works: dict[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, float]:
    """Return the shortest of several interleaved runs of each piece of work, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for repeat in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            if repeat:  # the first run compiles and warms caches
                times[name].append(time.perf_counter() - began)
    return {name: min(each) for name, each in times.items()}


def row(work: str, ours: float, peer: str, theirs: float) -> None:
    """Print one line of the table."""
    print(f"| {work} | {ours:.3f} s | {peer} | {theirs:.3f} s | {ours / theirs:.2f} |", flush=True)


def capture(images: int = 512, batch: int = 128) -> None:
    """Record all layers of a ResNet-18 against its bare forward pass."""
    model: nn.Module = build_model(
        ModelConfig(architecture="resnet18", width=64, weights="untrained"),
        classes=10,
        colours=3,
        size=(32, 32),
    )
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = [
        torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
        for _ in range(images // batch)
    ]
    found = find_layers(
        model, batches[0][:1], patterns=["*"], kinds=["conv", "linear", "block", "pool"]
    )

    def bare() -> None:
        with torch.inference_mode():
            for each in batches:
                model(each)

    def recorded(reductions: tuple[str, ...]) -> Callable[[], None]:
        def run() -> None:
            with HookCapture(model, found.layers, reductions=reductions, pooled=[]) as hooks:  # type: ignore[arg-type]
                for each in batches:
                    hooks.run(each)

        return run

    times = fastest(
        {"bare": bare, "mean": recorded(("mean",)), "default": recorded(("mean", "active"))}
    )
    what = f"ResNet-18 32x32, {found.units:,} units, {images} images"
    row(f"{what}: means", times["mean"], "bare eager forward", times["bare"])
    row(f"{what}: means and active", times["default"], "bare eager forward", times["bare"])


def statistics(images: int = 10_000, units: int = 5_000, classes: int = 10) -> None:
    """Compute the class statistics of one block against sorting it and against scipy."""
    rng = np.random.default_rng(0)
    responses = np.maximum(rng.normal(size=(units, images)), 0).astype(np.float32)
    label = rng.integers(0, classes, images)

    def ours() -> None:
        moments = class_moments(responses, label, classes)
        ranks, ties = rank_sums(responses, label, classes)
        u = mann_whitney_u(ranks, moments.count)
        mann_whitney_p(u, moments.count, ties)
        kruskal_wallis(ranks, moments.count, ties)
        auroc(ranks, moments.count)
        anova(moments), selectivity_index(moments), hedges_g(moments)

    def scipy_unit(unit: int) -> None:
        groups = [responses[unit, label == code].astype(np.float64) for code in range(classes)]
        stats.f_oneway(*groups)
        stats.kruskal(*groups)
        for code in range(classes):
            rest = np.concatenate([groups[other] for other in range(classes) if other != code])
            stats.mannwhitneyu(groups[code], rest, method="asymptotic")

    times = fastest({"ours": ours, "sort": lambda: np.sort(responses, axis=1)}, repeats=3)
    some = 8
    began = time.perf_counter()
    for unit in range(some):
        scipy_unit(unit)
    scipy_time = (time.perf_counter() - began) * units / some
    what = f"{images:,} images x {units} units x {classes} classes"
    row(f"{what}: class statistics", times["ours"], "np.sort of the same float32", times["sort"])
    row(
        f"{what}: class statistics",
        times["ours"],
        f"loop over scipy ({some} units, scaled)",
        scipy_time,
    )


def writing(images: int = 4_096, units: int = 4_096) -> None:
    """Write one shard with checksums against raw files of the same chunks."""
    import zarr
    from zarr.codecs import Crc32cCodec

    chunk = RecordingLayout.shard_images_for(units * 4)
    rows = np.random.default_rng(0).normal(size=(images, units)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            Path(folder) / "a.zarr",
            shape=rows.shape,
            chunks=(min(chunk, images), 256),
            dtype="float32",
            compressors=[Crc32cCodec()],
            fill_value=np.nan,
        )

        def ours() -> None:
            array[...] = rows

        def raw() -> None:
            for start in range(0, units, 256):
                np.ascontiguousarray(rows[:, start : start + 256]).tofile(
                    Path(folder) / f"{start}.raw"
                )

        times = fastest({"ours": ours, "raw": raw})
    what = f"writing {rows.nbytes / 2**20:.0f} MiB of channel means"
    row(what, times["ours"], "ndarray.tofile of the same chunks", times["raw"])


def main() -> None:
    """Print the table with date, machine and versions."""
    names = ("torch", "numpy", "numba", "zarr", "scipy")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in names)
    threads = torch.get_num_threads()
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {threads} threads, {versions}\n")
    print("| work | ours | peer | peer's time | ratio |\n|---|---|---|---|---|")
    capture()
    statistics()
    writing()


if __name__ == "__main__":
    main()
