"""Reading tables: of one state of them, each file as it was written, or with a line that says why not."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from activarium.schemas.errors import UserError
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.table_sets import (
    ANALYSIS,
    CHANGES,
    MAP,
    PAIR,
    TableSet,
    file_problem,
    series_set,
    set_of,
    sets_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from activarium.schemas.atlas import Atlas

    State = dict[Path, tuple[int, int]]

T = TypeVar("T")

KINDS = (ANALYSIS, MAP, PAIR, CHANGES)
TRIES = 5
"""How often tables are read again that others replace meanwhile."""


def table_problems(atlas: Atlas, files: Iterable[Path]) -> dict[Path, str]:
    """Return what is wrong with some files of tables or maps, each of which is read once.

    A file is wrong where its content is not what was written, where it is gone, or where its set,
    the files that one piece of work made together, is broken (`broken_sets`).

    Parameters
    ----------
    atlas
        Where they lie.
    files
        Files of tables, or of maps, as they are after `settle_tables`, which may bring and take some.

    Returns
    -------
    One line by file for those that are not sound: what is wrong, and the command that makes it anew.
    """
    everything = list(files)
    broken = broken_sets(atlas, everything)
    problems = {}
    for file in everything:
        found = set_of(file)
        problem = file_problem(found, file) or broken.get(file, "")
        if problem:
            problems[file] = f"{problem}; {remedy(found)}"
    return problems


def broken_sets(atlas: Atlas, files: Iterable[Path]) -> dict[Path, str]:
    """Return which files belong to sets that hold files of another piece of work.

    Contents are not read: that is for those who read the files, as is a file that is gone. What
    was left half done is finished first; where that cannot be, its set is broken too.

    Returns
    -------
    What is wrong with the set, by file.
    """
    unfinished = settle_tables(atlas)
    known: dict[tuple[str, str], str] = {}
    problems = {}
    for file in files:
        found = set_of(file)
        if found is None:
            continue
        key = (found.owner, found.part)
        if key not in known:
            known[key] = unfinished.get(found.owner) or found.mixture()
        if known[key]:
            problems[file] = known[key].removeprefix(f"{found.inside(file)}: ")
    return problems


def remedy(found: TableSet | None) -> str:
    """Return what to do about a file of a set."""
    if found is None:  # changes of layers, that no receipt of a series lists
        return "`activarium compare --series NAME`, of its series, makes it anew"
    return f"`{found.command}`, with the settings that it was made with, makes it anew"


def set_problems(
    atlas: Atlas, names: Iterable[str], kinds: Sequence[str] = KINDS
) -> dict[str, str]:
    """Return what is wrong with the tables of recordings or selections, as far as sizes tell.

    Sets of two pieces of work, and those that a killed process left and nobody can finish; contents
    are checked as they are read.

    Parameters
    ----------
    atlas
        Where the tables lie.
    names
        Ids of recordings or selections, or names of series.
    kinds
        Kinds of their sets to look at.

    Returns
    -------
    One line by id for those that are not as they should be.
    """
    unfinished = settle_tables(atlas)
    problems: dict[str, str] = {}
    for name in names:
        for found in _chosen(atlas, [name], kinds):
            problem = unfinished.get(found.owner) or found.problem()
            if problem:
                problems.setdefault(name, f"{problem}; {remedy(found)}")
    return problems


def _chosen(atlas: Atlas, names: Iterable[str], kinds: Sequence[str]) -> list[TableSet]:
    """Return the sets of some recordings, selections or series that are of some kinds."""
    found = [each for name in names for each in (*sets_of(atlas, name), series_set(atlas, name))]
    return [each for each in found if each.kind in kinds]


def read_settled(
    atlas: Atlas, names: Sequence[str], read: Callable[[], T], kinds: Sequence[str] = KINDS
) -> T:
    """Return what a function reads of the tables of some recordings, all of it of one state.

    Parameters
    ----------
    atlas
        Where they lie.
    names
        Ids of the recordings or selections that it reads of, or names of series.
    read
        What reads them; it is called again where they were replaced meanwhile.
    kinds
        Kinds of sets that it reads.

    Raises
    ------
    UserError
        If tables are damaged, are of two pieces of work, or are replaced again and again.
    """
    for _ in range(TRIES):
        before = _state(atlas, names, kinds)
        problems = set_problems(atlas, names, kinds)
        failure = None
        found: T
        if problems:
            name, problem = next(iter(problems.items()))
            failure = UserError(f"the tables of {name} cannot be read: {problem}")
        else:
            try:
                found = read()
            except UserError as error:
                failure = error
        settle_tables(atlas)
        if _state(atlas, names, kinds) == before:
            if failure is not None:
                raise failure
            return found
    raise UserError(
        f"the tables of {', '.join(names)} are being replaced again and again: wait for what does so "
        "to end"
    )


def _state(atlas: Atlas, names: Sequence[str], kinds: Sequence[str]) -> State:
    """Return what changes whenever a set is replaced."""
    state = {}
    for each in _chosen(atlas, names, kinds):
        with suppress(OSError):
            told = each.receipt_file.stat()
            state[each.receipt_file] = (told.st_ino, told.st_mtime_ns)
    return state
