"""Images of three classes, for tests of maps."""

from __future__ import annotations

import numpy as np

CLASSES = np.arange(90) % 3


def blobs(seed: int, *, images: int = 90, features: int = 8) -> np.ndarray:
    """Three classes, well apart."""
    rng = np.random.default_rng(seed)
    centre = 6 * rng.normal(size=(3, features))
    return centre[np.arange(images) % 3] + rng.normal(size=(images, features))
