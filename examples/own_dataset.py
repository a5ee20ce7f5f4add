"""A dataset of one's own: squares of three colours, drawn when they are asked for."""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 70, 220)}


class ColouredSquares(Dataset[tuple[Image.Image, int]]):
    """Squares of three colours with noise; image i is always the same."""

    classes = tuple(COLOURS)
    thread_safe = True

    def __init__(self, images: int, seed: int) -> None:
        self.images = images
        self.seed = seed

    def __len__(self) -> int:
        return self.images

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        label = index % len(COLOURS)
        rng = np.random.default_rng([self.seed, index])
        noise = rng.normal(0, 30, (32, 32, 3))
        pixels = np.clip(np.array(list(COLOURS.values())[label]) + noise, 0, 255)
        return Image.fromarray(pixels.astype(np.uint8)), label


def coloured_squares(split: str, images: int = 300) -> ColouredSquares:
    """Return other images for training than for testing."""
    return ColouredSquares(images, seed=1 if split == "train" else 0)
