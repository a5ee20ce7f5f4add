"""The order of a training's checkpoints: from their files' names, folders and own notes."""

from __future__ import annotations

import filecmp
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import Noted, noted_moment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_STEP = r"global[-_]?steps?|steps?|iterations?|iters?|it|updates?"
_EPOCH = r"epochs?|ep"
_NUMBER = r"\d+(?:\.\d+)?[kKmM](?![A-Za-z\d])|\d+e\+?\d+|\d+(?![\d.]*\.\d|[\d.]*\d*[eE]-)"

_METRICS = [
    "acc",
    "accuracy",
    "loss",
    "val",
    "err",
    "error",
    "f1",
    "auc",
    "map",
    "miou",
    "iou",
    "top",
    "top1",
    "top5",
    "lr",
    "wd",
    "bs",
    "seed",
    "score",
    "metric",
    "psnr",
    "ssim",
    "fold",
    "width",
    "size",
    "depth",
    "dim",
]
"""Words before numbers that measure or set something, and count no steps."""

_COUNT = r"\d+(?:\.\d+)?[kKmM]?|\d+e\+?\d+"
"""A whole number of steps, also as `10k`, `2.5k` or `1e5`."""

_MEASURE = r"\d+(?:\.\d+)?(?:e-?\d+)?"
_DECIMAL = r"(?<![A-Za-z\d])\d+(?:\.\d+)?e-\d+|\d+\.\d+(?![kKmM\d])"
_HASH = r"(?<![A-Za-z\d])[A-Za-z]*\d+(?![kKmM](?![A-Za-z\d]))[A-Za-z]"
"""A word with letters after digits, such as a checksum, which counts nothing."""

_SCALES = {"k": 1_000, "m": 1_000_000}

NUMBERED_FOLDER = re.compile(rf"(?:checkpoint|ckpt|{_STEP}|{_EPOCH})[-_=]?(\d+)", re.IGNORECASE)
"""Folders of one checkpoint each, such as `checkpoint-500`."""


def _labelled(stem: str, words: str) -> int | None:
    """Return the number after one of some words; None where there is none, or several differ."""
    found = re.findall(rf"(?<![A-Za-z])(?:{words})[=_-]?({_NUMBER})", stem, re.IGNORECASE)
    numbers = {_value(each) for each in found}
    return numbers.pop() if len(numbers) == 1 else None


def _value(text: str) -> int:
    scale = _SCALES.get(text[-1].lower(), 1)
    if scale > 1:
        return round(float(text[:-1]) * scale)
    return int(text) if text.isdecimal() else int(float(text))


def bare_numbers(stem: str) -> list[int]:
    """Return the numbers of a name that may count steps.

    Versions (`-v1`), decimals and measures (`acc_61`) are none. Numbers that stand alone go before
    those that end a word, as in `resnet18-005`.

    >>> bare_numbers("resnet18-005"), bare_numbers("net-61.5-10k-v2"), bare_numbers("x3")
    ([5], [10000], [3])
    """
    text = re.sub(r"(?<=.)[-_]v\d+$", "", stem)
    text = re.sub(
        rf"(?<![A-Za-z])(?:{'|'.join(_METRICS)})[=_-]?{_MEASURE}", "", text, flags=re.IGNORECASE
    )
    text = re.sub(_DECIMAL, "", text)
    alone = re.findall(rf"(?<![A-Za-z\d])(?<!\d\.)({_COUNT})(?![A-Za-z\d])", text)
    if alone or re.search(_HASH, text):
        return [_value(each) for each in alone]
    return [_value(each) for each in re.findall(r"[A-Za-z](\d+[kKmM]?)(?![A-Za-z\d])", text)]


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
        return _labelled(self.stem, _STEP) if noted is None else noted

    @property
    def epoch(self) -> int | None:
        """The epoch that the name says."""
        return _labelled(self.stem, _EPOCH)

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
        return self.folder is not None or self.step is not None or bool(_digits(self))


def _digits(candidate: Candidate) -> list[int]:
    return [*bare_numbers(candidate.stem), *filter(None, [candidate.epoch])]


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
                f"{each.path.name} is left out: it is of {kind} {step} as {found[step].path.name} is"
            )
    return Ordered(found, tuple(notices))


def _without_step(candidate: Candidate) -> str:
    return f"{candidate.path.name} is left out: it tells no step"


def _steps(series: str, base: Sequence[Candidate]) -> tuple[str, list[int]]:
    """Return what the steps count, and the step of each."""
    known = []
    for kind, clock in CLOCKS:
        steps = [step for each in base if (step := clock(each)) is not None]
        if len(steps) == len(base):
            if _first_double(base, steps) is None:
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


def _refuse_two_kinds(series: str, base: Sequence[Candidate]) -> None:
    by_step = [each for each in base if _labelled(each.stem, _STEP) is not None]
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
