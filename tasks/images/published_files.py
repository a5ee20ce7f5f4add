"""Where the files of published image sets lie, and torchvision's download where they are missing."""

from __future__ import annotations

import tarfile
import zlib
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypeVar

from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from activarium.schemas.config import TestSetConfig

Found = TypeVar("Found")


def find_or_download(  # noqa: PLR0913 - everything that one published set differs in
    config: TestSetConfig,
    datasets: Path,
    find: Callable[[Sequence[Path]], Found | None],
    *,
    base: str,
    wanted: str,
    download: Callable[[Path], Any] | None = None,
    known: Sequence[Path] = (),
) -> Found:
    """Return what `find` finds in the folders of a set, after a download where that is needed.

    Parameters
    ----------
    config
        A configured path is looked in alone, and nothing is downloaded into it.
    datasets
        Folder that downloads go to, each source into its own folder.
    find
        Looks through folders; None where it finds nothing.
    base
        Folder that torchvision makes within the one it is given.
    wanted
        The files that are needed, for the message.
    download
        Brings the files into a folder; None where they cannot be downloaded.
    known
        Folders of this machine that may hold the set.

    Raises
    ------
    UserError
        If the files are not there, and cannot be downloaded.
    """
    home = datasets / config.source
    roots = [config.path] if config.path is not None else [*known, home]
    folders = [folder for root in roots for folder in (root, root / base)]
    found = find(folders)
    if found is not None:
        return found
    advice = f"looked in {', '.join(map(str, folders))}; put {wanted} there, or set test_set.path"
    advice += " to the folder that holds its files"
    if config.path is not None or not config.download or download is None:
        raise UserError(f"test_set: no files of {config.source}: {advice}")
    try:
        download(home)
    except (RuntimeError, OSError, EOFError, HTTPException, tarfile.TarError, zlib.error) as error:
        reason = str(error).split("\n")[0]
        raise UserError(
            f"test_set: the download of {config.source} failed ({reason}); {advice}"
        ) from error
    found = find([home, home / base])
    if found is None:
        raise UserError(
            f"test_set: the download of {config.source} brought no {wanted} into {home}"
        )
    return found


def torchvision_download(own: str, **arguments: Any) -> Callable[[Path], Any]:
    """Return what downloads one of torchvision's sets into a folder."""

    def download(home: Path) -> None:
        import torchvision

        load: Callable[..., Any] = getattr(torchvision.datasets, own)
        load(home, download=True, **arguments)

    return download


def folder_with(names: Sequence[str]) -> Callable[[Sequence[Path]], Path | None]:
    """Return what finds the first folder that has all these files or folders."""

    def find(folders: Sequence[Path]) -> Path | None:
        whole = (each for each in folders if all((each / name).exists() for name in names))
        return next(whole, None)

    return find


def require_split(config: TestSetConfig, splits: Sequence[str]) -> None:
    """Check that the set has the configured split.

    Raises
    ------
    UserError
        If it has not.
    """
    if config.split not in splits:
        has = f"{', '.join(splits[:-1])} and {splits[-1]}"
        raise UserError(f"test_set.split: {config.source} has {has}, got {config.split!r}")


def read_mat(path: Path, fields: Sequence[str]) -> list[Any]:
    """Return some arrays of a MATLAB file.

    Raises
    ------
    UserError
        If it cannot be read, or lacks one of them.
    """
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=list(fields))
    except Exception as error:  # a damaged file raises nearly anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read {path} as a MATLAB file: {reason}") from error
    lacking = [field for field in fields if field not in content]
    if lacking:
        raise UserError(f"{path} has no {lacking[0]!r}: is it the published file?")
    return [content[field] for field in fields]
