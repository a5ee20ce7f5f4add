"""The tables of a pair of recordings: what they depend on, and that they are replaced as one."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from activarium.schemas.columns import FORMAT_VERSION
from activarium.schemas.tables import SIMILARITIES, UNIT_MATCHES
from activarium.tasks.fingerprint import fingerprint
from activarium.tasks.similarity.similarity_columns import FEWEST_IMAGES
from activarium.tasks.statistics.comparable_classes import has_lone_classes
from activarium.tasks.stores.set_replacing import replacing_set
from activarium.tasks.stores.table_sets import TableSet, pair_set
from activarium.tasks.stores.table_writing import write_columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.schemas.compare_config import CompareConfig
    from activarium.schemas.layers import Layer
    from activarium.tasks.stores.recording import Recording

SIMILARITY_VERSION = 1
"""Raised when a measure changes, so that tables made before are made again."""


@dataclass(frozen=True)
class Pair:
    """Two recordings to compare, or one with itself."""

    atlas: Atlas
    first: Recording
    second: Recording
    inputs: str
    """Fingerprint of everything that its tables depend on."""
    files: dict[str, Path]
    """File of each table."""

    @property
    def is_same(self) -> bool:
        """Whether a recording is compared with itself."""
        return self.first.name == self.second.name

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The recordings, each once."""
        return (self.first,) if self.is_same else (self.first, self.second)

    @property
    def set(self) -> TableSet:
        """Its files as a set."""
        return pair_set(self.atlas, self.first.name, self.files[SIMILARITIES.name])

    def is_current(self) -> bool:
        """Return whether its tables are there, made of exactly the same."""
        files = [*self.files.values()]
        return self.set.is_current(self.inputs, files)

    @property
    def work_name(self) -> str:
        """What the folder of its half-done work is called; no recording's ends so."""
        return "~".join(each.name for each in self.recordings) + "~"

    @property
    def name(self) -> str:
        """The pair in words."""
        return " with ".join(each.name for each in self.recordings)


def pair_of(
    atlas: Atlas,
    first: Recording,
    second: Recording,
    layers: dict[str, tuple[Layer, ...]],
    config: CompareConfig,
) -> Pair:
    """Return two recordings as a pair, with what its tables depend on and where they lie."""
    inputs = fingerprint(
        {
            "recordings": [first.identity, second.identity],
            "layers": [layer_names(layers[first.name]), layer_names(layers[second.name])],
            "settings": settings_of(config),
            "columns": FORMAT_VERSION,
            "similarity": SIMILARITY_VERSION,
            # What was made before of as little said what cannot be told; all else stays as it is.
            **({"few": True} if _is_little(first, second) else {}),
        }
    )
    by_means = config.features == "means"
    matched = by_means and "units" in config.measures and first.name != second.name
    tables = (SIMILARITIES, UNIT_MATCHES) if matched else (SIMILARITIES,)
    # No id holds a colon, so that both kinds of features have files of their own.
    part = second.name if by_means else f"{config.features}:{second.name}"
    files = {each.name: atlas.table_file(each, first.name, part) for each in tables}
    return Pair(atlas, first, second, inputs, files)


def _is_little(first: Recording, second: Recording) -> bool:
    """Return whether images or classes are too few to compare all that there is."""
    both = first.valid & second.valid
    return int(both.sum()) < FEWEST_IMAGES or has_lone_classes(first.labels[both])


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """Return the names of layers."""
    return [layer.name for layer in layers]


def settings_of(config: CompareConfig) -> dict[str, Any]:
    """Return the settings that change a number."""
    chosen = config.model_dump(mode="json", include={"features", "rsa_images", "seed"})
    return chosen | {"measures": sorted(config.measures)}


def write_tables(pair: Pair, columns: dict[Table, dict[str, Any]], config: CompareConfig) -> None:
    """Write the tables of a pair, which take the places of those before as one."""
    words = ["activarium", "compare", *(each.name for each in pair.recordings)]
    words += [] if config.features == "means" else ["--features", config.features]
    similar = pair.files[SIMILARITIES.name]
    matched = pair.atlas.partition(UNIT_MATCHES, pair.first.name) / similar.name
    command = shlex.join(words)
    with replacing_set(pair.set, inputs=pair.inputs, command=command, others=[matched]) as staged:
        for table, values in columns.items():
            path = staged.path(pair.files[table.name])
            write_columns(path, table, values, inputs=pair.inputs)
