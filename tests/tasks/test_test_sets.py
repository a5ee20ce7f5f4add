"""Test sets from every source, and what is said when their files are missing or damaged."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torchvision
from PIL import Image

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks import image_folder, test_sets
from activarium.tasks.test_sets import UndecodableImageError, load_test_set

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def png(value=0, size=(4, 3), mode="RGB"):
    stream = io.BytesIO()
    Image.new(mode, size, value if mode == "L" else (value,) * 3).save(stream, "PNG")
    return stream.getvalue()


def write_folder(root, names, content=None):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png() if content is None else content)
    return root


def write_zip(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_idx(path, values):
    values = np.asarray(values, np.uint8)
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    content = header + values.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder, *, images=None, labels=(3, 1, 4, 1), ending="", prefix="t10k"):
    if images is None:
        images = np.arange(len(labels) * 6).reshape(len(labels), 2, 3)
    write_idx(folder / f"{prefix}-images-idx3-ubyte{ending}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{ending}", labels)
    return folder


def write_cifar(folder, *, count=5, key=lambda name: name.encode()):
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        pixels = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        batch = {key("data"): pixels, key("labels"): [row % 10 for row in range(count)]}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def load(tmp_path, **settings):
    settings = {"download": False, **settings}
    return load_test_set(TestSetConfig(**settings), datasets=tmp_path / "datasets")


# --- digits -------------------------------------------------------------------------------------


def test_digits__splits_are_disjoint_stratified_and_reproducible(tmp_path):
    train, test = (load(tmp_path, source="digits", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1257, 540)
    assert not set(train.ids) & set(test.ids)
    shares = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    assert np.abs(shares - 0.3).max() < 0.01
    again = load(tmp_path, source="digits", split="train")
    assert again.ids == train.ids
    assert again.identity == train.identity != test.identity


def test_digits__values_span_all_of_a_byte(tmp_path):
    digits = load(tmp_path, source="digits")
    assert digits.pixels.dtype == np.uint8
    assert (digits.pixels.min(), digits.pixels.max()) == (0, 255)
    assert digits.image(0).size == (8, 8)
    assert digits.image(0).mode == "L"
    assert (digits.name, digits.split, digits.colours) == ("digits", "test", 1)


def test_builtin_set__wrong_split_names_the_splits_there_are(tmp_path):
    with pytest.raises(UserError, match=r"train and test.*'validation'"):
        load(tmp_path, source="digits", split="validation")


# --- limit --------------------------------------------------------------------------------------


def test_limit__is_spread_over_the_set_and_keeps_its_ids(tmp_path):
    whole, some = load(tmp_path, source="digits"), load(tmp_path, source="digits", limit=7)
    places = [whole.ids.index(each) for each in some.ids]
    assert len(some) == len(some.pixels) == len(some.labels) == 7
    assert (places[0], places[-1]) == (0, 539)
    assert set(np.diff(places)) <= {89, 90, 91}
    np.testing.assert_array_equal(some.labels, whole.labels[places])
    np.testing.assert_array_equal(some.pixels, whole.pixels[places])
    assert some.identity != whole.identity


def test_limit__larger_than_the_set_is_the_set(tmp_path):
    whole, all_of_it = (load(tmp_path, source="digits", limit=limit) for limit in (None, 540))
    assert whole.ids == all_of_it.ids
    assert whole.identity == all_of_it.identity


# --- IDX ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("below", [".", "MNIST/raw"])
def test_mnist__is_read_plain_and_gzipped_from_either_layout(tmp_path, ending, below):
    write_mnist(tmp_path / "files" / below, ending=ending)
    mnist = load(tmp_path, source="mnist", path=tmp_path / "files")
    assert mnist.labels.tolist() == [3, 1, 4, 1]
    assert mnist.labels.dtype == np.int32
    np.testing.assert_array_equal(np.asarray(mnist.image(1)), np.arange(6, 12).reshape(2, 3))
    assert mnist.class_names == tuple("0123456789")


def test_mnist__is_found_in_the_datasets_folder(tmp_path):
    write_mnist(tmp_path / "datasets" / "mnist" / "MNIST" / "raw", prefix="train")
    assert len(load(tmp_path, source="mnist", split="train")) == 4


def test_mnist__identity_follows_pixels_and_labels(tmp_path):
    sets = {}
    for name, labels, add in (
        ("a", (1, 2), 0),
        ("b", (1, 2), 1),
        ("c", (2, 1), 0),
        ("d", (1, 2), 0),
    ):
        write_mnist(tmp_path / name, labels=labels, images=np.arange(8).reshape(2, 2, 2) + add)
        sets[name] = load(tmp_path, source="mnist", path=tmp_path / name).identity
    assert len({sets["a"], sets["b"], sets["c"]}) == 3
    assert sets["a"] == sets["d"]


def test_fashion_mnist__debian_package_is_the_original(tmp_path):
    if not test_sets.DEBIAN_FASHION_MNIST.is_dir():
        pytest.skip("needs Debian's package dataset-fashion-mnist")
    fashion = load(tmp_path, source="fashion-mnist")
    assert fashion.pixels.shape == (10_000, 28, 28, 1)
    assert np.bincount(fashion.labels).tolist() == [1000] * 10
    assert fashion.class_names[0] == "T-shirt/top"
    assert fashion.class_names[fashion.labels[0]] == "Ankle boot"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[:-1], "damaged: expected 24 bytes"),
        (lambda content: content + b"x", "damaged: expected 24 bytes"),
        (lambda content: content[:9], "damaged"),
        (lambda _: b"", "no IDX file"),
        (lambda content: b"\x89PNG" + content, "no IDX file"),
        (lambda content: b"\0\0\x0d" + content[3:], "no IDX file of bytes"),
    ],
)
def test_idx__damaged_file_is_named(tmp_path, damage, message):
    images = write_mnist(tmp_path / "files") / "t10k-images-idx3-ubyte"
    images.write_bytes(damage(images.read_bytes()))
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, source="mnist", path=tmp_path / "files")
    assert str(images) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_idx__cut_gzip_is_named(tmp_path):
    images = write_mnist(tmp_path / "files", ending=".gz") / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-12])
    with pytest.raises(UserError, match=r"cannot read .*t10k-images"):
        load(tmp_path, source="mnist", path=tmp_path / "files")


def test_idx__counts_that_differ_are_an_error(tmp_path):
    write_mnist(tmp_path / "files", images=np.zeros((3, 2, 2)), labels=(1, 2))
    with pytest.raises(UserError, match=r"\(3, 2, 2\) and \(2,\)"):
        load(tmp_path, source="mnist", path=tmp_path / "files")


def test_idx__label_without_a_class_is_an_error(tmp_path):
    write_mnist(tmp_path / "files", labels=(1, 200))
    with pytest.raises(UserError, match="labels from 1 to 200, expected 0 to 9"):
        load(tmp_path, source="mnist", path=tmp_path / "files")


# --- looking for files and downloading ----------------------------------------------------------


@pytest.mark.parametrize("source", ["mnist", "cifar10"])
def test_missing_files__error_names_the_folders_and_the_setting(tmp_path, source):
    with pytest.raises(UserError, match=r"test_set\.path") as caught:
        load(tmp_path, source=source)
    assert str(tmp_path / "datasets" / source) in str(caught.value)


def test_missing_files__a_given_path_is_not_answered_by_a_download(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(UserError, match="elsewhere"):
        load(tmp_path, source="mnist", path=tmp_path / "elsewhere", download=True)


def test_download__failure_is_one_line_with_the_reason(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", refuse)
    with pytest.raises(UserError, match=r"download of cifar10 failed \(no route to host") as caught:
        load(tmp_path, source="cifar10", download=True)
    assert "\n" not in str(caught.value)


def test_download__goes_to_the_datasets_folder(tmp_path, monkeypatch):
    def bring(root, *, train, download):
        assert download
        assert not train
        write_mnist(Path(root) / "MNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "MNIST", bring)
    assert len(load(tmp_path, source="mnist", download=True)) == 4
    assert (tmp_path / "datasets" / "mnist" / "MNIST" / "raw").is_dir()


# --- CIFAR-10 -----------------------------------------------------------------------------------


@pytest.mark.parametrize("below", [".", "cifar-10-batches-py"])
@pytest.mark.parametrize("key", [str, str.encode])
def test_cifar10__planes_become_colours(tmp_path, below, key):
    folder = write_cifar(tmp_path / "files" / below, key=key)
    cifar = load(tmp_path, source="cifar10", path=tmp_path / "files")
    raw = next(iter(pickle.loads((folder / "test_batch").read_bytes()).values()))  # noqa: S301
    assert cifar.image(2).getpixel((5, 7)) == tuple(raw[2].reshape(3, 32, 32)[:, 7, 5])
    assert cifar.labels.tolist() == [0, 1, 2, 3, 4]
    assert cifar.colours == 3


def test_cifar10__train_is_the_five_batches_in_order(tmp_path):
    folder = write_cifar(tmp_path / "files")
    train = load(tmp_path, source="cifar10", path=folder, split="train")
    assert len(train) == 25
    assert train.labels.tolist() == [0, 1, 2, 3, 4] * 5


class Official:
    """Pickles an array as NumPy under Python 2 did: its dtype with integer flags."""

    def __init__(self, values):
        self.values = values

    def __reduce__(self):
        class Byte:
            def __reduce__(self):
                return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)

        rebuild = self.values.__reduce__()[0]
        state = (1, self.values.shape, Byte(), False, self.values.tobytes())
        return rebuild, (np.ndarray, (0,), b"b"), state


def test_cifar10__official_files_load_without_warnings(tmp_path):
    batch = {b"data": Official(np.ones((2, 3072), np.uint8)), b"labels": [1, 2]}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    assert len(load(tmp_path, source="cifar10", path=tmp_path)) == 2


class Malice:
    def __reduce__(self):
        return print, ("this must not run",)


def test_cifar10__a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    (tmp_path / "test_batch").write_bytes(pickle.dumps(Malice(), protocol=2))
    with pytest.raises(UserError, match="test_batch"):
        load(tmp_path, source="cifar10", path=tmp_path)
    assert capsys.readouterr().out == ""


def test_cifar10__any_damage_is_a_user_error(tmp_path):
    whole = (write_cifar(tmp_path / "files", count=2) / "test_batch").read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        content = bytearray(whole)
        for place in random.integers(0, 200, 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "files" / "test_batch").write_bytes(bytes(content[: random.integers(1, 7000)]))
        try:
            load(tmp_path, source="cifar10", path=tmp_path / "files")
        except UserError:
            continue


# --- image folders ------------------------------------------------------------------------------

NAMES = ("test/cat/2.png", "test/cat/10.PNG", "test/ant/b.jpeg", "train/cat/1.png")


def both_forms(tmp_path, names, top=""):
    """Yield the same images as a folder and as a zip."""
    yield write_folder(tmp_path / "pets", names)
    yield write_zip(tmp_path / "pets.zip", {top + name: png() for name in names})


def test_imagefolder__folder_and_zip_hold_the_same_set(tmp_path):
    for path in both_forms(tmp_path, NAMES):
        pets = load(tmp_path, source="imagefolder", path=path)
        assert pets.ids == ("test/ant/b.jpeg", "test/cat/10.PNG", "test/cat/2.png")
        assert pets.class_names == ("ant", "cat")
        assert pets.labels.tolist() == [0, 1, 1]
        assert (pets.name, pets.split, pets.pixels) == ("pets", "test", None)


def test_imagefolder__one_folder_around_the_splits_of_a_zip_is_stepped_over(tmp_path):
    _, path = both_forms(tmp_path, NAMES, top="pets-1.0/")
    pets = load(tmp_path, source="imagefolder", path=path)
    assert pets.class_names == ("ant", "cat")


def test_imagefolder__without_split_folders(tmp_path):
    for path in both_forms(tmp_path, ("cat/1.png", "ant/1.png")):
        pets = load(tmp_path, source="imagefolder", path=path, split=".")
        assert pets.ids == ("ant/1.png", "cat/1.png")


def test_imagefolder__files_that_are_no_images_are_stepped_over(tmp_path):
    extra = ("test/cat/.hidden.png", "test/.git/1.png", "__MACOSX/test/cat/1.png", "test/cat/a.txt")
    for path in both_forms(tmp_path, (*NAMES, *extra)):
        assert len(load(tmp_path, source="imagefolder", path=path)) == 3


def test_imagefolder__a_linked_class_folder_belongs_to_the_set(tmp_path):
    path = write_folder(tmp_path / "pets", NAMES)
    write_folder(tmp_path / "elsewhere", ["1.png"])
    (path / "test" / "dog").symlink_to(tmp_path / "elsewhere")
    assert load(tmp_path, source="imagefolder", path=path).class_names == ("ant", "cat", "dog")


def test_imagefolder__colours_follow_the_first_image(tmp_path):
    for mode, colours in (("L", 1), ("RGB", 3)):
        path = write_folder(tmp_path / mode, ["test/a/1.png"], png(mode=mode))
        assert load(tmp_path, source="imagefolder", path=path).colours == colours


def test_imagefolder__missing_split_lists_the_splits(tmp_path):
    for path in both_forms(tmp_path, NAMES):
        with pytest.raises(UserError, match=r"'val'.*test, train"):
            load(tmp_path, source="imagefolder", path=path, split="val")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images"),
        (("test/cat/notes.txt",), "holds no images"),
        (("test/1.png",), "no <class>/<image>"),
        (("1.png",), "no <class>/<image>"),
    ],
)
def test_imagefolder__nothing_to_use_is_said(tmp_path, names, message):
    path = write_folder(tmp_path / "pets", names)
    path.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message):
        load(tmp_path, source="imagefolder", path=path)


def test_imagefolder__path_that_is_neither_is_named(tmp_path):
    text = tmp_path / "notes.zip"
    text.write_text("no zip")
    for path, message in ((text, "is no zip"), (tmp_path / "nowhere", "nothing at")):
        with pytest.raises(UserError, match=message) as caught:
            load(tmp_path, source="imagefolder", path=path)
        assert str(path) in str(caught.value)
    with pytest.raises(UserError, match="needs the folder or zip"):
        load(tmp_path, source="imagefolder")


def test_imagefolder__a_name_that_is_no_text_is_a_user_error(tmp_path):
    path = write_folder(tmp_path / "pets", NAMES)
    try:
        Path(str(path) + "/test/cat/\udcff.png").write_bytes(png())
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with pytest.raises(UserError, match="not UTF-8"):
        load(tmp_path, source="imagefolder", path=path)


# --- damaged images and identity ----------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"no image", png()[:40], png(size=(400, 300))[:-30]])
def test_image__that_cannot_be_decoded_says_which_and_why(tmp_path, content):
    path = write_folder(tmp_path / "pets", ["test/b/1.png"])
    write_folder(path, ["test/a/1.png"], content)
    pets = load(tmp_path, source="imagefolder", path=path)
    with pytest.raises(UndecodableImageError) as caught:
        pets.image(0)
    assert "test/a/1.png" in str(caught.value)
    assert pets.image(1).size == (4, 3)


def test_image__that_was_deleted_after_the_scan_is_undecodable(tmp_path):
    path = write_folder(tmp_path / "pets", NAMES)
    pets = load(tmp_path, source="imagefolder", path=path)
    (path / pets.ids[2]).unlink()
    with pytest.raises(UndecodableImageError, match=r"2\.png"):
        pets.image(2)


@pytest.mark.parametrize("hash_content", [False, True])
def test_image__damaged_in_a_zip_does_not_end_the_run(tmp_path, hash_content):
    path = write_zip(tmp_path / "pets.zip", {"test/a/1.png": png(), "test/b/1.png": png()})
    content = bytearray(path.read_bytes())
    content[60] ^= 255
    path.write_bytes(bytes(content))
    pets = load(tmp_path, source="imagefolder", path=path, hash_content=hash_content)
    with pytest.raises(UndecodableImageError, match="CRC"):
        pets.image(0)
    assert pets.image(1).size == (4, 3)


def test_undecodable_image_error__survives_pickling():
    error = pickle.loads(pickle.dumps(UndecodableImageError("a/1.png", "cut short")))  # noqa: S301
    assert (str(error), error.reason) == ("a/1.png: cut short", "cut short")


def test_identity__of_a_zip_follows_content_and_of_a_folder_when_asked(tmp_path):
    def identities(value, **settings):
        content = png(value, mode="L")
        files = dict.fromkeys(("test/a/1.png", "test/b/1.png"), content)
        path = write_zip(tmp_path / "pets.zip", files)
        folder = write_folder(tmp_path / "pets", files, content)
        return [
            load(tmp_path, source="imagefolder", path=each, **settings).identity
            for each in (path, folder)
        ]

    assert len(png(1, mode="L")) == len(png(2, mode="L"))
    (zip_one, folder_one), (zip_two, folder_two) = identities(1), identities(2)
    assert zip_one != zip_two
    assert folder_one == folder_two
    assert identities(1, hash_content=True)[1] != identities(2, hash_content=True)[1]
    assert identities(1) == [zip_one, folder_one]


def test_identity__follows_names(tmp_path):
    one = write_folder(tmp_path / "one", ["test/a/1.png", "test/b/1.png"])
    two = write_folder(tmp_path / "two", ["test/a/1.png", "test/b/2.png"])
    first, second = (load(tmp_path, source="imagefolder", path=path) for path in (one, two))
    assert first.identity != second.identity


# --- threads ------------------------------------------------------------------------------------


def test_zip__threads_read_the_right_images_and_share_few_archives(tmp_path, monkeypatch):
    files = {f"test/a/{value:03d}.png": png(value) for value in range(200)}
    pets = load(tmp_path, source="imagefolder", path=write_zip(tmp_path / "pets.zip", files))
    opened = []
    real = zipfile.ZipFile
    monkeypatch.setattr(
        image_folder.zipfile, "ZipFile", lambda path: opened.append(path) or real(path)
    )
    for _ in range(10):  # as in a recording: a pool of threads per batch
        with ThreadPoolExecutor(4) as pool:
            seen = list(pool.map(lambda index: pets.image(index).getpixel((0, 0))[0], range(200)))
        assert seen == list(range(200))
    assert len(opened) <= 4


@pytest.mark.shared
def test_shared_zip__is_cifar10(tmp_path):
    path = SHARED / "cifar10-test-jpeg.zip"
    if not path.exists():
        pytest.skip("needs the shared image sets")
    cifar = load(tmp_path, source="imagefolder", path=path)
    assert np.bincount(cifar.labels).tolist() == [1000] * 10
    assert cifar.class_names == test_sets.CIFAR10_CLASSES
    assert cifar.name == "cifar10-test-jpeg"
    assert cifar.image(0).size == (32, 32)


def test_imagefolder__a_class_keeps_its_code_in_every_split(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/a", "test/c"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name / "0.png")
    found = load_test_set(
        TestSetConfig(source="imagefolder", path=tmp_path, split="test"), datasets=tmp_path
    )
    assert found.class_names == ("a", "b", "c")
    assert found.labels.tolist() == [0, 2]
