"""The settings of a comparison of recordings, layer by layer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from activarium.schemas.settings import MOST_SEED, Config

Measure = Literal["cka", "rsa", "procrustes", "units"]


class CompareConfig(Config):
    """How alike the layers of one or several recordings are."""

    layers: tuple[str, ...] = ("*",)
    """Globs of layers."""
    features: Literal["means"] = "means"
    """What stands for an image in a layer: its channel means."""
    measures: tuple[Measure, ...] = ("cka", "rsa", "procrustes", "units")
    """cka (debiased too), rsa, procrustes, and units (which correspond, between two recordings)."""
    rsa_images: int = Field(default=2_000, ge=3, le=10_000)
    """Images at most whose distances RSA compares: a seeded sample."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of that sample."""
    against: str | None = None
    """The recording that each of the others is compared with; by default up to four are compared
    with each other, and more with the last."""
    scheduler: str = "threads"
    """Dask scheduler: threads, processes, synchronous, or the address of a running one
    (tcp://host:port)."""
