"""Which images take part: those that a condition in SQL selects."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import duckdb
import numpy as np

from activarium.schemas.errors import UserError
from activarium.schemas.tables import IMAGES
from activarium.tasks.analysis.image_answers import why_null
from activarium.tasks.closed_database import closed_database, first_line
from activarium.tasks.limited_process import run_limited

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

SECONDS = 60.0
"""How long a condition may take."""

LESS = "write one that asks less"
"""What to do about one that takes longer."""


def check_condition(where: str) -> None:
    """Refuse a condition that no table of images would take, before there is one.

    Raises
    ------
    UserError
        If it is not one expression that is true or false, of the columns that there are.
    """
    images = IMAGES.schema().empty_table()
    what = f"--where {where!r}"
    for _ in run_limited(_evaluate, images, where, seconds=SECONDS, what=what, more=LESS):
        pass


def select_images(images: pa.Table, where: str) -> NDArray[np.bool_]:
    """Return which images an SQL condition selects; NULL counts as not selected.

    The condition is one DuckDB expression over the columns of the table, such as
    `correct AND confidence > 0.9`. It may compare with the table `images` as a whole, as in
    `loss > (SELECT median(loss) FROM images)`, but reads no files.

    Parameters
    ----------
    images
        A row per image, with the columns of the table `images`.
    where
        The condition.

    Returns
    -------
    Whether each image is selected, shape (image,).

    Raises
    ------
    UserError
        If it is not one expression that is true or false, it takes too long, it selects nothing, or
        it selects other images when evaluated again.
    """
    if not where.strip():
        raise UserError("--where is empty, expected a condition such as confidence > 0.9")
    what = f"--where {where!r}"
    selected: NDArray[np.bool_]
    selected, again = run_limited(_evaluate, images, where, seconds=SECONDS, what=what, more=LESS)
    if not (selected == again).all():
        raise UserError(
            f"--where {where!r}: selects other images each time it is evaluated; "
            "hash(image) % 10 = 0 takes a sample that stays the same"
        )
    if not selected.any():
        raise UserError(
            f"--where {where!r}: selects none of the {images.num_rows:,} images"
            f"{_null_columns(where, images)}"
        )
    return selected


def _evaluate(images: pa.Table, where: str) -> Iterator[NDArray[np.bool_]]:
    """Yield which images a condition selects, evaluated twice."""
    with closed_database() as connection:
        connection.execute("SET threads = 1")
        connection.register("source", images)
        connection.execute("CREATE TABLE images AS SELECT * FROM source")
        connection.unregister("source")
        connection.execute("SET lock_configuration = true")
        try:
            kind = _type_of(connection, where)
            if kind != "BOOLEAN":
                raise UserError(
                    f"--where {where!r}: expected a condition, true or false, got {kind}"
                )
            for _ in range(2):
                yield _selected(connection, where, images.num_rows)
        except duckdb.Error as error:
            columns = ", ".join(images.column_names)
            raise UserError(
                f"--where {where!r}: {first_line(error)} (columns: {columns})"
            ) from error


def _null_columns(where: str, images: pa.Table) -> str:
    """Return which columns of a condition are null for every image, and why, in words."""
    # Text in quotes is no name of a column.
    words = re.findall(r"\w+", re.sub(r"'[^']*'", "", where).lower())
    reasons = {name: why_null(name, images) for name in images.column_names if name in words}
    told = [f"{name} is null for all of them ({why})" for name, why in reasons.items() if why]
    return f": {'; '.join(told)}" if told else ""


def _type_of(connection: duckdb.DuckDBPyConnection, where: str) -> str:
    """Return the SQL type of an expression, checked to be one expression and nothing else."""
    # What parses both within parentheses and without them closes no parenthesis that it did not
    # open, and has no clause, second expression or second statement after the expression.
    bare = connection.extract_statements(f"SELECT rowid FROM images WHERE {where}\n")  # noqa: S608
    enclosed = f"SELECT (\n{where}\n) AS selected FROM images"  # noqa: S608
    if len(bare) != 1 or len(connection.extract_statements(enclosed)) != 1 or "\0" in where:
        raise duckdb.ParserException("expected one expression")
    described = connection.execute(f"DESCRIBE {enclosed}").fetchall()
    return str(described[0][1]).strip('"') if len(described) == 1 else f"{len(described)} columns"


def _selected(connection: duckdb.DuckDBPyConnection, where: str, images: int) -> NDArray[np.bool_]:
    rows = connection.execute(f"SELECT rowid FROM images WHERE {where}\n")  # noqa: S608
    selected = np.zeros(images, np.bool_)
    selected[np.asarray(rows.fetchnumpy()["rowid"], np.int64)] = True
    return selected
