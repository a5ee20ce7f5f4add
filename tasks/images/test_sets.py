"""Test sets: from the configured source to labelled images."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from activarium.tasks.images.cifar_files import load_cifar10, load_cifar100
from activarium.tasks.images.class_names import distinct_names, renaming_note
from activarium.tasks.images.columnar_images import load_columnar
from activarium.tasks.images.decoding import UndecodableImageError
from activarium.tasks.images.entry_point_set import load_entry_point_set
from activarium.tasks.images.image_folder import load_image_folder
from activarium.tasks.images.imagenet import load_imagenet
from activarium.tasks.images.labelled_images import TestSet, limited
from activarium.tasks.images.listed_sets import load_flowers102, load_oxford_pet, load_stanford_dogs
from activarium.tasks.images.pixel_sets import (
    load_digits,
    load_fashion_mnist,
    load_mnist,
    load_stl10,
    load_svhn,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from activarium.schemas.config import Source, TestSetConfig

SOURCES: dict[Source, Callable[[TestSetConfig, Path], TestSet]] = {
    "digits": load_digits,
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "svhn": load_svhn,
    "stl10": load_stl10,
    "oxford-iiit-pet": load_oxford_pet,
    "flowers102": load_flowers102,
    "stanford-dogs": load_stanford_dogs,
    "imagenet": load_imagenet,
    "imagefolder": load_image_folder,
    "parquet": load_columnar,
    "entry-point": load_entry_point_set,
}

__all__ = ["SOURCES", "TestSet", "UndecodableImageError", "load_test_set"]


def load_test_set(config: TestSetConfig, *, datasets: Path) -> TestSet:
    """Return the configured test set; classes of the same name are told apart.

    Parameters
    ----------
    config
        Source, path, split, limit.
    datasets
        Folder that downloads go to.

    Raises
    ------
    UserError
        If the files are missing or damaged, or there is no such split.
    """
    whole = SOURCES[config.source](config, datasets)
    names = distinct_names(whole.class_names)
    told = renaming_note(whole.class_names, names)
    return limited(replace(whole, class_names=names, notes=(*whole.notes, *told)), config.limit)
