"""How numbers travel inside the report page: quantised, little-endian, as base64."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Packed = dict[str, str]
"""A typed array: its JavaScript type without `Array`, and its bytes as base64."""

_NONE_16 = 65_535
_NONE_8 = 255


def packed(values: NDArray[Any]) -> Packed:
    """Return the array as the page's scripts read it."""
    names = {"uint8": "Uint8", "uint16": "Uint16", "uint32": "Uint32", "float32": "Float32"}
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    data = base64.b64encode(little.tobytes()).decode("ascii")
    return {"type": names[values.dtype.name], "data": data}


def packed_shares(values: NDArray[np.float64]) -> Packed:
    """Pack values from 0 to 1 to 1/65,534; the largest code stands for NaN."""
    return packed(_quantised(values, _NONE_16).astype(np.uint16))


def packed_coarse_shares(values: NDArray[Any]) -> Packed:
    """Pack values from 0 to 1 to 1/254; the largest code stands for NaN."""
    return packed(_quantised(values, _NONE_8).astype(np.uint8))


def _quantised(values: NDArray[Any], none: int) -> NDArray[np.float64]:
    steps = np.round(np.clip(values, 0.0, 1.0) * (none - 1))
    filled: NDArray[np.float64] = np.where(np.isnan(values), none, steps)
    return filled


def packed_codes(values: NDArray[np.int64], *, largest: int = 0) -> Packed:
    """Pack codes; -1 becomes the largest code. `largest` makes room for a code that is absent."""
    wide = max(largest, int(values.max(initial=0))) >= _NONE_16
    kind = np.uint32 if wide else np.uint16
    return packed(np.where(values < 0, np.iinfo(kind).max, values).astype(kind))


def packed_floats(values: NDArray[Any]) -> Packed:
    """Pack to single precision."""
    return packed(values.astype(np.float32))


def packed_magnitudes(log10: NDArray[np.float64]) -> Packed:
    """Pack base-10 logarithms of probabilities as tenths below zero; NaN as the largest code."""
    tenths = np.round(np.clip(-10.0 * log10, 0.0, _NONE_16 - 1))
    return packed(np.where(np.isnan(log10), _NONE_16, tenths).astype(np.uint16))
