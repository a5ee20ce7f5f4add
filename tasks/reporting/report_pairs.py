"""The report page's pairs of classes: which ones a layer tells apart, and which are alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.cluster.hierarchy import leaves_list, linkage

from activarium.schemas.tables import CLASS_PAIRS
from activarium.tasks.reporting.report_packing import packed_shares
from activarium.tasks.reporting.report_tables import codes_in, read_batches

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from activarium.schemas.atlas import Atlas
    from activarium.tasks.reporting.report_tables import RecordingTables

MOST_CLASSES = 100
"""Up to so many classes there is a matrix of all pairs."""

_MATRIX_BYTES = 250_000
"""Size at most of all matrices together; beyond, fewer layers have one."""
_NAMED = 3
"""Pairs named at each end."""
_COLUMNS = (
    "layer", "class", "other_class", "centroid_cosine", "best_auroc", "best_unit",
    "separating_units",
)  # fmt: skip


@dataclass(frozen=True)
class _Pairs:
    """The pairs of one layer that have a value, sorted by their classes."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    cosine: NDArray[np.float64]
    auroc: NDArray[np.float64]
    unit: NDArray[np.int64]
    separating: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: NDArray[Any]) -> _Pairs:
        return _Pairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


def pairs_payload(
    atlas: Atlas, tables: RecordingTables, classes: list[str]
) -> dict[str, Any] | None:
    """Return the pairs of classes of every layer; nothing where none are compared.

    Returns
    -------
    `classes`, codes of those compared; `complete`, whether all pairs are; `layers`, each with its
    counts, its nearest and farthest pairs, and, for up to `MOST_CLASSES` classes and within a size
    limit, the matrix without its diagonal: the pairs (0, 1), (0, 2), ... (1, 2), ...
    """
    names = tables.layers["layer"].to_pylist()
    depth, pairs = _read_pairs(atlas, tables, classes, names)
    if not len(pairs):
        return None
    present = np.unique(np.concatenate([pairs.first, pairs.second]))
    full = len(present) * (len(present) - 1) // 2
    layers = [pairs.take(np.flatnonzero(depth == place)) for place in range(len(names))]
    complete = len(present) <= MOST_CLASSES and all(len(own) in (0, full) for own in layers)
    drawn = _drawn(tables, full) if complete else set()
    return {
        "classes": present.tolist(),
        "complete": complete,
        "chosen": _default_layer(tables),
        "layers": [
            {
                "layer": name,
                **_words(own, complete=complete),
                **(_matrix(own, present) if place in drawn and len(own) else {}),
            }
            for place, (name, own) in enumerate(zip(names, layers, strict=True))
        ],
    }


def _read_pairs(
    atlas: Atlas, tables: RecordingTables, classes: list[str], layers: list[str]
) -> tuple[NDArray[np.int64], _Pairs]:
    """Return the place of each pair's layer, and the pairs."""
    path = atlas.table_file(CLASS_PAIRS, tables.recording)
    class_names, units = pa.array(classes, pa.string()), tables.units["unit"].combine_chunks()
    layer_names = pa.array(layers, pa.string())
    found: list[list[NDArray[Any]]] = []
    for batch in read_batches(path, _COLUMNS, coded=("layer", "class", "other_class", "best_unit")):
        one, other = (codes_in(batch[name], class_names) for name in ("class", "other_class"))
        plain = [
            batch[name].to_numpy(zero_copy_only=False).astype(np.float64)
            for name in ("centroid_cosine", "best_auroc")
        ]
        separating = np.asarray(pc.fill_null(batch["separating_units"], 0), np.int64)
        columns = [
            codes_in(batch["layer"], layer_names),
            np.minimum(one, other),
            np.maximum(one, other),
            *plain,
            codes_in(batch["best_unit"], units),
            separating,
        ]
        # A class without images has neither a centroid nor a rank.
        there = (np.minimum(one, other) >= 0) & ~np.isnan(plain).all(axis=0)
        found.append([column[there] for column in columns])
    depth, *rest = _joined(found)
    order = np.lexsort((rest[1], rest[0], depth))
    return depth[order], _Pairs(*(column[order] for column in rest))


def _joined(found: list[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    if not found:
        codes, values = np.empty(0, np.int64), np.empty(0)
        return [codes, codes, codes, values, values, codes, codes]
    return [np.concatenate(column) for column in zip(*found, strict=True)]


def _default_layer(tables: RecordingTables) -> int:
    """Return the place of the last block, or of the last layer where there are no blocks."""
    kinds = tables.layers["kind"].to_pylist()
    blocks = [place for place, kind in enumerate(kinds) if kind == "block"]
    return blocks[-1] if blocks else len(kinds) - 1


def _drawn(tables: RecordingTables, pairs: int) -> set[int]:
    """Return which layers get a matrix: evenly chosen, the first, the last and the default one."""
    layers = tables.layers.num_rows
    # Two measures of two bytes per pair.
    most = max(3, _MATRIX_BYTES // (4 * max(1, pairs)))
    even = np.linspace(0, layers - 1, min(most, layers)).round().astype(int)
    return {*even.tolist(), _default_layer(tables)}


def _words(pairs: _Pairs, *, complete: bool) -> dict[str, Any]:
    # Pairs of equal cosine: the one that is harder to tell apart is the nearer.
    near = np.lexsort((pairs.auroc, -pairs.cosine))
    near = near[~np.isnan(pairs.cosine[near])]
    return {
        "pairs": len(pairs),
        "told": int((pairs.separating > 0).sum()),
        "nearest": _named(pairs, near[:_NAMED]),
        # Of many classes only near pairs are compared, the farthest of which says nothing.
        "farthest": _named(pairs, near[::-1][:_NAMED]) if complete and len(near) > _NAMED else [],
        "hardest": _named(pairs, np.argsort(pairs.auroc, kind="stable")[:1]),
    }


def _named(pairs: _Pairs, rows: NDArray[np.int64]) -> list[dict[str, Any]]:
    chosen = pairs.take(rows)
    return [
        {
            "classes": [int(chosen.first[i]), int(chosen.second[i])],
            "cosine": _number(chosen.cosine[i]),
            "auroc": _number(chosen.auroc[i]),
            "unit": int(chosen.unit[i]),
        }
        for i in range(len(chosen))
    ]


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _matrix(pairs: _Pairs, present: NDArray[np.int64]) -> dict[str, Any]:
    return {
        # From 0 to 1, as everything that is packed as a share.
        "cosine": packed_shares((pairs.cosine + 1) / 2),
        "auroc": packed_shares(pairs.auroc),
        "order": _by_likeness(pairs.cosine, len(present)),
    }


def _by_likeness(cosine: NDArray[np.float64], classes: int) -> list[int]:
    """Return the places of the classes, like ones side by side (average linkage)."""
    if classes < 3:
        return list(range(classes))
    distance = np.where(np.isnan(cosine), 2.0, 1 - cosine)
    tree = linkage(np.clip(distance, 0, 2), "average", optimal_ordering=True)
    order: list[int] = leaves_list(tree).tolist()
    return order
