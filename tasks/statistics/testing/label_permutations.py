"""Random permutations of labels that depend on a seed and their number alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)
_ONE = np.uint64(1)
_WORD = np.uint64(32)
_LOW_WORD = np.uint64(0xFFFFFFFF)
_WORD_VALUES = np.uint64(1 << 32)
_SEEDS = 1 << 64


@njit(nogil=True, cache=True)
def _mix(state: np.uint64) -> np.uint64:
    """Return the output of SplitMix64 at a state."""
    z = (state ^ (state >> np.uint64(30))) * _FIRST_FACTOR
    z = (z ^ (z >> np.uint64(27))) * _SECOND_FACTOR
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True)
def _shuffle(values: NDArray[np.unsignedinteger[Any]], seed: np.uint64, index: int) -> None:
    """Shuffle in place by Fisher and Yates, with Lemire's bounded integers without bias."""
    # Hashed starts scatter the permutations' streams over the generator's one cycle of 2^64.
    state = _mix(_mix(seed) + np.uint64(index + 1) * _GOLDEN)
    for i in range(values.size - 1, 0, -1):
        bound = np.uint64(i) + _ONE
        state += _GOLDEN
        product = (_mix(state) >> _WORD) * bound
        if product & _LOW_WORD < bound:
            least = (_WORD_VALUES - bound) % bound
            while product & _LOW_WORD < least:
                state += _GOLDEN
                product = (_mix(state) >> _WORD) * bound
        j = product >> _WORD
        values[i], values[j] = values[j], values[i]


@njit(nogil=True, cache=True)
def _permute(
    label: NDArray[np.unsignedinteger[Any]],
    seed: np.uint64,
    first: int,
    permuted: NDArray[np.unsignedinteger[Any]],
) -> None:
    """Fill row p of `permuted` with the labels under permutation first + p."""
    for p in range(permuted.shape[0]):
        permuted[p] = label
        _shuffle(permuted[p], seed, first + p)


def checked_seed(seed: int) -> np.uint64:
    """Return a seed as the generator takes it.

    Raises
    ------
    ValueError
        Where `seed` is not from 0 to 2^64 - 1.
    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed must be from 0 to 2^64 - 1, got {seed}")
    return np.uint64(seed)


def permuted_labels(
    label: NDArray[np.unsignedinteger[Any]], *, seed: int, first: int, size: int
) -> NDArray[np.unsignedinteger[Any]]:
    """Return the labels under permutations first .. first + size - 1.

    A permutation depends on `seed`, its number and the number of images only.

    Parameters
    ----------
    label
        Label of each image, shape (image,), unsigned integers.
    seed
        Seed of all permutations, from 0 to 2^64 - 1.
    first
        Number of the first permutation, from 0.
    size
        Number of permutations.

    Returns
    -------
    Labels, shape (permutation, image), of the type of `label`.

    Raises
    ------
    ValueError
        Where `seed` is out of range.

    References
    ----------
    Steele, Lea and Flood (2014), Fast splittable pseudorandom number generators;
    Lemire (2019), Fast random integer generation in an interval.
    """
    permuted = np.empty((size, label.size), label.dtype)
    _permute(label, checked_seed(seed), first, permuted)
    return permuted


def permuted_positions(images: int, *, seed: int, index: int) -> NDArray[np.int64]:
    """Return one permutation of the positions of images.

    `permuted_labels` gives image i the label of image `permuted_positions(...)[i]`.

    Parameters
    ----------
    images
        Number of images.
    seed
        Seed of all permutations.
    index
        Number of the permutation, from 0.

    Returns
    -------
    Positions, shape (image,), each of 0 .. image - 1 once.

    Raises
    ------
    ValueError
        Where `seed` is not from 0 to 2^64 - 1 or `index` is negative.
    """
    if index < 0:
        raise ValueError(f"index must be 0 or more, got {index}")
    position = np.arange(images, dtype=np.uint32)
    _shuffle(position, checked_seed(seed), index)
    return position.astype(np.int64)
