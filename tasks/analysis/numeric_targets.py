"""A number per image to compare responses with: a column of the images, or one from a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from activarium.schemas.errors import UserError
from activarium.tasks.analysis.image_answers import why_null
from activarium.tasks.analysis.two_column_files import meant, read_two_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray


class NumericTarget(NamedTuple):
    """A number per image."""

    name: str
    values: NDArray[np.float64]
    """Shape (image,); NaN where there is none."""


def numeric_target(spec: str, images: pa.Table) -> NumericTarget:
    """Return a number per image: a column of the table of images, or one from a CSV file.

    In the column `label` a negative code stands for no label and gives NaN, as NULL does. Images
    that the file does not name, or with an empty cell or `nan`, have NaN.

    Parameters
    ----------
    spec
        Name of a numeric or boolean column, or else path of a UTF-8 CSV file of two columns: the
        images, as in the column `image`, and their numbers; its header names the target.
    images
        A row per image, with the columns of the table `images`.

    Raises
    ------
    UserError
        If there is neither such a column nor such a file, an image does not exist or has two
        numbers, a value is not a finite number, or fewer than three images have one, or all the
        same.
    """
    if spec in images.column_names:
        target = NumericTarget(spec, _column(spec, images))
    elif Path(spec).exists():
        target = _target_file(Path(spec), images.column("image").to_pylist())
    else:
        raise UserError(
            f"{spec}: neither a file nor a column of the images{meant(spec, images.column_names)}"
            f" (columns of numbers: {', '.join(_numeric_columns(images))})"
        )
    why = why_null(spec, images)
    if why:
        raise UserError(f"{spec}: is null for all {images.num_rows:,} images ({why})")
    check_numbers(spec, target.values[~np.isnan(target.values)], images.num_rows)
    return target


def check_numbers(spec: str, present: NDArray[np.float64], images: int) -> None:
    """Check that there are numbers to correlate with.

    Parameters
    ----------
    spec
        What the numbers are, as it was asked for.
    present
        The numbers of the images that have one.
    images
        Images of the recording, for the message.

    Raises
    ------
    UserError
        If a number is not finite, or fewer than three images have one, or all the same.
    """
    if np.isinf(present).any():
        raise UserError(f"{spec}: expected finite numbers, got {present[np.isinf(present)][0]}")
    if present.size < 3:
        raise UserError(
            f"{spec}: expected a number for at least 3 images, got {present.size} of {images:,}"
        )
    if present.min() == present.max():
        raise UserError(f"{spec}: all {present.size:,} images have the same number {present[0]:g}")


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind))


def _numeric_columns(images: pa.Table) -> list[str]:
    return [field.name for field in images.schema if _is_numeric(field.type)]


def _column(name: str, images: pa.Table) -> NDArray[np.float64]:
    kind = images.schema.field(name).type
    if not _is_numeric(kind):
        raise UserError(
            f"{name}: expected a column of numbers, got {kind} "
            f"(columns of numbers: {', '.join(_numeric_columns(images))})"
        )
    column = images.column(name)
    number = column.cast(pa.int8()) if pa.types.is_boolean(kind) else column
    values = np.array(number.cast(pa.float64(), safe=False).to_numpy(), np.float64)
    if name == "label":
        values[values < 0] = np.nan
    return values


def _target_file(path: Path, ids: list[str]) -> NumericTarget:
    table = read_two_columns(path, "image,number")
    known = set(ids)
    if table.header[0] in known:
        raise UserError(
            f"{path}, line 1: expected a header such as image,number, got image {table.header[0]!r}"
        )
    found: dict[str, float] = {}
    for line, cell, text in table.rows:
        image = cell if cell in known else cell.strip()
        if image not in known:
            example = f"; images are named like {ids[0]!r}" if ids else ""
            raise UserError(f"{path}, line {line}: no image {image!r}{example}")
        value = _number(path, line, text)
        before = found.setdefault(image, value)
        if before != value and not (np.isnan(before) and np.isnan(value)):
            raise UserError(
                f"{path}, line {line}: image {image!r} has the number {value:g}, "
                f"but before it had {before:g}"
            )
    values = np.array([found.get(image, np.nan) for image in ids], np.float64)
    return NumericTarget(table.header[1].strip() or path.stem, values)


def _number(path: Path, line: int, text: str) -> float:
    if not text.strip():
        return float("nan")
    try:
        # Python reads 1_000 as a number, which is more likely a slip here.
        value = float("" if "_" in text else text)
    except ValueError as error:
        raise UserError(f"{path}, line {line}: expected a number, got {text!r}") from error
    if np.isinf(value):
        raise UserError(f"{path}, line {line}: expected a finite number, got {text!r}")
    return value
