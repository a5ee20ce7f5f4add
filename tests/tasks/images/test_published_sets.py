"""Published sets in the layout of their own files, against torchvision's readers of the same."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from scipy.io import savemat

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.listed_sets import FLOWERS_CLASSES
from activarium.tasks.images.test_sets import load_test_set

NOWHERE = Path("nowhere")
RNG = np.random.default_rng(0)


def load(source, datasets=NOWHERE, **settings):
    config = TestSetConfig(source=source, download=False, **settings)
    return load_test_set(config, datasets=datasets)


@pytest.fixture
def without_checksums(monkeypatch):
    """Let torchvision read small files in the place of the published ones."""
    monkeypatch.setattr(torchvision.datasets.utils, "check_md5", lambda *_, **__: True)


def assert_equal(found, reference):
    assert len(found) == len(reference) > 0
    for index, (image, label) in enumerate(reference):
        assert int(label) == found.labels[index]
        np.testing.assert_array_equal(np.asarray(found.image(index).convert("RGB")), image)


def write_jpeg(path, seed=0, size=(9, 7), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, "JPEG")
    return path


# --- splits ---------------------------------------------------------------------------------

SPLITS = {
    "digits": "train and test",
    "mnist": "train and test",
    "fashion-mnist": "train and test",
    "cifar10": "train and test",
    "cifar100": "train and test",
    "svhn": "train, test and extra",
    "stl10": "train and test",
    "oxford-iiit-pet": "trainval and test",
    "flowers102": "train, val and test",
    "stanford-dogs": "train, test and all",
    "imagenet": "train and val",
}


@pytest.mark.parametrize("source", SPLITS)
def test_split__that_a_source_has_not_is_one_line_with_those_it_has(source):
    with pytest.raises(UserError, match=f"{source} has {SPLITS[source]}, got 'dev'"):
        load(source, split="dev")


@pytest.mark.parametrize("source", sorted(set(SPLITS) - {"digits", "fashion-mnist"}))
def test_lookup__missing_files_are_one_line_with_the_places_and_what_to_put_there(source, tmp_path):
    split = "val" if source == "imagenet" else "test"
    with pytest.raises(
        UserError, match=rf"no files of {source}: looked in .*put .* there"
    ) as error:
        load(source, tmp_path, split=split)
    assert str(tmp_path / source) in str(error.value)
    assert "\n" not in str(error.value)


CLOSED = "http://127.0.0.1:9/"
"""A port of this machine that nobody listens at: what a machine without a network meets."""


@pytest.mark.parametrize(
    ("source", "own", "attribute", "value"),
    [
        ("cifar100", "CIFAR100", "url", CLOSED),
        ("stl10", "STL10", "url", CLOSED),
        ("svhn", "SVHN", "split_list", {"test": [CLOSED, "test_32x32.mat", "0"]}),
        ("oxford-iiit-pet", "OxfordIIITPet", "_RESOURCES", ((CLOSED + "images.tar.gz", "0"),)),
        ("flowers102", "Flowers102", "_download_url_prefix", CLOSED),
    ],
)
def test_download__that_fails_is_one_line_with_the_place_for_the_files(
    tmp_path, monkeypatch, source, own, attribute, value
):
    monkeypatch.setattr(getattr(torchvision.datasets, own), attribute, value)
    config = TestSetConfig(source=source)
    with pytest.raises(UserError, match=rf"download of {source} failed \(.*put .* there") as error:
        load_test_set(config, datasets=tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path / source) in str(error.value)


# --- CIFAR-100 ------------------------------------------------------------------------------


def write_cifar100(folder, images=12, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    batch = {
        "data": RNG.integers(0, 256, (images, 3_072), dtype=np.uint8),
        "fine_labels": RNG.integers(0, 100, images).tolist(),
        "coarse_labels": RNG.integers(0, 20, images).tolist(),
    } | changes
    meta = {
        "fine_label_names": [f"fine {n}" for n in range(100)],
        "coarse_label_names": [f"coarse {n}" for n in range(20)],
    }
    for name, content in (("train", batch), ("test", batch), ("meta", meta)):
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    return batch


def test_cifar100__equals_torchvisions(tmp_path, without_checksums):
    write_cifar100(tmp_path / "cifar-100-python")
    reference = torchvision.datasets.CIFAR100(tmp_path, train=False)
    found = load("cifar100", path=tmp_path)
    assert_equal(found, reference)
    assert list(found.class_names) == reference.classes


def test_cifar100__coarse_labels_are_another_set(tmp_path):
    batch = write_cifar100(tmp_path)
    coarse = load("cifar100", path=tmp_path, label_column="coarse_labels")
    assert coarse.labels.tolist() == batch["coarse_labels"]
    assert coarse.class_names == tuple(f"coarse {n}" for n in range(20))
    assert coarse.identity != load("cifar100", path=tmp_path).identity


def test_cifar100__labels_of_another_number_are_refused_with_both_numbers(tmp_path):
    write_cifar100(tmp_path, fine_labels=[1, 2, 3])
    with pytest.raises(UserError, match="12 images but 3 labels"):
        load("cifar100", path=tmp_path)


@pytest.mark.parametrize("content", [b"", pickle.dumps({b"x": 1}), pickle.dumps([1])])
def test_cifar100__damaged_names_are_one_clear_line(tmp_path, content):
    write_cifar100(tmp_path)
    (tmp_path / "meta").write_bytes(content)
    with pytest.raises(UserError, match="meta"):
        load("cifar100", path=tmp_path)


# --- SVHN -----------------------------------------------------------------------------------


def write_svhn(folder, split="test", images=11, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    codes = np.arange(images) % 10 + 1 if labels is None else labels
    pixels = RNG.integers(0, 256, (32, 32, 3, images), dtype=np.uint8)
    content = {"X": pixels, "y": np.asarray(codes, np.uint8)[:, None]}
    savemat(folder / f"{split}_32x32.mat", content)


@pytest.mark.parametrize("split", ["train", "test", "extra"])
def test_svhn__equals_torchvisions_with_ten_as_the_digit_zero(tmp_path, without_checksums, split):
    write_svhn(tmp_path, split)
    found = load("svhn", path=tmp_path, split=split)
    assert_equal(found, torchvision.datasets.SVHN(tmp_path, split=split))
    assert found.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert found.class_names == tuple("0123456789")


def test_svhn__is_found_in_the_datasets_folder(tmp_path):
    write_svhn(tmp_path / "svhn")
    assert len(load("svhn", tmp_path)) == 11


def test_svhn__labels_of_another_number_are_refused_with_both_numbers(tmp_path):
    write_svhn(tmp_path, labels=[1, 2, 3])
    with pytest.raises(UserError, match="svhn test has 11 images but 3 labels"):
        load("svhn", path=tmp_path)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0", b"\x89HDF\r\n\x1a\n" + bytes(200)])
def test_svhn__damaged_file_is_one_clear_line(tmp_path, content):
    (tmp_path / "test_32x32.mat").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read .*test_32x32\.mat as a MATLAB file") as error:
        load("svhn", path=tmp_path)
    assert "\n" not in str(error.value)


def test_svhn__file_of_something_else_is_one_clear_line(tmp_path):
    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((3, 3))})
    with pytest.raises(UserError, match="has no 'y'"):
        load("svhn", path=tmp_path)
    savemat(tmp_path / "test_32x32.mat", {"X": np.zeros((3, 3)), "y": np.zeros(3)})
    with pytest.raises(UserError, match=r"expected bytes of .*got float64 \(3, 3\)"):
        load("svhn", path=tmp_path)


# --- STL-10 ---------------------------------------------------------------------------------


def write_stl10(folder, images=6, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    codes = np.arange(images) % 10 + 1 if labels is None else np.array(labels)
    for split in ("train", "test"):
        values = RNG.integers(0, 256, (images, 3, 96, 96), dtype=np.uint8)
        (folder / f"{split}_X.bin").write_bytes(values.tobytes())
        (folder / f"{split}_y.bin").write_bytes(codes.astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")


@pytest.mark.parametrize("split", ["train", "test"])
def test_stl10__equals_torchvisions(tmp_path, without_checksums, split):
    write_stl10(tmp_path / "stl10_binary")
    found = load("stl10", path=tmp_path, split=split)
    assert_equal(found, torchvision.datasets.STL10(tmp_path, split=split))
    assert found.class_names[:3] == ("airplane", "bird", "car")


def test_stl10__mismatch_and_damage_are_one_clear_line(tmp_path):
    write_stl10(tmp_path, labels=[1, 2])
    with pytest.raises(UserError, match="stl10 test has 6 images but 2 labels"):
        load("stl10", path=tmp_path)
    (tmp_path / "test_X.bin").write_bytes(bytes(27_647))
    with pytest.raises(UserError, match="27,647 bytes are no whole number of images of 27,648"):
        load("stl10", path=tmp_path)
    write_stl10(tmp_path, labels=[0, 1, 2, 3, 4, 5])
    with pytest.raises(UserError, match="labels from -1 to 4, expected 0 to 9"):
        load("stl10", path=tmp_path)


# --- Oxford-IIIT Pet ------------------------------------------------------------------------

PETS = {
    "trainval": [("Abyssinian_1", 1), ("american_bulldog_5", 2), ("Bengal_3", 3)],
    "test": [("Bengal_1", 3), ("Abyssinian_2", 1), ("american_bulldog_7", 2)],
}


def write_pets(folder, pets=PETS):
    for split, rows in pets.items():
        for seed, (name, _) in enumerate(rows):
            write_jpeg(folder / "images" / f"{name}.jpg", seed)
        (folder / "annotations").mkdir(exist_ok=True)
        lines = "".join(f"{name} {code} 1 1\n" for name, code in rows)
        (folder / "annotations" / f"{split}.txt").write_text(lines)
    return folder


@pytest.mark.parametrize("split", ["trainval", "test"])
def test_pet__equals_torchvisions(tmp_path, split):
    write_pets(tmp_path / "oxford-iiit-pet")
    reference = torchvision.datasets.OxfordIIITPet(tmp_path, split=split)
    found = load("oxford-iiit-pet", path=tmp_path, split=split)
    assert_equal(found, reference)
    assert list(found.class_names) == reference.classes
    assert found.ids[0] == f"images/{PETS[split][0][0]}.jpg"


def test_pet__classes_are_those_of_both_lists(tmp_path):
    write_pets(tmp_path, {**PETS, "test": PETS["test"][:1]})
    found = load("oxford-iiit-pet", path=tmp_path)
    assert found.class_names == ("Abyssinian", "American Bulldog", "Bengal")
    assert found.labels.tolist() == [2]


def test_pet__missing_images_are_one_line_with_both_numbers(tmp_path):
    write_pets(tmp_path)
    (tmp_path / "images" / "Abyssinian_2.jpg").unlink()
    with pytest.raises(
        UserError, match=r"test\.txt lists 3 images, but 2 of them .*'images/Abyssinian_2\.jpg'"
    ):
        load("oxford-iiit-pet", path=tmp_path)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Bengal_1\n", "line 1: expected `<image> <class>"),
        ("# a comment\n\nBengal_1 one\n", "line 3: expected"),
        ("Bengal_1 1\nAbyssinian_2 1\n", "label 1 stands for 'Abyssinian' and for 'Bengal'"),
        ("Bengal_1 0\n", "labels begin at 1"),
        ("", "lists no images"),
    ],
)
def test_pet__damaged_list_is_one_clear_line(tmp_path, lines, message):
    write_pets(tmp_path)
    (tmp_path / "annotations" / "test.txt").write_text(lines)
    with pytest.raises(UserError, match=message):
        load("oxford-iiit-pet", path=tmp_path)


def test_listed__identity_follows_sizes_and_labels_and_content_where_asked(tmp_path):
    def identity(**settings):
        return load("oxford-iiit-pet", path=tmp_path, **settings).identity

    write_pets(tmp_path)
    plain, hashed = identity(), identity(hash_content=True)
    image = tmp_path / "images" / "Bengal_1.jpg"
    content = bytearray(image.read_bytes())
    content[-10] ^= 1
    image.write_bytes(content)
    assert identity() == plain
    assert identity(hash_content=True) != hashed
    image.write_bytes(content + b"x")
    assert identity() != plain
    write_pets(tmp_path, {**PETS, "test": [("Bengal_1", 3), ("Abyssinian_2", 1)]})
    assert identity() != plain


# --- Oxford 102 Flower ----------------------------------------------------------------------


def write_flowers(folder, images=10, labels=None):
    for number in range(1, images + 1):
        write_jpeg(folder / "jpg" / f"image_{number:05d}.jpg", number)
    codes = np.arange(images) % 102 + 1 if labels is None else labels
    savemat(folder / "imagelabels.mat", {"labels": np.asarray(codes, np.uint8)[None]})
    ids = {"trnid": [[3, 1]], "valid": [[2, 10]], "tstid": [[9, 4, 5, 6]]}
    savemat(folder / "setid.mat", {key: np.array(value, np.uint16) for key, value in ids.items()})


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_flowers__equals_torchvisions(tmp_path, without_checksums, split):
    write_flowers(tmp_path / "flowers-102")
    found = load("flowers102", path=tmp_path, split=split)
    assert_equal(found, torchvision.datasets.Flowers102(tmp_path, split=split))
    assert found.ids[0] == {"train": "jpg/image_00003.jpg", "val": "jpg/image_00002.jpg"}.get(
        split, "jpg/image_00009.jpg"
    )


def test_flowers__names_are_torchvisions():
    assert len(set(FLOWERS_CLASSES)) == 102
    names = getattr(torchvision.datasets.Flowers102, "classes", None)
    assert names is None or tuple(names) == FLOWERS_CLASSES


def test_flowers__labels_of_another_number_are_one_line_with_both_numbers(tmp_path):
    write_flowers(tmp_path, labels=[1, 2, 3])
    with pytest.raises(UserError, match=r"names the image 9, but imagelabels\.mat has 3 labels"):
        load("flowers102", path=tmp_path)


# --- Stanford Dogs --------------------------------------------------------------------------

DOGS = [
    ("n02085620-Chihuahua/n02085620_1.jpg", 1),
    ("n02085620-Chihuahua/n02085620_2.jpg", 1),
    ("n02085782-Japanese_spaniel/n02085782_1.jpg", 2),
    ("n02116738-African_hunting_dog/n02116738_1.jpg", 3),
]


def write_dogs_list(path, rows, labels=None):
    files = np.empty((len(rows), 1), object)
    files[:, 0] = [name for name, _ in rows]
    codes = [code for _, code in rows] if labels is None else labels
    savemat(path, {"file_list": files, "labels": np.array(codes, np.float64)[:, None]})


def write_dogs(folder, lists="lists"):
    for seed, (name, _) in enumerate(DOGS):
        write_jpeg(folder / "Images" / name, seed)
    (folder / lists).mkdir(exist_ok=True)
    write_dogs_list(folder / lists / "file_list.mat", DOGS)
    write_dogs_list(folder / lists / "train_list.mat", DOGS[:1])
    write_dogs_list(folder / lists / "test_list.mat", DOGS[1:3])
    return folder


@pytest.mark.parametrize("lists", ["lists", "."])
def test_dogs__lists_give_images_labels_and_breeds(tmp_path, lists):
    found = load("stanford-dogs", path=write_dogs(tmp_path, lists))
    assert found.ids == tuple(f"Images/{name}" for name, _ in DOGS[1:3])
    assert found.labels.tolist() == [0, 1]
    assert found.class_names == ("Chihuahua", "Japanese spaniel", "African hunting dog")
    own = Image.open(tmp_path / "Images" / DOGS[2][0])
    np.testing.assert_array_equal(np.asarray(found.image(1)), np.asarray(own))
    assert len(load("stanford-dogs", path=tmp_path, split="train")) == 1
    assert len(load("stanford-dogs", path=tmp_path, split="all")) == 4


def test_dogs__labels_of_another_number_are_one_line_with_both_numbers(tmp_path):
    write_dogs(tmp_path)
    write_dogs_list(tmp_path / "lists" / "test_list.mat", DOGS[1:3], labels=[1])
    with pytest.raises(UserError, match=r"test_list\.mat lists 2 images but 1 labels"):
        load("stanford-dogs", path=tmp_path)


def test_dogs__missing_images_and_swapped_labels_are_one_clear_line(tmp_path):
    write_dogs(tmp_path)
    write_dogs_list(tmp_path / "lists" / "test_list.mat", [DOGS[1], (DOGS[2][0], 1)])
    with pytest.raises(
        UserError, match="label 1 stands for 'Chihuahua' and for 'Japanese spaniel'"
    ):
        load("stanford-dogs", path=tmp_path)
    write_dogs(tmp_path)
    (tmp_path / "Images" / DOGS[1][0]).unlink()
    with pytest.raises(UserError, match="lists 2 images, but 1 of them"):
        load("stanford-dogs", path=tmp_path)


# --- ImageNet -------------------------------------------------------------------------------

WNIDS = {"n01443537": ("goldfish",), "n01440764": ("tench", "Tinca"), "n02012849": ("crane",)}
TRUTH = ["n02012849", "n01440764", "n01440764", "n01443537"]


def write_imagenet(root, *, flat=False, folder="val"):
    for number, wnid in enumerate(TRUTH, start=1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        write_jpeg(root / folder / ("" if flat else wnid) / name, number)
    return root


def write_meta(root, truth=TRUTH):
    torch.save((WNIDS, truth), root / "meta.bin")


def write_devkit(root, truth=TRUTH):
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    names = list(WNIDS)
    kinds = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object)]
    kinds.append(("num_children", object))
    rows = [(n, wnid, ", ".join(WNIDS[wnid]), "", 0) for n, wnid in enumerate(names, start=1)]
    rows.append((4, "n00001740", "entity", "", 3))
    savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    lines = "".join(f"{names.index(wnid) + 1}\n" for wnid in truth)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def test_imagenet__class_folders_equal_torchvisions(tmp_path):
    write_meta(write_imagenet(tmp_path))
    reference = torchvision.datasets.ImageNet(tmp_path, split="val")
    found = load("imagenet", path=tmp_path, split="val")
    assert_equal(found, reference)
    assert found.class_names == ("tench", "goldfish", "crane")
    assert found.ids[0] == "val/n01440764/ILSVRC2012_val_00000002.JPEG"


def test_imagenet__without_the_devkit_folders_are_the_classes(tmp_path):
    found = load("imagenet", path=write_imagenet(tmp_path), split="val")
    assert found.class_names == tuple(sorted(WNIDS))
    assert found.labels.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("folder", ["val", "ILSVRC2012_img_val"])
@pytest.mark.parametrize("write", [write_meta, write_devkit])
def test_imagenet__flat_folder_takes_classes_from_the_devkit(tmp_path, folder, write):
    write(write_imagenet(tmp_path, flat=True, folder=folder))
    found = load("imagenet", path=tmp_path, split="val")
    assert found.labels.tolist() == [2, 0, 0, 1]
    assert found.class_names == ("tench", "goldfish", "crane")
    assert found.ids[0] == f"{folder}/ILSVRC2012_val_00000001.JPEG"


def test_imagenet__devkit_is_read_from_its_archive(tmp_path):
    import shutil
    import tarfile

    write_devkit(write_imagenet(tmp_path, flat=True))
    with tarfile.open(tmp_path / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "ILSVRC2012_devkit_t12", "ILSVRC2012_devkit_t12")
    shutil.rmtree(tmp_path / "ILSVRC2012_devkit_t12")
    assert load("imagenet", path=tmp_path, split="val").labels.tolist() == [2, 0, 0, 1]


def test_imagenet__kaggles_copy_is_read_as_it_is(tmp_path):
    write_imagenet(tmp_path, flat=True, folder="ILSVRC/Data/CLS-LOC/val")
    names = "".join(f"{wnid} {', '.join(WNIDS[wnid])}\n" for wnid in sorted(WNIDS))
    (tmp_path / "LOC_synset_mapping.txt").write_text(names)
    rows = [f"ILSVRC2012_val_{n:08d},{wnid} 1 2 3 4 " for n, wnid in enumerate(TRUTH, start=1)]
    lines = ["ImageId,PredictionString", rows[2], rows[0], rows[3], rows[1]]
    (tmp_path / "LOC_val_solution.csv").write_text("\n".join(lines))
    found = load("imagenet", path=tmp_path, split="val")
    assert found.labels.tolist() == [2, 0, 0, 1]
    assert found.class_names == ("tench", "goldfish", "crane")
    assert found.ids[3] == "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000004.JPEG"


def test_imagenet__names_of_all_thousand_classes_are_torchvisions(tmp_path):
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    for number in range(1_000):
        (tmp_path / "val" / f"n{number:08d}").mkdir(parents=True)
    write_jpeg(tmp_path / "val" / "n00000007" / "a.JPEG")
    found = load("imagenet", path=tmp_path, split="val")
    assert list(found.class_names) == _IMAGENET_CATEGORIES
    assert found.labels.tolist() == [7]


def test_imagenet__what_does_not_match_is_one_clear_line(tmp_path):
    write_imagenet(tmp_path, flat=True)
    with pytest.raises(UserError, match=r"has no class folders: put ILSVRC2012_devkit_t12"):
        load("imagenet", path=tmp_path, split="val")
    write_meta(tmp_path, TRUTH[:3])
    with pytest.raises(UserError, match="has 4 images, but the devkit has 3 labels"):
        load("imagenet", path=tmp_path, split="val")
    (tmp_path / "meta.bin").write_bytes(b"no meta")
    with pytest.raises(UserError, match=r"cannot read ImageNet's meta\.bin") as error:
        load("imagenet", path=tmp_path, split="val")
    assert "\n" not in str(error.value)


def test_imagenet__folder_that_is_no_class_is_named(tmp_path):
    write_meta(write_imagenet(tmp_path))
    write_jpeg(tmp_path / "val" / "n09999999" / "a.JPEG")
    with pytest.raises(UserError, match="has the folder 'n09999999', which"):
        load("imagenet", path=tmp_path, split="val")


def test_imagenet__files_that_are_no_images_are_said(tmp_path):
    write_imagenet(tmp_path)
    assert load("imagenet", path=tmp_path, split="val").notes == ()
    (wnid, *_) = sorted(each.name for each in (tmp_path / "val").iterdir())
    (tmp_path / "val" / wnid / "x.avif").write_bytes(b"")
    (tmp_path / "val" / "stray.JPEG").write_bytes(b"")
    (said,) = load("imagenet", path=tmp_path, split="val").notes
    assert said.startswith("2 files of the test set left out, the first 'val/")
