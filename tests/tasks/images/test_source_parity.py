"""The same photographs from every kind of source are one input, and it is torchvision's."""

from __future__ import annotations

import io
import pickle
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.datasets
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.models import get_model_weights

from activarium.schemas.config import PreprocessingConfig, TestSetConfig
from activarium.tasks.images.preprocessing import read_images, resolve_preprocessing
from activarium.tasks.images.test_sets import load_test_set
from activarium.tasks.recording.normalising import normalise

PHOTOGRAPHS = Path(sklearn.datasets.__file__).parent / "images"
"""Two photographs of 640 x 427 pixels that scikit-learn brings."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return photographs of several sizes, modes and formats as <split>/<class>/<image>."""
    root = tmp_path_factory.mktemp("photographs")
    for name in ("china", "flower"):
        photograph = Image.open(PHOTOGRAPHS / f"{name}.jpg")
        place = root / "test" / name
        place.mkdir(parents=True)
        (place / "0.jpg").write_bytes((PHOTOGRAPHS / f"{name}.jpg").read_bytes())
        photograph.crop((50, 20, 300, 420)).save(place / "1.jpg", quality=80)
        photograph.resize((500, 375)).convert("L").save(place / "2.jpg")
        photograph.resize((231, 347)).convert("CMYK").save(place / "3.jpg")
        photograph.resize((260, 300)).convert("RGBA").save(place / "4.png")
        photograph.resize((260, 300)).quantize(64).save(place / "5.png")
        photograph.save(place / "6.webp", quality=70)
    return root


def paths_of(root):
    return sorted((root / "test").glob("*/*"))


def as_folder(root, tmp_path):
    return {"source": "imagefolder", "path": root}


def as_zip(root, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in paths_of(root):
            archive.write(path, path.relative_to(root))
    return {"source": "imagefolder", "path": tmp_path / "set.zip"}


def as_parquet(root, tmp_path):
    images = [{"bytes": path.read_bytes(), "path": path.name} for path in paths_of(root)]
    table = pa.table({"image": images, "label": [path.parent.name for path in paths_of(root)]})
    pq.write_table(table, tmp_path / "test.parquet", row_group_size=5)
    return {"source": "parquet", "path": tmp_path / "test.parquet"}


def as_arrow(root, tmp_path):
    images = [path.read_bytes() for path in paths_of(root)]
    table = pa.table({"image": images, "label": [path.parent.name for path in paths_of(root)]})
    with pa.ipc.new_stream(str(tmp_path / "test.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=4)
    return {"source": "parquet", "path": tmp_path / "test.arrow"}


def as_entry_point(root, tmp_path):
    code = f"""
        from torchvision.datasets import ImageFolder

        def photographs():
            return ImageFolder({str(root / "test")!r})
    """
    (tmp_path / "photographs_of_a_test.py").write_text(textwrap.dedent(code))
    sys.modules.pop("photographs_of_a_test", None)
    entry_point = "photographs_of_a_test:photographs"
    return {"source": "entry-point", "path": tmp_path, "entry_point": entry_point}


@pytest.fixture(params=[as_folder, as_zip, as_parquet, as_arrow, as_entry_point])
def test_set(request, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    config = TestSetConfig.model_validate(request.param(folder, tmp_path))
    return load_test_set(config, datasets=tmp_path)


@pytest.mark.parametrize("model", ["resnet18", "resnet50", "efficientnet_b0"])
def test_input__of_photographs_is_torchvisions(test_set, folder, model):
    preset = get_model_weights(model)["DEFAULT"].transforms()
    config = PreprocessingConfig(
        resize=preset.resize_size[0],
        size=preset.crop_size[0],
        interpolation=preset.interpolation.value,
    )
    found = resolve_preprocessing(config, test_set, source="imagefolder", colours=3)
    again = pickle.loads(pickle.dumps(test_set))  # noqa: S301 - our own bytes
    reference = ImageFolder(folder / "test", transform=preset)
    assert len(test_set) == len(reference) == 14
    assert test_set.class_names == tuple(reference.classes)
    assert test_set.labels.tolist() == reference.targets
    for images in (test_set, again):
        pixels, valid = read_images(images, found, 0, len(images), threads=2)
        assert valid.all()
        inputs = normalise(torch.from_numpy(pixels), found)
        expected = torch.stack([image for image, _ in reference])
        # One step of a byte is 0.017: the pixels are the same.
        torch.testing.assert_close(inputs, expected, rtol=1e-5, atol=1e-5)


def test_pixels__of_a_photograph_are_pillows(test_set):
    own = Image.open(io.BytesIO((PHOTOGRAPHS / "china.jpg").read_bytes()))
    np.testing.assert_array_equal(np.asarray(test_set.image(0)), np.asarray(own))
