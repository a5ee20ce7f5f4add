"""Watching a folder: each new checkpoint is recorded, analysed and compared as it appears."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from activarium.flows.pipeline import analysis_settings, obtain_series
from activarium.flows.stages import SeriesComparison
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.receipts import SeriesReceipt, TablesReceipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from activarium.flows.stages import Stages
    from activarium.schemas.config import RunConfig

SETTLING_SECONDS = 2.0
"""Between two looks that tell whether a file is still being written."""
PAGE_ENDING = "-training"
"""Ends the name of the page, that of the run itself being the page of its recording."""
MEASURES = ("cka", "units")
"""What checkpoints are compared by; RSA and Procrustes cost more than all the rest."""


class WatchReceipt(BaseModel):
    """What one pass over a folder of checkpoints made or found."""

    model_config = ConfigDict(frozen=True)

    series: SeriesReceipt
    tables: tuple[TablesReceipt, ...]
    comparison: SeriesComparison

    @property
    def made(self) -> bool:
        """Whether anything was made anew."""
        made = [self.series.made, self.comparison.made, *(each.made for each in self.tables)]
        return any(made)


def record_and_compare(
    config: RunConfig, root: Path, stages: Stages, recordings_at: str | None = None
) -> WatchReceipt:
    """Record, analyse and compare every checkpoint of the configured series that is there.

    Parameters
    ----------
    config
        A run with `model.checkpoints`; its name begins that of the page.
    root
        The atlas folder.
    stages
        The stages, plain or as flows.
    recordings_at
        Address of the recordings where they lie elsewhere.
    """
    series = obtain_series(config, root, stages, recordings_at=recordings_at)
    settings = analysis_settings(config)
    tables = [
        stages.analyse(each.recording, settings, root, recordings_at) for each in series.recordings
    ]
    names = sorted({str(each.series) for each in series.checkpoints})
    beside = CompareConfig(measures=MEASURES)
    page = f"{config.name}{PAGE_ENDING}"
    comparison = stages.compare_series(names, beside, root, page, recordings_at)
    return WatchReceipt(series=series, tables=tuple(tables), comparison=comparison)


def watch(
    look: Callable[[], bool],
    act: Callable[[], WatchReceipt | None],
    *,
    every: float,
    most: int | None = None,
) -> Iterator[WatchReceipt | None]:
    """Yield what each pass made: one pass at each look that finds something new.

    Parameters
    ----------
    look
        Whether there is something new, and nothing is being written.
    act
        One pass; None where it failed and the watch goes on.
    every
        Seconds between looks; the second look comes sooner, to tell what is being written.
    most
        Passes to end after; for ever by default.
    """
    passes = 0
    look()
    time.sleep(min(every, SETTLING_SECONDS))
    while True:
        if look():
            yield act()
            passes += 1
        if most is not None and passes >= most:
            return
        time.sleep(every)
