"""Query: SQL over all tables of an atlas, with DuckDB views of each table.

Beside the view of a table, which holds all recordings, stand that of the trained ones and that of
the untrained: a control's rows look like any other's.
"""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from activarium.schemas.atlas import UNTRAINED
from activarium.schemas.errors import UserError
from activarium.schemas.tables import RECORDINGS, TABLES
from activarium.tasks.limited_process import QUERY_SECONDS, memory_bytes, run_limited
from activarium.tasks.progress import silent
from activarium.tasks.reporting.sql_session import SCHEME, Question, answer
from activarium.tasks.stores.readable_files import readable_files
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.table_reading import remedy
from activarium.tasks.stores.table_sets import set_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas
    from activarium.schemas.columns import Table
    from activarium.tasks.progress import Progress
    from activarium.tasks.stores.readable_files import DamagedFile, ReadableFile


PARTITION = "recording="
"""What the name of a recording's folder of a table begins with."""
SHOWN = 5
"""Ids, or damaged files, that a message names."""
_ANY_TABLE = {"query", "query_table"}
"""Functions that ask tables whose names are reckoned."""


@dataclass(frozen=True)
class Result:
    """Rows as they come."""

    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]
    notices: tuple[str, ...]
    """What was left out, and how it is made again."""


def query(
    atlas: Atlas, sql: str, *, recordings: Sequence[str] = (), seconds: float = QUERY_SECONDS
) -> pa.Table:
    """Return the result of a query over the tables.

    Parameters
    ----------
    atlas
        Where the tables are.
    sql
        One query in DuckDB's SQL.
    recordings
        Ids, beginnings of ids or globs of the recordings that it sees; by default all.
    seconds
        How long it may take.

    Raises
    ------
    UserError
        As `open_query`.
    """
    result = open_query(atlas, sql, recordings=recordings, seconds=seconds)
    batches, size = [], 0
    for batch in result.batches:
        batches.append(batch)
        size += batch.nbytes
        if size > memory_bytes():
            raise UserError(
                f"the result is larger than the {size / 2**30:.1f} GiB of memory that it may take: "
                "ask for fewer rows, or read them in batches by open_query"
            )
    return pa.Table.from_batches(batches, result.schema)


def open_query(
    atlas: Atlas,
    sql: str,
    *,
    recordings: Sequence[str] = (),
    seconds: float = QUERY_SECONDS,
    progress: Progress = silent,
) -> Result:
    """Begin a query over the tables, whose rows are then read one batch after the other.

    Files that are damaged are left out and named. The query reads the others and nothing else.

    Parameters
    ----------
    atlas
        Where the tables are.
    sql
        One query in DuckDB's SQL.
    recordings
        Ids, beginnings of ids or globs of the recordings that it sees; by default all.
    seconds
        How long it may take, without the time in which nobody asks for the next batch.
    progress
        Reports the files checked.

    Raises
    ------
    UserError
        If the query is wrong, does not only read or takes too long, a table has no files yet or
        all of them are damaged, or no recording matches.
    """
    if "\0" in sql or any("\ud800" <= letter <= "\udfff" for letter in sql):
        raise UserError(f"expected a query in Unicode text, got {sql!r}")
    settle_tables(atlas)
    files = {name: _files(atlas, name) for name in TABLES}
    kept = _chosen({_recording(each) for part in files.values() for each in part}, recordings)
    asked = _asked(sql, {name for name, part in files.items() if part})
    wanted = [
        each
        for name in asked
        for each in files[name]
        if _recording(each) in kept or name == RECORDINGS.name
    ]
    readable, damaged = readable_files(atlas, wanted, progress=progress)
    missing = [each for each in damaged if _recording(each.path) in kept]
    views = _Views(atlas, readable, kept)
    question = Question(sql, views.files, views.sql)
    more = "--time-limit SECONDS allows more"
    items = run_limited(answer, question, seconds=seconds, what="the query", more=more)
    try:
        schema = next(items)
    except UserError as error:
        known = [name for name, part in files.items() if part]
        lost = {_table(each.path) for each in missing} - {_table(each.path) for each in readable}
        about = f"no file of {', '.join(sorted(lost))} can be read" if lost else ""
        raise UserError(
            "; ".join([about or _explained(str(error), atlas, known), *_notices(atlas, missing)])
        ) from error
    return Result(schema, _closing(items), tuple(_notices(atlas, missing)))


def _closing(items: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    with closing(items):  # type: ignore[type-var] # a generator
        yield from items


def _explained(reason: str, atlas: Atlas, known: Sequence[str]) -> str:
    """Return why a query failed; where it asks what is not there, with what is."""
    if "does not exist" not in reason:
        return reason
    there = ", ".join(sorted(known)) or "none yet"
    also = "; each also with trained_ or untrained_ before its name" if known else ""
    return f"{reason} (tables in {atlas.root}: {there}{also})"


def _notices(atlas: Atlas, damaged: Sequence[DamagedFile]) -> Iterator[str]:
    """Yield a line for each damaged file, which says how it is made again."""
    for path, problem in damaged[:SHOWN]:
        name = path.relative_to(atlas.root.resolve())
        yield f"{name} is damaged ({problem}) and left out; {remedy(set_of(path))}"
    if len(damaged) > SHOWN:
        yield (
            f"{len(damaged) - SHOWN} more files of the tables asked are damaged and left out: "
            "`activarium verify` names all"
        )


def _asked(sql: str, known: set[str]) -> set[str]:
    """Return the tables that a query may read: those that its text names, or all."""
    words = set(re.findall(r"\w+", sql.lower()))
    names = {
        word.removeprefix("trained_").removeprefix(f"{UNTRAINED}_")
        for word in words
        if word.startswith(("trained_", f"{UNTRAINED}_"))
    }
    asked = (words | names) & known
    if not asked or words & _ANY_TABLE:
        return known
    # The recordings tell which are untrained.
    return asked | ({RECORDINGS.name} & known if names & known else set())


def _files(atlas: Atlas, table: str) -> list[Path]:
    return sorted((atlas.tables.resolve() / table).glob(f"{PARTITION}*/*.parquet"))


def _table(file: Path) -> str:
    return file.parent.parent.name


def _recording(file: Path) -> str:
    return file.parent.name.removeprefix(PARTITION)


def _chosen(known: set[str], wanted: Sequence[str]) -> set[str]:
    """Return the ids that are meant: those of each name, beginning or glob."""
    found: set[str] = set()
    for each in wanted:
        meant = {each} & known or {name for name in known if fnmatchcase(name, each)}
        meant = meant or {name for name in known if name.startswith(each)}
        if not meant:
            there = ", ".join(sorted(known)[:SHOWN]) + (", ..." if len(known) > SHOWN else "")
            raise UserError(
                f"--recording {each!r}: no recording with tables has this id, expected one of "
                f"{there or 'none yet'}"
            )
        found |= meant
    return found if wanted else known


class _Views:
    """The views over readable files: of each table, of its trained and of its untrained rows."""

    def __init__(self, atlas: Atlas, readable: Sequence[ReadableFile], kept: set[str]) -> None:
        tables = atlas.tables.resolve()
        named = {f"{SCHEME}{each.path.relative_to(tables)}": each for each in readable}
        known = _checkpoints(each.path for each in readable)
        # Those of recordings that are not asked were read for their checkpoints alone.
        self.files = {name: each for name, each in named.items() if _recording(each.path) in kept}
        self.sql: dict[str, str] = {}
        for table in TABLES.values():
            names = [name for name, each in self.files.items() if _table(each.path) == table.name]
            if names:
                self.sql[table.name] = f"SELECT * FROM {_source(names)}"  # noqa: S608 - ours
                self.sql |= _by_kind(table, known)


def _source(names: Sequence[str]) -> str:
    # Listed one by one: a folder's own name may hold what a pattern gives a meaning.
    return (
        f"read_parquet([{', '.join(map(_quoted, names))}], hive_partitioning = true, "
        "hive_types = {'recording': VARCHAR}, union_by_name = true)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _checkpoints(files: Iterable[Path]) -> dict[str, str]:
    """Return the checkpoint of each recording that was analysed."""
    return {
        _recording(file): pq.ParquetFile(file).read(["checkpoint"]).column(0)[0].as_py()
        for file in files
        if _table(file) == RECORDINGS.name
    }


def _by_kind(table: Table, known: Mapping[str, str]) -> dict[str, str]:
    """Return the queries for the rows of trained recordings, and of untrained ones."""
    columns = ["recording"]
    columns += [each.name for each in table.columns if each.name == "other_recording"]
    condition = " OR ".join(_is_untrained(each, known) for each in columns)
    return {
        f"{kind}_{table.name}": f"SELECT * FROM {table.name} WHERE {said}"  # noqa: S608 - ours
        for kind, said in (("trained", f"NOT ({condition})"), (UNTRAINED, condition))
    }


def _is_untrained(column: str, known: Mapping[str, str]) -> str:
    """Return the condition in SQL that a column names an untrained recording."""
    named = [name for name, checkpoint in known.items() if checkpoint == UNTRAINED]
    # Of one that was never analysed, the id alone can tell.
    by_id = f"{column} NOT IN ({_listed(known)}) AND {column} LIKE '%-{UNTRAINED}-%'"
    return f"({column} IN ({_listed(named)}) OR ({by_id}))"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(["''", *map(_quoted, names)])
