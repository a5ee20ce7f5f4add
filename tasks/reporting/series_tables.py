"""What the page of series reads: their checkpoints, how their layers change, and densities."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from activarium.schemas.atlas import slug
from activarium.schemas.density import BINS
from activarium.schemas.series_tables import HEALTHY
from activarium.schemas.tables import DENSITIES, LAYER_CHANGES, RECORDINGS
from activarium.tasks.stores.parquet_files import read_table
from activarium.tasks.stores.table_reading import read_settled
from activarium.tasks.stores.table_sets import CHANGES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas


@dataclass(frozen=True)
class SeriesTables:
    """The tables of one series."""

    name: str
    checkpoints: pd.DataFrame
    """One line per recording, by step: recording, step, checkpoint, model, test_set, accuracy."""
    changes: pd.DataFrame
    """The table `layer_changes` of all checkpoints, by step and depth."""
    densities: dict[str, NDArray[np.int64]]
    """Activations of each layer, (step, bin); empty where none were recorded."""

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints, ascending."""
        return [int(step) for step in self.checkpoints["step"]]

    @property
    def layers(self) -> list[str]:
        """Layers by depth."""
        return list(dict.fromkeys(self.changes["layer"]))

    def measure(self, name: str) -> pd.DataFrame:
        """Return one column of `layer_changes` by layer and step, layers by depth."""
        wide = self.changes.pivot_table(
            index="layer", columns="step", values=name, aggfunc="first", dropna=False
        )
        return wide.reindex(index=self.layers, columns=self.steps)

    @property
    def accuracy(self) -> pd.DataFrame:
        """Accuracy of the model by step, in one line; NaN where unknown."""
        values = self.checkpoints["accuracy"].astype(float).to_numpy()
        return pd.DataFrame([values], index=["the model"], columns=self.steps)

    @property
    def is_healthy(self) -> bool:
        """Whether all layers are healthy at every checkpoint."""
        return bool((self.changes["health"] == HEALTHY).all())


def read_series(atlas: Atlas, recordings: Sequence[str]) -> list[SeriesTables]:
    """Return the series of some recordings, by name.

    Parameters
    ----------
    atlas
        Where the tables lie.
    recordings
        Recordings whose rows of `layer_changes` are written.
    """
    facts = pd.concat([_facts(atlas, name) for name in recordings], ignore_index=True)
    facts = facts.sort_values(["series", "step"], ignore_index=True)
    return [
        _series(atlas, str(name), members.reset_index(drop=True))
        for name, members in facts.groupby("series", sort=True)
    ]


def labels_of(series: Sequence[SeriesTables]) -> list[str]:
    """Return a short, distinct name of each series: without its hash and test set, if it can be."""
    short = []
    for each in series:
        name = re.sub(r"-[0-9a-f]{12}$", "", each.name)
        short.append(name.removesuffix(f"-{slug(str(each.checkpoints['test_set'].iloc[0]))}"))
    names = [each.name for each in series]
    return short if len(set(short)) == len(short) and all(short) else names


def _facts(atlas: Atlas, name: str) -> pd.DataFrame:
    columns = ["series", "step", "checkpoint", "model", "test_set", "accuracy"]
    rows: pd.DataFrame = read_table(atlas.table_file(RECORDINGS, name), columns).to_pandas()
    return rows.assign(recording=name)


def _series(atlas: Atlas, name: str, members: pd.DataFrame) -> SeriesTables:
    files = [atlas.table_file(LAYER_CHANGES, each) for each in members["recording"]]

    def read() -> list[pd.DataFrame]:
        return [read_table(file).to_pandas() for file in files]

    changes = pd.concat(read_settled(atlas, [name], read, (CHANGES,)), ignore_index=True)
    return SeriesTables(
        name,
        members,
        changes.sort_values(["step", "depth"], ignore_index=True),
        _densities(atlas, members["recording"].tolist()),
    )


def _densities(atlas: Atlas, members: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    found: dict[str, NDArray[np.int64]] = {}
    for place, name in enumerate(members):
        path = atlas.table_file(DENSITIES, name)
        if not path.is_file():
            continue
        rows = read_table(path, ["layer", "bin", "activations"]).to_pandas()
        for layer, part in rows.groupby("layer", sort=False):
            counts = found.setdefault(str(layer), np.zeros((len(members), BINS), np.int64))
            np.add.at(counts[place], part["bin"].to_numpy(), part["activations"].to_numpy())
    return found
