"""What a recording will hold, settled before any work starts: layers, sizes, identity."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.atlas import file_name, slug
from activarium.schemas.density import BINS, bin_edges
from activarium.schemas.errors import UserError
from activarium.schemas.layout import FORMAT_VERSION, RecordingLayout
from activarium.tasks.capture.reductions import PooledLayer
from activarium.tasks.fingerprint import fingerprint, versions
from activarium.tasks.images.preprocessing import thumbnail_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.config import RecordConfig
    from activarium.schemas.layers import Layer, Tokens
    from activarium.tasks.capture.layers import ModelLayers
    from activarium.tasks.images.preprocessing import Preprocessing
    from activarium.tasks.images.test_sets import TestSet

LIBRARIES = ("activarium", "torch", "torchvision", "numpy", "pillow", "zarr")
"""Libraries whose versions a recording notes."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which model a recording is of."""

    name: str
    checkpoint: str
    architecture: str
    weights_sha256: str
    definition: str = ""
    """Checksum of what else decides the output: options, code, an exported program."""
    notes: tuple[str, ...] = ()
    """What there is to say about the model, a line each."""
    output: str | None = None
    """Which of several tensors that the model returns is its output."""
    tokens: Tokens = "mean"
    """What is averaged of a sequence of tokens."""
    series: str | None = None
    """The series of checkpoints that it belongs to."""
    step: int | None = None
    """Its step in the series."""
    seed: int | None = None
    """Seed of its weights, where they are as they were drawn."""
    draw_seeds: tuple[int, ...] = ()
    """Seeds of the untrained networks that answer one after the other; empty for one network."""
    sampled_from: str = ""
    """Identity of the test set of which these networks see a sample."""

    @property
    def name_parts(self) -> tuple[str, ...]:
        """What a recording's name says of the model; those of a series sort by step.

        A series whose name begins with the model's is not called by it twice.
        """
        if self.series is None or self.step is None:
            return self.name, self.checkpoint
        model, series = slug(self.name), slug(self.series)
        own = f"{series}-".removeprefix(f"{model}-").rstrip("-")
        return tuple(part for part in (model, own, f"step-{self.step:06d}") if part)


@dataclass(frozen=True)
class RecordPlan:
    """Everything that is settled about a recording before its first image is read."""

    name: str
    fingerprint: str
    layout: RecordingLayout
    model_layers: ModelLayers
    pooled: tuple[PooledLayer, ...]
    attributes: dict[str, Any]


def choose_pooled(
    layers: Sequence[Layer], outputs: int, *, patterns: Sequence[str], grid: int
) -> tuple[PooledLayer, ...]:
    """Return the layers whose pooled features are kept, in order.

    `auto` takes, at each size of map, the last layer before the output.

    Raises
    ------
    UserError
        If a pattern matches no layer.
    """
    if list(patterns) == ["auto"]:
        last_is_output = len(layers) > 1 and layers[-1].units == outputs
        inner = layers[:-1] if last_is_output else layers
        chosen = {(layer.height, layer.width): layer for layer in inner}.values()
        names = {layer.name for layer in chosen}
    else:
        for pattern in patterns:
            if not any(fnmatchcase(layer.name, pattern) for layer in layers):
                raise UserError(f"record.pooled_layers: no recorded layer matches {pattern!r}")
        names = {
            layer.name
            for layer in layers
            if any(fnmatchcase(layer.name, pattern) for pattern in patterns)
        }
    return tuple(_pooled(layer, grid) for layer in layers if layer.name in names)


def _pooled(layer: Layer, grid: int) -> PooledLayer:
    if layer.width == 1:  # a vector, or a sequence whose rows are tokens without an order in space
        return PooledLayer(layer, 1, 1)
    return PooledLayer(layer, min(grid, layer.height), min(grid, layer.width))


def plan_recording(
    model_layers: ModelLayers,
    *,
    test_set: TestSet,
    preprocessing: Preprocessing,
    config: RecordConfig,
    identity: ModelIdentity,
) -> RecordPlan:
    """Return the plan of one recording: its name, sizes, fingerprint and attributes."""
    pooled = choose_pooled(
        model_layers.layers,
        model_layers.outputs,
        patterns=config.pooled_layers,
        grid=config.pooled_grid,
    )
    layout = _layout(model_layers, pooled, test_set, preprocessing, config)
    depends_on = {
        "format_version": FORMAT_VERSION,
        "architecture": identity.architecture,
        "weights_sha256": identity.weights_sha256,
        "model_definition": identity.definition,
        "images_sha256": test_set.identity,
        "class_names": list(test_set.class_names),
        "preprocessing": asdict(preprocessing),
        "layers": [asdict(layer) for layer in model_layers.layers],
        "pooled": [[each.layer.name, each.rows, each.columns] for each in pooled],
        "reductions": sorted(config.reductions),
        "thumbnail": list(layout.thumbnail),
        "density": config.density,
        "precision": config.precision,
        **_reading(model_layers, identity),
        **({"draw_seeds": list(identity.draw_seeds)} if identity.draw_seeds else {}),
    }
    digest = fingerprint(depends_on)
    parts = (*identity.name_parts, test_set.name, test_set.split)
    in_series = {"series": identity.series, "step": identity.step}
    attributes = {
        "fingerprint": digest,
        "model": identity.name,
        "checkpoint": identity.checkpoint,
        **(in_series if identity.series is not None else {}),
        **_seeds(identity),
        "test_set": test_set.name,
        "split": test_set.split,
        "model_notes": list(identity.notes),
        **{key: depends_on[key] for key in _NOTED},
        "duplicate_of": dict(model_layers.duplicates),
        "left_out": dict(model_layers.left_out),
        "random": list(model_layers.mixed),
        "output": model_layers.output.key,
        "tokens": identity.tokens,
        "shard_images": layout.shard_images,
        "versions": versions(LIBRARIES),
    }
    name = file_name([*parts, digest[:12]])
    return RecordPlan(name, digest, layout, model_layers, pooled, attributes)


def _seeds(identity: ModelIdentity) -> dict[str, object]:
    """Return which seeds weights that nothing trained were drawn from."""
    if not identity.draw_seeds:
        return {} if identity.seed is None else {"seed": identity.seed}
    return {
        "draws": len(identity.draw_seeds),
        "draw_seeds": list(identity.draw_seeds),
        "sampled_from_sha256": identity.sampled_from,
    }


def _reading(model_layers: ModelLayers, identity: ModelIdentity) -> dict[str, object]:
    """Return what of the way in which the model is read is not the usual."""
    chosen = {
        "output": identity.output,
        "tokens": None if identity.tokens == "mean" else identity.tokens,
        "random": sorted(model_layers.mixed),
    }
    return {name: value for name, value in chosen.items() if value}


_NOTED = (
    "architecture",
    "weights_sha256",
    "model_definition",
    "images_sha256",
    "preprocessing",
    "reductions",
    "density",
    "precision",
)


def _layout(
    model_layers: ModelLayers,
    pooled: Sequence[PooledLayer],
    test_set: TestSet,
    preprocessing: Preprocessing,
    config: RecordConfig,
) -> RecordingLayout:
    features = sum(each.features for each in pooled)
    side = (preprocessing.height, preprocessing.width, preprocessing.colours)
    thumbnail = thumbnail_shape(*side, config.thumbnail) if config.thumbnail else (0, 0, 0)
    floats = model_layers.units * len(config.reductions) + features + model_layers.outputs
    row_bytes = 4 * floats + int(np.prod(thumbnail)) + 1
    shard_images = config.shard_images
    if shard_images is None:
        most = RecordingLayout.shard_images_for(row_bytes)
        # Even shards: the last chunk is stored in full, whatever of it is filled.
        shard_images = -(-len(test_set) // -(-len(test_set) // most))
    return RecordingLayout(
        images=len(test_set),
        units=model_layers.units,
        features=features,
        layers=len(model_layers.layers),
        classes=len(test_set.class_names),
        outputs=model_layers.outputs,
        reductions=config.reductions,
        thumbnail=thumbnail,
        shard_images=min(shard_images, len(test_set)),
        bins=BINS if config.density else 0,
    )


def coordinate_values(plan: RecordPlan, test_set: TestSet) -> dict[str, NDArray[Any]]:
    """Return the value of every array that is written at the store's creation."""
    layers = plan.model_layers.layers
    labels = np.asarray(test_set.labels, dtype=np.int32)
    classes = ["" if label < 0 else test_set.class_names[label] for label in labels]
    return {
        "image": _text(test_set.ids),
        "label": labels,
        "image_class": _text(classes),
        "class": _text(test_set.class_names),
        **_unit_coordinates(layers),
        **_feature_coordinates(plan.pooled),
        "layer": _text([layer.name for layer in layers]),
        "layer_kind": _text([layer.kind for layer in layers]),
        "layer_depth": np.array([layer.depth for layer in layers]),
        "layer_offset": np.array(plan.model_layers.offsets()),
        "layer_size": np.array([layer.units for layer in layers]),
        "layer_height": np.array([layer.height for layer in layers]),
        "layer_width": np.array([layer.width for layer in layers]),
        "layer_activation": _text([layer.activation for layer in layers]),
        "bin_low": np.array(bin_edges()[:-1]),
        "bin_high": np.array(bin_edges()[1:]),
    }


def _unit_coordinates(layers: Sequence[Layer]) -> dict[str, NDArray[Any]]:
    names = [layer.name for layer in layers for _ in range(layer.units)]
    channels = [channel for layer in layers for channel in range(layer.units)]
    units = [f"{name}/{channel}" for name, channel in zip(names, channels, strict=True)]
    return {"unit": _text(units), "unit_layer": _text(names), "unit_channel": np.array(channels)}


def _feature_coordinates(pooled: Sequence[PooledLayer]) -> dict[str, NDArray[Any]]:
    rows = [
        (each.layer.name, channel, row, column)
        for each in pooled
        for channel in range(each.layer.units)
        for row in range(each.rows)
        for column in range(each.columns)
    ]
    return {
        "feature": _text(
            [f"{name}/{channel}@{row},{column}" for name, channel, row, column in rows]
        ),
        "feature_layer": _text([row[0] for row in rows]),
        "feature_channel": np.array([row[1] for row in rows]),
        "feature_row": np.array([row[2] for row in rows]),
        "feature_column": np.array([row[3] for row in rows]),
    }


def _text(values: Sequence[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=object)
