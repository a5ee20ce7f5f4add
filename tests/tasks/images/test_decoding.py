"""Real files of every awkward kind, against Pillow and torchvision's loader; what is said of them."""

from __future__ import annotations

import io
import struct
import zlib
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import pil_loader

from activarium.schemas.config import PreprocessingConfig, TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.images.conversions import WORDS, conversions_of, describe_conversions
from activarium.tasks.images.decoding import UndecodableImageError, decode
from activarium.tasks.images.preprocessing import read_images, resolve_preprocessing
from activarium.tasks.images.test_sets import load_test_set

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 6, 4), dtype=np.uint8)
COLOUR = Image.fromarray(PIXELS[..., :3])


def encoded(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png(pixels, colour_type, *, bits=16):
    """Return a PNG of raw values, in depths that Pillow cannot write."""
    height = len(pixels)
    rows = pixels.astype(">u2" if bits == 16 else "u1").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name, content):
        checksum = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", pixels.shape[1], height, bits, colour_type, 0, 0, 0)
    parts = [("IHDR", header), ("IDAT", zlib.compress(raw)), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name.encode(), data) for name, data in parts)


def tiff_of_16_bit_colours(values):
    """Return an uncompressed little-endian TIFF (row, column, colour)."""
    height, width, _ = values.shape
    data = values.astype("<u2").tobytes()
    entries = [
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + len(data)), (259, 3, 1, 1),
        (262, 3, 1, 2), (273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]  # fmt: skip
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    bits = struct.pack("<3H", 16, 16, 16)
    return b"II*\0" + struct.pack("<I", 8 + len(data) + len(bits)) + data + bits + directory


DEEP = np.random.default_rng(1).integers(0, 65_536, (8, 6, 4))


def palette():
    image = COLOUR.quantize(8)
    return encoded(image, "PNG", transparency=bytes([0, 100, 255]))


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(COLOUR, "JPEG", exif=exif)


def frames(kind):
    others = [Image.fromarray(255 - PIXELS[..., :3])]
    return encoded(COLOUR, kind, save_all=True, append_images=others)


GREY = COLOUR.convert("L")
FILES = {
    "colour jpeg": (encoded(COLOUR, "JPEG"), []),
    "grey jpeg": (encoded(GREY, "JPEG"), ["grey"]),
    "cmyk jpeg": (encoded(COLOUR.convert("CMYK"), "JPEG"), ["other"]),
    "upright jpeg": (encoded(COLOUR, "JPEG", exif=Image.Exif()), []),
    "turned jpeg": (turned(), ["orientation"]),
    "alpha png": (encoded(Image.fromarray(PIXELS), "PNG"), ["alpha"]),
    "grey alpha png": (encoded(Image.fromarray(PIXELS[..., :2]), "PNG"), ["grey", "alpha"]),
    "key colour png": (encoded(COLOUR, "PNG", transparency=(1, 2, 3)), ["alpha"]),
    "palette png": (encoded(COLOUR.quantize(8), "PNG"), []),
    "transparent palette png": (palette(), ["alpha"]),
    "one bit png": (encoded(GREY.convert("1"), "PNG"), ["grey"]),
    "deep colour png": (png(DEEP[..., :3], 2), ["deep"]),
    "deep alpha png": (png(DEEP, 6), ["alpha", "deep"]),
    "deep colour tiff": (tiff_of_16_bit_colours(DEEP[..., :3]), ["deep"]),
    "gif of frames": (frames("GIF"), ["frames"]),
    "webp of frames": (frames("WEBP"), ["frames"]),
    "alpha webp": (encoded(Image.fromarray(PIXELS), "WEBP", lossless=True), ["alpha"]),
}


@pytest.mark.parametrize("name", FILES)
def test_decode__colours_are_those_of_torchvisions_loader(tmp_path, name):
    content, kinds = FILES[name]
    (tmp_path / "image").write_bytes(content)
    images = set_of(tmp_path, {"0.png": content, "1.png": encoded(COLOUR, "PNG")})
    counts = Counter()
    pixels, valid = read(images, colours=3, conversions=counts)
    assert valid.all()
    if "palette" in name and "transparent" in name:
        expected = Image.open(tmp_path / "image").convert("RGBA").convert("RGB")
    else:
        expected = pil_loader(tmp_path / "image")
    np.testing.assert_array_equal(pixels[0], expected)
    assert sorted(counts) == sorted(kinds)
    assert set(counts.values()) <= {1}


def test_decode__deep_colours_keep_their_high_byte(tmp_path):
    for content in (png(DEEP[..., :3], 2), tiff_of_16_bit_colours(DEEP[..., :3])):
        image = decode("deep", content)
        np.testing.assert_array_equal(np.asarray(image), DEEP[..., :3] >> 8)


def test_decode__deep_grey_is_scaled_and_said(tmp_path):
    deep = Image.fromarray(DEEP[..., 0].astype(np.uint16))
    for kind in ("PNG", "TIFF"):
        image = decode("deep", encoded(deep, kind))
        assert conversions_of(image, 1) == ("deep",)
        assert conversions_of(image, 3) == ("grey", "deep")


def test_decode__tiff_is_turned_by_pillow_and_not_said():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode("tiff", encoded(COLOUR, "TIFF", exif=exif))
    assert image.size == (8, 6)
    assert conversions_of(image, 3) == ()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_decode__files_cut_anywhere_are_undecodable_or_whole(kind):
    noise = np.random.default_rng(2).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    content = encoded(Image.fromarray(noise), kind)
    reasons = []
    for keep in range(0, len(content) - 12, max(1, len(content) // 60)):
        try:
            decode("cut", content[:keep])
        except UndecodableImageError as error:
            reasons.append(error.reason)
    assert len(reasons) > 55
    assert "\n" not in "".join(reasons)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF"])
def test_decode__flipped_bytes_are_an_image_or_undecodable_and_never_another_error(kind):
    content = encoded(COLOUR, kind)
    rng = np.random.default_rng(3)
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), 3):
            damaged[place] = rng.integers(0, 256)
        try:
            assert decode("damaged", bytes(damaged)).size
        except UndecodableImageError:
            continue


def test_decode__zero_bytes_say_so():
    with pytest.raises(UndecodableImageError, match="a: the file is empty"):
        decode("a", b"")


# --- a whole set ----------------------------------------------------------------------------


def set_of(root, files):
    folder = root / "set" / "test" / "one"
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    config = TestSetConfig(source="imagefolder", path=root / "set")
    return load_test_set(config, datasets=root)


def read(images, *, colours, threads=2, **options):
    config = PreprocessingConfig()
    found = resolve_preprocessing(config, images, source="imagefolder", colours=colours)
    return read_images(images, found, 0, len(images), threads=threads, **options)


def test_conversions__are_counted_over_all_images_and_threads(tmp_path):
    grey, alpha = encoded(GREY, "PNG"), encoded(Image.fromarray(PIXELS), "PNG")
    files = {f"grey-{n:02d}.png": grey for n in range(12)}
    files |= {f"alpha-{n}.png": alpha for n in range(3)} | {"plain.png": encoded(COLOUR, "PNG")}
    images = set_of(tmp_path, {**files, "zero.png": b""})
    for threads in (1, 4):
        counts = Counter()
        _, valid = read(images, colours=3, conversions=counts, threads=threads)
        assert counts == {"grey": 12, "alpha": 3}
        assert valid.sum() == 16
    lines = describe_conversions(counts)
    assert lines == (
        "12 images grey: given to all three colours",
        "3 images with transparency: it was dropped, the colours below it were kept",
    )
    counts = Counter()
    read(images, colours=1, conversions=counts)
    assert counts == {"colour": 4, "alpha": 3}


def test_conversions__of_images_that_fit_are_none(tmp_path):
    counts = Counter()
    read(set_of(tmp_path, {"0.png": encoded(COLOUR, "PNG")}), colours=3, conversions=counts)
    assert not counts
    assert describe_conversions(counts) == ()


def test_conversions__every_kind_has_words_and_none_is_said_of_zero():
    one = dict.fromkeys(WORDS, 1)
    assert all(line.startswith("1 image ") for line in describe_conversions(one))
    assert describe_conversions(dict.fromkeys(WORDS, 0)) == ()


def test_conversions__what_pillow_cannot_convert_is_not_valid(tmp_path):
    lab = encoded(Image.new("LAB", (6, 8)), "TIFF")  # Pillow has no way from Lab to grey
    images = set_of(tmp_path, {"0.tif": lab, "1.png": encoded(COLOUR, "PNG")})
    _, valid = read(images, colours=1)
    assert valid.tolist() == [False, True]


def test_set__of_undecodable_images_alone_is_one_line(tmp_path):
    with pytest.raises(UserError, match="none of the 2 images can be decoded"):
        set_of(tmp_path, {"0.png": b"", "1.jpg": b"<html>"})
