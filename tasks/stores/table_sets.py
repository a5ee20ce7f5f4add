"""Sets: tables and maps that one piece of work made together, and what tells that they are whole.

The receipt of a set is written after all of its files, and lists the checksum of each. Files of
different pieces of work can so be told from those of one, whoever put them there.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from activarium.schemas.atlas import MAPS, SELECTION_MARK, Atlas, shorter, unique_name
from activarium.schemas.columns import IN_SET_KEY, INPUTS_KEY
from activarium.schemas.receipts import SetReceipt
from activarium.schemas.tables import (
    EMBEDDING_QUALITY,
    EMBEDDINGS,
    LAYER_CHANGES,
    SIMILARITIES,
    TABLES,
    UNIT_MATCHES,
)
from activarium.tasks.stores.checksum_files import DIFFERS, checksum_file, is_whole
from activarium.tasks.stores.files import sha256_file
from activarium.tasks.stores.receipt_files import DamagedReceiptError, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from activarium.schemas.receipts import SetFile

RECORDING = "recording="
SERIES = "series="

ANALYSIS, MAP, PAIR, CHANGES = "analysis", "map", "pair", "changes"
"""Kinds of sets: what `TableSet.part` begins with."""

_OF_MAPS = (EMBEDDINGS.name, EMBEDDING_QUALITY.name)
_OF_PAIRS = (SIMILARITIES.name, UNIT_MATCHES.name)
_TABLES = {MAP: _OF_MAPS, PAIR: _OF_PAIRS}
ANALYSED = tuple(
    table
    for name, table in TABLES.items()
    if name not in {*_OF_MAPS, *_OF_PAIRS, LAYER_CHANGES.name}
)
"""Tables of an analysis."""

_STAGES = (["analyse"], ["embed"], ["compare"])
"""Commands that make sets."""
_OPTIONS = {
    "--classes", "--class-exemplars", "--control", "--exemplars", "--fdr", "--features", "--into",
    "--layer", "--method", "--name", "--partial", "--permutations", "--seed", "--series", "--target",
    "--top-classes", "--where", "--where-of",
}  # fmt: skip
"""Their options that receipts name: none of where to compute, or on which atlas."""

UNREADABLE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises on a damaged file: a name in the footer may not even be text."""

MIXED = "it is of another piece of work than the rest of its set"
UNLISTED = "the receipt of its set is missing"


@dataclass(frozen=True)
class TableSet:
    """The files that one piece of work makes together, which are replaced as one."""

    atlas: Atlas
    owner: str
    """`recording=<id>` or `series=<name>`."""
    part: str
    """What tells it from the other sets of its owner."""

    @property
    def name(self) -> str:
        """Id of the recording, or name of the series."""
        return self.owner.partition("=")[2]

    @property
    def kind(self) -> str:
        """Its kind: analysis, map, pair or changes."""
        return self.part.partition("-")[0]

    @property
    def receipt_file(self) -> Path:
        """Where its receipt lies."""
        return self.atlas.set_receipt(self.owner, self.part)

    @property
    def replacement_file(self) -> Path:
        """Where it is noted that it is being replaced."""
        return self.atlas.replacement(self.owner, self.part)

    @property
    def is_being_replaced(self) -> bool:
        """Whether its files are being moved, or a killed process left that to be finished."""
        return self.replacement_file.exists()

    @cached_property
    def receipt(self) -> SetReceipt | None:
        """Its receipt; None where there is none: it was made by an earlier version, if at all.

        Raises
        ------
        DamagedReceiptError
            If it is damaged.
        """
        try:
            return unsealed(SetReceipt, self.receipt_file.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedReceiptError(f"cannot be read: {error.strerror or error}") from error

    @property
    def command(self) -> str:
        """What makes it anew, as it can be typed."""
        try:
            known = self.receipt
        except DamagedReceiptError:
            known = None
        if known is not None and _is_harmless(known.command):
            return known.command
        return shlex.join(["activarium", *self._usual_words()])

    def _usual_words(self) -> list[str]:
        """Return the command without its settings, which only the receipt tells."""
        if self.owner.startswith(SERIES):
            return ["compare", "--series", self.name]
        if self.kind == PAIR:
            return ["compare", self.name, self.part.removeprefix(f"{PAIR}-")]
        recording, _, selection = self.name.partition(SELECTION_MARK)
        stage = "embed" if self.kind == MAP else "analyse"
        return [stage, recording, *(["--name", selection] if selection else [])]

    def listed(self, file: Path) -> SetFile | None:
        """Return what the receipt notes of a file."""
        path, receipt = self.inside(file), self.receipt
        return None if receipt is None else next((f for f in receipt.files if f.path == path), None)

    def is_current(self, inputs: str, files: Sequence[Path]) -> bool:
        """Return whether its files are sound, and what was made of exactly these inputs.

        Parameters
        ----------
        inputs
            Fingerprint of what they are made of now.
        files
            The files that it has then.
        """
        if not all(is_whole(file) for file in files) or self.problem() or self.is_being_replaced:
            return False
        receipt = self.receipt  # whole, or there would be a problem
        if receipt is None:
            tables = [file for file in files if file.suffix == ".parquet"]
            known = {footer_metadata(file).get(INPUTS_KEY, b"").decode() for file in tables}
        else:
            known = {receipt.inputs}
            if {each.path for each in receipt.files} != {self.inside(file) for file in files}:
                return False
        return known == {inputs} and not any(file_problem(self, file) for file in files)

    def problem(self) -> str:
        """Return what is wrong with its files as a whole; empty where they belong together.

        Looks at sizes and at what checksum files say, not at contents: `file_problem` does.
        """
        return next(self._problems(), "")

    def mixture(self) -> str:
        """Return what tells that its files are of two pieces of work; empty where nothing does.

        A file that is damaged or gone leaves the others what they are.
        """
        return next((each for each in self._problems() if each.endswith(MIXED)), "")

    def _problems(self) -> Iterator[str]:
        """Yield `file: problem` for each file of which sizes and checksum files tell one."""
        try:
            receipt = self.receipt
        except DamagedReceiptError as error:
            yield f"{self.inside(self.receipt_file)}: {error}"
            receipt = None
        if receipt is None:
            yield from self._problems_without_receipt()
            return
        listed = {each.path for each in receipt.files}
        for each in receipt.files:
            problem = _moved(self.atlas, each)
            if problem:
                yield f"{each.path}: {problem}"
        for file in self._found():
            if self.inside(file) not in listed:
                yield f"{self.inside(file)}: {MIXED}"

    def inside(self, file: Path) -> str:
        """Return where a file lies in the atlas."""
        return file.relative_to(self.atlas.root).as_posix()

    def _problems_without_receipt(self) -> Iterator[str]:
        """Yield what is wrong with files without a receipt: each tells of its inputs."""
        inputs: dict[bytes, str] = {}
        for file in self._found():
            metadata = footer_metadata(file)
            if IN_SET_KEY in metadata and not self.receipt_file.exists():
                yield f"{self.inside(self.receipt_file)}: missing"
            if metadata:
                inputs[metadata.get(INPUTS_KEY, b"")] = self.inside(file)
        if len(inputs) > 1:
            yield f"{[*inputs.values()][-1]}: {MIXED}"

    def _found(self) -> list[Path]:
        """Return the files that are there where this kind of set has them."""
        if self.kind == ANALYSIS:
            files = [self.atlas.table_file(table, self.name) for table in ANALYSED]
        else:
            stem = self.part.partition("-")[2]
            folders = [self.atlas.tables / name / self.owner for name in _TABLES.get(self.kind, ())]
            files = [folder / f"{stem}.parquet" for folder in folders]
        return [file for file in files if file.exists()]


def _is_harmless(command: str) -> bool:
    """Return whether a command of a receipt is one of those that make sets, and no more when typed.

    An atlas may come from somebody else, and what a message names is typed by whoever reads it.
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return False
    is_plain = words[:1] == ["activarium"] and shlex.join(words) == command
    options = {word.partition("=")[0] for word in words if word.startswith("--")}
    return is_plain and words[1:2] in _STAGES and options <= _OPTIONS


def analysis_set(atlas: Atlas, name: str) -> TableSet:
    """Return the tables of an analysis of a recording, or of a selection of it."""
    return TableSet(atlas, f"{RECORDING}{name}", ANALYSIS)


def map_set(atlas: Atlas, name: str, coordinates: Path) -> TableSet:
    """Return one map of a recording, by its file of coordinates."""
    return TableSet(atlas, f"{RECORDING}{name}", shorter(f"{MAP}-{coordinates.stem}"))


def pair_set(atlas: Atlas, name: str, similarities: Path) -> TableSet:
    """Return the comparison of a recording with another, by its file of similarities."""
    return TableSet(atlas, f"{RECORDING}{name}", shorter(f"{PAIR}-{similarities.stem}"))


def series_set(atlas: Atlas, name: str) -> TableSet:
    """Return the changes of layers of a series."""
    return TableSet(atlas, f"{SERIES}{unique_name(name)}", CHANGES)


def set_of(file: Path) -> TableSet | None:
    """Return the set that a table or map belongs to by its location; None where it is of none."""
    folder, kind = file.parent, file.parent.parent
    if not folder.name.startswith(RECORDING):
        return None
    name = folder.name.removeprefix(RECORDING)
    if kind.name == MAPS:
        return map_set(Atlas(kind.parent), name, file)
    atlas = Atlas(kind.parent.parent)
    if kind.name in _OF_MAPS:
        return map_set(atlas, name, file)
    if kind.name in _OF_PAIRS:
        return pair_set(atlas, name, file)
    if kind.name == LAYER_CHANGES.name:
        return next((each for each in series_sets(atlas) if _lists(each, file)), None)
    return analysis_set(atlas, name)


def _lists(found: TableSet, file: Path) -> bool:
    try:
        return found.listed(file) is not None
    except DamagedReceiptError:
        return False


def sets_of(atlas: Atlas, name: str) -> list[TableSet]:
    """Return the sets of a recording or selection: its analysis, maps and comparisons."""
    owner = f"{RECORDING}{name}"
    found = [analysis_set(atlas, name)]
    found += [_of_receipt(atlas, each) for each in sorted((atlas.sets / owner).glob("*.json"))]
    # Those of earlier versions have no receipt.
    for table, make in ((EMBEDDINGS, map_set), (SIMILARITIES, pair_set)):
        files = sorted((atlas.tables / table.name / owner).glob("*.parquet"))
        found += [make(atlas, name, file) for file in files]
    return list({each.part: each for each in found}.values())


def series_sets(atlas: Atlas) -> Iterator[TableSet]:
    """Yield the sets of series."""
    for each in sorted(atlas.sets.glob(f"{SERIES}*/*.json")):
        yield _of_receipt(atlas, each)


def _of_receipt(atlas: Atlas, receipt: Path) -> TableSet:
    return TableSet(atlas, receipt.parent.name, receipt.stem)


def file_problem(found: TableSet | None, file: Path) -> str:
    """Return what is wrong with one file of a set; empty for a sound one, which is read wholly.

    Where no receipt lists it, it is compared with its checksum file alone.
    """
    if not file.is_file():
        return "missing"
    try:
        sha256 = sha256_file(file)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    beside = checksum_beside(file)
    try:
        listed = found.listed(file) if found is not None else None
        is_unknown = listed is None and IN_SET_KEY in footer_metadata(file)
    except DamagedReceiptError:
        listed, is_unknown = None, False  # `TableSet.problem` tells it
    if sha256 == (listed.sha256 if listed is not None else beside or sha256):
        if not is_unknown:
            return ""
        return UNLISTED if found is None or found.receipt is None else MIXED
    return MIXED if listed is not None and sha256 == beside else DIFFERS


def checksum_beside(file: Path) -> str | None:
    """Return the sha256 that the checksum file of a file tells; None where there is none."""
    try:
        return checksum_file(file).read_text("utf-8", "replace").partition(" ")[0]
    except OSError:
        return None


def _moved(atlas: Atlas, listed: SetFile) -> str:
    """Return what tells, without reading it, that a file is not the one that a receipt lists."""
    file = atlas.root / listed.path
    try:
        size = file.stat().st_size
    except OSError:
        return "missing"
    beside = checksum_beside(file)
    if beside is not None and beside != listed.sha256:
        # A damaged checksum file of a sound file is no mixture.
        return "" if sha256_file(file) == listed.sha256 else MIXED
    return "" if size == listed.size else f"expected {listed.size} bytes, found {size}"


def footer_metadata(file: Path) -> dict[bytes, bytes]:
    """Return what the footer of a table tells; nothing where it cannot be read."""
    try:
        return dict(pq.read_schema(file).metadata or {})
    except UNREADABLE:
        return {}
