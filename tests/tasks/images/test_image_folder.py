"""Folders and zips of <split>/<class>/<image> that the tests write, and real ones where present."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images import decoding
from activarium.tasks.images.test_sets import UndecodableImageError, load_test_set


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
    config = TestSetConfig(source="imagefolder", path=path, split=split, **settings)
    return load_test_set(config, datasets=Path("nowhere"))


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
        folder_of(None)


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
    path = Path(__file__).parents[3].parent / "shared" / "data" / f"{name}.zip"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    found = folder_of(path)
    assert (len(found), len(found.class_names), found.colours) == (10_000, 10, colours)
    assert found.image(9_999).size == size


# --- what is left out ---------------------------------------------------------------------------


def test_left_out__files_that_are_no_images_are_said_with_their_number_and_first(store):
    clean = folder_of(store(FILES, "clean"))
    assert clean.notes == ()
    beside = {
        "test/cat/y.jfif": png(),
        "test/ant/x.avif": png(),
        "test/ant/no suffix": png(),
        "test/stray.png": png(),
        "train/cat/other.avif": png(),
        "readme.txt": b"",
        "test/cat/.hidden": b"",
    }
    found = folder_of(store(FILES | beside, "more"))
    assert found.identity == clean.identity
    assert found.ids == clean.ids
    (said,) = found.notes
    assert said.startswith("4 files of the test set left out, the first 'test/ant/no suffix': ")
    plain = {name.removeprefix("test/"): each for name, each in FILES.items() if "test" in name}
    (said,) = folder_of(store(plain | {"a.webm": b"", "x.png": png()}, "plain"), ".").notes
    assert said.startswith("2 files of the test set left out, the first 'a.webm': ")


def test_left_out__links_to_nothing_are_images_that_are_not_valid_and_said(tmp_path):
    path = write_folder(tmp_path / "set", FILES)
    for number in range(2):
        (path / "test" / "ant" / f"link{number}.png").symlink_to(f"/nowhere/{number}.png")
    (path / "test" / "bee" / "round.png").symlink_to("round.png")
    (path / "test" / "bee" / "link").symlink_to("/nowhere/else")
    found = folder_of(path)
    assert len(found) == 12
    with pytest.raises(UndecodableImageError):
        found.image(found.ids.index("test/ant/link1.png"))
    assert found.notes == (
        found.notes[0],
        "3 images are links to nothing, the first 'test/ant/link0.png': not valid",
    )
    assert "1 file of the test set left out, the first 'test/bee/link'" in found.notes[0]
    assert folder_of(path, hash_content=True).identity != found.identity


def test_left_out__class_that_is_a_link_to_nothing_is_refused(tmp_path):
    path = write_folder(tmp_path / "set", FILES)
    (path / "test" / "dog").symlink_to("/nowhere/dog")
    with pytest.raises(
        UserError, match="'test/dog' among the classes of 'test', a link to nothing"
    ):
        folder_of(path)
    assert len(folder_of(path, "train")) == 6


# --- what unfolds to more than it is --------------------------------------------------------


@pytest.fixture
def small_limit(monkeypatch):
    monkeypatch.setattr(decoding, "MOST_BYTES", 10_000)


@pytest.mark.parametrize("hash_content", [False, True])
@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.usefixtures("small_limit")
def test_image__one_that_unfolds_to_more_than_images_have_is_not_valid(
    tmp_path, as_zip, hash_content
):
    files = {f"test/{label}/{row}.png": png(row) for label in "ab" for row in range(2)}
    files["test/a/bomb.png"] = bytes(1_000_000)
    path = tmp_path / ("set.zip" if as_zip else "set")
    (write_zip if as_zip else write_folder)(path, files)
    config = TestSetConfig(source="imagefolder", path=path, hash_content=hash_content)
    test_set = load_test_set(config, datasets=tmp_path)
    place = test_set.ids.index("test/a/bomb.png")
    with pytest.raises(UndecodableImageError, match="1,000,000 bytes, where images have at most"):
        test_set.image(place)
    others = [row for row in range(len(test_set)) if row != place]
    assert all(test_set.image(row).size == (4, 4) for row in others)
