"""The page of a comparison: what it draws, says, and holds for whoever points at it."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from activarium.schemas.atlas import Atlas
from activarium.schemas.compare_config import CompareConfig
from activarium.tasks.reporting.colour_picture import GROUND, picture_address
from activarium.tasks.reporting.similarity_page import write_similarity_page
from activarium.tasks.reporting.similarity_tables import read_pairs
from activarium.tasks.similarity.compare import compare

from .test_report import opened

CONFIG = CompareConfig(scheduler="synchronous")


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_raw, write_recording):
    """Two recordings, of which the second has a dead layer, compared."""
    atlas, first = Atlas(tmp_path_factory.mktemp("pictured")), make_raw()
    mixed = first.responses[:, ::-1] + 0.7 * make_raw(seed=1).responses
    mixed[:, 6:15] = 0
    second = replace(first, responses=np.where(first.valid[:, None], mixed, np.nan))
    recordings = [
        write_recording(atlas, raw, name) for raw, name in ((first, "one"), (second, "two"))
    ]
    return atlas, recordings, compare(atlas, recordings, config=CONFIG)


def pixels(address):
    content = base64.b64decode(address.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(content)))


def payload_of(page):
    return json.loads(re.search(r'id="payload">(.*?)</script>', page)[1])


def test_write_similarity_page__has_every_number_and_a_picture_per_measure(made):
    atlas, _, receipt = made
    written = write_similarity_page(atlas, receipt)
    page = written.path.read_text("utf-8")
    assert (written.made, written.recordings) == (True, ("one", "two"))
    assert written.path.name == "layers-of-one-with-two.html"
    assert not write_similarity_page(atlas, receipt).made
    ((pair,), (table,)) = payload_of(page), read_pairs(receipt.files)
    assert pair["layers"] == pair["others"] == ["conv1", "layer1.0", "fc:2"]
    titles = [each["title"] for each in pair["maps"]]
    assert titles == ["Debiased CKA", "CKA", "RSA", "Procrustes"]
    expected = table.measure("rsa").to_numpy()
    np.testing.assert_allclose(np.array(pair["maps"][2]["cells"], float), expected, atol=5e-4)
    # The dead layer is like none: undefined, and drawn so.
    assert [row[1] for row in pair["maps"][0]["cells"]] == [None] * 3
    addresses = re.findall(r'<img src="(data:image/png[^"]+)"', page)
    assert len(addresses) == 4
    picture = pixels(addresses[0])
    assert picture.shape == (3, 3, 3)
    assert {*map(tuple, picture[:, 1])} == {GROUND}
    # Nothing is fetched when it is opened.
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_write_similarity_page__tells_what_layers_and_units_keep(made):
    atlas, _, receipt = made
    page = write_similarity_page(atlas, receipt, name="Kept", title="What is kept").path
    text = page.read_text("utf-8")
    (pair,) = read_pairs(receipt.files)
    kept = pair.over_depth()
    units = pair.matches[pair.matches["layer"] == "conv1"]
    assert page.name == "kept.html"
    assert "What is kept" in text
    assert kept.loc["same_r", "conv1"] == pytest.approx(units["same_r"].abs().mean())
    assert kept.loc["kept_class", "conv1"] == pytest.approx(
        units["kept_class"].dropna().astype(float).mean()
    )
    assert np.isnan(kept.loc["cka_debiased", "layer1.0"])
    same = pair.measure("procrustes").loc["conv1", "conv1"]
    assert f"<title>conv1, debiased CKA of the layer: {kept.loc['cka_debiased', 'conv1']:.3f}" in (
        text
    )
    median = np.nanmedian(np.diag(pair.measure("procrustes")))
    assert f"the same layer of both: median {median:.2f}, lowest" in text
    assert same < 1


def test_write_similarity_page__one_recording_and_pooled_features(made):
    atlas, recordings, _ = made
    pooled = CONFIG.model_copy(update={"features": "pooled", "measures": ("cka",)})
    receipt = compare(atlas, recordings[:1], config=pooled)
    page = write_similarity_page(atlas, receipt).path
    text = page.read_text("utf-8")
    assert page.name == "layers-of-one-by-pooled.html"
    assert "by pooled features" in text
    assert "neighbouring layers" in text
    assert "Layers that both have" not in text
    (pair,) = payload_of(text)
    assert [each["title"] for each in pair["maps"]] == ["Debiased CKA", "CKA"]
    np.testing.assert_allclose(np.diag(np.array(pair["maps"][1]["cells"], float)), 1)


def test_write_similarity_page__layers_of_odd_names_are_escaped(
    tmp_path, make_raw, write_recording
):
    atlas, raw = Atlas(tmp_path), make_raw()
    layers = tuple(replace(each, name=f"<b>{each.name}") for each in raw.layers)
    one, two = (
        write_recording(atlas, replace(raw, layers=layers), name) for name in ("one", "two")
    )
    receipt = compare(atlas, [one, two], config=CONFIG)
    text = write_similarity_page(atlas, receipt).path.read_text("utf-8")
    assert "<b>conv1" not in text
    assert "&lt;b&gt;conv1" in text


def test_picture_address__is_dark_where_low_and_ground_where_unknown():
    levels = np.array([[0.0, 0.5, 1.0], [-1.0, 2.0, np.nan]])
    found = pixels(picture_address(levels, np.isnan(levels))).astype(int)
    brightness = found.sum(axis=2)
    assert brightness[0, 0] < brightness[0, 1] < brightness[0, 2]
    np.testing.assert_array_equal(found[1, :2], found[0, [0, 2]])
    assert tuple(found[1, 2]) == GROUND


@pytest.mark.browser
def test_browser__page_of_a_comparison_logs_no_error(made, tmp_path):
    atlas, _, receipt = made
    dom, logged = opened(write_similarity_page(atlas, receipt, name="browser").path, tmp_path)
    assert logged == []
    assert 'data-ready="yes"' in dom


def test_read_pairs__layers_are_in_order_of_execution(made):
    _, _, receipt = made
    (pair,) = read_pairs(receipt.files)
    assert pair.other_layers == ["conv1", "layer1.0", "fc:2"]
    assert isinstance(pair.matches, pd.DataFrame)
    assert pair.measures == ["cka_debiased", "cka", "rsa", "procrustes"]


def test_write_similarity_page__long_ids_make_a_name_that_a_file_can_have(
    tmp_path, make_raw, write_recording
):
    atlas = Atlas(tmp_path)
    names = [letter * 120 for letter in "abc"]
    recordings = [write_recording(atlas, make_raw(), name) for name in names]
    config = CONFIG.model_copy(update={"measures": ("cka",)})
    pages = [
        write_similarity_page(atlas, compare(atlas, [recordings[0], each], config=config)).path
        for each in recordings[1:]
    ]
    assert pages[0] != pages[1]
    assert all(len(page.name) < 255 for page in pages)
