"""The Zarr layout of a recording: which arrays there are, their dimensions, dtypes and chunks.

Every store name, dimension and dtype is a literal here and nowhere else.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

FORMAT_VERSION = 2
"""Version of the recording's layout; part of every fingerprint."""

BLOCK_UNITS = 256
"""Columns of one chunk: what one analysis task reads."""

SHARD_IMAGES = 4_096
"""Rows of one chunk at most: what one shard writes at once."""

SHARD_BYTES = 256 * 2**20
"""Size at most of one shard's buffers; wide recordings get fewer images per shard."""

RECEIPTS = "receipts"
"""Folder of the receipts, inside the store."""

ROOT = "zarr.json"
"""Key of the store's own metadata; it tells whether the recording is complete."""

STORE_RECEIPT = f"{RECEIPTS}/store.json"
"""Key of the receipt of what is there before the first shard: metadata and coordinates."""

FINAL_RECEIPT = f"{RECEIPTS}/final.json"
"""Key of the receipt of what follows from all shards together."""

Reduction = Literal["mean", "max", "sd", "active"]
Phase = Literal["create", "shard", "finish"]
Size = Literal[
    "image",
    "unit",
    "feature",
    "layer",
    "class",
    "output",
    "row",
    "column",
    "colour",
    "shard",
    "bin",
]


@dataclass(frozen=True)
class ArraySpec:
    """One array of a recording, before its sizes are known."""

    name: str
    dimensions: tuple[Size, ...]
    dtype: str
    phase: Phase
    """`create`: written whole before any work starts; `shard`: filled shard by shard; `finish`:
    written whole once all shards are there."""
    description: str
    coordinates: str = ""
    """Names of the coordinate arrays, as xarray reads them."""
    is_sparse: bool = False
    """Mostly zeros: always compressed."""

    @property
    def is_text(self) -> bool:
        """Whether the array holds strings."""
        return self.dtype == "str"


IMAGE_COORDINATES = "image_class label valid"
UNIT_COORDINATES = "unit_layer unit_channel"
FEATURE_COORDINATES = "feature_layer feature_channel feature_row feature_column"
LAYER_COORDINATES = "layer_kind layer_depth"
DENSITY_COORDINATES = f"{LAYER_COORDINATES} bin_low bin_high"


def _responses(name: str, description: str) -> ArraySpec:
    coordinates = f"{IMAGE_COORDINATES} {UNIT_COORDINATES}"
    return ArraySpec(name, ("image", "unit"), "float32", "shard", description, coordinates)


def _unit(name: str, dtype: str, description: str) -> ArraySpec:
    return ArraySpec(name, ("unit",), dtype, "create", description)


def _feature(name: str, dtype: str, description: str) -> ArraySpec:
    return ArraySpec(name, ("feature",), dtype, "create", description)


def _layer(name: str, dtype: str, description: str) -> ArraySpec:
    return ArraySpec(name, ("layer",), dtype, "create", description)


ARRAYS: tuple[ArraySpec, ...] = (
    _responses("channel_mean", "mean of the channel over all positions of its map"),
    _responses("channel_max", "largest value of the channel's map"),
    _responses("channel_sd", "standard deviation over the positions of the channel's map"),
    _responses("channel_active", "fraction of the channel's positions above zero"),
    ArraySpec(
        "pooled",
        ("image", "feature"),
        "float32",
        "shard",
        "pooled features: chosen layers average-pooled to a small grid and flattened",
        f"{IMAGE_COORDINATES} {FEATURE_COORDINATES}",
    ),
    ArraySpec(
        "logits",
        ("image", "output"),
        "float32",
        "shard",
        "the model's output",
        IMAGE_COORDINATES,
    ),
    ArraySpec(
        "thumbnail",
        ("image", "row", "column", "colour"),
        "uint8",
        "shard",
        "the image as the model saw it before normalisation, at most thumbnail x thumbnail pixels",
        IMAGE_COORDINATES,
    ),
    ArraySpec(
        "density",
        ("layer", "class", "bin"),
        "int64",
        "finish",
        "number of activations, at all positions of all images of a class, in each bin",
        DENSITY_COORDINATES,
        is_sparse=True,
    ),
    ArraySpec(
        "shard_density",
        ("shard", "layer", "class", "bin"),
        "int64",
        "shard",
        "the same of each shard's images",
        DENSITY_COORDINATES,
        is_sparse=True,
    ),
    ArraySpec("image", ("image",), "str", "create", "stable id: path or index in the source"),
    ArraySpec("label", ("image",), "int32", "create", "class code; -1 where there is none"),
    ArraySpec("image_class", ("image",), "str", "create", "class name; empty where there is none"),
    ArraySpec("valid", ("image",), "bool", "shard", "false where the image could not be decoded"),
    _unit("unit", "str", "name of the unit: <layer>/<channel>"),
    _unit("unit_layer", "str", "layer of the unit"),
    _unit("unit_channel", "int32", "channel of the unit within its layer"),
    _feature("feature", "str", "name of the feature: <layer>/<channel>@<row>,<column>"),
    _feature("feature_layer", "str", "layer of the pooled feature"),
    _feature("feature_channel", "int32", "channel of the pooled feature"),
    _feature("feature_row", "int32", "row of the pooled grid"),
    _feature("feature_column", "int32", "column of the pooled grid"),
    _layer("layer", "str", "module path, or function; the second call is <path>:2"),
    _layer(
        "layer_kind", "str", "conv, linear, norm, activation, pool, block, ... (docs/layers.md)"
    ),
    _layer("layer_depth", "int32", "place in the order of execution, from 0"),
    _layer("layer_offset", "int64", "first column of the layer's units"),
    _layer("layer_size", "int64", "number of the layer's units"),
    _layer("layer_height", "int32", "height of the layer's map; 1 for a vector"),
    _layer("layer_width", "int32", "width of the layer's map; 1 for a vector"),
    _layer("layer_activation", "str", "relu where a ReLU takes the layer's output directly"),
    ArraySpec("class", ("class",), "str", "create", "class names, in the order of the codes"),
    ArraySpec("bin_low", ("bin",), "float64", "create", "lower edge of the bin of activations"),
    ArraySpec("bin_high", ("bin",), "float64", "create", "upper edge; infinite for the last"),
)


def receipt_name(shard: int) -> str:
    """Return the file name of a shard's receipt."""
    return f"shard-{shard:05d}.json"


DRAWN_IMAGE = re.compile(r"draw-(\d{4})/(.*)", re.DOTALL)


def draw_image_id(draw: int, image: str) -> str:
    """Return the id that an image of the test set has under a draw.

    >>> draw_image_id(3, "test/00012")
    'draw-0003/test/00012'
    """
    return f"draw-{draw:04d}/{image}"


def drawn_image(image_id: str) -> tuple[int, str]:
    """Return the draw and the image's id in the test set: the inverse of `draw_image_id`.

    Raises
    ------
    ValueError
        If it is no id of an image under a draw.
    """
    match = DRAWN_IMAGE.fullmatch(image_id)
    if match is None:
        msg = f"expected an id such as draw-0003/<image>, got {image_id!r}"
        raise ValueError(msg)
    return int(match[1]), match[2]


@dataclass(frozen=True)
class Shard:
    """A contiguous range of images: the unit of work, of writing and of resuming."""

    index: int
    start: int
    stop: int

    @property
    def images(self) -> int:
        """Number of images."""
        return self.stop - self.start

    @property
    def receipt_name(self) -> str:
        """File name of the shard's receipt."""
        return receipt_name(self.index)


@dataclass(frozen=True)
class PlacedArray:
    """One array with its sizes: what a store is created from."""

    spec: ArraySpec
    dimensions: tuple[Size, ...]
    shape: tuple[int, ...]
    chunks: tuple[int, ...]

    def chunk_keys(self, shard: Shard, shard_images: int) -> list[str]:
        """Return the store keys of the chunks that the shard writes."""
        row = shard.start // shard_images
        columns = [-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True)]
        keys = [f"{self.spec.name}/c/{row}"]
        for count in columns[1:]:
            keys = [f"{key}/{index}" for key in keys for index in range(count)]
        return keys


@dataclass(frozen=True)
class RecordingLayout:
    """The sizes of one recording, from which all its arrays follow."""

    images: int
    units: int
    features: int
    layers: int
    classes: int
    outputs: int
    reductions: tuple[Reduction, ...]
    thumbnail: tuple[int, int, int]
    """Height, width and colours of a thumbnail; (0, 0, 0) where none are kept."""
    shard_images: int
    bins: int = 0
    """Bins of the activations' histograms; 0 where none are kept."""

    @staticmethod
    def shard_images_for(row_bytes: int, *, most: int = SHARD_IMAGES) -> int:
        """Return how many images a shard holds when one image takes `row_bytes`."""
        return max(1, min(most, SHARD_BYTES // max(row_bytes, 1)))

    def shards(self) -> tuple[Shard, ...]:
        """Return the shards in order; together they cover every image once."""
        starts = range(0, self.images, self.shard_images)
        return tuple(
            Shard(index, start, min(start + self.shard_images, self.images))
            for index, start in enumerate(starts)
        )

    def arrays(self) -> tuple[PlacedArray, ...]:
        """Return every array of this recording with its shape and chunks."""
        return tuple(self._place(spec) for spec in ARRAYS if self._is_present(spec))

    def shard_arrays(self) -> tuple[PlacedArray, ...]:
        """Return the arrays that shards fill."""
        return tuple(array for array in self.arrays() if array.spec.phase == "shard")

    def _is_present(self, spec: ArraySpec) -> bool:
        if spec.dimensions == ("image", "unit"):
            return spec.name.removeprefix("channel_") in self.reductions
        if spec.name == "thumbnail":
            return self.thumbnail[0] > 0
        if "bin" in spec.dimensions:
            return self.bins > 0
        return "feature" not in spec.dimensions or self.features > 0

    def _place(self, spec: ArraySpec) -> PlacedArray:
        sizes = self.sizes()
        shape = tuple(sizes[dimension] for dimension in spec.dimensions)
        if spec.phase != "shard":
            return PlacedArray(spec, spec.dimensions, shape, tuple(max(size, 1) for size in shape))
        narrow = {"unit": BLOCK_UNITS, "feature": BLOCK_UNITS, "output": BLOCK_UNITS}
        chunks = [
            max(1, min(size, narrow.get(dimension, size)))
            for dimension, size in zip(spec.dimensions[1:], shape[1:], strict=True)
        ]
        dimensions = spec.dimensions
        if dimensions == ("image", "output") and self.outputs == self.classes:
            dimensions = ("image", "class")
        if dimensions[0] == "shard":
            return PlacedArray(spec, dimensions, shape, (1, 1, *chunks[1:]))
        return PlacedArray(spec, dimensions, shape, (self.shard_images, *chunks))

    def sizes(self) -> dict[Size, int]:
        """Return the length of every dimension."""
        height, width, colours = self.thumbnail
        return {
            "image": self.images,
            "unit": self.units,
            "feature": self.features,
            "layer": self.layers,
            "class": self.classes,
            "output": self.outputs,
            "row": height,
            "column": width,
            "colour": colours,
            "shard": -(-self.images // self.shard_images),
            "bin": self.bins,
        }
