"""Principal components of a recording's features, over pieces of images by Dask."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import dask
import numpy as np

from activarium.tasks.embedding.principal_components import (
    PrincipalComponents,
    merged_products,
    pca,
    principal_components,
    row_products,
)
from activarium.tasks.progress import no_advance
from activarium.tasks.scheduling import run_pieces

if TYPE_CHECKING:
    from activarium.tasks.features.stored_rows import StoredRows

PIECE_IMAGES = 65_536
"""Images of one piece, whatever runs it: sums must not depend on the number of threads."""
MOST_PIECE_BYTES = 2**30
"""Size at most of the sums of all pieces together."""


def space_components(rows: StoredRows, *, dimensions: int, threads: int) -> PrincipalComponents:
    """Return the principal components of stored features.

    One pass over the images; memory does not grow with them. With more features than images all
    are held at once.

    Parameters
    ----------
    rows
        Features of N images.
    dimensions
        Number of components.
    threads
        Threads that read and sum up the pieces of a large set.

    Raises
    ------
    ValueError
        If there are fewer than 3 images.
    """
    if rows.units > rows.images:
        return pca(rows.take(np.arange(rows.images)), dimensions=dimensions)
    starts = range(0, rows.images, _piece_images(rows))
    pieces = [replace(rows, row=rows.row[start : start + starts.step]) for start in starts]
    if len(pieces) == 1:
        # BLAS fills the cores by itself.
        return principal_components(row_products(rows), dimensions=dimensions)
    with dask.config.set(num_workers=threads):
        sums = run_pieces(
            row_products, [(each,) for each in pieces], scheduler="threads", advance=no_advance
        )
    return principal_components(merged_products(sums), dimensions=dimensions)


def _piece_images(rows: StoredRows) -> int:
    most = max(1, MOST_PIECE_BYTES // (8 * rows.units**2))
    return max(PIECE_IMAGES, -(-rows.images // most))
