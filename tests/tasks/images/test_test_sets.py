"""Test sets from files that the tests write, and from scikit-learn and Debian where present."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.cifar_files import CIFAR10_CLASSES
from activarium.tasks.images.idx_files import read_idx
from activarium.tasks.images.labelled_images import limited
from activarium.tasks.images.pixel_sets import DEBIAN_FASHION_MNIST, FASHION_CLASSES
from activarium.tasks.images.test_sets import TestSet, load_test_set

NOWHERE = Path("nowhere")


def load(source, datasets=NOWHERE, **settings):
    config = TestSetConfig(source=source, download=False, **settings)
    return load_test_set(config, datasets=datasets)


def digits_of(split, **settings):
    return load("digits", split=split, **settings)


def write_folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


# --- digits ---------------------------------------------------------------------------------


def test_digits__splits_share_no_image_and_hold_all():
    train, test = digits_of("train"), digits_of("test")
    assert (len(train), len(test)) == (1_257, 540)
    assert not set(train.ids) & set(test.ids)
    assert len(set(train.ids) | set(test.ids)) == 1_797
    assert train.identity != test.identity


def test_digits__are_stratified():
    whole = np.bincount(load_digits().target)
    share = np.bincount(digits_of("test").labels) / whole
    np.testing.assert_allclose(share, 0.3, atol=0.01)


def test_digits__pixels_and_labels_are_scikit_learns_at_their_ids():
    digits, test = load_digits(), digits_of("test")
    rows = [int(name.removeprefix("digits/")) for name in test.ids]
    expected = np.rint(digits.images[rows] * 255 / 16)
    np.testing.assert_array_equal(test.pixels[..., 0], expected)
    np.testing.assert_array_equal(test.labels, digits.target[rows])
    assert test.pixels.max() == 255
    assert test.image(3).mode == "L"
    assert test.class_names == tuple("0123456789")
    assert (test.name, test.colours) == ("digits", 1)


def test_digits__another_split_is_refused():
    with pytest.raises(UserError, match="digits has train and test, got 'val'"):
        digits_of("val")


# --- limit ----------------------------------------------------------------------------------


def test_limit__spreads_evenly_and_changes_the_identity():
    whole, some = digits_of("test"), digits_of("test", limit=50)
    chosen = [whole.ids.index(name) for name in some.ids]
    assert len(some) == 50
    assert (chosen[0], chosen[-1]) == (0, 539)
    assert set(np.diff(chosen)) == {11}
    np.testing.assert_array_equal(some.pixels, whole.pixels[chosen])
    np.testing.assert_array_equal(some.labels, whole.labels[chosen])
    assert len({whole.identity, some.identity, digits_of("test", limit=51).identity}) == 3


def test_limit__beyond_the_set_changes_nothing():
    assert digits_of("test", limit=540).identity == digits_of("test").identity
    assert digits_of("test", limit=10_000).ids == digits_of("test").ids


@given(images=st.integers(2, 400), share=st.floats(0, 1))
def test_limit__never_takes_an_image_twice(images, share):
    limit = 2 + round(share * (images - 2))
    ids, labels = tuple(map(str, range(images))), np.arange(images, dtype=np.int32)
    some = limited(TestSet("set", "test", (), ids, labels, "", 1), limit)
    assert len(set(some.ids)) == len(some) == limit
    assert np.diff(some.labels).max(initial=1) <= -(-(images - 1) // (limit - 1))


# --- IDX files ------------------------------------------------------------------------------


def idx(array):
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (12, 5, 6), dtype=np.uint8)
LABELS = np.arange(12, dtype=np.uint8) % 10
NAMES = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def write_idx(folder, images=None, labels=None, *, gzipped=False):
    contents = (
        idx(IMAGES) if images is None else images,
        idx(LABELS) if labels is None else labels,
    )
    files = dict(zip(NAMES, contents, strict=True))
    if gzipped:
        files = {f"{name}.gz": gzip.compress(content) for name, content in files.items()}
    return write_folder(folder, files)


@pytest.mark.parametrize("gzipped", [False, True])
def test_idx__plain_and_gzipped_give_images_and_labels(tmp_path, gzipped):
    found = load("mnist", path=write_idx(tmp_path, gzipped=gzipped))
    np.testing.assert_array_equal(found.pixels[..., 0], IMAGES)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert found.ids[:2] == ("test/00000", "test/00001")
    assert found.pixels.shape == (12, 5, 6, 1)


def test_idx__plain_and_gzipped_are_the_same_set(tmp_path):
    plain = load("mnist", path=write_idx(tmp_path / "plain"))
    gzipped = load("mnist", path=write_idx(tmp_path / "gzipped", gzipped=True))
    assert plain.identity == gzipped.identity


def test_idx__identity_changes_with_a_label_and_with_a_pixel(tmp_path):
    brighter, other = IMAGES.copy(), LABELS.copy()
    brighter[7, 3, 2] ^= 1
    other[4] = 9
    found = [
        load("mnist", path=write_idx(tmp_path / "a")),
        load("mnist", path=write_idx(tmp_path / "b", images=idx(brighter))),
        load("mnist", path=write_idx(tmp_path / "c", labels=idx(other))),
    ]
    assert len({each.identity for each in found}) == 3


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (idx(IMAGES)[:-1], r"expected 360 bytes for shape \(12, 5, 6\), found 359"),
        (idx(IMAGES) + b"x", "expected 360 bytes .* found more"),
        (idx(IMAGES)[:9], "damaged"),
        (idx(IMAGES)[:3], "no IDX file"),
        (b"", "no IDX file"),
        (b"PK\x03\x04 something else", r"no IDX file of bytes: it begins with b'PK"),
        (b"\0\0\x0d" + idx(IMAGES)[3:], "no IDX file of bytes"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "damaged"),
        (idx(IMAGES[:5]), "do not belong together"),
        (idx(LABELS), "do not belong together"),
        (idx(IMAGES[0]), "do not belong together"),
    ],
    ids=[
        "cut", "longer", "cut-header", "3-bytes", "empty", "a-zip", "floats", "huge", "fewer",
        "labels-twice", "one-image",
    ],
)  # fmt: skip
def test_idx__damaged_or_mismatched_files_are_one_clear_line(tmp_path, images, message):
    with pytest.raises(UserError, match=message) as error:
        load("mnist", path=write_idx(tmp_path, images=images))
    assert NAMES[0] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [5, 40, -4])
def test_idx__truncated_gzip_is_one_clear_line(tmp_path, keep):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx(IMAGES))[:keep])
    with pytest.raises(UserError, match=r"cannot read .*images\.gz"):
        read_idx(path)


def test_idx__labels_of_another_set_are_refused(tmp_path):
    path = write_idx(tmp_path, labels=idx(LABELS + 5))
    with pytest.raises(UserError, match="labels from 5 to 14, expected 0 to 9"):
        load("mnist", path=path)


def test_idx__no_images_are_refused(tmp_path):
    path = write_idx(tmp_path, images=idx(IMAGES[:0]), labels=idx(LABELS[:0]))
    with pytest.raises(UserError, match="no images"):
        load("mnist", path=path)


# --- where files are looked for -------------------------------------------------------------


def labelled(code):
    return {"labels": idx(np.full(12, code))}


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
def test_lookup__finds_the_datasets_folder_in_both_layouts(tmp_path, layout):
    write_idx(tmp_path / "mnist" / layout)
    np.testing.assert_array_equal(load("mnist", tmp_path).labels, LABELS)


@pytest.mark.parametrize("layout", ["", "MNIST/raw"])
def test_lookup__configured_path_comes_before_the_datasets_folder(tmp_path, layout):
    write_idx(tmp_path / "mnist", **labelled(1))
    write_idx(tmp_path / "own" / layout, **labelled(2))
    assert set(load("mnist", tmp_path, path=tmp_path / "own").labels) == {2}


def test_lookup__configured_path_without_the_files_does_not_fall_back(tmp_path):
    write_idx(tmp_path / "mnist")
    (tmp_path / "own").mkdir()
    with pytest.raises(UserError, match=r"no files of mnist: looked in .*own.*test_set\.path"):
        load("mnist", tmp_path, path=tmp_path / "own")


def test_lookup__images_without_labels_do_not_count(tmp_path):
    write_folder(tmp_path / "mnist", {NAMES[0]: idx(IMAGES)})
    write_idx(tmp_path / "mnist" / "MNIST" / "raw", **labelled(3))
    assert set(load("mnist", tmp_path).labels) == {3}


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_lookup__missing_files_are_one_line_that_says_where_it_looked(tmp_path, source):
    with pytest.raises(UserError) as error:
        load(source, tmp_path)
    message = str(error.value)
    assert str(tmp_path / source) in message
    assert "test_set.path" in message
    assert "\n" not in message


def test_lookup__failed_download_is_one_clear_line(tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    # A closed port of this machine: what a machine without a network meets.
    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    config = TestSetConfig(source="mnist")
    with pytest.raises(UserError, match=r"download of mnist failed .* set test_set\.path") as error:
        load_test_set(config, datasets=tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not DEBIAN_FASHION_MNIST.is_dir(), reason="dataset-fashion-mnist is not there")
def test_lookup__debians_fashion_mnist_is_found_first(tmp_path):
    write_idx(tmp_path / "fashion-mnist", **labelled(1))
    found = load("fashion-mnist", tmp_path)
    assert found.pixels.shape == (10_000, 28, 28, 1)
    assert set(np.bincount(found.labels)) == {1_000}
    assert found.class_names == FASHION_CLASSES
    own = load("fashion-mnist", tmp_path, path=tmp_path / "fashion-mnist")
    assert set(own.labels) == {1}


# --- CIFAR-10 -------------------------------------------------------------------------------


def cifar_batch(seed, images=4):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (images, 3_072), dtype=np.uint8)
    return data, rng.integers(0, 10, images).tolist()


def write_cifar(folder, name, data, labels):
    batch = {b"batch_label": b"one", b"labels": labels, b"data": data, b"filenames": [b"x.png"]}
    write_folder(folder, {name: pickle.dumps(batch, protocol=2)})


@pytest.mark.parametrize("layout", ["", "cifar-10-batches-py"])
def test_cifar10__test_batch_gives_pixels_by_row_column_colour(tmp_path, layout):
    data, labels = cifar_batch(0)
    write_cifar(tmp_path / "cifar10" / layout, "test_batch", data, labels)
    found = load("cifar10", tmp_path)
    assert found.labels.tolist() == labels
    assert found.class_names == CIFAR10_CLASSES
    assert found.image(0).mode == "RGB"
    for colour in range(3):
        plane = data[2, 1_024 * colour : 1_024 * (colour + 1)].reshape(32, 32)
        np.testing.assert_array_equal(found.pixels[2, :, :, colour], plane)


def test_cifar10__train_is_the_five_batches_in_order(tmp_path):
    batches = [cifar_batch(seed, images=seed) for seed in range(1, 6)]
    for number, batch in enumerate(batches, start=1):
        write_cifar(tmp_path, f"data_batch_{number}", *batch)
    found = load("cifar10", path=tmp_path, split="train")
    assert found.labels.tolist() == [label for _, labels in batches for label in labels]
    assert len(found) == 15


def test_cifar10__missing_batch_is_named(tmp_path):
    write_cifar(tmp_path, "data_batch_1", *cifar_batch(1))
    with pytest.raises(UserError, match=r"cannot read .*data_batch_2"):
        load("cifar10", path=tmp_path, split="train")


class Malicious:
    def __init__(self, victim):
        self.victim = str(victim)

    def __reduce__(self):
        return os.mkdir, (self.victim,)


def test_cifar10__malicious_pickle_is_refused_and_runs_nothing(tmp_path):
    victim = tmp_path / "made-by-the-pickle"
    write_folder(tmp_path, {"test_batch": pickle.dumps({b"data": Malicious(victim)}, protocol=2)})
    with pytest.raises(UserError, match="mkdir does not belong into a CIFAR file"):
        load("cifar10", path=tmp_path)
    assert not victim.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps([1, 2], protocol=2),
        pickle.dumps({b"data": np.zeros((2, 100), np.uint8), b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"labels": [0, 1]}, protocol=2),
        pickle.dumps({b"data": [300] * 3_072, b"labels": [0]}, protocol=2),
        pickle.dumps({b"data": np.zeros((2, 3_072), np.uint8), b"labels": [1, 2]}, protocol=2)[:99],
    ],
)
def test_cifar10__damaged_batch_is_one_clear_line(tmp_path, content):
    write_folder(tmp_path, {"test_batch": content})
    with pytest.raises(UserError, match=r"cannot read .*test_batch as a CIFAR-10 batch"):
        load("cifar10", path=tmp_path)


def test_cifar10__images_and_labels_of_different_number_are_refused(tmp_path):
    write_cifar(tmp_path, "test_batch", np.zeros((2, 3_072), np.uint8), [1, 2, 3])
    with pytest.raises(UserError, match="2 images but 3 labels"):
        load("cifar10", path=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\0\0\x08\3" + b"\xff" * 12, "says that it holds .* bytes: more than is read"),
        (b"\0\0\x08\1" + b"\0\0\0\2" + bytes(10_000_000), "expected 2 bytes .* found more"),
        (b"\0\0\x08\xff", "its header of 1024 bytes is cut after 4"),
    ],
)
def test_read_idx__no_more_is_unpacked_than_its_header_says(tmp_path, content, message):
    file = tmp_path / "images.gz"
    file.write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match=message):
        read_idx(file)
