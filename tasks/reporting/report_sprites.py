"""The report page's thumbnails: many small images in one JPEG, within a size limit."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from PIL import Image

from activarium.tasks.reporting.report_packing import packed_codes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

EXEMPLAR_BYTES = 2_400_000
"""Size at most of the exemplars' sprite."""

HOVER_BYTES = 450_000
"""Size at most of the second sprite, for the points of the maps."""

HOVER_IMAGES = 2_000
"""Images at most in the second sprite."""

# Multiples of sixteen: a thumbnail then covers whole JPEG blocks, of colours at half the
# resolution too. Of the next one it takes no more than a part of its outermost pixels' colour.
_BLOCK_SIDE = 16
_LEAST_SIDE = 32
"""Below this one does not see what a thumbnail shows: rather fewer of them."""
_PLANS = (
    *((8, side) for side in (64, 48, _LEAST_SIDE)),
    *((ranks, _LEAST_SIDE) for ranks in (6, 4, 3)),
)
_BYTES_PER_PIXEL_AT_LEAST = 0.08
_QUALITY = 66
_BLOCK = 4_096


class Thumbnails(Protocol):
    """Where thumbnails come from: a Zarr array (image, row, column, colour) of uint8."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""

    @property
    def oindex(self) -> Any:
        """What reads images by their indices."""


@dataclass(frozen=True)
class Sprite:
    """Thumbnails side by side, row by row."""

    images: NDArray[np.int64]
    """Image index of each place."""
    side: int
    columns: int
    jpeg: bytes

    def payload(self) -> dict[str, Any]:
        """Return the sprite as the page reads it."""
        return {
            "images": packed_codes(self.images),
            "side": self.side,
            "columns": self.columns,
            "jpeg": base64.b64encode(self.jpeg).decode("ascii"),
        }


def exemplar_sprite(
    thumbnails: Thumbnails, needed: Callable[[int], NDArray[np.int64]], *, limit: int
) -> tuple[Sprite, int] | None:
    """Return the best sprite within the limit, and the exemplar ranks whose images it holds.

    Large thumbnails are given up first, then ranks; where the images of the fewest ranks are
    still too many, the least important of them are left out.

    Parameters
    ----------
    needed
        Gives the images that the first so many ranks show, the most important first.
    limit
        Bytes.
    """
    density = _BYTES_PER_PIXEL_AT_LEAST
    for ranks, wished in _PLANS:
        images, side = needed(ranks), _side_within(wished, thumbnails)
        pixels = len(images) * side * side
        # Spares the reading and encoding of what cannot fit; small thumbnails compress worse.
        if pixels == 0 or pixels * density > limit:
            continue
        sprite = _sprite(thumbnails, images, side)
        if len(sprite.jpeg) <= limit:
            return sprite, ranks
        density = len(sprite.jpeg) / pixels
    ranks = _PLANS[-1][0]
    images = needed(ranks)
    cut = _cut_sprite(thumbnails, len(images), lambda count: images[:count], limit=limit)
    return (cut, ranks) if cut is not None else None


def hover_sprite(thumbnails: Thumbnails, images: NDArray[np.int64], *, limit: int) -> Sprite | None:
    """Return a sprite of at most `HOVER_IMAGES` of the images, evenly chosen, within the limit."""
    most = min(len(images), HOVER_IMAGES)
    return _cut_sprite(thumbnails, most, lambda count: thinned(images, count), limit=limit)


def _cut_sprite(
    thumbnails: Thumbnails, most: int, choose: Callable[[int], NDArray[np.int64]], *, limit: int
) -> Sprite | None:
    """Return a sprite of as many images as fit, up to `most`; nothing where none does."""
    side, count = _side_within(_LEAST_SIDE, thumbnails), most
    while count > 0:
        sprite = _sprite(thumbnails, choose(count), side)
        if len(sprite.jpeg) <= limit:
            return sprite
        count = min(count - 1, int(0.95 * count * limit / len(sprite.jpeg)))
    return None


def thinned(values: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return at most so many of the values, evenly spaced.

    >>> thinned(np.arange(10), 4)
    array([0, 2, 5, 7])
    """
    if len(values) <= most:
        return values
    return values[np.arange(most) * len(values) // most]


def _side_within(wished: int, thumbnails: Thumbnails) -> int:
    native = -(-max(thumbnails.shape[1:3]) // _BLOCK_SIDE) * _BLOCK_SIDE
    return min(wished, native)


def _sprite(thumbnails: Thumbnails, chosen: NDArray[np.int64], side: int) -> Sprite:
    images = np.sort(chosen)
    blocks = (images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))
    tiles = np.concatenate([_tiles(thumbnails.oindex[block], side) for block in blocks])
    columns = int(np.ceil(np.sqrt(len(images))))
    return Sprite(images, side, columns, _jpeg(_sheet(tiles, columns)))


def _tiles(images: Sequence[Any] | NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    pixels = np.asarray(images, dtype=np.uint8)
    height, width, colours = pixels.shape[1:]
    scale = min(1.0, side / max(height, width))
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    if scale < 1.0:
        resized = (
            Image.fromarray(image[..., 0] if colours == 1 else image).resize(
                (columns, rows), Image.Resampling.LANCZOS
            )
            for image in pixels
        )
        pixels = np.stack([np.asarray(image).reshape(rows, columns, colours) for image in resized])
    tiles = np.zeros((len(pixels), side, side, colours), dtype=np.uint8)
    top, left = (side - rows) // 2, (side - columns) // 2
    tiles[:, top : top + rows, left : left + columns] = pixels
    return tiles


def _sheet(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    count, side, _, colours = tiles.shape
    rows = -(-count // columns)
    full = np.zeros((rows * columns, side, side, colours), dtype=np.uint8)
    full[:count] = tiles
    grid = full.reshape(rows, columns, side, side, colours).swapaxes(1, 2)
    return grid.reshape(rows * side, columns * side, colours)


def _jpeg(sheet: NDArray[np.uint8]) -> bytes:
    image = Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet)
    out = io.BytesIO()
    # Not `optimize`: Pillow's buffer for it is too small for noisy images.
    image.save(out, format="JPEG", quality=_QUALITY, subsampling=2)
    return out.getvalue()
