"""From stored image to model input: colours, sizes, normalisation and thumbnails."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from activarium.schemas.config import PreprocessingConfig, TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.preprocessing import (
    Preprocessing,
    fit_image,
    normalise,
    read_images,
    resolve_preprocessing,
    thumbnail_shape,
    thumbnails,
)
from activarium.tasks.test_sets import load_test_set

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def plain(height, width, colours=3, *, resize=None):
    return Preprocessing(resize, height, width, colours, (0.0,) * colours, (1.0,) * colours)


def noise(height, width, colours=3):
    return np.random.default_rng(0).integers(0, 256, (height, width, colours), dtype=np.uint8)


def folder_set(tmp_path, images):
    """Return a test set of one class of the given arrays, or of bytes written as they are."""
    folder = tmp_path / "set" / "test" / "a"
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        path = folder / f"{index:03d}.png"
        if isinstance(image, bytes):
            path.write_bytes(image)
        else:
            Image.fromarray(image).save(path)
    config = TestSetConfig(source="imagefolder", path=tmp_path / "set")
    return load_test_set(config, datasets=tmp_path)


def digits(**settings):
    return load_test_set(TestSetConfig(source="digits", **settings), datasets=Path())


def resolve(test_set, *, source="imagefolder", colours=3, **settings):
    config = PreprocessingConfig(**settings)
    return resolve_preprocessing(config, test_set, source=source, colours=colours)


# --- what is left open --------------------------------------------------------------------------


def test_resolve__digits_are_enlarged_and_have_their_own_statistics():
    train = digits(split="train")
    preprocessing = resolve(train, source="digits", colours=1)
    assert (preprocessing.height, preprocessing.width) == (32, 32)
    images, _ = read_images(train, preprocessing, 0, len(train), threads=1)
    assert preprocessing.mean == pytest.approx([(images / 255).mean()], abs=1e-3)
    assert preprocessing.sd == pytest.approx([(images / 255).std()], abs=1e-3)


def test_resolve__own_size_is_kept_even_when_not_square(tmp_path):
    test_set = folder_set(tmp_path, [b"damaged", noise(5, 9)])
    preprocessing = resolve(test_set)
    assert (preprocessing.height, preprocessing.width) == (5, 9)
    assert preprocessing.resize is None


def test_resolve__no_decodable_image_is_an_error(tmp_path):
    with pytest.raises(UserError, match="decoded"):
        resolve(folder_set(tmp_path, [b"damaged", b""]))


@pytest.mark.parametrize(
    ("colours", "mean", "expected"),
    [
        (3, (0.5,), (0.5, 0.5, 0.5)),
        (1, (0.1, 0.2, 0.6), (0.3,)),
        (3, (0.1, 0.2, 0.6), (0.1, 0.2, 0.6)),
        (1, None, (0.3058,)),
        (3, None, (0.3058,) * 3),
    ],
)
def test_resolve__mean_is_repeated_or_averaged_for_the_models_colours(colours, mean, expected):
    preprocessing = resolve(digits(), source="digits", colours=colours, mean=mean)
    assert preprocessing.mean == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "values"),
    [("mean", ()), *((name, (0.5,) * count) for name in ("mean", "sd") for count in (2, 4))],
)
@pytest.mark.parametrize("colours", [1, 3])
def test_resolve__length_that_fits_neither_is_an_error(name, values, colours):
    with pytest.raises(UserError, match=rf"preprocessing\.{name}"):
        resolve(digits(), source="digits", colours=colours, **{name: values})


# --- fitting ------------------------------------------------------------------------------------


def test_fit_image__of_the_right_size_is_untouched():
    image = noise(7, 5)
    np.testing.assert_array_equal(fit_image(Image.fromarray(image), plain(7, 5)), image)


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (41, 23), (8, 5)])
def test_fit_image__shorter_side_then_centre_crop(size):
    image = Image.fromarray(noise(size[1], size[0]))
    scale = 16 / min(size)
    wanted = tuple(max(round(side * scale), 16) for side in size)
    resized = np.asarray(image.resize(wanted, Image.Resampling.BILINEAR))
    top, left = (resized.shape[0] - 12) // 2, (resized.shape[1] - 12) // 2
    expected = resized[top : top + 12, left : left + 12]
    np.testing.assert_array_equal(fit_image(image, plain(12, 12, resize=16)), expected)


def test_fit_image__grey_and_colour_models():
    red = Image.new("RGB", (2, 2), (255, 0, 0))
    assert fit_image(red, plain(2, 2, 1))[0, 0].tolist() == [76]
    assert fit_image(Image.new("L", (2, 2), 9), plain(2, 2, 3))[0, 0].tolist() == [9, 9, 9]


@pytest.mark.parametrize("stored", [0, 200, 255, 256, 30_000, 65_535])
def test_fit_image__sixteen_bits_scale_alike_however_dark_the_image(stored):
    image = Image.fromarray(np.full((2, 2), stored, np.uint16))
    assert fit_image(image, plain(2, 2, 1))[0, 0, 0] == round(stored / 257)


@pytest.mark.parametrize("mode", ["1", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I", "F"])
@pytest.mark.parametrize("colours", [1, 3])
def test_fit_image__every_mode_is_taken(mode, colours):
    source = Image.fromarray(noise(4, 4)).convert("L" if mode in ("I", "F") else "RGB")
    image = source.convert("P").convert("PA") if mode == "PA" else source.convert(mode)
    fitted = fit_image(image, plain(4, 4, colours))
    assert fitted.shape == (4, 4, colours)
    assert fitted.dtype == np.uint8


def test_fit_image__palette_gives_its_colours():
    image = Image.new("RGB", (2, 2), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    for transparency in (None, 0):
        if transparency is not None:
            image.info["transparency"] = transparency
        assert fit_image(image, plain(2, 2))[0, 0].tolist() == [10, 200, 30]


# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
def test_read_images__of_one_size_pass_through_exactly(tmp_path, threads):
    arrays = [np.roll(noise(6, 4), shift, axis=0) for shift in range(6)]
    test_set = folder_set(tmp_path, arrays)
    images, valid = read_images(test_set, resolve(test_set), 1, 5, threads=threads)
    np.testing.assert_array_equal(images, np.stack(arrays[1:5]))
    assert valid.tolist() == [True] * 4


@pytest.mark.parametrize("threads", [1, 3])
def test_read_images__undecodable_is_zero_and_not_valid(tmp_path, threads):
    test_set = folder_set(tmp_path, [noise(3, 3), b"damaged", noise(3, 3)])
    images, valid = read_images(test_set, resolve(test_set), 0, 3, threads=threads)
    assert valid.tolist() == [True, False, True]
    assert not images[1].any()
    assert images[2].any()


@pytest.mark.parametrize("threads", [1, 3])
def test_read_images__another_size_names_image_sizes_and_setting(tmp_path, threads):
    test_set = folder_set(tmp_path, [noise(3, 5), noise(3, 5), noise(4, 6)])
    with pytest.raises(UserError, match=r"preprocessing\.size") as caught:
        read_images(test_set, resolve(test_set), 0, 3, threads=threads)
    for part in ("test/a/002.png", "6x4", "5x3"):
        assert part in str(caught.value)


def test_read_images__another_size_is_fitted_where_size_is_configured(tmp_path):
    test_set = folder_set(tmp_path, [noise(3, 5), noise(40, 6)])
    images, valid = read_images(test_set, resolve(test_set, size=4), 0, 2, threads=1)
    assert images.shape == (2, 4, 4, 3)
    assert valid.all()


def test_read_images__memory_and_decoding_agree(tmp_path):
    test_set = digits(limit=20)
    own = resolve(test_set, source="digits", colours=1, size=8)
    quick, _ = read_images(test_set, own, 3, 9, threads=1)
    slow = np.stack([fit_image(test_set.image(index), own) for index in range(3, 9)])
    np.testing.assert_array_equal(quick, slow)


def test_read_images__change_does_not_reach_the_test_set():
    test_set = digits(limit=20)
    before = test_set.pixels.copy()
    preprocessing = resolve(test_set, source="digits", colours=1, size=8)
    read_images(test_set, preprocessing, 0, 20, threads=1)[0][:] = 7
    np.testing.assert_array_equal(test_set.pixels, before)


def test_read_images__idx_set_goes_to_torch_without_a_warning(tmp_path):
    for kind, values in (("images-idx3", np.ones((2, 4, 4))), ("labels-idx1", np.ones(2))):
        header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, ">u4").tobytes()
        content = header + values.astype(np.uint8).tobytes()
        (tmp_path / f"t10k-{kind}-ubyte").write_bytes(content)
    test_set = load_test_set(TestSetConfig(source="mnist", path=tmp_path), datasets=tmp_path)
    preprocessing = resolve(test_set, source="mnist", colours=1)
    images, _ = read_images(test_set, preprocessing, 0, 2, threads=1)
    assert normalise(torch.from_numpy(images), preprocessing).shape == (2, 1, 4, 4)


def test_read_images__batches_equal_the_whole():
    test_set = digits(limit=50)
    preprocessing = resolve(test_set, source="digits", colours=3)
    whole, _ = read_images(test_set, preprocessing, 0, 50, threads=2)
    parts = [
        read_images(test_set, preprocessing, start, min(start + 7, 50), threads=1)[0]
        for start in range(0, 50, 7)
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.shared
def test_read_images__batches_from_a_zip_cost_about_what_one_pass_costs(tmp_path):
    path = SHARED / "cifar10-train-jpeg.zip"
    if not path.exists():
        pytest.skip("needs the shared image sets")
    config = TestSetConfig(source="imagefolder", path=path, split="train", limit=2_000)
    test_set = load_test_set(config, datasets=tmp_path)
    preprocessing = resolve(test_set)

    def seconds(step):
        began = time.perf_counter()
        for start in range(0, 2_000, step):
            read_images(test_set, preprocessing, start, start + step, threads=2)
        return time.perf_counter() - began

    seconds(500)
    assert seconds(100) < 3 * seconds(2_000) + 0.5


# --- normalisation ------------------------------------------------------------------------------


def test_normalise__worked_by_hand():
    preprocessing = Preprocessing(None, 1, 1, 3, (0.0, 0.5, 1.0), (1.0, 0.5, 0.25))
    values = normalise(torch.tensor([[[[255, 0, 51]]]], dtype=torch.uint8), preprocessing)
    torch.testing.assert_close(values.flatten(), torch.tensor([1.0, -1.0, -3.2]))


def test_normalise__is_float32_channels_last_and_leaves_its_input():
    images = torch.from_numpy(np.stack([noise(6, 5), noise(6, 5)]))
    before = images.clone()
    values = normalise(images, plain(6, 5))
    assert values.shape == (2, 3, 6, 5)
    assert values.dtype == torch.float32
    assert values.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(values[1, 2], images[1, :, :, 2] / 255)
    assert torch.equal(images, before)


# --- thumbnails ---------------------------------------------------------------------------------


def test_thumbnails__not_larger_than_the_side_are_unchanged():
    images = noise(8, 6)[None]
    np.testing.assert_array_equal(thumbnails(images, 8), images)


def test_thumbnails__halved_are_means_of_four():
    images = noise(8, 8)[None]
    expected = images.reshape(1, 4, 2, 4, 2, 3).mean((2, 4))
    assert np.abs(thumbnails(images, 4) - expected).max() <= 0.5


def test_thumbnails__read_only_images_are_taken():
    images = noise(8, 8)[None]
    images.flags.writeable = False
    assert thumbnails(images, 4).shape == (1, 4, 4, 3)


@given(height=st.integers(1, 70), width=st.integers(1, 70), side=st.integers(1, 40))
def test_thumbnails__have_the_shape_that_is_announced(height, width, side):
    images = np.full((2, height, width, 1), 77, np.uint8)
    small = thumbnails(images, side)
    assert small.shape[1:] == thumbnail_shape(height, width, 1, side)
    assert max(small.shape[1:3]) <= max(side, 1)
    assert (small == 77).all()
