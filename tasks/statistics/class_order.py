"""Class codes of images, checked, and responses with the images in order of their classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def class_codes(
    label: NDArray[np.integer], responses: NDArray[np.float32], n_classes: int
) -> NDArray[np.int64]:
    """Return the class code of each image, checked against the responses.

    Parameters
    ----------
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    responses
        Responses, shape (unit, image).
    n_classes
        Number of classes.

    Returns
    -------
    Class codes, shape (image,).

    Raises
    ------
    ValueError
        Where the responses are not a float32 matrix, the label does not hold one integer per
        image, or a code is out of range.
    """
    if responses.ndim != 2 or responses.dtype != np.float32:
        msg = (
            "expected float32 responses of shape (unit, image), "
            f"got {responses.dtype} of shape {responses.shape}"
        )
        raise ValueError(msg)
    return checked_codes(label, responses.shape[1], n_classes)


def checked_codes(label: NDArray[np.integer], images: int, n_classes: int) -> NDArray[np.int64]:
    """Return the class code of each image, checked.

    Parameters
    ----------
    label
        Class code of each image, shape (image,), in 0 .. n_classes - 1.
    images
        Number of images.
    n_classes
        Number of classes.

    Raises
    ------
    ValueError
        Where there is not one integer per image, or a code is out of range.
    """
    if label.shape != (images,) or not np.issubdtype(label.dtype, np.integer):
        msg = (
            f"expected one integer class code for each of {images} images, "
            f"got {label.dtype} of shape {label.shape}"
        )
        raise ValueError(msg)
    if label.size and (label.min() < 0 or label.max() >= n_classes):
        msg = (
            f"class codes must be 0 to {n_classes - 1}, got {label.min()} to {label.max()}; "
            "drop the images without a label first"
        )
        raise ValueError(msg)
    return label.astype(np.int64)


def by_class(
    responses: NDArray[np.float32], code: NDArray[np.int64], n_classes: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the responses with the images in order of class, and where each class starts.

    Parameters
    ----------
    responses
        Responses, shape (unit, image).
    code
        Class codes, shape (image,).
    n_classes
        Number of classes.

    Returns
    -------
    Contiguous responses, the same array where the images are in order already, and `start`, shape
    (class + 1,): class c holds the images start[c] to start[c + 1].
    """
    start = np.concatenate(([0], np.cumsum(np.bincount(code, minlength=n_classes))))
    if (code[1:] < code[:-1]).any():
        responses = responses[:, np.argsort(code, kind="stable")]
    return np.ascontiguousarray(responses), start
