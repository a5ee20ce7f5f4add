"""The atlas: where recordings, tables, models and reports lie under one folder."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from activarium.schemas.errors import shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.columns import Table


def slug(name: str) -> str:
    """Return the name with what is not safe in a file name or partition replaced by `-`.

    >>> slug("My set (v2).zip")
    'my-set-v2-.zip'
    """
    return re.sub(r"-+", "-", re.sub(r"[^a-z0-9._]+", "-", name.lower())).strip("-") or "unnamed"


MOST_LETTERS = 100
"""A name that is given may be this long."""
LONGEST = 200
"""Longer file names are made shorter: file systems take 255 letters, endings included."""
LONGEST_ID = 240
"""Letters of an id in the tables: the folder of its partition and its lock carry it."""
PART_LETTERS = 40
"""Of each part of a name that is made shorter."""


RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Names that shared disks of other systems take for devices."""


def given_name(name: str) -> str:
    """Return a name that is given, in Unicode's composed form, where files can be called by it.

    Raises
    ------
    ValueError
        If it is empty or too long; begins with a dot, which hides files and leads elsewhere, or
        with a dash, which commands take for an option; ends with a dot or a space; or holds what
        cannot be seen.
    """
    normal = unicodedata.normalize("NFC", name)
    ends_well = normal == normal.strip() and normal[:1] not in {".", "-"} and normal[-1:] != "."
    is_short = 0 < len(normal) <= MOST_LETTERS
    if not (
        is_short and ends_well and shown(normal) == normal and normal.isprintable()
    ) or RESERVED.fullmatch(normal):
        raise ValueError(
            f"expected a name of 1 to {MOST_LETTERS} letters that can be seen, that does not begin "
            "with a dot, dash or space, end with a dot or space, or mean a device (con, nul), got "
            f"{_quoted(name)}"
        )
    return normal


def _quoted(name: str) -> str:
    if len(name) > MOST_LETTERS:
        return f"{name[:20]!r}... of {len(name):,} letters"
    return repr(name)


def file_name(parts: Sequence[str]) -> str:
    """Return parts of a name as one file name, each shortened where all are too long together.

    >>> file_name([".net v2", "epoch-3"])
    'net-v2-epoch-3'
    """
    safe = [slug(part) for part in parts]
    if len("-".join(safe)) > LONGEST:
        safe = [_short(part) for part in safe]
    return slug("-".join(safe)).lstrip(".-") or "unnamed"


def _short(part: str) -> str:
    if len(part) <= PART_LETTERS:
        return part
    return f"{part[: PART_LETTERS - 9]}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


SHORTER = 150
"""Names of files that are made of others' are no longer than this."""


def shorter(name: str) -> str:
    """Return a name that may be long as one that a file can have, with an ending."""
    if len(name) <= SHORTER:
        return name
    return f"{name[: SHORTER - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


MAPS = "maps"
"""Folder of the maps in an atlas."""
MODELS = "models"
"""Folder of the trained models in an atlas."""
TRAINING_LOG = "training.json"
"""The log of a training, in its folder."""
TRAINING_STATE = "state-last.safetensors"
"""The state that a training is resumed from, in its folder; one that is finished has none."""
REPORTS = "reports"
"""Folder of the pages in an atlas."""
UNTRAINED = "untrained"
"""Name of the checkpoint of an untrained model, which tells a control from other recordings."""
SELECTION_MARK = "~"
"""Stands between a recording's id and the name of a selection of it, in tables; no id holds it."""


def recording_of(name: str) -> str:
    """Return the recording of an id in the tables, which may be that of a selection."""
    return name.partition(SELECTION_MARK)[0]


def unique_name(part: str) -> str:
    """Return a safe file name that no other part shares."""
    safe = slug(part)
    return safe if safe == part else f"{safe}-{hashlib.sha256(part.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Atlas:
    """The folder that holds everything a project records."""

    root: Path
    recordings_at: str | None = None
    """Address of the recordings where they lie elsewhere, such as s3://bucket/prefix."""

    @property
    def recordings(self) -> str:
        """Address of the recordings: a folder under the root, or what was given."""
        return self.recordings_at or str(self.root / "recordings")

    @property
    def tables(self) -> Path:
        """Folder of the tables."""
        return self.root / "tables"

    @property
    def checksums(self) -> Path:
        """Folder of the checksums of tables, maps, models and pages, with the same folders inside."""
        return self.root / "checksums"

    @property
    def sets(self) -> Path:
        """Folder of the receipts of sets: of files that were made together."""
        return self.checksums / "sets"

    @property
    def staged(self) -> Path:
        """Folder where new sets wait that take the places of old ones as a whole.

        Among the tables, so that files need only be renamed; no pattern of a table matches it.
        """
        return self.tables / ".staged"

    @property
    def maps(self) -> Path:
        """Folder of what places further images in maps."""
        return self.root / MAPS

    @property
    def models(self) -> Path:
        """Folder of the trained models."""
        return self.root / MODELS

    @property
    def reports(self) -> Path:
        """Folder of the report pages."""
        return self.root / REPORTS

    @property
    def work(self) -> Path:
        """Folder of what is half done; may be deleted when nothing runs."""
        return self.root / "work"

    def lock(self, name: str) -> Path:
        """Lock file of one piece of work; it stays behind, empty."""
        return self.root / ".locks" / f"{name}.lock"

    @property
    def datasets(self) -> Path:
        """Folder that test sets are downloaded to where none is configured."""
        return self.root / "datasets"

    def recording(self, recording: str) -> str:
        """Address of the store of one recording; that of a selection is the recording's."""
        return f"{self.recordings.rstrip('/')}/{recording_of(recording)}.zarr"

    def partition(self, table: Table, recording: str) -> Path:
        """Folder of one recording's files of a table."""
        return self.tables / table.name / f"recording={recording}"

    def table_file(self, table: Table, recording: str, part: str | None = None) -> Path:
        """File of one recording's rows of a table; `part` is a layer and method, where split."""
        return self.partition(table, recording) / f"{unique_name(part or table.name)}.parquet"

    def map_file(self, recording: str, part: str) -> Path:
        """File of what places further images in one of a recording's maps."""
        return self.maps / f"recording={recording}" / f"{unique_name(part)}.npz"

    def set_receipt(self, owner: str, part: str) -> Path:
        """Receipt of a set of a recording or series (`recording=<id>`, `series=<name>`)."""
        return self.sets / owner / f"{part}.json"

    def replacement(self, owner: str, part: str) -> Path:
        """File that tells of a set that is being replaced, and is there only meanwhile."""
        return self.staged / owner / f"{part}.json"

    def report(self, name: str) -> Path:
        """Report page of a run; names in letters that files' names go without stay apart."""
        lost = any(each.isalnum() and not each.isascii() for each in name)
        parts = [name, hashlib.sha256(name.encode()).hexdigest()[:8]] if lost else [name]
        return self.reports / f"{file_name(parts)}.html"
