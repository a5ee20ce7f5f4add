"""What the page of a comparison reads: similarities of layers, and what became of their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from activarium.schemas.tables import SIMILARITIES, UNIT_MATCHES
from activarium.tasks.stores.parquet_files import read_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

MEASURES = {
    "cka_debiased": "Debiased CKA",
    "cka": "CKA",
    "rsa": "RSA",
    "procrustes": "Procrustes",
}
"""Measures that are pictured, and what they are called."""
OVER_DEPTH = {
    "cka_debiased": "debiased CKA of the layer",
    "same_r": "mean |r| of a unit with that of its name",
    "assigned_r": "mean |r| of a unit with its partner",
    "kept_class": "units that prefer the same class",
}
"""What is drawn over the layers that both recordings have."""


@dataclass(frozen=True)
class ComparedPair:
    """The tables of one pair of recordings, or of one with itself."""

    first: str
    second: str
    similarities: pd.DataFrame
    """The table, by depth of both layers."""
    matches: pd.DataFrame | None
    """The table `unit_matches`, where units were matched."""

    @property
    def layers(self) -> list[str]:
        """Layers of the first recording by depth."""
        return list(dict.fromkeys(self.similarities["layer"]))

    @property
    def other_layers(self) -> list[str]:
        """Layers of the second recording by depth."""
        ordered = self.similarities.sort_values("other_depth", kind="stable")
        return list(dict.fromkeys(ordered["other_layer"]))

    @property
    def measures(self) -> list[str]:
        """Measures that were computed."""
        return [name for name in MEASURES if self.similarities[name].notna().any()]

    def measure(self, name: str) -> pd.DataFrame:
        """Return a measure, layers of the first by layers of the second."""
        wide = self.similarities.pivot_table(
            index="layer", columns="other_layer", values=name, aggfunc="first", dropna=False
        )
        return wide.reindex(index=self.layers, columns=self.other_layers)

    def over_depth(self) -> pd.DataFrame:
        """Return what the layers that both have keep, a measure per line, a layer per column."""
        same = self.similarities[self.similarities["layer"] == self.similarities["other_layer"]]
        found = same.set_index("layer")[["cka_debiased"]]
        if self.matches is not None and len(self.matches):
            units = self.matches[["layer", "same_r", "assigned_r", "kept_class"]].assign(
                same_r=self.matches["same_r"].abs(),
                assigned_r=self.matches["assigned_r"].abs(),
                kept_class=self.matches["kept_class"].map({True: 1.0, False: 0.0}),
            )
            found = found.join(units.groupby("layer", sort=False).mean())
        return found.astype(float).T.dropna(how="all")


def read_pairs(files: Sequence[Path]) -> list[ComparedPair]:
    """Return the pairs of recordings whose tables a comparison made, in their order.

    Parameters
    ----------
    files
        Files of the tables `similarities` and `unit_matches`.

    Raises
    ------
    UserError
        If a file is missing or damaged.
    """
    matches = {
        (file.parent.name, file.name): file
        for file in files
        if file.parent.parent.name == UNIT_MATCHES.name
    }
    return [
        _pair(file, matches.get((file.parent.name, file.name)))
        for file in files
        if file.parent.parent.name == SIMILARITIES.name
    ]


def _pair(path: Path, matches: Path | None) -> ComparedPair:
    rows = read_table(path).to_pandas()
    return ComparedPair(
        path.parent.name.removeprefix("recording="),
        str(rows["other_recording"].iloc[0]),
        rows.sort_values(["depth", "other_depth"], ignore_index=True),
        None if matches is None else read_table(matches).to_pandas(),
    )
