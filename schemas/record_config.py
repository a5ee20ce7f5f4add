"""The settings of a recording: what is kept of every image, how, and where it runs."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from activarium.schemas.errors import UserError, shortened
from activarium.schemas.layers import KINDS, Kind
from activarium.schemas.layout import Reduction
from activarium.schemas.settings import (
    MOST_BATCH,
    MOST_SEED,
    MOST_THREADS,
    Config,
    DaskAddress,
    Distinct,
    Globs,
    Part,
)

Precision = Literal["float32", "tf32", "bfloat16", "float16"]
Engine = Literal["auto", "compiled", "hooks"]


DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,4})?")
DEVICE_PROCESSES = re.compile(r"auto|cpu(:[0-9]{1,6})?|mps|cuda(:[0-9]{1,4})?")


def _is_device(value: str) -> str:
    if not DEVICE.fullmatch(value):
        several = "; several processes on the CPU are record.devices: [cpu:2]"
        raise ValueError(
            f"expected auto, cpu, cuda, cuda:<n> or mps, got {shortened(repr(value))}"
            f"{several if value.startswith('cpu:') else ''}"
        )
    return value


def _is_device_or_processes(value: str) -> str:
    value = value.strip()
    if not DEVICE_PROCESSES.fullmatch(value) or re.fullmatch("cpu:0+", value):
        raise ValueError(
            "expected cpu:<processes>, cpu, cuda, cuda:<n>, mps or auto, got "
            f"{shortened(repr(value))}"
        )
    return value


Device = Annotated[str, AfterValidator(_is_device)]
DeviceProcesses = Annotated[str, AfterValidator(_is_device_or_processes)]


class RecordConfig(Config):
    """What is recorded of every image."""

    layers: Globs = ("*",)
    """Glob patterns of layer names, such as layer4.*."""
    kinds: Literal["all"] | Annotated[tuple[Kind, ...], Field(min_length=1), Distinct] = (
        "conv",
        "linear",
        "block",
        "pool",
        "recurrent",
        "attention",
    )
    """Kinds of layers, or the word all. Beside the usual ones there are norm, activation, window_pool (any
    pooling but the global), container (modules around others), sum (additions that are no module,
    as of a residual) and other (dropout, products, one's own modules)."""
    reductions: Annotated[tuple[Reduction, ...], Distinct] = ("mean", "active")
    """Reductions of each channel's map; the mean is always kept."""
    pooled_layers: Annotated[tuple[str, ...], Field(max_length=1_000)] = ("auto",)
    """Globs of the layers whose pooled features are kept; auto: the last before the output at each
    map size."""
    pooled_grid: int = Field(default=2, ge=1, le=32)
    """Side of the grid that a map is average-pooled to."""
    thumbnail: int = Field(default=32, ge=0, le=256)
    """Side at most of the stored thumbnails, in pixels; 0 for none."""
    batch_size: Annotated[int, Field(ge=1, le=MOST_BATCH)] | Literal["auto"] | None = None
    """Images per forward pass; by default by the size of the input: on the CPU 256 up to 64 x 64
    pixels and 32 at 224 x 224, on a GPU eight times that. auto tries which is fastest. Where memory
    does not suffice, batches are halved."""
    device: Device = "auto"
    """auto (CUDA where present), cpu, cuda, cuda:<n>, or mps (Apple's GPUs)."""
    devices: (
        Annotated[tuple[DeviceProcesses, ...], Field(min_length=1, max_length=1_024)] | None
    ) = None
    """Devices of this machine that record side by side, each in a process of its own: such as
    cuda:0 and cuda:1, or cpu:2 for two processes on the CPU; no more than the machine has cores
    and memory for. By default device alone."""
    threads: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    """CPU threads of the model in each process; by default all cores, shared by the processes."""
    readers: int | None = Field(default=None, ge=1, le=MOST_THREADS)
    """Threads of each process that decode images; by default all cores, shared by the processes."""
    strict: bool = False
    """Stop at the first image that cannot be decoded, instead of leaving NaN in its rows."""
    density: bool = False
    """Keep histograms of all activations, at every position, per layer and class."""
    engine: Engine = "auto"
    """How layers are captured. compiled: in the traced graph of the model, compiled by
    torch.compile where that works; hooks: by forward hooks, which any model allows; auto: in the
    traced graph where a trial on the first images gives what hooks give, compiled in long runs,
    else by hooks. Both engines record the same to 1e-5 of a layer's largest value in float32; on
    the CPU this rules out compiling where active fractions are kept, everywhere where densities
    are."""
    allow_random: bool = False
    """Record a model although it gives other answers to the same image in another pass or in other
    company, as with dropout that stays on; the recording notes it. Refused by default."""
    precision: Precision = "float32"
    """Precision of the forward pass: float32, tf32 (float32 where the device has none, as on the
    CPU), bfloat16 or float16; what is kept of it is accumulated in float32."""
    compression: Literal["none", "zstd"] = "none"
    """Compression of the stored arrays."""
    shard_images: int | None = Field(default=None, ge=1, le=MOST_BATCH)
    """Images per shard; by default up to 4,096."""

    @field_validator("kinds", mode="before")
    @classmethod
    def _all_kinds(cls, kinds: object) -> object:
        return "all" if isinstance(kinds, list | tuple) and "all" in kinds else kinds

    @property
    def chosen_kinds(self) -> tuple[Kind, ...]:
        """The kinds of layers, written out."""
        return KINDS if self.kinds == "all" else self.kinds

    @model_validator(mode="after")
    def _mean_is_kept(self) -> RecordConfig:
        if "mean" not in self.reductions:
            msg = f"reductions must contain mean, got {self.reductions}"
            raise ValueError(msg)
        return self


class UntrainedConfig(Config):
    """The untrained networks that the model stands beside, all recorded over one sample of images."""

    draws: int = Field(default=19, ge=1, le=9_999)
    """How many networks of the same architecture, each drawn from a seed of its own. The smallest
    p-value is 1 / (draws + 1): 19 reach 0.05, 99 reach 0.01."""
    images: int = Field(default=1_000, ge=2, le=10_000)
    """Images at most of the sample, spread over the classes as evenly as they allow. Where there
    is no room for two of each class, some classes are drawn."""
    seed: int = Field(default=1, ge=0, le=MOST_SEED)
    """Seed of the sample and of the first network; the others follow it. model.seed, from which the
    model itself began, is left out."""

    def seeds(self, own: int) -> tuple[int, ...]:
        """Return the seed of each network, without the model's own."""
        following = ((self.seed + each) % (MOST_SEED + 1) for each in range(self.draws + 1))
        return tuple(seed for seed in following if seed != own)[: self.draws]


class RecordCall(Config):
    """What one call of `record` makes of a recording; it changes nothing of what is recorded."""

    part: Part = "1/1"
    """Part i of n of the shards, as i/n; other machines make the others."""
    dask: DaskAddress | None = None
    """Address of a Dask scheduler, such as tcp://host:8786, whose workers record."""
    repair: bool = False
    """Check everything that is stored first, and make anew what is damaged."""

    def check_with(self, config: RecordConfig) -> None:
        """Refuse a cluster beside parts or devices.

        Raises
        ------
        UserError
            If both are asked for.
        """
        is_part = int(self.part.partition("/")[2]) > 1
        if self.dask is not None and (is_part or config.devices):
            raise UserError(
                "--dask spreads over the workers of the cluster: leave out --part and --devices"
            )
