"""The layout: shards, chunks and which arrays there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from activarium.schemas.layout import (
    ARRAYS,
    BLOCK_UNITS,
    SHARD_BYTES,
    SHARD_IMAGES,
    RecordingLayout,
    Shard,
)

LAYOUT = RecordingLayout(
    images=10,
    units=600,
    features=300,
    layers=2,
    classes=3,
    outputs=3,
    reductions=("mean", "active"),
    thumbnail=(4, 5, 3),
    shard_images=4,
)


def arrays(layout):
    return {array.spec.name: array for array in layout.arrays()}


@given(images=st.integers(1, 500), shard_images=st.integers(1, 600))
def test_shards__cover_every_image_once(images, shard_images):
    shards = replace(LAYOUT, images=images, shard_images=shard_images).shards()
    covered = [image for shard in shards for image in range(shard.start, shard.stop)]
    assert covered == list(range(images))
    assert [shard.index for shard in shards] == list(range(len(shards)))
    assert all(0 < shard.images <= shard_images for shard in shards)


def test_shards__receipts_sort_in_order():
    names = [Shard(index, 0, 1).receipt_name for index in (0, 9, 10, 99_999)]
    assert names == sorted(names)
    assert names[0] == "shard-00000.json"


@given(row_bytes=st.integers(0, 10**10))
def test_shard_images_for__stays_within_rows_and_bytes(row_bytes):
    found = RecordingLayout.shard_images_for(row_bytes)
    assert 1 <= found <= SHARD_IMAGES
    assert found == 1 or found * row_bytes <= SHARD_BYTES


def test_shard_images_for__wide_rows_make_smaller_shards():
    assert RecordingLayout.shard_images_for(100) == SHARD_IMAGES
    assert RecordingLayout.shard_images_for(2**20) == 256
    assert RecordingLayout.shard_images_for(100, most=7) == 7


@pytest.mark.parametrize("sizes", [{}, {"shard_images": 10}, {"units": 256, "images": 9}])
def test_chunk_keys__are_exactly_the_files_that_zarr_writes(sizes, tmp_path):
    layout = replace(LAYOUT, **sizes)
    group = zarr.open_group(tmp_path, mode="w")
    shard_arrays = layout.shard_arrays()
    for array in shard_arrays:
        group.create_array(
            array.spec.name, shape=array.shape, chunks=array.chunks, dtype=array.spec.dtype
        )
    written = set()
    for shard in layout.shards():
        for array in shard_arrays:
            rows = np.ones((shard.images, *array.shape[1:]), array.spec.dtype)
            group[array.spec.name][shard.start : shard.stop] = rows
        keys = [
            key for array in shard_arrays for key in array.chunk_keys(shard, layout.shard_images)
        ]
        files = {
            file.relative_to(tmp_path).as_posix()
            for file in tmp_path.rglob("c/**/*")
            if file.is_file()
        }
        assert len(keys) == len(set(keys))
        assert set(keys) == files - written
        written = files


def test_arrays__reductions_choose_the_response_arrays():
    assert {"channel_mean", "channel_active"} <= set(arrays(LAYOUT))
    assert not {"channel_max", "channel_sd"} & set(arrays(LAYOUT))


def test_arrays__without_features_there_is_no_feature_array():
    assert not [name for name in arrays(replace(LAYOUT, features=0)) if "feature" in name]
    assert "pooled" not in arrays(replace(LAYOUT, features=0))


def test_arrays__without_thumbnails_there_is_no_thumbnail_array():
    assert arrays(LAYOUT)["thumbnail"].shape == (10, 4, 5, 3)
    assert "thumbnail" not in arrays(replace(LAYOUT, thumbnail=(0, 0, 0)))


def test_arrays__logits_are_labelled_by_class_where_outputs_are_classes():
    assert arrays(LAYOUT)["logits"].dimensions == ("image", "class")
    assert arrays(replace(LAYOUT, outputs=1000))["logits"].dimensions == ("image", "output")


def test_arrays__two_shards_never_share_a_chunk():
    for array in LAYOUT.shard_arrays():
        assert array.spec.dimensions[0] == "image"
        assert array.chunks[0] == LAYOUT.shard_images


def test_arrays__response_chunks_are_one_block_of_units():
    assert arrays(LAYOUT)["channel_mean"].chunks == (4, BLOCK_UNITS)
    assert arrays(replace(LAYOUT, units=20))["channel_mean"].chunks == (4, 20)


def test_arrays__coordinates_exist_and_run_along_the_same_dimensions():
    specs = {spec.name: spec for spec in ARRAYS}
    for spec in ARRAYS:
        for name in spec.coordinates.split():
            assert set(specs[name].dimensions) <= set(spec.dimensions), (spec.name, name)


def test_arrays__are_described_and_named_once():
    assert all(spec.description for spec in ARRAYS)
    assert len({spec.name for spec in ARRAYS}) == len(ARRAYS)
