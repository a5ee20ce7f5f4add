"""The table unit_targets against scipy and slow formulas on the stored matrix."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
from scipy import stats

from activarium.schemas.atlas import Atlas
from activarium.schemas.config import AnalyseConfig
from activarium.tasks.analysis.analyse import WRITTEN_OF_TARGET, analyse
from activarium.tasks.analysis.selected import select

CONFIG = AnalyseConfig(scheduler="synchronous")
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


@pytest.fixture(scope="module")
def recording(tmp_path_factory, analysed, write_recording):
    """Return an atlas and a recording in it."""
    atlas = Atlas(tmp_path_factory.mktemp("targets"))
    return atlas, write_recording(atlas, analysed.raw)


@pytest.fixture(scope="module")
def ages(tmp_path_factory, analysed):
    """Return a file of a number for some images, with ties, and the numbers by row."""
    rng = np.random.default_rng(2)
    values = np.where(rng.random(61) < 0.8, np.round(rng.normal(50, 10, 61)), np.nan)
    path = tmp_path_factory.mktemp("ages") / "ages.csv"
    names = analysed.raw.image_names
    lines = [f"{names[row]},{values[row]:g}\n" for row in range(61) if not np.isnan(values[row])]
    path.write_text("image,age\n" + "".join(reversed(lines)), encoding="utf-8")
    return path, values


@pytest.fixture(scope="module", params=["column", "file", "selected"])
def target(request, recording, ages, stored, analysed):
    """Return the tables of a target, the responses of the images that have it, and the numbers."""
    atlas, own = recording
    path, values = ages
    config = {
        "column": {"target": "confidence"},
        "file": {"target": str(path)},
        "selected": {"target": str(path), "where": "confidence > 0.6"},
    }[request.param]
    confidence = stored(analysed.atlas).frame("images").confidence.to_numpy()
    receipt = analyse(atlas, own, config=CONFIG.model_copy(update=config))
    numbers = confidence if request.param == "column" else values
    kept = analysed.raw.valid & ~np.isnan(numbers)
    if request.param == "selected":
        kept &= confidence > 0.6
    responses = analysed.raw.responses[kept].astype(np.float64)
    return stored(atlas, receipt.recording), responses, numbers[kept], np.flatnonzero(kept)


def test_unit_targets__one_row_per_unit_with_the_images_that_have_the_number(target, analysed):
    store, responses, _, rows = target
    frame = store.frame("unit_targets")
    units = [f"{layer.name}/{c}" for layer in analysed.raw.layers for c in range(layer.units)]
    assert frame.unit.tolist() == units
    assert set(frame.n) == {len(responses)}
    assert set(frame.target) <= {"confidence", "age"}
    assert store.frame("images").image_index.tolist() == rows.tolist()
    assert store.frame("recordings").analysed_images.tolist() == [len(rows)]


def test_unit_targets__spearman_equals_scipy(target):
    store, responses, numbers, _ = target
    frame = store.frame("unit_targets")
    for row in frame.itertuples():
        unit = responses[:, row.Index]
        if np.ptp(unit) == 0:
            assert (row.spearman_rho, row.spearman_p) == (0, 1)
            continue
        found = stats.spearmanr(unit, numbers)
        assert row.spearman_rho == pytest.approx(found.statistic, rel=1e-9, abs=1e-12)
        assert row.spearman_p == pytest.approx(found.pvalue, rel=1e-9)
        assert row.spearman_log10p == pytest.approx(np.log10(found.pvalue), rel=1e-9, abs=1e-12)
    q = stats.false_discovery_control(frame.spearman_p)
    np.testing.assert_allclose(frame.q_value, q, **CLOSE)


def centred(values, *, unbiased):
    """Return double-centred distances, or U-centred ones."""
    distance = np.abs(values[:, None] - values)
    n = len(values)
    if not unbiased:
        rows = distance.mean(axis=0)
        return distance - rows - rows[:, None] + distance.mean()
    rows = distance.sum(axis=0) / (n - 2)
    found = distance - rows - rows[:, None] + distance.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(found, 0)
    return found


def test_unit_targets__distance_correlation_equals_its_definition(target):
    store, responses, numbers, _ = target
    n = len(numbers)
    for row in store.frame("unit_targets").itertuples():
        unit = responses[:, row.Index]
        if np.ptp(unit) == 0:
            assert (row.distance_correlation, row.distance_p) == (0, 1)
            continue
        a, b = (centred(values, unbiased=False) for values in (unit, numbers))
        expected = np.sqrt((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))
        assert row.distance_correlation == pytest.approx(expected, rel=1e-8)
        a, b = (centred(values, unbiased=True) for values in (unit, numbers))
        corrected = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
        p = stats.chi2.sf(n * corrected + 1, 1)
        assert row.distance_p == pytest.approx(p, rel=1e-7)
        assert row.distance_log10p == pytest.approx(np.log10(p), rel=1e-7, abs=1e-9)


def test_analyse__target_writes_its_own_tables_only(recording):
    atlas, own = recording
    config = CONFIG.model_copy(update={"target": "margin", "name": "margin"})
    receipt = analyse(atlas, own, config=config)
    assert [file.stem for file in receipt.files] == [table.name for table in WRITTEN_OF_TARGET]
    tables = {path.parent.name for path in atlas.tables.glob("*/recording=toy~margin")}
    assert tables == {table.name for table in WRITTEN_OF_TARGET}
    assert not analyse(atlas, own, config=config).made
    assert not list(atlas.work.glob("*"))


def test_recordings__target_from_a_file_is_told_by_its_content(recording, ages, stored):
    atlas, own = recording
    path, _ = ages
    receipt = analyse(atlas, own, config=CONFIG.model_copy(update={"target": str(path)}))
    (row,) = stored(atlas, receipt.recording).table("recordings").to_pylist()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    assert json.loads(row["selection"]) == {"target": f"ages.csv (sha256 {digest})"}


def test_select__target_in_the_home_folder_is_found(recording, ages, monkeypatch):
    _, own = recording
    path, values = ages
    monkeypatch.setenv("HOME", str(path.parent))
    found = select(own, CONFIG.model_copy(update={"target": "~/ages.csv"}))
    assert found.text == select(own, CONFIG.model_copy(update={"target": str(path)})).text
    name, numbers = found.target
    assert name == "age"
    assert numbers.tolist() == values[found.chosen.row].tolist()


def test_analyse__condition_takes_numbers_of_images_beyond_it_away(recording, ages, stored):
    atlas, own = recording
    path, values = ages
    config = CONFIG.model_copy(
        update={"target": str(path), "where": "image_index >= 10 AND image_index < 30"}
    )
    receipt = analyse(atlas, own, config=config)
    kept = [row for row in range(10, 30) if not np.isnan(values[row]) and own.valid[row]]
    assert stored(atlas, receipt.recording).frame("images").image_index.tolist() == kept


@pytest.mark.parametrize("images", [3, 4, 6])
def test_unit_targets__p_of_few_images_is_never_below_what_their_orders_allow(
    images, atlas, make_raw, write_recording, tmp_path, stored
):
    raw = make_raw()
    raw.responses[:, 2] = np.arange(61)
    raw.responses[~raw.valid] = np.nan
    rows = np.flatnonzero(raw.valid)[:images]
    lines = [f"{raw.image_names[row]},{row}\n" for row in rows]
    path = tmp_path / "few.csv"
    path.write_text("image,order\n" + "".join(lines), encoding="utf-8")
    config = CONFIG.model_copy(update={"target": str(path)})
    name = analyse(atlas, write_recording(atlas, raw), config=config).recording
    frame = stored(atlas, name).frame("unit_targets").set_index("unit")
    unit = frame.loc["conv1/2"]
    assert unit.spearman_rho == 1
    # The same order and the opposite one, of all orders.
    assert unit.spearman_p == pytest.approx(2 / math.factorial(images), rel=1e-9)
    assert 10**unit.spearman_log10p == pytest.approx(unit.spearman_p, rel=1e-9)
    assert frame.spearman_p.min() == pytest.approx(unit.spearman_p)
