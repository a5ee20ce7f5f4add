"""From image to input: values worked by hand, NumPy as reference, real images where present."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision_functional

from activarium.schemas.config import ModelConfig, PreprocessingConfig, TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.preprocessing import (
    Preprocessing,
    fit_image,
    read_images,
    resolve_preprocessing,
    thumbnail_shape,
    thumbnails,
)
from activarium.tasks.images.test_sets import TestSet, load_test_set
from activarium.tasks.models.models import model_source
from activarium.tasks.recording.normalising import normalise

DATA = Path(__file__).parents[3].parent / "shared" / "data"


def memory_set(pixels):
    images = len(pixels)
    ids = tuple(f"image-{index}" for index in range(images))
    labels = np.zeros(images, np.int32)
    colours = pixels.shape[3]
    return TestSet("set", "test", ("one",), ids, labels, "x", colours, pixels=pixels)


def random_pixels(images, height, width, colours, seed=0):
    shape = (images, height, width, colours)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folder_set(root, images):
    """Return an imagefolder of (name, image or bytes)."""
    folder = root / "test" / "one"
    folder.mkdir(parents=True)
    for name, image in images.items():
        if isinstance(image, bytes):
            (folder / name).write_bytes(image)
        else:
            image.save(folder / name)
    config = TestSetConfig(source="imagefolder", path=root)
    return load_test_set(config, datasets=root)


def plain(height, width, colours, *, resize=None, is_fixed=True):
    return Preprocessing(
        resize, height, width, colours, (0.5,) * colours, (0.5,) * colours, is_fixed
    )


def resolve(test_set, *, source="imagefolder", colours=3, **config):
    return resolve_preprocessing(
        PreprocessingConfig(**config), test_set, source=source, colours=colours
    )


# --- what follows from the configuration ----------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, (None, 10, 14, False)),
        ({"size": 8}, (8, 8, 8, True)),
        ({"resize": 12}, (12, 12, 12, True)),
        ({"resize": 12, "size": 8}, (12, 8, 8, True)),
    ],
)
def test_resolve__size_and_resize_fill_each_other_in(config, expected):
    found = resolve(memory_set(random_pixels(1, 10, 14, 3)), **config)
    assert (found.resize, found.height, found.width, found.is_fixed) == expected


def test_resolve__digits_are_enlarged_and_others_keep_their_size():
    digits = memory_set(random_pixels(1, 8, 8, 1))
    assert resolve(digits, source="digits", colours=1).height == 32
    assert resolve(digits, source="mnist", colours=1).height == 8


def test_resolve__statistics_follow_the_source():
    images = memory_set(random_pixels(1, 4, 4, 3))
    assert resolve(images, source="cifar10").mean == (0.4914, 0.4822, 0.4465)
    assert resolve(images, source="mnist").mean == (0.1307,) * 3
    assert resolve(images, source="svhn").sd == (0.1980, 0.2010, 0.1970)
    for source in ("imagefolder", "imagenet", "parquet", "entry-point", "flowers102"):
        assert resolve(images, source=source).mean == (0.485, 0.456, 0.406)
    grey = resolve(images, source="imagefolder", colours=1)
    assert grey.mean == pytest.approx([(0.485 + 0.456 + 0.406) / 3])
    assert grey.sd == pytest.approx([(0.229 + 0.224 + 0.225) / 3])


def test_resolve__configured_mean_and_sd_win():
    images = memory_set(random_pixels(1, 4, 4, 3))
    found = resolve(images, mean=(0.0,), sd=(1.0, 2.0, 3.0))
    assert (found.mean, found.sd) == ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0))


@pytest.mark.parametrize("name", ["mean", "sd"])
@pytest.mark.parametrize("values", [(0.5, 0.5), (0.5,) * 4, ()])
def test_resolve__wrong_number_of_values_is_refused(name, values):
    images = memory_set(random_pixels(1, 4, 4, 3))
    with pytest.raises((UserError, ValueError), match=name):
        resolve(images, **{name: values})


def test_resolve__first_image_that_can_be_decoded_gives_the_size(tmp_path):
    images = folder_set(tmp_path, {"0.png": b"broken", "1.png": Image.new("RGB", (7, 5))})
    found = resolve(images)
    assert (found.height, found.width) == (5, 7)


# --- size -----------------------------------------------------------------------------------


def test_fit__without_a_size_pixels_pass_through():
    pixels = random_pixels(1, 9, 13, 3)[0]
    fitted = fit_image(Image.fromarray(pixels), plain(9, 13, 3, is_fixed=False))
    np.testing.assert_array_equal(fitted, pixels)


def test_fit__size_equal_to_the_images_own_passes_through():
    pixels = random_pixels(1, 9, 9, 3)[0]
    np.testing.assert_array_equal(
        fit_image(Image.fromarray(pixels), plain(9, 9, 3, resize=9)), pixels
    )


def test_fit__crop_is_the_centre():
    pixels = random_pixels(1, 10, 14, 3)[0]
    fitted = fit_image(Image.fromarray(pixels), plain(6, 6, 3, resize=10))
    np.testing.assert_array_equal(fitted, pixels[2:8, 4:10])


@pytest.mark.parametrize(("height", "width", "sizes"), [(20, 30, (15, 10)), (30, 20, (10, 15))])
def test_fit__shorter_side_is_resized_and_the_aspect_kept(height, width, sizes):
    image = Image.fromarray(random_pixels(1, height, width, 3)[0])
    fitted = fit_image(image, plain(8, 8, 3, resize=10))
    whole = np.asarray(image.resize(sizes, Image.Resampling.BILINEAR))
    top, left = round((sizes[1] - 8) / 2), round((sizes[0] - 8) / 2)
    np.testing.assert_array_equal(fitted, whole[top : top + 8, left : left + 8])


def torchvisions(image, resize, size, interpolation):
    """Return torchvision's own pixels, by way of Pillow."""
    mode = InterpolationMode(interpolation)
    resized = torchvision_functional.resize(image, [resize], mode)
    return np.asarray(torchvision_functional.center_crop(resized, [size]))


@pytest.mark.parametrize("sizes", [(640, 427), (500, 375), (333, 500), (299, 301), (97, 1000)])
@pytest.mark.parametrize(
    ("architecture", "resize", "interpolation"),
    [
        ("torchvision:resnet18", 256, "bilinear"),
        ("torchvision:resnet50", 232, "bilinear"),
        ("efficientnet_b0", 256, "bicubic"),
    ],
)
def test_fit__equals_torchvisions_preset(architecture, resize, interpolation, sizes):
    preset = get_model_weights(architecture.removeprefix("torchvision:"))["DEFAULT"].transforms()
    source = model_source(ModelConfig(architecture=architecture, weights="DEFAULT"))
    config = source.preprocessing
    assert (config.resize, config.interpolation) == (resize, interpolation)
    image = Image.fromarray(random_pixels(1, sizes[1], sizes[0], 3)[0])
    found = resolve(memory_set(np.asarray(image)[None]), **config.model_dump())
    fitted = fit_image(image, found)
    np.testing.assert_array_equal(fitted, torchvisions(image, resize, 224, interpolation))
    got = normalise(torch.from_numpy(fitted[None].copy()), found)
    torch.testing.assert_close(got[0], preset(image), rtol=1e-5, atol=1e-5)


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), resize=st.integers(1, 40), data=st.data()
)
@settings(deadline=None)
def test_fit__every_rounding_is_torchvisions(height, width, resize, data):
    size = data.draw(st.integers(1, resize))
    image = Image.fromarray(random_pixels(1, height, width, 3)[0])
    fitted = fit_image(image, plain(size, size, 3, resize=resize))
    np.testing.assert_array_equal(fitted, torchvisions(image, resize, size, "bilinear"))


def test_resolve__interpolation_is_bilinear_unless_configured():
    images = memory_set(random_pixels(1, 4, 4, 3))
    assert resolve(images).interpolation == "bilinear"
    assert resolve(images, interpolation="bicubic").interpolation == "bicubic"
    with pytest.raises(ValueError, match="interpolation"):
        resolve(images, interpolation="nearest")


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), resize=st.integers(1, 40), data=st.data()
)
@settings(deadline=None)
def test_fit__every_size_gives_the_configured_shape_without_borders(height, width, resize, data):
    size = data.draw(st.integers(1, resize))
    image = Image.new("RGB", (width, height), (200, 100, 50))
    fitted = fit_image(image, plain(size, size, 3, resize=resize))
    assert fitted.shape == (size, size, 3)
    assert (fitted == (200, 100, 50)).all()


def test_read__mixed_sizes_without_a_size_name_the_image(tmp_path):
    images = folder_set(
        tmp_path, {"0.png": Image.new("RGB", (6, 5)), "1.png": Image.new("RGB", (5, 6))}
    )
    found = resolve(images)
    for threads in (1, 4):
        with pytest.raises(
            UserError, match=r"test/one/1\.png' is 5x6 pixels, the first is 6x5: set"
        ):
            read_images(images, found, 0, 2, threads=threads)
    pixels, valid = read_images(images, resolve(images, size=4), 0, 2, threads=2)
    assert pixels.shape == (2, 4, 4, 3)
    assert valid.all()


# --- colours --------------------------------------------------------------------------------


def test_fit__grey_becomes_three_equal_colours():
    grey = random_pixels(1, 5, 5, 1)[0]
    fitted = fit_image(Image.fromarray(grey[:, :, 0]), plain(5, 5, 3))
    np.testing.assert_array_equal(fitted, np.repeat(grey, 3, axis=2))


def test_fit__colour_becomes_luma():
    pixels = random_pixels(1, 5, 5, 3)[0]
    fitted = fit_image(Image.fromarray(pixels), plain(5, 5, 1))
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(fitted[:, :, 0], luma, atol=1)


def test_fit__transparency_is_dropped():
    pixels = random_pixels(1, 5, 5, 4)[0]
    np.testing.assert_array_equal(
        fit_image(Image.fromarray(pixels, "RGBA"), plain(5, 5, 3)), pixels[:, :, :3]
    )


@pytest.mark.parametrize("transparency", [None, 1])
def test_fit__palette_gives_its_colours(tmp_path, transparency):
    image = Image.new("P", (3, 1))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.putdata([2, 0, 1])
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "palette.png", **options)
    fitted = fit_image(Image.open(tmp_path / "palette.png"), plain(1, 3, 3))
    assert fitted[0].tolist() == [[70, 80, 90], [10, 20, 30], [40, 50, 60]]


def test_fit__palette_with_transparency_per_colour_gives_its_colours(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([1, 0])
    image.save(tmp_path / "palette.png", transparency=bytes([0, 128]))
    fitted = fit_image(Image.open(tmp_path / "palette.png"), plain(1, 2, 3))
    assert fitted[0].tolist() == [[40, 50, 60], [10, 20, 30]]


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("brightest", [65_535, 200])
def test_fit__sixteen_bit_grey_is_scaled_by_its_range(tmp_path, ending, brightest):
    values = np.linspace(0, brightest, 12).astype(np.uint16).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / f"deep.{ending}")
    image = Image.open(tmp_path / f"deep.{ending}")
    for colours in (1, 3):
        fitted = fit_image(image, plain(3, 4, colours))
        expected = np.repeat(np.round(values / 257)[:, :, None], colours, axis=2)
        np.testing.assert_allclose(fitted, expected, atol=1)
        assert fitted.max() == round(brightest / 257)


@pytest.mark.parametrize("mode", ["1", "CMYK", "YCbCr", "LA", "HSV"])
@pytest.mark.parametrize("colours", [1, 3])
def test_fit__other_modes_equal_pillows_conversion(mode, colours):
    image = Image.fromarray(random_pixels(1, 5, 6, 3)[0]).convert(mode)
    fitted = fit_image(image, plain(5, 6, colours))
    expected = np.asarray(image.convert("L" if colours == 1 else "RGB")).reshape(5, 6, colours)
    np.testing.assert_array_equal(fitted, expected)


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_read__undecodable_images_are_zero_and_not_valid(tmp_path, threads):
    grey = Image.new("RGB", (4, 4), (9, 9, 9))
    images = folder_set(tmp_path, {"0.png": grey, "1.png": b"", "2.png": b"x", "3.png": grey})
    pixels, valid = read_images(images, resolve(images), 0, 4, threads=threads)
    assert valid.tolist() == [True, False, False, True]
    assert pixels[:, 0, 0, 0].tolist() == [9, 0, 0, 9]
    assert not pixels[~valid].any()


def test_read__range_is_the_range_of_the_whole():
    images = memory_set(random_pixels(11, 8, 8, 1))
    found = resolve(images, source="digits", colours=1)
    whole, _ = read_images(images, found, 0, 11, threads=3)
    assert whole.shape == (11, 32, 32, 1)
    part, valid = read_images(images, found, 4, 9, threads=1)
    np.testing.assert_array_equal(part, whole[4:9])
    assert valid.all()


def test_read__images_in_memory_pass_through_and_cannot_be_changed():
    pixels = random_pixels(5, 6, 7, 3)
    images = memory_set(pixels.copy())
    found, valid = read_images(images, resolve(images), 1, 4, threads=2)
    np.testing.assert_array_equal(found, pixels[1:4])
    assert valid.all()
    found[:] = 0
    np.testing.assert_array_equal(images.pixels, pixels)


def test_read__read_only_images_become_tensors_without_a_warning():
    pixels = random_pixels(5, 6, 7, 3)
    pixels.setflags(write=False)
    images = memory_set(pixels)
    found, _ = read_images(images, resolve(images), 0, 5, threads=1)
    assert torch.from_numpy(found).shape == (5, 6, 7, 3)
    assert thumbnails(pixels, 3).shape == (5, 3, 3, 3)


# --- normalisation --------------------------------------------------------------------------


def test_normalise__equals_numpy():
    images = random_pixels(6, 5, 7, 3)
    found = Preprocessing(None, 5, 7, 3, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616))
    expected = (images / 255.0 - np.array(found.mean)) / np.array(found.sd)
    got = normalise(torch.from_numpy(images), found)
    np.testing.assert_allclose(got.numpy(), expected.transpose(0, 3, 1, 2), rtol=2e-6, atol=1e-6)
    assert got.dtype is torch.float32


@pytest.mark.parametrize("colours", [1, 3])
def test_normalise__is_channels_last(colours):
    got = normalise(torch.from_numpy(random_pixels(4, 5, 7, colours)), plain(5, 7, colours))
    assert got.shape == (4, colours, 5, 7)
    assert got.is_contiguous(memory_format=torch.channels_last)


# --- thumbnails -----------------------------------------------------------------------------


def test_thumbnails__are_area_means():
    images = random_pixels(3, 8, 12, 3)
    small = thumbnails(images, 6)
    blocks = images.reshape(3, 4, 2, 6, 2, 3).mean(axis=(2, 4))
    assert small.shape == (3, 4, 6, 3)
    np.testing.assert_allclose(small, blocks, atol=0.5)
    assert small.dtype == np.uint8


def test_thumbnails__are_never_enlarged():
    images = random_pixels(2, 5, 6, 3)
    for side in (6, 7, 200):
        np.testing.assert_array_equal(thumbnails(images, side), images)


@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(1, 256))
def test_thumbnail_shape__fits_and_keeps_the_aspect(height, width, side):
    rows, columns, colours = thumbnail_shape(height, width, 3, side)
    assert 1 <= rows <= min(side, height)
    assert 1 <= columns <= min(side, width)
    assert max(rows, columns) == min(side, max(height, width))
    assert abs(rows * width - columns * height) <= max(height, width)
    assert colours == 3


# --- real images ----------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "colours"), [("cifar10-test-jpeg", 3), ("mnist-test-png", 1), ("mnist-test-png", 3)]
)
def test_read__real_images_equal_pillows_own_decoding(name, colours):
    path = DATA / f"{name}.zip"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    config = TestSetConfig(source="imagefolder", path=path, limit=40)
    images = load_test_set(config, datasets=path.parent)
    found = resolve(images, colours=colours)
    pixels, valid = read_images(images, found, 0, 40, threads=4)
    assert valid.all()
    with zipfile.ZipFile(path) as archive:
        for entry, row in zip(images.ids, pixels, strict=True):
            image = Image.open(io.BytesIO(archive.read(entry)))
            expected = np.asarray(image.convert("L" if colours == 1 else "RGB"))
            np.testing.assert_array_equal(row, expected.reshape(row.shape))


@pytest.mark.shared
def test_read__real_colour_images_as_grey_keep_their_brightness():
    path = DATA / "cifar10-test-jpeg.zip"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    config = TestSetConfig(source="imagefolder", path=path, limit=40)
    images = load_test_set(config, datasets=path.parent)
    colour, _ = read_images(images, resolve(images), 0, 40, threads=2)
    grey, _ = read_images(images, resolve(images, colours=1), 0, 40, threads=2)
    luma = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(grey[..., 0], luma, atol=1)
