"""The model's answers against scipy."""

from __future__ import annotations

import numpy as np
from scipy import special, stats

from activarium.tasks.analysis.image_answers import answers

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


def test_answers__one_output_has_no_runner_up():
    found = answers(np.array([[3.0], [-2.0]], np.float32), np.array([0, -1]))
    assert found["margin"].tolist() == [0, 0]
    assert found["confidence"].tolist() == [1, 1]
    np.testing.assert_array_equal(found["loss"], [0, np.nan])
