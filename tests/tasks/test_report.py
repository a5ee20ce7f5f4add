"""The report page: what it holds, what it survives, and that it works in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.schemas.tables import (
    EMBEDDING_QUALITY,
    EMBEDDINGS,
    EXEMPLARS,
    IMAGES,
    LAYERS,
    RECORDINGS,
    UNIT_CLASSES,
    UNITS,
)
from activarium.tasks.report import write_report

if TYPE_CHECKING:
    from pathlib import Path

    from activarium.schemas.columns import Table

CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
NASTY = ("<script>alert(1)</script>", 'a "quoted" & b', "it's</script>", "plain")


@dataclass(frozen=True)
class Scene:
    """What a made-up atlas holds."""

    layers: int = 6
    width: int = 24
    images: int = 80
    classes: tuple[str, ...] = CIFAR
    labelled: bool = True
    thumbnails: bool = True
    maps: tuple[str, ...] = ("pca", "tsne")
    seed: int = 7

    def layer_names(self) -> list[str]:
        stages = [f"layer{1 + i * 4 // self.layers}.{i}.conv" for i in range(self.layers - 2)]
        return ["conv1", *stages, "fc"]

    def layer_sizes(self) -> list[int]:
        middle = [self.width * (1 + 2 * i // self.layers) for i in range(self.layers - 2)]
        return [self.width, *middle, len(self.classes)]


def write_table(atlas: Atlas, table: Table, recording: str, part: str | None = None, **columns):
    path = atlas.table_file(table, recording, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    size = len(next(iter(columns.values())))
    plain = {pa.string(): "", pa.int64(): 1, pa.float64(): 0.0, pa.bool_(): False}
    for column in table.columns:
        # What the page does not show may hold anything.
        columns.setdefault(column.name, [None if column.nullable else plain[column.type]] * size)
    pq.write_table(pa.table(columns, schema=table.schema()), path)


def make_recording(atlas: Atlas, scene: Scene, recording: str, checkpoint: str) -> None:
    """Write all tables of one recording; the untrained one's units hardly prefer anything."""
    rng = np.random.default_rng(scene.seed + (checkpoint == "untrained"))
    sizes, names = scene.layer_sizes(), scene.layer_names()
    write_recording_row(atlas, scene, recording, checkpoint)
    label = rng.integers(0, len(scene.classes), scene.images)
    write_images(atlas, scene, recording, label, rng)
    depth = np.repeat(np.arange(scene.layers), sizes)
    gain = 0.03 if checkpoint == "untrained" else 1.0
    rise = (0.05 + 0.6 * (depth / (scene.layers - 1)) ** 2) * gain
    eta2 = np.clip(rise * rng.gamma(3.0, 1 / 3.0, len(depth)), 0.0005, 0.97)
    write_units(atlas, scene, recording, depth, eta2, label, rng)
    write_layers(atlas, scene, recording, depth, eta2)
    write_maps(atlas, scene, recording, label, names, rng)


def write_recording_row(atlas, scene, recording, checkpoint):
    sizes = scene.layer_sizes()
    versions = json.dumps({"activarium": "0.1.0", "torch": "2.9.0", "numpy": "2.4.6"})
    row = {
        "model": "resnet18", "checkpoint": checkpoint, "architecture": "resnet18-cifar",
        "test_set": "cifar10", "split": "test", "images": scene.images, "invalid_images": 0,
        "classes": len(scene.classes), "layers": scene.layers, "units": sum(sizes), "features": 0,
        "accuracy": (0.104 if checkpoint == "untrained" else 0.934) if scene.labelled else None,
        "fingerprint": "9c3f" * 16, "weights_sha256": "ab" * 32, "images_sha256": "cd" * 32,
        "preprocessing": '{"mean":[0.49,0.48,0.45]}', "engine": "graph", "precision": "float32",
        "device": "NVIDIA H100 80GB HBM3", "batch_size": 512, "seconds": 3.2, "stored_bytes": 10,
        "versions": versions,
    }  # fmt: skip
    write_table(atlas, RECORDINGS, recording, **{name: [value] for name, value in row.items()})


def write_images(atlas, scene, recording, label, rng):
    count, names = scene.images, np.array(scene.classes, dtype=object)
    right = rng.random(count) < 0.93
    predicted = np.where(right, label, rng.integers(0, len(names), count))
    known = scene.labelled
    write_table(
        atlas, IMAGES, recording,
        image_index=np.arange(count), image=[f"test/{i:05d}.png" for i in range(count)],
        label=label if known else np.full(count, -1),
        **{"class": names[label] if known else [None] * count},
        valid=np.full(count, True), predicted=names[predicted],
        correct=(predicted == label) if known else [None] * count,
        confidence=rng.uniform(0.3, 1, count), margin=rng.gamma(2, 2, count),
        entropy=rng.gamma(1, 0.3, count), loss=rng.gamma(1, 0.3, count) if known else [None] * count,
    )  # fmt: skip


def write_units(atlas, scene, recording, depth, eta2, label, rng):
    layers, sizes = scene.layer_names(), scene.layer_sizes()
    layer = np.array(layers, dtype=object)[depth]
    channel = np.concatenate([np.arange(size) for size in sizes])
    unit = np.array([f"{a}/{b}" for a, b in zip(layer, channel, strict=True)], dtype=object)
    count, classes = len(unit), len(scene.classes)
    preferred = rng.integers(0, classes, count)
    preferred[-classes:] = np.arange(classes)
    strength = np.sqrt(eta2)
    mean = rng.normal(0, 0.15, (count, classes)) * strength[:, None] + 0.4
    mean[np.arange(count), preferred] += strength
    dead = rng.random(count) < 0.02
    mean[dead], eta2[dead] = 0.0, 0.0
    auroc = np.clip(0.5 + (mean - mean.mean(axis=1, keepdims=True)) * 0.5, 0, 1)
    order = np.argsort(-mean, axis=1)
    log10p = np.where(dead, 0.0, -eta2 * scene.images / 4.6)
    names = np.array(scene.classes, dtype=object)
    none = [None] * count

    def statistic(values):
        return values if scene.labelled else none

    write_table(
        atlas, UNITS, recording,
        layer=layer, channel=channel, unit=unit, depth=depth, response_mean=mean.mean(axis=1),
        response_sd=rng.gamma(2, 0.2, count), response_min=mean.min(axis=1) - 1,
        response_max=mean.max(axis=1) + 1, active_fraction=rng.random(count), is_dead=dead,
        preferred_class=statistic(names[order[:, 0]]),
        runner_up_class=statistic(names[order[:, 1]]),
        selectivity=statistic(np.clip(strength * 0.9, 0, 1)), auroc=statistic(auroc.max(axis=1)),
        auroc_class=statistic(names[auroc.argmax(axis=1)]), anova_f=statistic(eta2 * 100),
        anova_p=statistic(10.0**log10p), anova_log10p=statistic(log10p), eta2=statistic(eta2),
        kruskal_h=statistic(eta2 * 1000), kruskal_p=statistic(10.0**log10p),
        kruskal_log10p=statistic(log10p), epsilon2=statistic(eta2 * 0.9),
        q_value=statistic(10.0 ** (log10p * 0.9)), q_log10=statistic(log10p * 0.9),
        sparseness=rng.random(count),
    )  # fmt: skip
    if scene.labelled:
        write_unit_classes(atlas, scene, recording, (layer, channel, unit), mean, auroc)
    write_exemplars(atlas, scene, recording, (layer, channel, unit), preferred, label, rng)


def write_unit_classes(atlas, scene, recording, keys, mean, auroc):
    classes, count = len(scene.classes), len(keys[0])
    layer, channel, unit = (np.repeat(key, classes) for key in keys)
    full = np.ones(count * classes)
    write_table(
        atlas, UNIT_CLASSES, recording,
        layer=layer, channel=channel, unit=unit, n=(full * 9).astype(int),
        **{"class": np.tile(np.array(scene.classes, dtype=object), count)},
        response_mean=mean.ravel(), response_sd=full, z=full, auroc=auroc.ravel(), u=full * 100,
        p_value=full * 0.01, log10p=full * -2, q_value=full * 0.02, hedges_g=full,
    )  # fmt: skip


def write_exemplars(atlas, scene, recording, keys, preferred, label, rng):
    rows: dict[str, list[Any]] = {column.name: [] for column in EXEMPLARS.columns}
    by_class = [np.flatnonzero(label == code) for code in range(len(scene.classes))]
    for layer, channel, unit, code in zip(*keys, preferred, strict=True):
        for extreme in ("most", "least"):
            own = by_class[code] if extreme == "most" else np.arange(scene.images)
            pool = own if len(own) else np.arange(scene.images)
            for rank, image in enumerate(rng.choice(pool, 10), start=1):
                for within in (None, scene.classes[0]) if rank == 1 else (None,):
                    values = (layer, channel, unit, extreme, within, rank, image, f"{image}", 1.0)
                    for column, value in zip(rows, values, strict=True):
                        rows[column].append(value)
    write_table(atlas, EXEMPLARS, recording, **rows)


def write_layers(atlas, scene, recording, depth, eta2):
    count, steps = scene.layers, range(scene.layers)
    mean = np.array([eta2[depth == i].mean() for i in steps])
    none = [None] * count

    def statistic(values):
        return values if scene.labelled else none

    write_table(
        atlas, LAYERS, recording,
        layer=scene.layer_names(), depth=np.arange(count),
        kind=["conv"] * (count - 1) + ["linear"], units=scene.layer_sizes(),
        height=[max(1, 32 >> (4 * i // count)) for i in steps],
        width=[max(1, 32 >> (4 * i // count)) for i in steps], dead_fraction=np.full(count, 0.02),
        selective_fraction=statistic(np.clip(mean * 3, 0.3, 1)), fdr=np.full(count, 0.01),
        selectivity_mean=statistic(np.sqrt(mean) * 0.9),
        auroc_mean=statistic(0.5 + np.sqrt(mean) / 2),
        eta2_mean=statistic(mean), epsilon2_mean=statistic(mean * 0.9),
        knn_purity=statistic(0.1 + mean), knn_neighbours=np.full(count, 10),
        knn_queries=np.full(count, 2000), effective_dimension=np.linspace(3, 40, count),
    )  # fmt: skip


def write_maps(atlas, scene, recording, label, names, rng):
    for place, layer in enumerate(["pixels", names[1], names[-2]]):
        for method in scene.maps:
            angle = 2 * np.pi * label / len(scene.classes)
            centre = np.column_stack([np.cos(angle), np.sin(angle)]) * place * 3
            points = centre + rng.normal(0, 1, centre.shape)
            size, part = scene.images, f"{layer}-{method}"
            write_table(
                atlas, EMBEDDINGS, recording, part,
                layer=[layer] * size, method=[method] * size, image_index=np.arange(size),
                image=[f"test/{i:05d}.png" for i in range(size)], x=points[:, 0], y=points[:, 1],
                z=pa.nulls(size, pa.float64()),
            )  # fmt: skip
            row = {
                "layer": layer, "method": method, "images": size, "source_features": 512,
                "dimensions": 2, "trustworthiness": 0.8 + 0.05 * place,
                "knn_purity": 0.3 + 0.3 * place if scene.labelled else None,
                "source_knn_purity": 0.35 + 0.3 * place if scene.labelled else None,
                "neighbours": 15, "objective": None, "explained_variance": None,
                "parameters": '{"perplexity":30}', "seed": 0, "threads": 2, "seconds": 1.0,
                "versions": "{}",
            }  # fmt: skip
            columns = {name: [value] for name, value in row.items()}
            write_table(atlas, EMBEDDING_QUALITY, recording, part, **columns)


def write_thumbnails(atlas: Atlas, recording: str, thumbnails: np.ndarray) -> None:
    group = zarr.open_group(atlas.recording(recording), mode="w")
    array = group.create_array("thumbnail", shape=thumbnails.shape, dtype="uint8")
    array[:] = thumbnails


def made_atlas(root: Path, scene: Scene) -> tuple[Atlas, list[str]]:
    atlas = Atlas(root)
    recordings = ["resnet18-epoch200", "resnet18-untrained"]
    for recording, checkpoint in zip(recordings, ("epoch200", "untrained"), strict=True):
        make_recording(atlas, scene, recording, checkpoint)
    if scene.thumbnails:
        rng = np.random.default_rng(scene.seed)
        shape = (scene.images, 32, 32, 3)
        write_thumbnails(atlas, recordings[0], rng.integers(0, 255, shape, dtype=np.uint8))
    return atlas, recordings
