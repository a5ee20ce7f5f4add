"""The model's answers against scipy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from activarium.schemas.config import AnalyseConfig
from activarium.schemas.errors import UserError
from activarium.tasks.analysis.analyse import analyse
from activarium.tasks.analysis.image_answers import answers

CONFIG = AnalyseConfig(scheduler="synchronous", permutations=0)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def test_images__answers_equal_scipy(toy):
    frame = toy.frame("images")
    logits, label = toy.array("logits").astype(float), toy.array("label")
    names, valid = toy.array("class"), toy.valid
    p = special.softmax(logits[valid], axis=1)
    rows = frame[valid]
    assert frame.image.tolist() == toy.array("image").tolist()
    assert frame.image_index.tolist() == list(range(len(label)))
    assert frame.label.tolist() == label.tolist()
    assert frame.valid.tolist() == valid.tolist()
    assert rows.predicted.tolist() == names[p.argmax(axis=1)].tolist()
    np.testing.assert_allclose(rows.confidence, p.max(axis=1), **CLOSE)
    np.testing.assert_allclose(rows.entropy, stats.entropy(p, axis=1), rtol=1e-9)
    top = np.sort(logits[valid], axis=1)
    np.testing.assert_allclose(rows.margin, top[:, -1] - top[:, -2], **CLOSE)
    known = label[valid] >= 0
    loss = -np.log(p[known, label[valid][known]])
    np.testing.assert_allclose(rows.loss[known], loss, rtol=1e-9)
    assert (rows.correct[known] == (p.argmax(axis=1) == label[valid])[known]).all()


def test_images__without_image_or_label_is_null_not_nan(toy):
    table = toy.table("images")
    invalid, unlabelled = ~toy.valid, toy.array("label") < 0
    expected = {
        "predicted": invalid,
        "confidence": invalid,
        "margin": invalid,
        "entropy": invalid,
        "loss": invalid | unlabelled,
        "correct": invalid | unlabelled,
        "class": unlabelled,
    }
    for column, missing in expected.items():
        assert np.array(table.column(column).is_null()).tolist() == missing.tolist(), column


def test_answers__by_hand():
    found = answers(np.array([[0, 0], [np.log(3), 0]], np.float64), np.array([1, 0]))
    assert found["predicted"].tolist() == [0, 0]
    np.testing.assert_allclose(found["confidence"], [0.5, 0.75])
    np.testing.assert_allclose(found["margin"], [0, np.log(3)])
    np.testing.assert_allclose(found["loss"], [np.log(2), -np.log(0.75)])
    np.testing.assert_allclose(found["entropy"], [np.log(2), 0.5623351446188083])


def test_answers__huge_logits_overflow_nothing():
    found = answers(np.array([[1e30, 0.0, -1e30]], np.float32), np.array([0]))
    assert found["confidence"].tolist() == [1]
    assert found["entropy"].tolist() == [0]
    assert found["loss"].tolist() == [0]


def test_answers__one_output_says_nothing_of_classes():
    found = answers(np.array([[3.0], [-2.0]], np.float32), np.array([0, -1]))
    assert found["predicted"].tolist() == [-1, -1]
    for name in ("confidence", "margin", "entropy", "loss"):
        assert np.isnan(found[name]).all(), name


@pytest.mark.parametrize("classes", [("only",), ("ant", "bee")])
def test_images__of_one_output_are_null_and_the_accuracy_too(
    classes, atlas, make_raw, write_recording, stored
):
    raw = make_raw()
    label = np.where(raw.label < 0, -1, raw.label % len(classes)).astype(np.int32)
    one = replace(raw, logits=raw.logits[:, :1], class_names=classes, label=label)
    analyse(atlas, write_recording(atlas, one), config=CONFIG)
    images = stored(atlas).table("images")
    for name in ("predicted", "correct", "confidence", "margin", "entropy", "loss"):
        assert images.column(name).null_count == images.num_rows, name
    assert images.column("class").null_count < images.num_rows
    assert stored(atlas).table("recordings").column("accuracy").to_pylist() == [None]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"where": "confidence > 0.9"}, "confidence is null for all of them (the model has one"),
        ({"where": "NOT Entropy < 1"}, "entropy is null for all of them (the model has one output"),
        ({"where": "correct"}, "correct is null for all of them"),
        ({"where": "loss > (SELECT median(loss) FROM images)"}, "loss is null for all of them"),
        ({"target": "margin"}, "margin: is null for all 61 images (the model has one output"),
    ],
)
def test_analyse__condition_on_a_column_without_values_says_why(
    settings, message, atlas, make_raw, write_recording
):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, logits=raw.logits[:, :1]))
    with pytest.raises(UserError) as caught:
        analyse(atlas, recording, config=CONFIG.model_copy(update=settings))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_analyse__condition_on_labels_that_are_not_there_says_so(atlas, make_raw, write_recording):
    raw = make_raw()
    recording = write_recording(atlas, replace(raw, label=np.full_like(raw.label, -1)))
    config = CONFIG.model_copy(update={"where": "correct AND image <> 'class'"})
    with pytest.raises(UserError, match=r"correct is null for all of them \(no image has a class"):
        analyse(atlas, recording, config=config)
