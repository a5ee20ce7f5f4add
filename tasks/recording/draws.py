"""Draws: many untrained networks over one sample of images, as one small recording.

Row `draw * n + i` is image i of the sample under a draw, and a shard is one draw. What untrained
networks of one architecture show differs from seed to seed; this is what a trained one is held against.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.schemas.layout import draw_image_id
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.progress import silent
from activarium.tasks.recording.begun import Draws
from activarium.tasks.recording.checkpoints import (
    choose_checkpoint,
    load_checkpoint,
    load_images,
    untrained_control,
)
from activarium.tasks.recording.record import record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image
    from torch import nn

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.config import RunConfig
    from activarium.schemas.receipts import CheckpointReceipt, RecordingReceipt
    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.progress import Progress
    from activarium.tasks.recording.checkpoints import Images
    from activarium.tasks.recording.record_plan import ModelIdentity
    from activarium.tasks.recording.share import Share


def class_quotas(available: NDArray[np.int64], images: int) -> NDArray[np.int64]:
    """Return how many images each class gives to a sample, as evenly as the classes allow.

    Parameters
    ----------
    available
        Images of each class, shape (class,), in the order in which classes take what is left over.
    images
        Images of the sample at most.

    Returns
    -------
    NDArray[np.int64]
        Shape (class,). No class gives more than one image more than another, unless that other gives
        all it has. Where two of each class are too many, the first classes that have two give
        two each and the others none: a class of one image has no spread.
    """
    pairs = np.minimum(available, 2)
    if pairs.sum() > images:
        has_two = available >= 2
        return np.where(has_two & (np.cumsum(has_two) <= images // 2), 2, 0)
    level = (
        bisect_right(range(images + 1), images, key=lambda n: np.minimum(available, n).sum()) - 1
    )
    quotas = np.minimum(available, level)
    more = np.flatnonzero(available > level)[: images - int(quotas.sum())]
    quotas[more] += 1
    return quotas


def _rank(seed: int, text: str) -> bytes:
    """Return what puts texts in an order that looks random and follows from themselves alone."""
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def sample_images(
    ids: Sequence[str],
    labels: NDArray[np.int32],
    class_names: Sequence[str],
    *,
    images: int,
    seed: int,
) -> NDArray[np.int64]:
    """Return a sample of the labelled images, spread over the classes.

    Parameters
    ----------
    ids
        Id of each image. Which images of a class are taken follows from their ids and the seed, not
        from their order.
    labels
        Class code of each image, shape (image,); -1 where there is none.
    class_names
        Name of each class.
    images
        Images of the sample at most.
    seed
        Seed of the sample.

    Returns
    -------
    NDArray[np.int64]
        Positions of the images, sorted.

    Raises
    ------
    UserError
        If no two labelled images are of one class, or there is no room for a pair.
    """
    classes = sorted(range(len(class_names)), key=lambda each: _rank(seed, class_names[each]))
    members = [np.flatnonzero(labels == each) for each in classes]
    quotas = class_quotas(np.array([len(each) for each in members], np.int64), images)
    if not (quotas >= 2).any():
        raise UserError(
            "controls: untrained networks are compared on images of classes, and no two labelled "
            "images are of one class; leave untrained out of controls"
        )
    chosen = [
        position
        for each, quota in zip(members, quotas, strict=True)
        for position in sorted(each.tolist(), key=lambda at: _rank(seed, ids[at]))[:quota]
    ]
    return np.array(sorted(chosen), np.int64)


@dataclass(frozen=True)
class _Repeated:
    """Reads the images of a sample that is repeated for each draw."""

    sample: TestSet

    def read(self, key: int) -> Image.Image:
        """Return the image at a row of all draws."""
        return self.sample.image(key % len(self.sample))


def sampled(test_set: TestSet, *, images: int, seed: int) -> TestSet:
    """Return the sample of a test set as a test set, in the order of the whole.

    Raises
    ------
    UserError
        As `sample_images`.
    """
    rows = sample_images(
        test_set.ids, test_set.labels, test_set.class_names, images=images, seed=seed
    )
    ids = tuple(test_set.ids[row] for row in rows)
    return replace(
        test_set,
        ids=ids,
        labels=test_set.labels[rows],
        pixels=None if test_set.pixels is None else test_set.pixels[rows],
        keys=None if test_set.keys is None else test_set.keys[rows],
        identity=fingerprint({"whole": test_set.identity, "images": list(ids)}),
    )


def repeated(sample: TestSet, draws: int) -> TestSet:
    """Return the test set of all draws: the sample once for each, draw after draw."""
    rows = len(sample) * draws
    return replace(
        sample,
        ids=tuple(draw_image_id(draw, image) for draw in range(draws) for image in sample.ids),
        labels=np.tile(sample.labels, draws),
        pixels=None,
        reader=_Repeated(sample),
        keys=np.arange(rows),
    )


def choose_draws(config: RunConfig) -> CheckpointReceipt:
    """Return the receipt of the untrained networks that a run is held against.

    Raises
    ------
    UserError
        As `choose_checkpoint`.
    """
    start = choose_checkpoint(untrained_control(config).model)
    draws = config.untrained.draws
    return start.model_copy(update={"checkpoint": _name(draws), "draws": draws})


def _name(draws: int) -> str:
    return f"untrained-{draws}-draws"


@dataclass(frozen=True)
class _Networks:
    """Makes the untrained network of a seed."""

    config: RunConfig
    """The run of the control."""
    images: Images

    def load(self, seed: int) -> tuple[nn.Module, ModelIdentity]:
        """Return the network and its identity."""
        model = self.config.model.model_copy(update={"seed": seed})
        return load_checkpoint(model, choose_checkpoint(model), self.images)

    def same(self, seed: int, weights: Mapping[int, str]) -> nn.Module:
        """Return the network in evaluation mode.

        Raises
        ------
        UserError
            If its weights are others than before, whose checksums are given by seed.
        """
        model, identity = self.load(seed)
        if identity.weights_sha256 != weights[seed]:
            raise UserError(
                f"{identity.name} starts with other weights each time under seed {seed}: expected "
                "weights that follow from torch's random state; let the model draw all of them from "
                "it, or leave untrained out of controls"
            )
        return model.eval()

    def distinct(self, seeds: Sequence[int]) -> dict[str, int]:
        """Return the first seed of each set of weights, by the checksum of the weights."""
        found: dict[str, int] = {}
        for seed in seeds:
            found.setdefault(self.load(seed)[1].weights_sha256, seed)
        return found


def record_draws(  # noqa: PLR0913 - a whole stage
    atlas: Atlas,
    config: RunConfig,
    *,
    progress: Progress = silent,
    share: Share | None = None,
    repair: bool = False,
    images: Images | None = None,
) -> RecordingReceipt:
    """Record the untrained networks of a run over a sample of its images, or finish what was begun.

    Parameters
    ----------
    atlas
        Where the recording goes.
    config
        The run; its section `untrained` says how many networks, and how large the sample is.
    progress
        Shows how far it is.
    share
        Which draws this process makes; by default all.
    repair
        Check everything that is stored first, and make anew what is damaged.
    images
        The configured test set, where it is loaded already.

    Raises
    ------
    UserError
        As `record` and `sample_images`.
    """
    images = images or load_images(atlas, config)
    control = untrained_control(config)
    networks = _Networks(control, images)
    settings = config.untrained
    sample = sampled(images.test_set, images=settings.images, seed=settings.seed)
    asked = settings.seeds(config.model.seed)
    found = networks.distinct(asked)
    seeds = tuple(found.values())
    model, first = networks.load(seeds[0])
    notes = first.notes
    if len(seeds) < len(asked):
        notes += (
            f"{first.name} starts with the same weights under several seeds: {len(seeds)} of "
            f"{len(asked)} draws are distinct and recorded",
        )
    identity = replace(
        first,
        checkpoint=_name(len(seeds)),
        weights_sha256=fingerprint({"draws": list(found)}),
        notes=notes,
        draw_seeds=seeds,
        sampled_from=images.test_set.identity,
    )
    kept = {"reductions": ("mean",), "pooled_layers": (), "thumbnail": 0, "density": False}
    # Each network is traced once; compiling each would take longer than its images.
    engine = "auto" if config.record.engine == "compiled" else config.record.engine
    record_settings = config.record.model_copy(
        update={**kept, "engine": engine, "shard_images": len(sample)}
    )
    return record(
        atlas,
        model,
        repeated(sample, len(seeds)),
        preprocessing=images.preprocessing,
        config=record_settings,
        identity=identity,
        progress=progress,
        share=share,
        repair=repair,
        draws=Draws(
            sample,
            seeds,
            partial(networks.same, weights={seed: each for each, seed in found.items()}),
        ),
    )
