"""How much an analysis will take, told before it begins where it is much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dask.system

from activarium.schemas.layout import BLOCK_UNITS
from activarium.tasks.progress import tell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.config import AnalyseConfig
    from activarium.tasks.analysis.chosen_images import ChosenImages
    from activarium.tasks.progress import Progress

GIGABYTE = 1e9
MUCH_TABLES, MUCH_MEMORY, MUCH_SECONDS = 1 * GIGABYTE, 3 * GIGABYTE, 600
"""From here on an analysis says what it takes before it begins."""
SUGGESTED_CLASSES = 10
"""Classes of each unit that are kept instead, where those of all are much."""

# Measured on two virtual cores (AMD EPYC): 1,000,000 images x 5,000 units x 10 classes, and
# 20,000 images x 1,024 units x 1,000 classes. Rough: an order of size, not a promise.
_CLASS_ROW_BYTES, _EXEMPLAR_BYTES = 104, 8
"""In tables, compressed."""
_TEST_BYTES = 56
"""In memory, of each unit and class, while q-values are computed."""
_PROCESS_BYTES, _PIECE_BYTES = 0.5 * GIGABYTE, 0.25 * GIGABYTE
_VALUE_BYTES = 14
"""Of a response of a piece that is worked on."""
_IMAGE_BYTES = 270
_VALUE_SECONDS, _TEST_SECONDS = 6.5e-7, 2e-5
"""Of one core, per response, and per unit and class with its rows and exemplars."""


@dataclass(frozen=True)
class WorkPlan:
    """What an analysis by classes will take."""

    class_rows: int
    """Rows of `unit_classes`."""
    exemplars: int
    """Rows of `exemplars` at most."""
    memory: float
    """Bytes at the peak."""
    seconds: float
    """On the cores of this machine."""
    cores: int

    @property
    def tables(self) -> float:
        """Bytes of the two long tables."""
        return _CLASS_ROW_BYTES * self.class_rows + _EXEMPLAR_BYTES * self.exemplars

    @property
    def is_much(self) -> bool:
        """Whether it has to be said before it begins."""
        much = (self.tables / MUCH_TABLES, self.memory / MUCH_MEMORY, self.seconds / MUCH_SECONDS)
        return max(much) >= 1

    @property
    def rows(self) -> str:
        """Return the rows in words."""
        return f"{self.class_rows:,} rows of unit_classes and {self.exemplars:,} of exemplars"


def plan_work(images: int, layers: Sequence[int], classes: int, config: AnalyseConfig) -> WorkPlan:
    """Return what an analysis will take, as far as that can be told.

    Parameters
    ----------
    images
        Images that are analysed.
    layers
        Units of each layer.
    classes
        Classes.
    config
        How it is analysed.
    """
    units, cores = sum(layers), dask.system.CPU_COUNT if config.scheduler != "synchronous" else 1
    kept = classes if config.top_classes is None else min(classes, config.top_classes)
    within = min(config.class_exemplars, -(-images // max(classes, 1)))
    exemplars = 2 * units * (min(config.exemplars, images) + within * kept)
    tests = units * classes
    block = _VALUE_BYTES * min(BLOCK_UNITS, units) * images
    # A block holds its statistics by class, and its exemplars as rows.
    block += min(BLOCK_UNITS, units) * classes * (250 + 240 * within)
    layer = _VALUE_BYTES * max(layers, default=0) * images
    at_once = min(cores, len(layers)) * (_PIECE_BYTES + max(block, layer))
    at_end = _PIECE_BYTES + _TEST_BYTES * tests + 8 * units * config.permutations
    memory = _PROCESS_BYTES + max(at_once, at_end) + _IMAGE_BYTES * images
    seconds = (_VALUE_SECONDS * units * images + _TEST_SECONDS * tests) / cores
    return WorkPlan(units * kept, exemplars, memory, seconds, cores)


def tell_plan(
    name: str,
    chosen: ChosenImages,
    layers: Sequence[int],
    config: AnalyseConfig,
    progress: Progress,
) -> None:
    """Say what an analysis by classes will take before it begins, where that is much."""
    smaller = config.model_copy(update={"top_classes": SUGGESTED_CLASSES})
    plan, less = (
        plan_work(len(chosen.row), layers, len(chosen.class_names), each)
        for each in (config, smaller)
    )
    if plan.is_much:
        tell(progress, plan_line(name, plan, less, config.scheduler))


def plan_line(name: str, plan: WorkPlan, smaller: WorkPlan, scheduler: str) -> str:
    """Return what an analysis will take in a line, and how it would take less.

    Parameters
    ----------
    name
        Of the tables.
    plan
        What it takes.
    smaller
        The same with `SUGGESTED_CLASSES` of each unit.
    scheduler
        Where it runs.
    """
    away = "://" in scheduler
    where = "of each worker" if away else "of memory"
    time = "" if away else f", {_minutes(plan.seconds)} on {_cores(plan.cores)}"
    line = (
        f"{name}: {plan.rows}, {_gigabytes(plan.tables)} of tables, {_gigabytes(plan.memory)} "
        f"{where}{time}"
    )
    if smaller.tables < plan.tables / 2 and plan.tables >= MUCH_TABLES / 10:
        line += (
            f"; top_classes: {SUGGESTED_CLASSES} (analyse --top-classes {SUGGESTED_CLASSES}) keeps "
            f"{_gigabytes(smaller.tables)}"
        )
    return line


def _gigabytes(size: float) -> str:
    return f"about {size / GIGABYTE:.1f} GB" if size >= 0.05 * GIGABYTE else "less than 0.1 GB"


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 120:
        return f"{round(minutes / 60)} hours"
    return "a minute" if minutes <= 1 else f"{minutes} minutes"


def _cores(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"
