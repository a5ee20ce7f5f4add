"""The settings of a comparison of recordings, layer by layer."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from activarium.schemas.settings import MOST_SEED, Config, Distinct, Globs, Scheduler

Measure = Literal["cka", "rsa", "procrustes", "units"]
CompareFeatures = Literal["means", "pooled"]


class CompareConfig(Config):
    """How alike the layers of one or several recordings are."""

    layers: Globs = ("*",)
    """Globs of layers."""
    features: CompareFeatures = "means"
    """What stands for an image in a layer: means (its channel means) or pooled (the layer's maps,
    pooled to a small grid, of the layers that `record.pooled_layers` chose)."""
    measures: Annotated[tuple[Measure, ...], Field(min_length=1), Distinct] = (
        "cka",
        "rsa",
        "procrustes",
        "units",
    )
    """cka (debiased too), rsa, procrustes, and units (which correspond, between two recordings;
    channel means alone tell that)."""
    rsa_images: int = Field(default=2_000, ge=3, le=10_000)
    """Images at most whose distances RSA compares: a seeded sample."""
    seed: int = Field(default=0, ge=0, le=MOST_SEED)
    """Seed of that sample."""
    against: str | None = None
    """The recording that each of the others is compared with; by default up to four are compared
    with each other, and more with the last."""
    scheduler: Scheduler = "threads"
    """Dask scheduler: threads, processes, synchronous, or the address of a running one
    (tcp://host:port)."""

    @model_validator(mode="after")
    def _has_a_measure(self) -> Self:
        if self.features != "means" and {*self.measures} == {"units"}:
            raise ValueError(
                f"units correspond by channel means alone, not by features {self.features}: ask "
                "for means, or for cka, rsa or procrustes"
            )
        return self
