"""ImageNet (ILSVRC 2012) as its users have it: folders of WordNet ids, or flat with the devkit."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.image_folder import left_out_note
from activarium.tasks.images.listed_sets import listed_set
from activarium.tasks.images.published_files import find_or_download, require_split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.config import TestSetConfig
    from activarium.tasks.images.labelled_images import TestSet

CLASSES = 1000
FLAT = "ILSVRC2012_img_val"
"""Folder of the unpacked validation images, where it is not called val."""

META = "meta.bin"
"""torchvision's file of class names and of the validation images' classes."""

DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH = f"{DEVKIT}/data/ILSVRC2012_validation_ground_truth.txt"
SYNSETS = f"{DEVKIT}/data/meta.mat"

KAGGLE = "ILSVRC/Data/CLS-LOC"
"""Folder of the splits in Kaggle's copy; its validation images lie flat."""

KAGGLE_NAMES = "LOC_synset_mapping.txt"
KAGGLE_TRUTH = "LOC_val_solution.csv"
ENDINGS = {".jpeg", ".jpg", ".png"}


class Meta(NamedTuple):
    """What the devkit, or torchvision's copy of it, tells."""

    names: dict[str, str]
    """Names of the class per WordNet id."""
    truth: tuple[str, ...]
    """WordNet id per validation image, in the order of the images' names."""


def load_imagenet(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return ImageNet's validation (or training) images; their codes are torchvision's.

    Raises
    ------
    UserError
        If there is no such folder, or images without folders come without the devkit.
    """
    require_split(config, ("train", "val"))
    root, folder = _find(config, datasets)
    meta = _read_meta(root)
    wnids = _class_folders(root / folder)
    images = _in_class_folders(root, folder, wnids) if wnids else _flat(root, folder, meta)
    if meta is not None:
        wnids = sorted(meta.names)
    codes = {wnid: code for code, wnid in enumerate(wnids)}
    strange = sorted({wnid for _, wnid in images} - set(codes))
    if strange:
        raise UserError(
            f"{root / folder} has the folder {strange[0]!r}, which {META} does not know"
        )
    found = listed_set(
        config,
        root,
        [(name, codes[wnid]) for name, wnid in images],
        class_names=_class_names(wnids, meta),
        where=str(root / folder),
    )
    others = _others(root, folder, _class_folders(root / folder))
    return replace(found, notes=left_out_note(others, ENDINGS))


def _find(config: TestSetConfig, datasets: Path) -> tuple[Path, str]:
    """Return the root, and the folder of the split within it."""
    folders = [config.split, *([FLAT] if config.split == "val" else [])]
    folders.append(f"{KAGGLE}/{config.split}")

    def find(places: Sequence[Path]) -> tuple[Path, str] | None:
        pairs = ((place, folder) for folder in folders for place in places)
        return next(((place, folder) for place, folder in pairs if (place / folder).is_dir()), None)

    return find_or_download(
        config,
        datasets,
        find,
        base="imagenet",
        wanted=f"the folder {' or '.join(folders)} (unpacked; it has no download)",
    )


def _class_folders(folder: Path) -> list[str]:
    return sorted(
        each.name for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")
    )


def _in_class_folders(root: Path, folder: str, wnids: Sequence[str]) -> list[tuple[str, str]]:
    """Return path and WordNet id of images that lie in one folder per class."""
    return [
        (f"{folder}/{wnid}/{name}", wnid)
        for wnid in wnids
        for name in _images(root / folder / wnid)
    ]


def _images(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir() if each.suffix.lower() in ENDINGS)


def _others(root: Path, folder: str, inner: Sequence[str]) -> list[str]:
    """Return the files beside the images that are none, hidden ones left out."""
    return sorted(
        each.relative_to(root).as_posix()
        for name in (".", *inner)
        for each in (root / folder / name).iterdir()
        if not each.name.startswith(".")
        and not each.is_dir()
        and (each.suffix.lower() not in ENDINGS or (bool(inner) and name == "."))
    )


def _flat(root: Path, folder: str, meta: Meta | None) -> list[tuple[str, str]]:
    """Return path and WordNet id of validation images that lie in one folder."""
    names = _images(root / folder)
    if meta is None:
        raise UserError(
            f"{root / folder} has no class folders: put {DEVKIT}.tar.gz (or {DEVKIT}/, or "
            f"torchvision's {META}) into {root}, it tells the images' classes"
        )
    if len(names) != len(meta.truth):
        raise UserError(
            f"{root / folder} has {len(names):,} images, but the devkit has {len(meta.truth):,} "
            "labels: is the folder complete?"
        )
    return [(f"{folder}/{name}", wnid) for name, wnid in zip(names, meta.truth, strict=True)]


def _class_names(wnids: Sequence[str], meta: Meta | None) -> tuple[str, ...]:
    """Return torchvision's names where all classes are there, else the devkit's, else the ids."""
    if len(wnids) == CLASSES:
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        return tuple(_IMAGENET_CATEGORIES)
    if meta is None:
        return tuple(wnids)
    first = [meta.names[wnid].split(", ")[0] for wnid in wnids]
    times = Counter(first)
    return tuple(
        name if times[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(first, wnids, strict=True)
    )


def _read_meta(root: Path) -> Meta | None:
    """Return the devkit's facts from where they are: torchvision's file, a folder, an archive."""
    try:
        if (root / META).is_file():
            return _from_torchvision(root / META)
        if (root / TRUTH).is_file():
            return _from_devkit((root / SYNSETS).read_bytes(), (root / TRUTH).read_bytes())
        if (archive := root / f"{DEVKIT}.tar.gz").is_file():
            with tarfile.open(archive) as members:
                contents = [_member(members, name) for name in (SYNSETS, TRUTH)]
            return _from_devkit(*contents)
        if (root / KAGGLE_TRUTH).is_file():
            return _from_kaggle(root)
    except Exception as error:  # damaged files of four formats
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"cannot read ImageNet's {META}, devkit or solution in {root}: {reason}"
        ) from error
    return None


MOST_MEMBER_BYTES = 64 * 2**20
"""The devkit's own files are far smaller."""


def _member(members: tarfile.TarFile, name: str) -> bytes:
    stream = members.extractfile(name)
    if stream is None:
        raise FileNotFoundError(name)
    content = stream.read(MOST_MEMBER_BYTES + 1)
    if len(content) > MOST_MEMBER_BYTES:
        raise ValueError(f"{name} has more than {MOST_MEMBER_BYTES:,} bytes")
    return content


def _from_torchvision(path: Path) -> Meta:
    import torch

    names, truth = torch.load(path, weights_only=True)
    return Meta({wnid: ", ".join(each) for wnid, each in names.items()}, tuple(truth))


def _from_devkit(synsets: bytes, truth: bytes) -> Meta:
    """Return the leaves of the devkit's tree of synsets, and the images' classes."""
    from scipy.io import loadmat

    rows: Any = np.atleast_1d(loadmat(io.BytesIO(synsets), squeeze_me=True)["synsets"])
    leaves = [row for row in rows.tolist() if int(row[4]) == 0]
    wnids = {int(row[0]): str(row[1]) for row in leaves}
    codes = [int(line) for line in truth.split()]
    return Meta({str(row[1]): str(row[2]) for row in leaves}, tuple(wnids[code] for code in codes))


def _from_kaggle(root: Path) -> Meta:
    """Return names from `<wnid> <names>`, classes from `<image>,<wnid> <box> <wnid> <box> ...`."""
    lines = (root / KAGGLE_NAMES).read_text("utf-8").splitlines()
    names = {wnid: words for wnid, _, words in (line.partition(" ") for line in lines) if wnid}
    solution = (root / KAGGLE_TRUTH).read_text("utf-8").splitlines()[1:]
    rows = sorted(line.split(",", 1) for line in solution if line)
    return Meta(names, tuple(boxes.split()[0] for _, boxes in rows))
