"""Test sets from files that the tests write, and from scikit-learn and Debian where present."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.idx_files import read_idx
from activarium.tasks.test_sets import (
    CIFAR10_CLASSES,
    DEBIAN_FASHION_MNIST,
    FASHION_CLASSES,
    TestSet,
    UndecodableImageError,
    load_test_set,
)

NOWHERE = Path("nowhere")


def load(source, datasets=NOWHERE, **settings):
    config = TestSetConfig(source=source, download=False, **settings)
    return load_test_set(config, datasets=datasets)


def digits_of(split, **settings):
    return load("digits", split=split, **settings)


def png(value=0, *, size=(4, 4), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value, 10, 20)).save(stream, "PNG")
    return stream.getvalue()


def write_folder(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content)
    return path


@pytest.fixture(params=["folder", "zip"])
def store(request, tmp_path):
    """Return a function that stores files as a folder or as a zip."""
    if request.param == "folder":
        return lambda files, name="set": write_folder(tmp_path / name, files)
    return lambda files, name="set": write_zip(tmp_path / f"{name}.zip", files)


FILES = {
    **{f"test/{label}/{n}.png": png(n) for label in ("cat", "ant", "bee") for n in range(3)},
    **{f"train/{label}/{n}.png": png(n + 100) for label in ("ant", "bee", "cat") for n in range(2)},
}


def folder_of(path, split="test", **settings):
    return load("imagefolder", path=path, split=split, **settings)


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
    from activarium.tasks.test_sets import _limited

    limit = 2 + round(share * (images - 2))
    ids, labels = tuple(map(str, range(images))), np.arange(images, dtype=np.int32)
    some = _limited(TestSet("set", "test", (), ids, labels, "", 1), limit)
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
        (idx(IMAGES) + b"x", "expected 360 bytes .* found 361"),
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


# --- folders and zips -----------------------------------------------------------------------


def test_imagefolder__classes_are_sorted_and_ids_are_paths(store):
    found = folder_of(store(FILES))
    assert found.class_names == ("ant", "bee", "cat")
    assert found.ids == tuple(sorted(name for name in FILES if name.startswith("test")))
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert (found.name, found.split, found.colours) == ("set", "test", 3)
    assert np.asarray(found.image(1))[0, 0].tolist() == [1, 10, 20]


def test_imagefolder__folder_and_zip_agree(tmp_path):
    in_folder = folder_of(write_folder(tmp_path / "set", FILES))
    in_zip = folder_of(write_zip(tmp_path / "set.zip", FILES))
    assert in_folder.ids == in_zip.ids
    assert in_folder.class_names == in_zip.class_names
    np.testing.assert_array_equal(in_folder.labels, in_zip.labels)
    for index in range(len(in_zip)):
        assert in_folder.image(index).tobytes() == in_zip.image(index).tobytes()


def test_imagefolder__one_folder_around_the_splits_is_stepped_over(store):
    around = folder_of(store({f"photos-v2/{name}": content for name, content in FILES.items()}))
    assert around.class_names == ("ant", "bee", "cat")
    assert len(around) == 9
    assert around.ids[0] == "photos-v2/test/ant/0.png"


@pytest.mark.parametrize("around", ["", "photos/"])
def test_imagefolder__split_of_a_point_takes_class_folders_directly(store, around):
    files = {
        f"{around}{name.removeprefix('test/')}": c for name, c in FILES.items() if "test" in name
    }
    found = folder_of(store(files), split=".")
    assert found.class_names == ("ant", "bee", "cat")
    assert (len(found), found.split) == (9, "all")


def test_imagefolder__a_class_keeps_its_code_where_the_split_lacks_one(store):
    files = {name: content for name, content in FILES.items() if not name.startswith("test/bee")}
    found = folder_of(store(files))
    assert found.class_names == ("ant", "bee", "cat")
    assert sorted(set(found.labels.tolist())) == [0, 2]


def test_imagefolder__what_is_no_image_is_stepped_over(store):
    plain = folder_of(store(FILES, "plain"))
    clutter = {
        "readme.txt": b"hello",
        "test/notes.md": b"hello",
        "test/ant/labels.csv": b"0,1",
        "test/ant/.hidden.png": png(1),
        "test/.cache/0.png": png(1),
        "__MACOSX/test/ant/0.png": b"resource fork",
        "test/ant/Thumbs.db": b"",
    }
    found = folder_of(store({**FILES, **clutter}, "cluttered"))
    assert found.ids == plain.ids
    assert found.class_names == plain.class_names
    assert found.identity == plain.identity


EMPTY = "test/dodo/"
"""A folder: a zip entry whose name ends in a slash."""


def with_folders(stored, folders):
    """Add empty folders to a folder or a zip."""
    if stored.is_dir():
        for name in folders:
            (stored / name).mkdir(parents=True)
        return stored
    with zipfile.ZipFile(stored, "a") as archive:
        for name in folders:
            archive.mkdir(name.rstrip("/"))
    return stored


@pytest.mark.parametrize("around", ["", "photos/"])
def test_imagefolder__empty_class_folder_is_named(store, around):
    files = {f"{around}{name}": content for name, content in FILES.items()}
    stored = with_folders(store(files), [f"{around}{EMPTY}", f"{around}train/eel/"])
    with pytest.raises(
        UserError, match=r"class folders without any image in 'test': 'dodo'; delete them"
    ):
        folder_of(stored)


def test_imagefolder__class_folder_with_other_files_only_counts_as_empty(store):
    with pytest.raises(UserError, match=r"without any image in 'test': 'dodo'"):
        folder_of(store({**FILES, "test/dodo/notes.txt": b"none yet"}))


def test_imagefolder__empty_class_folder_without_splits_is_named(store):
    files = {name.removeprefix("test/"): c for name, c in FILES.items() if "test" in name}
    with pytest.raises(UserError, match=r"without any image in '\.': 'dodo'"):
        folder_of(with_folders(store(files), ["dodo/"]), split=".")


@pytest.mark.parametrize(
    "folder", ["test/.cache/", "__MACOSX/test/dodo/", "test/ant/empty/", "train/dodo/", "val/"]
)
def test_imagefolder__other_empty_folders_are_stepped_over(store, folder):
    found = folder_of(with_folders(store(FILES), [folder]))
    assert found.class_names == ("ant", "bee", "cat")
    assert len(found) == 9


def test_imagefolder__class_folder_that_another_split_fills_may_be_empty(store):
    files = {**FILES, "train/dodo/0.png": png(7)}
    found = folder_of(with_folders(store(files), [EMPTY]))
    assert found.class_names == ("ant", "bee", "cat", "dodo")
    assert len(found) == 9


@pytest.mark.parametrize("around", ["", "photos/"])
@pytest.mark.parametrize("depth", [1, 4])
def test_imagefolder__images_below_the_class_folders_are_refused(store, around, depth):
    below = "/".join(f"level{level}" for level in range(depth))
    deeper = {f"test/{label}/{below}/0.png": png(1) for label in ("bee", "ant")}
    files = {f"{around}{name}": content for name, content in {**FILES, **deeper}.items()}
    with pytest.raises(
        UserError, match=rf"2 in 'test', the first '{around}test/ant/{below}/0\.png'; move them up"
    ):
        folder_of(store(files))


def test_imagefolder__images_that_all_lie_too_deep_are_refused(store):
    with pytest.raises(UserError, match=r"1 in 'test', the first 'test/ant/more/0\.png'"):
        folder_of(store({"test/ant/more/0.png": png(1), "train/ant/0.png": png(1)}))


def test_imagefolder__deep_images_of_other_splits_are_no_matter(store):
    assert len(folder_of(store({**FILES, "train/ant/more/0.png": png(1)}))) == 9


def test_imagefolder__folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "set", FILES)
    scandir = os.scandir

    def refusing(path):
        if Path(path).name == "ant":  # a mode would not keep root out
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match=r"cannot list the folder .*/ant: Permission denied"):
        folder_of(root)


def test_imagefolder__link_to_a_folder_around_it_ends(tmp_path):
    root = write_folder(tmp_path / "set", FILES)
    (root / "test" / "ant" / "loop").symlink_to(root)
    assert len(folder_of(root)) == 9


def test_imagefolder__endings_in_capitals_count(store):
    files = {"test/ant/A.PNG": png(1), "test/bee/b.png": png(2)}
    assert len(folder_of(store(files))) == 2


def test_imagefolder__wrong_split_lists_what_there_is(store):
    with pytest.raises(UserError, match=r"below 'val'; it has the folders test, train"):
        folder_of(store(FILES), split="val")


def test_imagefolder__without_images_is_refused(store):
    with pytest.raises(UserError, match=r"holds no images \(.bmp, .*<split>/<class>/"):
        folder_of(store({"test/ant/readme.txt": b"hello"}))


def test_imagefolder__images_without_class_folders_are_refused(store):
    with pytest.raises(UserError, match=r"no <class>/<image> below 'test'"):
        folder_of(store({"test/0.png": png(1), "test/1.png": png(2)}))


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_imagefolder__what_is_no_zip_is_refused(tmp_path, content):
    path = tmp_path / "set.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"set\.zip is no zip that can be read"):
        folder_of(path)


def test_imagefolder__nothing_at_the_path_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"there is nothing at .*absent"):
        folder_of(tmp_path / "absent")
    with pytest.raises(UserError, match="imagefolder needs the folder or zip"):
        load("imagefolder")


def test_imagefolder__limit_takes_all_classes(store):
    found = folder_of(store(FILES), limit=3)
    assert found.labels.tolist() == [0, 1, 2]
    assert found.image(2).size == (4, 4)
    assert found.class_names == ("ant", "bee", "cat")


def test_imagefolder__links_to_class_folders_are_followed(tmp_path):
    write_folder(tmp_path / "elsewhere", {"ant/0.png": png(1)})
    write_folder(tmp_path / "set", {"test/bee/0.png": png(2)})
    (tmp_path / "set" / "test" / "ant").symlink_to(tmp_path / "elsewhere" / "ant")
    assert folder_of(tmp_path / "set").ids == ("test/ant/0.png", "test/bee/0.png")


def test_imagefolder__a_grey_image_at_the_front_does_not_make_a_colour_set_grey(store):
    files = {"test/ant/0.png": png(1, mode="L"), "test/bee/0.png": png(2), "test/cat/0.png": png(3)}
    assert folder_of(store(files)).colours == 3


def test_imagefolder__all_grey_images_are_a_grey_set(store):
    files = {f"test/{label}/0.png": png(9, mode="L") for label in ("ant", "bee")}
    assert folder_of(store(files)).colours == 1


# --- identity -------------------------------------------------------------------------------

CHANGES = {
    "another label": {"test/ant/0.png": "test/bee/9.png"},
    "another name": {"test/ant/0.png": "test/ant/9.png"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_identity__changes_with_a_label_and_with_a_name(store, change):
    moved = {CHANGES[change].get(name, name): content for name, content in FILES.items()}
    assert folder_of(store(FILES, "a")).identity != folder_of(store(moved, "b")).identity


def test_identity__changes_with_a_size_and_with_an_image_more(store):
    larger = {**FILES, "test/ant/0.png": png(0) + b"\0"}
    more = {**FILES, "test/ant/3.png": png(3)}
    sets = [
        folder_of(store(files, str(index))) for index, files in enumerate([FILES, larger, more])
    ]
    assert len({each.identity for each in sets}) == 3


def test_identity__does_not_depend_on_place_or_on_other_splits(store):
    others = {name: content for name, content in FILES.items() if not name.startswith("train/ant")}
    assert folder_of(store(FILES, "a")).identity == folder_of(store(others, "b")).identity


def same_size_change():
    content = bytearray(FILES["test/ant/0.png"])
    content[-20] ^= 1
    return {**FILES, "test/ant/0.png": bytes(content)}


def test_identity__of_a_zip_changes_with_the_content(tmp_path):
    first = folder_of(write_zip(tmp_path / "a.zip", FILES))
    second = folder_of(write_zip(tmp_path / "b.zip", same_size_change()))
    assert first.identity != second.identity


def test_identity__of_a_folder_changes_with_the_content_only_where_asked(tmp_path):
    paths = [write_folder(tmp_path / "a", FILES), write_folder(tmp_path / "b", same_size_change())]
    assert len({folder_of(path).identity for path in paths}) == 1
    assert len({folder_of(path, hash_content=True).identity for path in paths}) == 2


def test_identity__hashing_content_steps_over_a_damaged_entry(tmp_path):
    path = write_zip(tmp_path / "set.zip", FILES)
    damage_entry(path, "test/ant/0.png")
    found = folder_of(path, hash_content=True)
    with pytest.raises(UndecodableImageError):
        found.image(0)


# --- images that cannot be read -------------------------------------------------------------


def damage_entry(path, name):
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start + 4 : start + 12] = b"\xff" * 8
    path.write_bytes(content)


def noise(suffix):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, suffix)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>not found</html>", noise("PNG")[:300], noise("JPEG")[:400], noise("GIF")[:200]],
    ids=["zero-byte", "html", "cut-png", "cut-jpeg", "cut-gif"],
)
def test_image__that_cannot_be_decoded_is_named(store, content):
    found = folder_of(store({**FILES, "test/ant/1.png": content}))
    assert len(found) == 9
    with pytest.raises(UndecodableImageError, match=r"test/ant/1\.png: .") as error:
        found.image(1)
    assert error.value.name == "test/ant/1.png"
    assert "\n" not in error.value.reason


def test_image__that_vanished_is_named(tmp_path):
    found = folder_of(write_folder(tmp_path / "set", FILES))
    (tmp_path / "set" / "test" / "ant" / "2.png").unlink()
    with pytest.raises(UndecodableImageError, match=r"test/ant/2\.png"):
        found.image(2)


def test_image__damaged_in_the_zip_is_named(tmp_path):
    path = write_zip(tmp_path / "set.zip", FILES)
    damage_entry(path, "test/bee/0.png")
    found = folder_of(path)
    with pytest.raises(UndecodableImageError, match=r"test/bee/0\.png"):
        found.image(3)
    assert found.image(4).size == (4, 4)


def test_images__that_all_cannot_be_decoded_are_refused(store):
    with pytest.raises(UserError, match="none of the 2 images can be decoded"):
        folder_of(store({"test/ant/0.png": b"", "test/bee/0.png": b"x"}))


def test_image__first_ones_may_be_damaged(store):
    files = {f"test/ant/{n:03d}.png": b"" for n in range(70)} | {"test/bee/0.png": png(1)}
    assert folder_of(store(files)).colours == 3


def test_zip__is_read_from_several_threads(tmp_path):
    files = {f"test/ant/{n:03d}.png": png(n, size=(40, 40)) for n in range(120)}
    found = folder_of(write_zip(tmp_path / "set.zip", files))
    with ThreadPoolExecutor(8) as pool:
        values = list(pool.map(lambda index: found.image(index).getpixel((3, 3))[0], range(120)))
    assert values == list(range(120))


def test_zip__reader_can_be_sent_to_another_process(tmp_path):
    found = folder_of(write_zip(tmp_path / "set.zip", FILES))
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert again.image(1).tobytes() == found.image(1).tobytes()


# --- real sets ------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "colours", "size"),
    [("cifar10-test-jpeg", 3, (32, 32)), ("mnist-test-png", 1, (28, 28))],
)
def test_real_zip__has_ten_classes_and_ten_thousand_images(name, colours, size):
    path = Path(__file__).parents[2].parent / "shared" / "data" / f"{name}.zip"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    found = folder_of(path)
    assert (len(found), len(found.class_names), found.colours) == (10_000, 10, colours)
    assert found.image(9_999).size == size
