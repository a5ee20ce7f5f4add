from __future__ import annotations

import json
import subprocess

import pytest

from .conftest import program

pytestmark = pytest.mark.slow


def demo(root, *options):
    return subprocess.run(
        [program("activarium"), "demo", "--root", root, "--no-prefect", *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_demo__learns_the_digits_and_finds_their_units(tmp_path):
    first = demo(tmp_path, "--json")
    assert first.returncode == 0, first.stderr
    summary = json.loads(first.stdout)
    assert summary["accuracy"] > 0.96
    assert summary["images"] == 540
    layers = {layer["layer"]: layer for layer in summary["layers"]}
    assert list(layers) == ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [layer["units"] for layer in layers.values()] == [64, 32, 64, 32, 10]
    last, first_layer = layers["fc3"], layers["conv1"]
    assert first_layer["eta2_mean"] < 0.4
    assert last["eta2_mean"] > 0.7
    assert last["eta2_mean"] > last["eta2_mean_untrained"] + 0.2
    assert len(summary["strongest"]) == 3
    assert summary["strongest"][0]["auroc"] > 0.99
    page = (tmp_path / "reports" / "demo.html").read_text("utf-8")
    assert "two-block-cnn" in page

    again = demo(tmp_path)
    assert again.returncode == 0
    assert "accuracy" in again.stdout
    assert "selective" in again.stdout
    assert "dead" in again.stdout
    assert "nothing was made anew" in again.stdout
