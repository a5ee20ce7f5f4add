"""Rows of the table `densities`: the histograms of a recording's activations, bin by bin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from activarium.tasks.stores.recording import Recording


def density_pieces(recording: Recording, *, is_whole: bool) -> Iterator[Mapping[str, Any]]:
    """Yield the columns of each layer's rows, by class and bin; bins without activations have none.

    Parameters
    ----------
    recording
        Its array `density` holds counts (layer, class, bin) of all images.
    is_whole
        Whether all images are analysed: the counts of a selection are not known.
    """
    is_counted = recording.attributes.get("status") == "complete" and recording.has("density")
    if not is_whole or not is_counted:
        return
    names = pa.array(recording.class_names, pa.string())
    low, high = recording.read("bin_low"), recording.read("bin_high")
    for place, layer in enumerate(recording.layers):
        counts = recording.block("density", slice(place, place + 1), slice(None))[0]
        code, bins = np.nonzero(counts)
        yield {
            "layer": [layer.name] * len(bins),
            "depth": np.full(len(bins), layer.depth),
            "class": names.take(pa.array(code)),
            "bin": bins,
            "bin_low": low[bins],
            "bin_high": high[bins],
            "activations": counts[code, bins],
        }
