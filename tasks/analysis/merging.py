"""From the parts that blocks and layers left in the work folder to whole tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pyarrow import feather

from activarium.schemas.tables import CLASS_PAIRS
from activarium.tasks.analysis.class_rows import GUARDED, PLACE
from activarium.tasks.analysis.layer_measures import layer_part
from activarium.tasks.statistics.testing.benjamini_yekutieli import benjamini_yekutieli
from activarium.tasks.statistics.testing.multiple_testing import (
    benjamini_hochberg,
    benjamini_hochberg_log10,
)
from activarium.tasks.statistics.testing.permutation_tests import max_t_p, permutation_p
from activarium.tasks.statistics.testing.sparse_units import guard_units

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.layers import Layer
    from activarium.tasks.analysis.unit_block import Block


class Parts:
    """The rows that were kept aside, read when they are asked for."""

    def __init__(self, work: Path, blocks: Sequence[Block], layers: Sequence[Layer]) -> None:
        self._work = work
        self._blocks = blocks
        self._layers = layers

    def units(self) -> pa.Table:
        """Return the rows of `units` as far as blocks know them."""
        return pa.concat_tables([self._part(block, "units") for block in self._blocks])

    def pieces(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield the columns of a table block by block; of long tables only one is in memory."""
        for block in self._blocks:
            yield columns_of(self._part(block, name))

    def class_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of `unit_classes` block by block, with q-values over all that are tested."""
        tests = [self._tests(block) for block in self._blocks]
        if not all(len(each) for each in tests):
            return
        log10_p, sizes = np.concatenate(tests), [len(each) for each in tests]
        del tests
        q, first = np.full(len(log10_p), np.nan), 0
        tested = ~np.isnan(log10_p)
        if tested.any():
            q[tested] = benjamini_hochberg(10.0 ** log10_p[tested])
        del log10_p
        for columns, size in zip(self.pieces("unit_classes"), sizes, strict=True):
            stop = first + size
            columns.pop(GUARDED, None)
            place = columns.pop(PLACE, None)
            of_block = q[first:stop]
            yield columns | {"q_value": of_block if place is None else of_block[place.to_numpy()]}
            first = stop

    def _tests(self, block: Block) -> NDArray[np.float64]:
        """Return the p-values of all units and classes of a block, none where nothing is tested.

        This column alone: those of all blocks, with the others beside, would be gigabytes.
        """
        apart = block.part(self._work, "tests")
        path = apart if apart.exists() else block.part(self._work, "unit_classes")
        with pa.memory_map(str(path)) as source:
            if GUARDED not in pa.ipc.open_file(source).schema.names:
                return np.empty(0)
        found: NDArray[np.float64] = feather.read_table(path, [GUARDED])[GUARDED].to_numpy()
        return found

    def _part(self, block: Block, name: str) -> pa.Table:
        return feather.read_table(block.part(self._work, name), memory_map=True)

    def permuted(self) -> NDArray[np.float32] | None:
        """Return eta squared by unit and permutation; None where no labels were permuted."""
        files = [block.part(self._work, "permuted", "npy") for block in self._blocks]
        if not files[0].exists():
            return None
        return np.concatenate([np.load(file) for file in files])

    def layer_measures(self) -> dict[str, NDArray[Any]]:
        """Return the measures of all layers by name."""
        return _arrays(self._layer_parts("layers"))

    def contrast(self) -> dict[str, NDArray[np.float64]] | None:
        """Return the measures of every network by name, shape (network, layer); None without any."""
        if not layer_part(self._work, "contrast", 0).exists():
            return None
        columns = _arrays(self._layer_parts("contrast"))
        layers = len(self._layers)
        return {name: values.reshape(layers, -1).T for name, values in columns.items()}

    def redundancy(self) -> dict[str, NDArray[Any]]:
        """Return group, copied channel and correlation of all units."""
        return _arrays(self._layer_parts("redundancy"))

    def class_pairs(self) -> pa.Table:
        """Return the rows of `class_pairs`; none without labels."""
        paths = [layer_part(self._work, "class_pairs", i) for i in range(len(self._layers))]
        if not paths[0].exists():
            return CLASS_PAIRS.schema().empty_table()
        return pa.concat_tables([feather.read_table(path) for path in paths])

    def _layer_parts(self, name: str) -> pa.Table:
        paths = [layer_part(self._work, name, index) for index in range(len(self._layers))]
        return pa.concat_tables([feather.read_table(path) for path in paths])


def _arrays(table: pa.Table) -> dict[str, NDArray[Any]]:
    return {name: table.column(name).to_numpy() for name in table.column_names}


def columns_of(table: pa.Table) -> dict[str, Any]:
    """Return a table as columns by name."""
    return {name: table.column(name) for name in table.column_names}


def false_discovery_columns(units: dict[str, Any], original: NDArray[np.int64]) -> dict[str, Any]:
    """Return the q-values of the units; NaN where there are no classes.

    Parameters
    ----------
    units
        Columns of `units`.
    original
        Place of the unit that each repeats, its own where it repeats none, shape (unit,): a unit
        of a duplicate layer is not tested again, and has the q-value of the one that it repeats.
    """
    log10_p = units["kruskal_log10p"].to_numpy()
    if np.isnan(log10_p).any():
        return dict.fromkeys(("q_value", "q_log10", "by_q_value"), log10_p)
    guarded = guard_units(log10_p, units["permutation_p"], units["answers_too_few"].to_numpy())
    q_log10 = _over_originals(benjamini_hochberg_log10, guarded, original)
    return {
        "q_value": 10.0**q_log10,
        "q_log10": q_log10,
        "by_q_value": _over_originals(benjamini_yekutieli, 10.0**guarded, original),
    }


def _over_originals(
    corrected: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    values: NDArray[np.float64],
    original: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Correct the p-values of units that repeat none, and give each unit its original's."""
    found = np.full(len(values), np.nan)
    once = original == np.arange(len(original))
    found[once] = corrected(values[once])
    return found[original]


def shuffled_columns(
    units: dict[str, Any], permuted: NDArray[np.float32] | None, original: NDArray[np.int64]
) -> dict[str, Any]:
    """Return the q-values of the units with permuted labels; nothing without that control."""
    if "eta2_shuffled" not in units:
        return {}
    log10_p, eta2 = (units[f"{name}_shuffled"].to_numpy() for name in ("kruskal_log10p", "eta2"))
    nothing = np.full(len(eta2), np.nan)
    by_permutation = nothing if permuted is None else permutation_p(eta2, permuted)
    guarded = guard_units(log10_p, by_permutation, units["answers_too_few"].to_numpy())
    return {"q_value_shuffled": _over_originals(benjamini_hochberg, 10.0**guarded, original)}


def permutation_columns(
    observed: NDArray[np.float64] | None, permuted: NDArray[np.float32] | None, units: int
) -> dict[str, Any]:
    """Return p-values by permutation; NaN where labels were not permuted."""
    if observed is None or permuted is None:
        nothing = np.full(units, np.nan)
        return {"permutation_p": nothing, "fwer_p": nothing}
    return {
        "permutation_p": permutation_p(observed, permuted),
        "fwer_p": max_t_p(observed, permuted),
    }


def redundancy_columns(
    found: dict[str, NDArray[Any]], layers: Sequence[Layer], unit: Sequence[str]
) -> dict[str, Any]:
    """Return which unit each one copies, by name."""
    first = np.repeat(np.cumsum([0, *(each.units for each in layers[:-1])]), _sizes(layers))
    copies = found["copies"]
    source = pa.array(np.where(copies < 0, 0, first + copies), mask=copies < 0)
    return {
        "redundancy_group": found["group"],
        "copies_unit": pa.array(unit, pa.string()).take(source),
        "copies_r": found["copies_r"],
    }


def _sizes(layers: Sequence[Layer]) -> list[int]:
    return [each.units for each in layers]
