"""Reading tables: of one state of them, each file as it was written, or with a line that says why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from activarium.schemas.atlas import Atlas
from activarium.schemas.errors import UserError
from activarium.tasks.stores.set_replacing import settle_tables
from activarium.tasks.stores.table_sets import (
    RECORDING,
    TableSet,
    file_problem,
    series_sets,
    set_of,
    sets_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    State = dict[Path, tuple[int, int]]

T = TypeVar("T")

TRIES = 5
"""How often tables are read again that others replace meanwhile."""


def table_problems(atlas: Atlas, files: Iterable[Path]) -> dict[Path, str]:
    """Return what is wrong with some files of tables or maps, after finishing what was left half done.

    A file is wrong where its content is not what was written, where it is gone, or where its set,
    the files that one piece of work made together, holds a file of another. Every file is read once.

    Parameters
    ----------
    atlas
        Where they lie.
    files
        Files of tables, or of maps.

    Returns
    -------
    One line by file for those that are not sound: what is wrong, and the command that makes it anew.
    """
    unfinished = settle_tables(atlas)
    known: dict[tuple[str, str], TableSet] = {}
    whole: dict[tuple[str, str], str] = {}
    problems = {}
    for file in files:
        found = set_of(file)
        if found is not None:
            key = (found.owner, found.part)
            found = known.setdefault(key, found)
            if key not in whole:
                whole[key] = unfinished.get(found.owner) or found.problem()
        problem = file_problem(found, file) or (whole[key] if found is not None else "")
        if problem:
            problems[file] = f"{problem}; {remedy(found)}"
    return problems


def remedy(found: TableSet | None) -> str:
    """Return what to do about a file of a set."""
    if found is None:
        return "run what made it again"
    return f"`{found.command}`, with the settings that it was made with, makes it anew"


def set_problems(atlas: Atlas, names: Iterable[str]) -> dict[str, str]:
    """Return what is wrong with the tables of recordings or selections, as far as sizes tell.

    Sets of two pieces of work, and those that a killed process left and nobody can finish; contents
    are checked as they are read.

    Returns
    -------
    One line by id for those that are not as they should be.
    """
    unfinished = settle_tables(atlas)
    problems = {}
    for name in names:
        left = unfinished.get(f"{RECORDING}{name}")
        for found in sets_of(atlas, name):
            problem = left or found.problem()
            if problem:
                problems[name] = f"{problem}; {remedy(found)}"
                break
    return problems


def read_settled(atlas: Atlas, names: Sequence[str], read: Callable[[], T]) -> T:
    """Return what a function reads of the tables of some recordings, all of it of one state.

    Parameters
    ----------
    atlas
        Where they lie.
    names
        Ids of the recordings or selections that it reads of.
    read
        What reads them; it is called again where they were replaced meanwhile.

    Raises
    ------
    UserError
        If tables are damaged, are of two pieces of work, or are replaced again and again.
    """
    for _ in range(TRIES):
        problems = set_problems(atlas, names)
        before = _state(atlas, names)
        failure = None
        found: T
        if problems:
            name, problem = next(iter(problems.items()))
            failure = UserError(f"the tables of {name} do not belong together: {problem}")
        else:
            try:
                found = read()
            except UserError as error:
                failure = error
        settle_tables(atlas)
        if _state(atlas, names) == before:
            if failure is not None:
                raise failure
            return found
    raise UserError(
        f"the tables of {', '.join(names)} are being replaced again and again: wait for what does so "
        "to end"
    )


def _state(atlas: Atlas, names: Sequence[str]) -> State:
    """Return what changes whenever a set of some recordings is replaced."""
    sets = [each for name in names for each in sets_of(atlas, name)]
    files = [each.receipt_file for each in (*sets, *series_sets(atlas))]
    state = {}
    for file in files:
        try:
            told = file.stat()
        except OSError:
            continue
        state[file] = (told.st_ino, told.st_mtime_ns)
    return state
