"""Recordings that are begun: created once, with settings that everyone who goes on keeps."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.capture import Wanted
from activarium.tasks.capture.density import DensityCounter
from activarium.tasks.capture.device_errors import is_device_lost, is_out_of_memory
from activarium.tasks.capture.engines import (
    EngineChoice,
    choose_engine,
    hooks_because,
    open_capture,
)
from activarium.tasks.images.preprocessing import read_images
from activarium.tasks.memory_format import place_model
from activarium.tasks.recording.batch_size import (
    default_batch_size,
    even_batch_size,
    find_batch_size,
    halved,
    release_memory,
)
from activarium.tasks.recording.devices import gpu_model
from activarium.tasks.recording.normalising import normalise
from activarium.tasks.recording.record_plan import coordinate_values
from activarium.tasks.stores.recording_store import create_store, read_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from activarium.schemas.config import RecordConfig
    from activarium.tasks.capture.capture import Capture
    from activarium.tasks.images.preprocessing import Preprocessing
    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.recording.record_plan import RecordPlan
    from activarium.tasks.stores.places import Place

TRIAL_IMAGES = 16
"""First images at most that engines and batch sizes are tried on."""


@dataclass(frozen=True)
class Begun:
    """Settings that a begun recording keeps, because they decide the last bits of its numbers."""

    batch_size: int
    threads: int
    """Threads of each process on the CPU."""
    device_type: str
    engine: str
    unfolded: tuple[str, ...] | None
    gpu: str | None = None
    """Model of the GPU; empty for the CPU, None in recordings that do not tell."""

    @property
    def choice(self) -> EngineChoice:
        """The engine that captures."""
        return EngineChoice(self.engine, self.unfolded, "as the recording was begun")


@dataclass(frozen=True)
class Draws:
    """Untrained networks that answer to the same images one after the other, each in its shard."""

    sample: TestSet
    """The images of each draw."""
    seeds: tuple[int, ...]
    load: Callable[[int], nn.Module]
    """Return the network of a seed, in evaluation mode."""


@dataclass(frozen=True)
class Subject:
    """What is recorded: a model on its device, over images that become its inputs."""

    model: nn.Module
    test_set: TestSet
    preprocessing: Preprocessing
    device: torch.device
    memory_format: torch.memory_format = torch.channels_last
    """Of the model's weights, its inputs, and so of its maps."""
    draws: Draws | None = None
    """The networks of all draws, where `model` is that of the first."""

    def drawn(self, draw: int) -> Subject:
        """Return the same with the network of a draw."""
        if self.draws is None:
            return self
        model = self.draws.load(self.draws.seeds[draw])
        return replace(self, model=place_model(model, self.device, self.memory_format))

    def contiguous(self) -> Subject:
        """Return the same with maps whose channels do not lie last."""
        memory_format = torch.contiguous_format
        model = place_model(self.model, self.device, memory_format)
        return replace(self, model=model, memory_format=memory_format)

    def first_inputs(self, most: int = TRIAL_IMAGES) -> torch.Tensor:
        """Return the first images as inputs (image, colour, row, column), on the device."""
        images = min(most, len(self.test_set))
        pixels, _ = read_images(self.test_set, self.preprocessing, 0, images, threads=1)
        return self.inputs(torch.from_numpy(pixels).to(self.device))

    def inputs(self, images: torch.Tensor) -> torch.Tensor:
        """Return uint8 images (image, row, column, colour) on the device as the model's inputs."""
        return normalise(images, self.preprocessing, memory_format=self.memory_format)

    def open_capture(self, plan: RecordPlan, choice: EngineChoice, batch_size: int) -> Capture:
        """Return the capture of the planned layers, to be used as a context manager."""
        counter = None
        if plan.attributes["density"]:
            layers, classes = len(plan.model_layers.layers), len(self.test_set.class_names)
            counter = DensityCounter(layers, classes, self.device)
        wanted = wanted_by(plan)
        return open_capture(self.model, wanted, choice, density=counter, batch_size=batch_size)


def wanted_by(plan: RecordPlan) -> Wanted:
    """Return what is captured of the model."""
    precision = plan.attributes["precision"]
    return Wanted(plan.model_layers, plan.layout.reductions, plan.pooled, precision)


def is_begun(place: Place) -> bool:
    """Return whether there is a store."""
    return place.size("zarr.json") is not None


def begin(
    place: Place, plan: RecordPlan, subject: Subject, *, config: RecordConfig, threads: int
) -> EngineChoice:
    """Create the store, with an engine and a batch size that are chosen on the first images.

    Where another process creates it at the same moment, one of them does; `read_begun` tells which
    settings hold.

    Returns
    -------
    EngineChoice
        What was chosen, and why.
    """
    inputs, choice = _choose_engine(plan, subject, config)
    size, choice = _settle_batches(plan, subject, inputs, choice, config)
    device = subject.device
    begun = Begun(size, threads, device.type, choice.engine, choice.unfolded, gpu=gpu_model(device))
    create_store(
        place,
        plan.layout,
        attributes={**plan.attributes, **asdict(begun)},
        coordinates=coordinate_values(plan, subject.test_set),
        compression=config.compression,
    )
    return choice


def _choose_engine(
    plan: RecordPlan, subject: Subject, config: RecordConfig
) -> tuple[torch.Tensor, EngineChoice]:
    """Return the engine, and as many of the first inputs as the memory allows at once."""
    inputs = subject.first_inputs()
    while True:
        try:
            choice = choose_engine(
                subject.model,
                wanted_by(plan),
                inputs,
                engine=config.engine,
                images=len(subject.draws.sample if subject.draws else subject.test_set),
                density=config.density,
            )
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        else:
            return inputs, choice
        release_memory()
        inputs = inputs[: halved(len(inputs))]


def _settle_batches(
    plan: RecordPlan,
    subject: Subject,
    inputs: torch.Tensor,
    choice: EngineChoice,
    config: RecordConfig,
) -> tuple[int, EngineChoice]:
    """Return the batch size, and hooks where the chosen graph fails on a batch of that size."""
    try:
        size = _batch_size(plan, subject, inputs, choice, config)
        if choice.engine != "hooks" and config.batch_size != "auto" and size > len(inputs):
            _try_batch(size, plan, subject, inputs, choice)
    except Exception as error:
        if choice.engine == "hooks" or is_device_lost(error) or is_out_of_memory(error):
            raise
        choice = hooks_because("its graph fails on a full batch", error)
        size = _batch_size(plan, subject, inputs, choice, config)
    return size, choice


def _batch_size(
    plan: RecordPlan,
    subject: Subject,
    inputs: torch.Tensor,
    choice: EngineChoice,
    config: RecordConfig,
) -> int:
    """Return the configured batch size, or the one by rule or by trial."""
    if isinstance(config.batch_size, int):
        return config.batch_size
    if config.batch_size is None:
        height, width = inputs.shape[2:]
        size = default_batch_size(height, width, subject.device.type)
        return even_batch_size(size, plan.layout.shard_images)
    opened = partial(_opened_batch, plan, subject, inputs, choice)
    size = find_batch_size(opened, first=TRIAL_IMAGES, most=plan.layout.shard_images)
    return even_batch_size(size, plan.layout.shard_images)


@contextmanager
def _opened_batch(
    plan: RecordPlan, subject: Subject, inputs: torch.Tensor, choice: EngineChoice, images: int
) -> Iterator[Callable[[], None]]:
    """Open the capture of batches of so many images, and yield what runs one to its end."""
    places = torch.arange(images, device=subject.device) % len(inputs)
    batch = inputs[places].contiguous(memory_format=subject.memory_format)
    classes = torch.zeros(images, dtype=torch.int64, device=subject.device)
    with subject.open_capture(plan, choice, images) as capture:

        def run() -> None:
            capture.run(batch, classes).cpu()

        yield run


def _try_batch(
    size: int, plan: RecordPlan, subject: Subject, inputs: torch.Tensor, choice: EngineChoice
) -> None:
    """Run one batch of so many images; one that does not fit the memory is halved later."""
    size = min(size, plan.layout.shard_images)
    try:
        with _opened_batch(plan, subject, inputs, choice, size) as run:
            run()
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    release_memory()


def read_begun(place: Place, plan: RecordPlan) -> tuple[RecordPlan, Begun]:
    """Return the plan with the shards of a begun recording, and the settings that it keeps.

    Raises
    ------
    UserError
        If the store under the recording's name is another one's.
    """
    attributes = read_attributes(place)
    if attributes["fingerprint"] != plan.fingerprint:
        raise UserError(f"{place} belongs to another recording: delete it and record again")
    layout = replace(plan.layout, shard_images=int(attributes["shard_images"]))
    kept = {each.name: attributes.get(each.name, each.default) for each in fields(Begun)}
    if kept["unfolded"] is not None:
        kept["unfolded"] = tuple(kept["unfolded"])
    return replace(plan, layout=layout), Begun(**kept)


def check_same_ground(place: Place, plan: RecordPlan, device: torch.device) -> None:
    """Refuse to go on with other libraries, on another kind of device or another model of GPU.

    Raises
    ------
    UserError
        One line that says what was used before, and what is here.
    """
    attributes = read_attributes(place)
    begun = {**attributes["versions"], "device": attributes["device_type"]}
    here = {**plan.attributes["versions"], "device": device.type}
    if attributes.get("gpu"):
        begun["gpu"], here["gpu"] = attributes["gpu"], gpu_model(device)
    differing = sorted(name for name in begun if begun[name] != here.get(name))
    if differing:
        was = ", ".join(f"{name} {begun[name]}" for name in differing)
        now = ", ".join(f"{name} {here.get(name) or 'none'}" for name in differing)
        raise UserError(
            f"{place.name} was begun with {was}, here is {now}: its rows would not be of one kind; "
            f"go on with those, or delete {place} to record it anew"
        )
