"""A shard's rows before they are stored: finite where images are valid, NaN where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from activarium.tasks.images.test_sets import TestSet
    from activarium.tasks.recording.record_plan import RecordPlan


def check_finite(
    plan: RecordPlan,
    test_set: TestSet,
    values: Mapping[str, NDArray[Any]],
    *,
    first: int,
    origin: Callable[[int], str | None] = lambda _: None,
) -> None:
    """Refuse NaN and infinity in the rows of images that could be decoded.

    Parameters
    ----------
    plan
        The recording's layers.
    test_set
        The images.
    values
        Rows (image, ...) per array.
    first
        The image of the first row.
    origin
        Given a row, names the call of the model that went wrong first, if that can be found.

    Raises
    ------
    UserError
        One line that names the first layer in the order of execution, and the first image.
    """
    means, logits, valid = values["channel_mean"], values["logits"], values["valid"]
    if _are_finite(means, valid) and _are_finite(logits, valid):
        return
    unsound = ~np.isfinite(means) & valid[:, None]
    if unsound.any():
        column = int(np.argmax(unsound.any(axis=0)))
        place = int(np.searchsorted(plan.model_layers.offsets(), column, side="right")) - 1
        name = plan.model_layers.layers[place].name
        what = f"layer {name!r} is the first that is recorded"
        row = int(np.argmax(unsound[:, column]))
    else:
        name = ""
        unsound = ~np.isfinite(logits) & valid[:, None]
        what = "the model's output, and no recorded layer, is the first"
        row = int(np.argmax(unsound.any(axis=1)))
    call = origin(row)
    earlier = f" (before it, {call!r} is so)" if call not in {None, name} else ""
    is_exact = plan.attributes["precision"] == "float32"
    raise UserError(
        f"{what} to be NaN or infinite{earlier}, for image {test_set.ids[first + row]!r}: check the "
        f"weights and the preprocessing{'' if is_exact else ', or use record.precision float32'}"
    )


def _are_finite(rows: NDArray[np.float32], valid: NDArray[np.bool_]) -> bool:
    # A sum in float64 is finite exactly where all of its float32 values are; one pass, no copy.
    return bool(np.isfinite(rows.sum(axis=1, dtype=np.float64))[valid].all())


def blank_invalid(values: Mapping[str, NDArray[Any]]) -> None:
    """Set the floats of images that could not be decoded to NaN, in place."""
    invalid = ~values["valid"]
    if invalid.any():
        for rows in values.values():
            if rows.dtype == np.float32:
                rows[invalid] = np.nan
