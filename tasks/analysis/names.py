"""Names of codes, as text columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray


def named(codes: NDArray[np.integer], names: Sequence[str]) -> pa.Array:
    """Return the name of each code; null where the code is negative."""
    indices = pa.array(codes.ravel(), mask=(codes < 0).ravel())
    return pa.array(list(names), pa.string()).take(indices)


def coded(codes: NDArray[np.integer], names: Sequence[str]) -> pa.DictionaryArray:
    """Return the name of each code, none of them negative, as codes beside the names.

    For long columns of few names; whoever writes the table turns them into text.
    """
    encoded = pa.array(list(names), pa.string()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.take(pa.array(codes)), encoded.dictionary)
