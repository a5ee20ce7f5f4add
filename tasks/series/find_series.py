"""Find the recordings of series: one model at several steps of its training."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.stores.places import place_at, recording_names
from activarium.tasks.stores.recording import Recording, open_recording

if TYPE_CHECKING:
    from collections.abc import Sequence

    from activarium.schemas.atlas import Atlas


def series_of(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Return the recordings by the series that they belong to, each in order of its steps.

    Recordings that belong to none are left out.
    """
    found: dict[str, list[Recording]] = {}
    for each in recordings:
        if each.attributes.get("series") is not None:
            found.setdefault(str(each.attributes["series"]), []).append(each)
    return {name: sorted(members, key=step_of) for name, members in sorted(found.items())}


def step_of(recording: Recording) -> int:
    """Return the step of a recording that belongs to a series."""
    return int(recording.attributes["step"])


def find_series(atlas: Atlas, names: Sequence[str]) -> dict[str, list[Recording]]:
    """Return the complete recordings of some series, each in order of its steps.

    Parameters
    ----------
    atlas
        Where the recordings lie.
    names
        Names of series, beginnings of them, or globs.

    Raises
    ------
    UserError
        If a name fits no series, two recordings of a series are of the same step, or one lacks
        something.
    """
    stored = [Recording(place_at(atlas.recording(name))) for name in recording_names(atlas)]
    known = series_of([each for each in stored if each.attributes.get("status") == "complete"])
    found: dict[str, list[Recording]] = {}
    for name in names:
        fitting = [each for each in known if each.startswith(name) or fnmatchcase(each, name)]
        if not fitting:
            raise UserError(
                f"series {name!r}: "
                + (f"expected one of {', '.join(known)}" if known else "no series is recorded")
                + "; `activarium record CONFIG --checkpoints FOLDER` records one"
            )
        found |= {each: known[each] for each in fitting}
    for name, members in found.items():
        _check_steps(name, members)
    # Opened as everywhere: what a store lacks would be read as fill values.
    return {
        name: [open_recording(atlas, each.name) for each in members]
        for name, members in found.items()
    }


def _check_steps(name: str, members: Sequence[Recording]) -> None:
    for one, other in pairwise(members):
        if step_of(one) == step_of(other):
            raise UserError(
                f"series {name}: {one.name} and {other.name} are both step {step_of(one)}; record "
                "different test sets or settings as different series (--series NAME)"
            )
