"""Small complete recordings, written from arrays that a test can look at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.schemas.layers import Layer
from activarium.schemas.layout import RecordingLayout
from activarium.schemas.receipts import ShardReceipt
from activarium.tasks.analysis.analyse import WRITTEN, analyse
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.places import place_at
from activarium.tasks.stores.recording import Recording
from activarium.tasks.stores.recording_store import (
    create_store,
    finalise,
    write_receipt,
    write_shard,
)

LAYERS = (
    Layer("conv1", "conv", 0, 6, 8, 8, "relu"),
    Layer("layer1.0", "block", 1, 9, 4, 4, ""),
    Layer("fc:2", "linear", 2, 5, 1, 1, ""),
)
CLASSES = ("ant", "bee", "cat's", "dodo", "eel")
EMPTY, SINGLE = 3, 4


@dataclass(frozen=True)
class Raw:
    """What a recording is written from; rows are images."""

    responses: np.ndarray
    active: np.ndarray | None
    label: np.ndarray
    valid: np.ndarray
    logits: np.ndarray
    pooled: np.ndarray
    """The first half of the features belongs to the first layer, the rest to the last."""
    thumbnail: np.ndarray
    layers: tuple[Layer, ...] = LAYERS
    class_names: tuple[str, ...] = CLASSES

    @property
    def image_names(self) -> list[str]:
        return [f"set/{index:04d}.png" for index in range(len(self.label))]


def _labels(rng: np.random.Generator, images: int) -> np.ndarray:
    """Codes with an empty class, a class of one image, and images without a class."""
    label = rng.integers(0, EMPTY, images).astype(np.int32)
    label[rng.choice(images, 4, replace=False)] = -1
    label[np.flatnonzero(label >= 0)[7]] = SINGLE
    return label


def _responses(rng: np.random.Generator, label: np.ndarray, units: int) -> np.ndarray:
    """Zeros and ties by the dozen, large means with small spread, units that never change."""
    found = rng.normal(size=(len(label), units)) + 0.5 * label[:, None] * (np.arange(units) % 3)
    found[:, ::2] = np.round(np.maximum(found[:, ::2], 0) * 4) / 4
    found[:, 5::6] = 1e4 + 0.1 * found[:, 5::6]
    found[:, 0] = 0.0
    found[:, 1] = 0.1
    found[:, 3] = -1.0 - np.abs(found[:, 3])
    return found.astype(np.float32)


def _raw(*, seed: int = 0, images: int = 61, layers: tuple[Layer, ...] = LAYERS) -> Raw:
    rng = np.random.default_rng(seed)
    units = sum(layer.units for layer in layers)
    label = _labels(rng, images)
    valid = np.ones(images, bool)
    valid[[5, images - 2]] = False
    responses = _responses(rng, label, units)
    active = rng.random((images, units)).astype(np.float32)
    active[:, [0, 3]] = 0.0
    floats = {
        "responses": responses,
        "active": active,
        "logits": rng.normal(0, 3, (images, len(CLASSES))).astype(np.float32),
        "pooled": (rng.normal(size=(images, 40)) + label[:, None]).astype(np.float32),
    }
    for rows in floats.values():
        rows[~valid] = np.nan
    thumbnail = rng.integers(0, 256, (images, 8, 8, 3)).astype(np.uint8)
    return Raw(**floats, label=label, valid=valid, thumbnail=thumbnail, layers=layers)


def _layout(raw: Raw, shard_images: int) -> RecordingLayout:
    return RecordingLayout(
        images=len(raw.label),
        units=raw.responses.shape[1],
        features=raw.pooled.shape[1],
        layers=len(raw.layers),
        classes=len(raw.class_names),
        outputs=raw.logits.shape[1],
        reductions=("mean",) if raw.active is None else ("mean", "active"),
        thumbnail=raw.thumbnail.shape[1:],
        shard_images=shard_images,
    )


def _text(values: Any) -> np.ndarray:
    return np.array(list(values), dtype=object)


def _coordinates(raw: Raw) -> dict[str, np.ndarray]:
    units = [(layer.name, channel) for layer in raw.layers for channel in range(layer.units)]
    half = raw.pooled.shape[1] // 2
    owners = [raw.layers[0 if index < half else -1].name for index in range(2 * half)]
    sizes = [layer.units for layer in raw.layers]
    return {
        "image": _text(raw.image_names),
        "label": raw.label,
        "image_class": _text("" if code < 0 else raw.class_names[code] for code in raw.label),
        "class": _text(raw.class_names),
        "unit": _text(f"{name}/{channel}" for name, channel in units),
        "unit_layer": _text(name for name, _ in units),
        "unit_channel": np.array([channel for _, channel in units]),
        "feature": _text(f"{name}/{index}@0,0" for index, name in enumerate(owners)),
        "feature_layer": _text(owners),
        "feature_channel": np.arange(2 * half),
        "feature_row": np.zeros(2 * half, int),
        "feature_column": np.zeros(2 * half, int),
        "layer": _text(layer.name for layer in raw.layers),
        "layer_kind": _text(layer.kind for layer in raw.layers),
        "layer_depth": np.array([layer.depth for layer in raw.layers]),
        "layer_offset": np.cumsum([0, *sizes[:-1]]),
        "layer_size": np.array(sizes),
        "layer_height": np.array([layer.height for layer in raw.layers]),
        "layer_width": np.array([layer.width for layer in raw.layers]),
        "layer_activation": _text(layer.activation for layer in raw.layers),
    }


def _attributes(name: str, shard_images: int) -> dict[str, Any]:
    return {
        "fingerprint": f"fingerprint of {name}",
        "model": "toy",
        "checkpoint": name,
        "architecture": "toy-net",
        "test_set": "made-up",
        "split": "test",
        "weights_sha256": "w" * 64,
        "images_sha256": "i" * 64,
        "preprocessing": {"size": 8, "mean": [0.5]},
        "reductions": ["mean"],
        "precision": "float32",
        "engine": "hooks",
        "batch_size": 16,
        "shard_images": shard_images,
        "versions": {"zarr": "3"},
    }


def _write(
    atlas: Atlas,
    raw: Raw,
    name: str = "toy",
    *,
    shard_images: int = 25,
    compression: str = "none",
    complete: bool = True,
    **more: Any,
) -> Recording:
    place, layout = place_at(atlas.recording(name)), _layout(raw, shard_images)
    attributes = {**_attributes(name, shard_images), **more}
    coordinates = _coordinates(raw)
    create_store(
        place, layout, attributes=attributes, coordinates=coordinates, compression=compression
    )
    arrays = {
        "channel_mean": raw.responses,
        "channel_active": raw.active,
        "pooled": raw.pooled,
        "logits": raw.logits,
        "thumbnail": raw.thumbnail,
        "valid": raw.valid,
    }
    for shard in layout.shards():
        rows = {array.spec.name: arrays[array.spec.name] for array in layout.shard_arrays()}
        rows = {key: values[shard.start : shard.stop] for key, values in rows.items()}
        receipt = ShardReceipt(
            shard=shard.index,
            start=shard.start,
            stop=shard.stop,
            fingerprint=attributes["fingerprint"],
            batch_size=16,
            objects=write_shard(place, layout, shard, rows),
            device="cpu",
            read_seconds=0.25,
            forward_seconds=0.5,
            write_seconds=0.25,
        )
        write_receipt(place, shard, receipt)
    if complete:
        finalise(place)
    return Recording(place)


@pytest.fixture(scope="session")
def make_raw() -> Any:
    """Return a function that makes the arrays of a recording."""
    return _raw


@pytest.fixture(scope="session")
def write_recording() -> Any:
    """Return a function that writes a recording from arrays."""
    return _write


@pytest.fixture
def atlas(tmp_path: Path) -> Atlas:
    """Return an empty atlas."""
    return Atlas(tmp_path / "atlas")


@dataclass(frozen=True)
class Analysed:
    """A recording with its tables; for tests that only read."""

    atlas: Atlas
    raw: Raw
    recording: Recording
    files: tuple[Path, ...]


@pytest.fixture(scope="session")
def analysed(tmp_path_factory: pytest.TempPathFactory) -> Analysed:
    """Return a labelled recording and a control, both analysed; nobody may change them."""
    atlas = Atlas(tmp_path_factory.mktemp("analysed"))
    raw = _raw()
    recording = _write(atlas, raw, "toy")
    shuffled = replace(raw, responses=_raw(seed=1).responses)
    control = _write(atlas, shuffled, "untrained")
    config = AnalyseConfig(scheduler="synchronous", fdr=0.05, knn_queries=20)
    files = analyse(atlas, recording, config=config).files
    analyse(atlas, control, config=config)
    return Analysed(atlas, raw, recording, files)


@dataclass(frozen=True)
class Stored:
    """A recording as plain zarr arrays, and its tables as data frames."""

    atlas: Atlas
    name: str = "toy"

    @property
    def path(self):
        return Path(self.atlas.recording(self.name))

    def array(self, name):
        return zarr.open_group(self.path, mode="r")[name][:]

    def table(self, name):
        return read_table(self.atlas.tables / name / f"recording={self.name}" / f"{name}.parquet")

    def tables(self):
        """Return all tables of the analysis, to compare two runs."""
        return {table.name: self.table(table.name) for table in WRITTEN}

    def frame(self, name):
        return self.table(name).to_pandas()

    @cached_property
    def valid(self):
        return self.array("valid")

    @cached_property
    def responses(self):
        """Valid images x units."""
        return self.array("channel_mean")[self.valid].astype(np.float64)

    @cached_property
    def label(self):
        return self.array("label")[self.valid]

    @cached_property
    def labelled(self):
        """Responses and labels of the images that have one."""
        known = self.label >= 0
        return self.responses[known], self.label[known]

    @cached_property
    def groups(self):
        """Responses of each class that has images."""
        values, label = self.labelled
        return {code: values[label == code] for code in np.unique(label)}

    @cached_property
    def compared(self):
        """Responses of each class that can be told from the others: of two images or more."""
        return {code: group for code, group in self.groups.items() if len(group) > 1}

    @cached_property
    def too_few(self):
        """Whether fewer than twelve images of a side are expected to activate a unit: (unit, class)."""
        return self._expected() < 12

    def _expected(self):
        """Images of the smaller side that should activate a sparse unit; infinite for others."""
        values, label = self.labelled
        found = []
        for row in values.T:
            t = np.unique(row, return_counts=True)[1].astype(float)
            others = 1 - np.cbrt((t**3 - t).sum()) / len(row)
            count = np.bincount(label, minlength=len(self.array("class")))
            smaller = np.minimum(count, len(label) - count)
            found.append(np.where((others < 0.5) & (count > 0), others * smaller, np.inf))
        return np.array(found)

    @cached_property
    def unit_p(self):
        """Kruskal-Wallis p of every unit, no less than by permutation where it answers to too few."""
        frame = self.frame("units")
        guarded = np.maximum(frame.kruskal_p, frame.permutation_p)
        return np.where((self._expected() < 5).any(axis=1), guarded, frame.kruskal_p)

    @cached_property
    def constant(self):
        return np.ptp(self.responses, axis=0) == 0


@pytest.fixture(scope="session")
def stored() -> Any:
    """Return the class that reads a recording and its tables as plain arrays and data frames."""
    return Stored


@pytest.fixture(scope="session")
def toy(analysed: Analysed) -> Stored:
    """Return the analysed recording as plain arrays and data frames."""
    return Stored(analysed.atlas)


@pytest.fixture(scope="session")
def wide() -> Raw:
    """Return 300 units: more than one block."""
    return _raw(
        layers=(Layer("a", "conv", 0, 290, 2, 2, "relu"), Layer("b", "linear", 1, 10, 1, 1, ""))
    )
