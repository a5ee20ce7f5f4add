"""Recordings and tables open in other programs, without our code, with the same numbers."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
import xarray as xr


@pytest.fixture(scope="module")
def folder(analysed):
    return analysed.atlas.tables / "units"


@pytest.fixture(scope="module")
def direct(folder):
    """The units of the recording `toy`, from its one file."""
    return pd.read_parquet(folder / "recording=toy" / "units.parquet", partitioning=None)


def assert_same(frame, direct):
    """Compare the rows of `toy` column by column."""
    rows = frame[frame["recording"].astype(str) == "toy"].sort_values(["depth", "channel"])
    assert len(frame) == 2 * len(direct)
    for name in direct:
        found, expected = rows[name].tolist(), direct[name].tolist()
        same = [a == b or (pd.isna(a) and pd.isna(b)) for a, b in zip(found, expected, strict=True)]
        assert all(same), name


def test_xarray__opens_the_recording_with_labels(analysed):
    raw = analysed.raw
    with xr.open_zarr(analysed.recording.place.path) as dataset:
        np.testing.assert_array_equal(dataset.channel_mean, raw.responses)
        assert dataset.channel_mean.dims == ("image", "unit")
        layer = dataset.channel_mean.sel(unit=dataset.unit_layer == "layer1.0")
        np.testing.assert_array_equal(layer, raw.responses[:, 6:15])
        bees = dataset.channel_mean.sel(image=dataset.image_class == "bee")
        np.testing.assert_array_equal(bees, raw.responses[raw.label == 1])
        one = dataset.channel_mean.sel(image="set/0007.png", unit="conv1/4")
        assert float(one) == raw.responses[7, 4]
        assert dataset["class"].to_numpy().tolist() == list(raw.class_names)
        np.testing.assert_array_equal(dataset.thumbnail, raw.thumbnail)
        assert dataset.attrs["status"] == "complete"


def test_xarray__names_become_plain_strings_by_the_documented_lines(analysed):
    page = (Path(__file__).parents[3] / "docs" / "recording.md").read_text("utf-8")
    (lines,) = re.findall(r"(?m)^text = .*\nds = ds\.assign_coords.*$", page)
    with xr.open_zarr(analysed.recording.place.path) as opened:
        known = {"ds": opened}
        exec(lines, known)  # noqa: S102 - our own documentation
        dataset = known["ds"]
    names = [f"{layer.name}" for layer in analysed.recording.layers for _ in range(layer.units)]
    assert dataset.unit_layer.astype(str).to_numpy().tolist() == names
    assert dataset.unit_layer.astype(str).dtype.kind == "U"
    assert {each.dtype.kind for each in dataset.variables.values()}.isdisjoint("T")
    assert dataset.unit_layer.to_pandas().astype(str).tolist() == names
    layer = dataset.channel_mean.sel(unit=dataset.unit_layer == "layer1.0")
    np.testing.assert_array_equal(layer, analysed.raw.responses[:, 6:15])
    assert (
        dataset.channel_mean.sel(image="set/0007.png", unit="conv1/4")
        == analysed.raw.responses[7, 4]
    )


def test_xarray__every_array_has_a_description_and_its_dimensions(analysed):
    with xr.open_zarr(analysed.recording.place.path) as dataset:
        for name, array in dataset.variables.items():
            assert array.attrs["description"], name
        assert dict(dataset.sizes) == {
            "image": 61, "unit": 20, "feature": 40, "layer": 3, "class": 5,
            "row": 8, "column": 8, "colour": 3,
        }  # fmt: skip


def test_pandas__reads_the_tables_folder(folder, direct):
    assert_same(pd.read_parquet(folder), direct)


def test_polars__scans_the_tables_folder(folder, direct):
    frame = pl.scan_parquet(folder / "**/*.parquet", hive_partitioning=True).collect()
    assert frame.filter(pl.col("recording") == "toy")["auroc"].to_list() == direct.auroc.tolist()
    assert_same(pd.DataFrame(frame.to_dict(as_series=False)), direct)


def test_duckdb__reads_the_tables_folder(folder, direct):
    with duckdb.connect() as connection:
        sql = f"SELECT * FROM read_parquet('{folder}/*/*.parquet', hive_partitioning = true)"  # noqa: S608
        assert_same(connection.sql(sql).df(), direct)


def test_pyarrow__opens_the_tables_folder_as_a_dataset(folder, direct):
    dataset = ds.dataset(folder, format="parquet", partitioning="hive")
    assert_same(dataset.to_table().to_pandas(), direct)
    strong = dataset.to_table(filter=(ds.field("auroc") > 0.7) & (ds.field("recording") == "toy"))
    assert strong.num_rows == (direct.auroc > 0.7).sum()


def test_pyarrow__columns_carry_description_and_unit(folder):
    schema = ds.dataset(folder, format="parquet", partitioning="hive").schema
    assert schema.field("anova_p").metadata[b"unit"] == b"probability"
    assert schema.field("auroc").metadata[b"description"]


def test_polars__reads_the_folder_of_a_table_as_documented(analysed):
    folder = analysed.atlas.tables / "units"
    assert len(pl.read_parquet(folder)) == len(pd.read_parquet(folder))
    assert pl.scan_parquet(folder).select("recording").collect().n_unique() == 2
