"""Published sets of image files with files that list splits and labels: pets, flowers, dogs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activarium.schemas.errors import UserError
from activarium.tasks.images.image_folder import Entry, FolderReader, identity_of
from activarium.tasks.images.labelled_images import TestSet, check_labels
from activarium.tasks.images.published_files import (
    find_or_download,
    folder_with,
    read_mat,
    require_split,
    torchvision_download,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from activarium.schemas.config import TestSetConfig

FLOWERS_CLASSES = (
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea",
    "english marigold", "tiger lily", "moon orchid", "bird of paradise", "monkshood",
    "globe thistle", "snapdragon", "colt's foot", "king protea", "spear thistle", "yellow iris",
    "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger",
    "grape hyacinth", "corn poppy", "prince of wales feathers", "stemless gentian", "artichoke",
    "sweet william", "carnation", "garden phlox", "love in the mist", "mexican aster",
    "alpine sea holly", "ruby-lipped cattleya", "cape flower", "great masterwort", "siam tulip",
    "lenten rose", "barbeton daisy", "daffodil", "sword lily", "poinsettia", "bolero deep blue",
    "wallflower", "marigold", "buttercup", "oxeye daisy", "common dandelion", "petunia",
    "wild pansy", "primula", "sunflower", "pelargonium", "bishop of llandaff", "gaura",
    "geranium", "orange dahlia", "pink-yellow dahlia?", "cautleya spicata", "japanese anemone",
    "black-eyed susan", "silverbush", "californian poppy", "osteospermum", "spring crocus",
    "bearded iris", "windflower", "tree poppy", "gazania", "azalea", "water lily", "rose",
    "thorn apple", "morning glory", "passion flower", "lotus", "toad lily", "anthurium",
    "frangipani", "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia",
    "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss", "foxglove",
    "bougainvillea", "camellia", "mallow", "mexican petunia", "bromelia", "blanket flower",
    "trumpet creeper", "blackberry lily",
)  # fmt: skip
"""Names in the order of the labels, as torchvision gives them; the files hold numbers only."""

FLOWERS_SPLITS = {"train": "trnid", "val": "valid", "test": "tstid"}
DOGS_LISTS = {"train": "train_list.mat", "test": "test_list.mat", "all": "file_list.mat"}


def listed_set(
    config: TestSetConfig,
    root: Path,
    listed: Sequence[tuple[str, int]],
    *,
    class_names: Sequence[str],
    where: str,
) -> TestSet:
    """Return the set of listed image files, in the order of the list.

    Parameters
    ----------
    config
        Source, name, split.
    root
        Folder of the images.
    listed
        Path below the folder and class code of each image.
    class_names
        Name per class.
    where
        The file that lists them, for messages.

    Raises
    ------
    UserError
        If nothing is listed, a label is no class, or files are missing.
    """
    if not listed:
        raise UserError(f"test_set: {where} lists no images")
    names = tuple(name for name, _ in listed)
    labels = np.array([code for _, code in listed], np.int32)
    check_labels(config, labels, class_names)
    sizes = [_size(root / name) for name in names]
    missing = [name for name, size in zip(names, sizes, strict=True) if size is None]
    if missing:
        raise UserError(
            f"test_set: {where} lists {len(names):,} images, but {len(names) - len(missing):,} of them are "
            f"below {root}; the first missing one is {missing[0]!r}"
        )
    entries = [
        Entry(name, config.split, class_names[code], str(size))
        for name, code, size in zip(names, labels.tolist(), sizes, strict=True)
    ]
    return TestSet(
        name=config.name or config.source,
        split=config.split,
        class_names=tuple(class_names),
        ids=names,
        labels=labels,
        identity=identity_of(entries, FolderReader(root), hash_content=config.hash_content),
        colours=3,
        reader=FolderReader(root),
    )


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def names_of_codes(pairs: Sequence[tuple[str, int]], where: str) -> tuple[str, ...]:
    """Return the class names in the order of their codes; a code without a name is its number.

    Raises
    ------
    UserError
        If one code has two names, or is negative.
    """
    names: dict[int, str] = {}
    for name, code in pairs:
        if code < 0 or names.setdefault(code, name) != name:
            raise UserError(
                f"{where}: the label {code + 1} stands for {names.get(code, 'nothing')!r} and for "
                f"{name!r}; labels begin at 1 and have one class each"
            )
    return tuple(names.get(code, str(code + 1)) for code in range(max(names, default=-1) + 1))


def load_oxford_pet(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return Oxford-IIIT Pet, 37 breeds: `images/` and `annotations/<split>.txt`."""
    splits = ("trainval", "test")
    require_split(config, splits)
    folder = find_or_download(
        config,
        datasets,
        folder_with(["images", f"annotations/{config.split}.txt"]),
        base="oxford-iiit-pet",
        wanted=f"images/ and annotations/{config.split}.txt",
        download=torchvision_download("OxfordIIITPet", split=config.split),
    )
    lists = {name: folder / "annotations" / f"{name}.txt" for name in splits}
    rows = {name: _pet_rows(path) for name, path in lists.items() if path.is_file()}
    known = [(_breed(name), code) for each in rows.values() for name, code in each]
    own = rows[config.split]
    where = str(lists[config.split])
    return listed_set(
        config,
        folder,
        [(f"images/{name}.jpg", code) for name, code in own],
        class_names=names_of_codes(known, where),
        where=where,
    )


def _pet_rows(path: Path) -> list[tuple[str, int]]:
    """Return image name and class code of each line `<image> <class from 1> <species> <breed>`."""
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        words = line.split()
        if not words or line.startswith("#"):
            continue
        if len(words) < 2 or not words[1].isdecimal():
            raise UserError(f"{path}, line {number}: expected `<image> <class> ...`, got {line!r}")
        found.append((words[0], int(words[1]) - 1))
    return found


def _breed(name: str) -> str:
    return " ".join(part.title() for part in name.rsplit("_", 1)[0].split("_"))


def load_flowers102(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return Oxford 102 Flower: `jpg/image_<number>.jpg`, `imagelabels.mat` and `setid.mat`."""
    require_split(config, tuple(FLOWERS_SPLITS))
    wanted = ["jpg", "imagelabels.mat", "setid.mat"]
    folder = find_or_download(
        config,
        datasets,
        folder_with(wanted),
        base="flowers-102",
        wanted="jpg/, imagelabels.mat and setid.mat",
        download=torchvision_download("Flowers102", split=config.split),
    )
    field = FLOWERS_SPLITS[config.split]
    numbers = read_mat(folder / "setid.mat", [field])[0].reshape(-1).astype(int)
    labels = read_mat(folder / "imagelabels.mat", ["labels"])[0].reshape(-1).astype(int)
    if len(numbers) and (numbers.min() < 1 or numbers.max() > len(labels)):
        raise UserError(
            f"{folder / 'setid.mat'} names the image {numbers.max():,}, but imagelabels.mat has "
            f"{len(labels):,} labels: are these files of one download?"
        )
    return listed_set(
        config,
        folder,
        [(f"jpg/image_{number:05d}.jpg", int(labels[number - 1]) - 1) for number in numbers],
        class_names=FLOWERS_CLASSES,
        where=str(folder / "setid.mat"),
    )


def load_stanford_dogs(config: TestSetConfig, datasets: Path) -> TestSet:
    """Return Stanford Dogs, 120 breeds: `Images/<breed>/` and `<split>_list.mat`."""
    require_split(config, tuple(DOGS_LISTS))
    name = DOGS_LISTS[config.split]
    find = folder_with(["Images", name])
    find_below = folder_with(["Images", f"lists/{name}"])
    folder = find_or_download(
        config,
        datasets,
        lambda folders: find(folders) or find_below(folders),
        base="stanford-dogs",
        wanted=f"Images/ (from images.tar) and {name} (from lists.tar), which have no download here",
    )
    place = folder if (folder / name).is_file() else folder / "lists"
    own, whole = _dogs_rows(place / name), place / DOGS_LISTS["all"]
    known = _dogs_rows(whole) + own if whole.is_file() else own
    return listed_set(
        config,
        folder,
        [(f"Images/{image}", code) for image, code in own],
        class_names=names_of_codes(
            [(_dogs_breed(image), code) for image, code in known], str(place / name)
        ),
        where=str(place / name),
    )


def _dogs_breed(image: str) -> str:
    """Return `Japanese spaniel` of `n02085782-Japanese_spaniel/n02085782_1039.jpg`."""
    folder = image.split("/", maxsplit=1)[0]
    return folder.partition("-")[2].replace("_", " ") or folder


def _dogs_rows(path: Path) -> list[tuple[str, int]]:
    """Return image, `<folder of the breed>/<file>`, and class code of each row."""
    files, labels = read_mat(path, ["file_list", "labels"])
    try:
        images = [str(each.item()) for each in files.reshape(-1)]
        codes = [int(label) - 1 for label in labels.reshape(-1)]
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: expected a cell of file names and numbers: {error}") from error
    if len(images) != len(codes):
        raise UserError(
            f"{path} lists {len(images):,} images but {len(codes):,} labels: is it the published "
            "file?"
        )
    return list(zip(images, codes, strict=True))
