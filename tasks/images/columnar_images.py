"""Labelled images from Parquet or Arrow files, in the layout that the Hugging Face hub uses."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from activarium.schemas.errors import UserError
from activarium.tasks.images.class_labels import class_codes_of, class_names_of
from activarium.tasks.images.columnar_files import Contents, open_columnar
from activarium.tasks.images.columnar_reader import Block, ColumnarReader
from activarium.tasks.images.labelled_images import COLOUR_SAMPLES, TestSet, sampled_colours

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from activarium.schemas.config import ClassOrder, TestSetConfig

ENDINGS = {".parquet", ".arrow", ".feather", ".ipc"}
SHARD = re.compile(r"(?P<split>.+?)-(?P<index>\d{5})-of-(?P<count>\d{5})")
"""`test-00000-of-00003`, which says how many files a split has."""

COLOUR_BLOCKS = 16
"""Blocks at most that are read to tell colour from grey."""


class Split(NamedTuple):
    """The files of one split, and the files of all splits."""

    files: list[Path]
    all_files: list[Path]
    left_out: list[Path]
    """Files of the split by their names, of other formats."""


def load_columnar(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return the images of one Parquet or Arrow file, or of a folder of such files.

    Raises
    ------
    UserError
        If there is no such split, a column is missing or of another type, or a file is damaged.
    """
    del datasets
    if config.path is None:
        raise UserError("test_set.path: parquet needs a Parquet or Arrow file, or a folder of them")
    split = select_files(config.path, config.split)
    label_column = config.label_column or "label"
    contents = {
        path: _contents(path, config.image_column, label_column) for path in split.all_files
    }
    own = [contents[path] for path in split.files]
    class_names = _class_names(list(contents.values()), label_column, config.class_order)
    labels = _codes(own, class_names, config.path)
    blocks = tuple(
        Block(file, segment, position, rows)
        for file, each in enumerate(own)
        for segment, block_rows in enumerate(each.segments)
        for position, rows in enumerate(block_rows)
    )
    name = "all" if config.split == "." else config.split
    test_set = TestSet(
        name=config.name or (config.path.name if config.path.is_dir() else config.path.stem),
        split=name,
        class_names=class_names,
        ids=tuple(f"{name}/{row:06d}" for row in range(len(labels))),
        labels=labels,
        identity=_identity(split.files, own, labels, class_names, hash_content=config.hash_content),
        colours=3,
        reader=ColumnarReader(tuple(split.files), config.image_column, blocks),
        keys=np.arange(len(labels)),
        notes=_left_out_note(split.left_out, config.path),
    )
    return replace(test_set, colours=sampled_colours(test_set, _spread(blocks)))


def _left_out_note(files: Sequence[Path], root: Path) -> tuple[str, ...]:
    if not files:
        return ()
    count = f"{len(files)} file{'s' if len(files) > 1 else ''} of the test set left out"
    first = str(files[0].relative_to(root))
    return (f"{count}, the first {first!r}: names of files end in {', '.join(sorted(ENDINGS))}",)


def _spread(blocks: Sequence[Block]) -> list[int]:
    """Return rows spread over a few blocks, of many those at which reading can begin."""
    starts = np.cumsum([0, *(block.rows for block in blocks)])
    filled = [number for number, block in enumerate(blocks) if block.rows]
    firsts = [number for number in filled if blocks[number].position == 0]
    near = filled if len(filled) <= COLOUR_BLOCKS else firsts
    chosen = near[:: -(-len(near) // COLOUR_BLOCKS)]
    each = -(-COLOUR_SAMPLES // len(chosen))
    return [
        int(starts[number]) + row
        for number in chosen
        for row in range(0, blocks[number].rows, -(-blocks[number].rows // each))
    ]


def select_files(path: Path, split: str) -> Split:
    """Return the files of a split: their name begins with it, or their folder is called so.

    Raises
    ------
    UserError
        If there are none, some are missing, or several folders hold such a split.
    """
    if path.is_file():
        found = SHARD.fullmatch(path.stem)
        if found and split not in (".", found["split"]):
            raise UserError(
                f"test_set.split: {path} is of the split {found['split']!r}, got {split!r}"
            )
        return Split([path], [path], [])
    if not path.is_dir():
        raise UserError(f"test_set.path: expected a file or folder, there is nothing at {path}")
    shown = [each for each in path.rglob("*") if not _is_hidden(each.relative_to(path))]
    files = sorted(each for each in shown if each.suffix in ENDINGS and each.is_file())
    _refuse_lost(each for each in shown if each.is_symlink() and not each.exists())
    own = files if split == "." else [each for each in files if split in _splits_of(each, path)]
    if not own:
        names = ", ".join(str(each.relative_to(path)) for each in files[:8]) or "none"
        raise UserError(
            f"test_set.split: {path} has no {', '.join(sorted(ENDINGS))} file whose name begins "
            f"with {split!r} or that lies in a folder of this name; it has {names}"
        )
    folders = sorted({str(each.parent) for each in own})
    if len(folders) > 1:
        raise UserError(
            f"test_set.path: {len(folders)} folders of {path} hold the split {split!r}, such as "
            f"{folders[0]} and {folders[1]}; set test_set.path to one of them"
        )
    _require_whole(own)
    others = [each for each in shown if each.is_file() and each.suffix not in ENDINGS]
    named = [each for each in others if split in _splits_of(each, path)]
    return Split(own, files if split != "." else own, sorted(named))


def _refuse_lost(links: Iterable[Path]) -> None:
    for link in links:
        if link.suffix in ENDINGS:
            raise UserError(
                f"test_set.path: {link} is a link to nothing: mount or restore what it leads to, or "
                "delete it"
            )


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _splits_of(path: Path, root: Path) -> set[str]:
    """Return the splits that a file may be of by its name and its folder's."""
    found = SHARD.fullmatch(path.stem)
    own = {found["split"]} if found else {path.stem, re.split(r"[-_.]", path.stem)[0]}
    return own if path.parent == root else own | {path.parent.name}


def _require_whole(files: Sequence[Path]) -> None:
    """Check that all files are there that the names `<split>-<n>-of-<count>` speak of."""
    found = [each for path in files if (each := SHARD.fullmatch(path.stem))]
    there = Counter((each["split"], int(each["count"])) for each in found)
    for (split, count), files_there in there.items():
        if files_there != count:
            raise UserError(
                f"test_set.path: {files[0].parent} has {files_there} files of the split {split!r}, "
                f"their names speak of {count}: is the download complete?"
            )


def _contents(path: Path, image_column: str, label_column: str) -> Contents:
    file = open_columnar(path, image_column)
    try:
        contents = file.contents(label_column)
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"test_set.path: cannot read {path}: {reason}") from error
    columns = ", ".join(contents.schema.names)
    if image_column not in contents.schema.names:
        raise UserError(
            f"test_set.image_column: {path} has no column {image_column!r}; it has {columns}"
        )
    if contents.labels is None:
        raise UserError(
            f"test_set.label_column: {path} has no column {label_column!r}; it has {columns}"
        )
    _check_types(contents.schema, image_column, label_column, path)
    return contents


def _check_types(schema: pa.Schema, image_column: str, label_column: str, path: Path) -> None:
    label = schema.field(label_column).type
    if pa.types.is_nested(label):
        raise UserError(
            f"test_set.label_column: {path} has {label} in {label_column!r}; expected one label an "
            "image, a class number or a name"
        )
    kind = schema.field(image_column).type
    is_struct = pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
    content = kind.field("bytes").type if is_struct else kind
    if not (pa.types.is_binary(content) or pa.types.is_large_binary(content)):
        raise UserError(
            f"test_set.image_column: {path} has {kind} in {image_column!r}; expected the content of "
            "image files: binary, or a struct with binary `bytes`"
        )


def _class_names(
    contents: Sequence[Contents], label_column: str, order: ClassOrder
) -> tuple[str, ...]:
    """Return the names of the schema's metadata, else those that the labels of all files give."""
    for each in contents:
        names = _feature(each.schema, label_column).get("names")
        if names:
            return tuple(str(name) for name in names)
    values = (
        value
        for each in contents
        if each.labels is not None
        for value in pc.unique(each.labels).to_pylist()
    )
    return class_names_of(values, f"test_set.label_column: {label_column!r}", order=order)


def _feature(schema: pa.Schema, column: str) -> dict[str, Any]:
    """Return what the Hugging Face library noted of a column, if it did."""
    try:
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        found = noted["info"]["features"][column]
    except (ValueError, KeyError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}


def _codes(
    contents: Sequence[Contents], class_names: tuple[str, ...], path: Path
) -> NDArray[np.int32]:
    values = [
        value for each in contents if each.labels is not None for value in each.labels.to_pylist()
    ]
    rows = sum(each.rows for each in contents)
    if not rows:
        raise UserError(f"test_set.path: {path} holds no rows")
    if rows != len(values):
        raise UserError(f"test_set.path: {path} has {rows:,} images but {len(values):,} labels")
    return class_codes_of(values, class_names, f"test_set.label_column: {path}")


def _identity(
    files: Sequence[Path],
    contents: Sequence[Contents],
    labels: NDArray[np.int32],
    class_names: tuple[str, ...],
    *,
    hash_content: bool,
) -> str:
    """Return the sha256 of layouts, labels and classes; of the files' content too, if asked."""
    digest = hashlib.sha256(f"{class_names}".encode())
    digest.update(np.ascontiguousarray(labels).data)
    for path, each in zip(files, contents, strict=True):
        digest.update(f"{each.digest}\0{each.segments}\n".encode())
        if hash_content:
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
