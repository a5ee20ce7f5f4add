"""The order of a training's checkpoints: from their files' names, folders and own notes."""

from __future__ import annotations

import filecmp
import itertools
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError, shown
from activarium.tasks.models.checkpoint_files import Noted, noted_moment
from activarium.tasks.recording.step_names import bare_numbers, labelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

NUMBERED_FOLDER = re.compile(
    r"(?:checkpoint|ckpt|(?:global[-_]?)?steps?|iterations?|iters?|it|updates?|epochs?|ep)[-_=]?"
    r"(\d{1,18})",
    re.IGNORECASE,
)
"""Folders of one checkpoint each, such as `checkpoint-500`."""


@dataclass(frozen=True)
class Candidate:
    """A file of weights, and what tells its step."""

    path: Path
    stem: str
    """Its name without the ending."""

    @cached_property
    def noted(self) -> Noted:
        """What the file itself says."""
        return noted_moment(self.path)

    @property
    def step(self) -> int | None:
        """The step that safetensors' metadata or the name says."""
        noted = self.noted.step if self.path.suffix == ".safetensors" else None
        return labelled(self.stem, "step") if noted is None else noted

    @property
    def epoch(self) -> int | None:
        """The epoch that the name says."""
        return labelled(self.stem, "epoch")

    @property
    def folder(self) -> int | None:
        """The number of the folder, where that is of one checkpoint."""
        found = NUMBERED_FOLDER.fullmatch(self.path.absolute().parent.name)
        return None if found is None else int(found[1])

    @property
    def number(self) -> int | None:
        """The number of the name, by whatever word; None where there is none, or several."""
        labelled = [each for each in (self.step, self.epoch) if each is not None]
        numbers = labelled or bare_numbers(self.stem)
        return numbers[0] if len(set(numbers)) == 1 else None

    @property
    def is_numbered(self) -> bool:
        """Whether its name or folder tells it from the others of its series by a number."""
        return self.folder is not None or self.step is not None or bool(bare_numbers(self.stem))


Clock = tuple[str, "Callable[[Candidate], int | None]"]

CLOCKS: tuple[Clock, ...] = (
    ("step", lambda each: each.step),
    ("epoch", lambda each: each.epoch),
    ("step", lambda each: each.folder),
    ("step", lambda each: each.noted.step),
    ("epoch", lambda each: each.noted.epoch),
)
"""What can tell the order, the surest first, and whether it counts steps or epochs."""


@dataclass(frozen=True)
class Ordered:
    """The checkpoints of one series by step, and which files were left out."""

    by_step: Mapping[int, Candidate]
    notices: tuple[str, ...]


def order_series(series: str, candidates: Sequence[Candidate]) -> Ordered:
    """Return the checkpoints of one series by their steps, which are all counted alike.

    The step is what all files tell: the word `step` in their name (or a safetensors file's own
    note), then `epoch` in their name, then the number of their folder, then `global_step` and
    `epoch` in the files, then the one number of their names. Files without any number, such as
    `last.ckpt`, count where their own notes agree with the others'.

    Raises
    ------
    UserError
        If the order cannot be told, or different files have the same step.
    """
    numbered = [each for each in candidates if each.is_numbered]
    base = numbered or [each for each in candidates if each.noted != Noted()]
    if not base:
        return Ordered({}, tuple(_without_step(each) for each in candidates))
    kind, steps = _steps(series, base)
    found = {step: each for each, step in zip(base, steps, strict=True)}
    notices = []
    last_step, last = max(found.items(), key=lambda pair: pair[0])
    is_agreed = getattr(last.noted, kind) == last_step
    for each in candidates:
        if each in base:
            continue
        step = getattr(each.noted, kind) if is_agreed else None
        if step is None:
            notices.append(_without_step(each))
        elif step not in found:
            found[step] = each
        elif not _are_equal(found[step], each):
            notices.append(
                f"{shown(each.path.name)} is left out: it is of {kind} {step} as "
                f"{shown(found[step].path.name)} is"
            )
    return Ordered(found, tuple(notices))


def _without_step(candidate: Candidate) -> str:
    return f"{shown(candidate.path.name)} is left out: it tells no step"


def _steps(series: str, base: Sequence[Candidate]) -> tuple[str, list[int]]:
    """Return what the steps count, and the step of each."""
    known = []
    for kind, clock in CLOCKS:
        steps = [step for each in base if (step := clock(each)) is not None]
        if len(steps) == len(base):
            if _first_double(base, steps) is None:
                _refuse_restarts(series, base, steps)
                return kind, steps
            known.append(steps)
    numbers = [number for each in base if (number := each.number) is not None]
    _refuse_two_kinds(series, base)
    if len(numbers) < len(base):
        numbers = _varying_numbers(base)
    if numbers and (not known or _first_double(base, numbers) is None):
        known.insert(0, numbers)
    if not known:
        raise UserError(_unknown(series, base))
    double = _first_double(base, known[0])
    if double is not None:
        one, other, step = double
        raise UserError(
            f"model.checkpoints: {one.path} and {other.path} are both step {step} of series "
            f"{series}: choose by a glob, such as 'epoch-*.pt', or leave out --series"
        )
    if known[0] is numbers:
        _refuse_unlike_numbers(series, base)
    kinds = [k for k in ("step", "epoch") if getattr(base[-1].noted, k) == known[0][-1]]
    return (kinds or ["step"])[0], known[0]


def _refuse_restarts(series: str, base: Sequence[Candidate], steps: Sequence[int]) -> None:
    """Refuse names whose epochs fall where their steps rise: each epoch may count from 0."""
    epochs = [each.epoch for each in base]
    if None in epochs:
        return
    order = sorted(range(len(base)), key=lambda place: steps[place])
    for one, other in itertools.pairwise(order):
        if (epochs[one] or 0) > (epochs[other] or 0):
            raise UserError(
                f"model.checkpoints: the order of series {series} cannot be told: by step, "
                f"{base[one].path.name} goes before {base[other].path.name}, and by epoch after it; "
                "where each epoch counts its steps anew, rename them with epoch=N alone or with "
                "the step of the whole training"
            )


def _refuse_two_kinds(series: str, base: Sequence[Candidate]) -> None:
    by_step = [each for each in base if labelled(each.stem, "step") is not None]
    by_epoch = [each for each in base if each.epoch is not None and each not in by_step]
    if by_step and by_epoch:
        raise UserError(
            f"model.checkpoints: series {series} has files by step ({by_step[0].path.name}) and by "
            f"epoch ({by_epoch[0].path.name}), and nothing that tells the order of both: choose one "
            "kind by a glob, such as 'epoch*'"
        )


def _refuse_unlike_numbers(series: str, base: Sequence[Candidate]) -> None:
    """Refuse to take `best-61` and `epoch-3` for steps of one kind."""
    by_word = [each for each in base if each.step is not None or each.epoch is not None]
    alone = [each for each in base if each not in by_word]
    if by_word and alone:
        raise UserError(
            f"model.checkpoints: series {series} has {by_word[0].path.name}, which tells its step, and "
            f"{alone[0].path.name}, which has a number alone: choose one kind by a glob"
        )


def _varying_numbers(base: Sequence[Candidate]) -> list[int]:
    """Return the one number in which names differ that are alike otherwise; empty for others."""
    if len({re.sub(r"\d+", "0", each.stem) for each in base}) > 1:
        return []
    columns = list(zip(*(bare_numbers(each.stem) for each in base), strict=False))
    varying = [column for column in columns if len(set(column)) > 1]
    return list(varying[0]) if len(varying) == 1 else []


def _unknown(series: str, base: Sequence[Candidate]) -> str:
    unclear = next(each for each in base if each.number is None)
    seen = ", ".join(map(str, bare_numbers(unclear.stem))) or "no number that counts steps"
    return (
        f"model.checkpoints: the order of series {series} cannot be told: {unclear.path.name} has "
        f"{seen}; expected step=N or epoch=N in names, global_step or epoch in the files, or one "
        "number each: rename them, or choose by a glob"
    )


def _first_double(
    base: Sequence[Candidate], steps: Sequence[int]
) -> tuple[Candidate, Candidate, int] | None:
    """Return the first two files of one step that are not equal byte by byte."""
    found: dict[int, Candidate] = {}
    for each, step in zip(base, steps, strict=True):
        if step in found and not _are_equal(found[step], each):
            return found[step], each, step
        found[step] = each
    return None


def _are_equal(one: Candidate, other: Candidate) -> bool:
    return filecmp.cmp(one.path, other.path, shallow=False)
