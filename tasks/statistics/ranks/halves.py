"""Two halves of the images: what is chosen on one is measured on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def image_halves(
    code: NDArray[np.integer],
    place: NDArray[np.integer],
    *,
    seed: int,
    group: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Return the half of each image, 0 or 1, shape (image,).

    Images are ordered by a seeded permutation of their places, class by class, the class of the
    first image first; in that order they go to the halves in turn, so that both have half of each class, up to one image. With
    groups, the first image of each group in that order decides for all of it, and groups go in turn.

    Parameters
    ----------
    code
        Class of each image, shape (image,).
    place
        Place of each image by its id, 0 .. image - 1, shape (image,).
    seed
        Seed of the permutation.
    group
        Group of each image, shape (image,).
    """
    drawn = np.random.default_rng(seed).permutation(len(code))[place]
    # Classes by their first image, so that how they are numbered plays no part.
    first_drawn = np.full(int(code.max(initial=0)) + 1, len(code))
    np.minimum.at(first_drawn, code, drawn)
    order = np.lexsort((drawn, first_drawn[code]))
    half = np.empty(len(code), np.int64)
    if group is None:
        half[order] = np.arange(len(code)) % 2
        return half
    _, first, member = np.unique(group[order], return_index=True, return_inverse=True)
    turn = np.argsort(np.argsort(first)) % 2
    half[order] = turn[member]
    return half
