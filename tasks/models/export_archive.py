"""Archives of `torch.export`, written anew from the parts that cannot run code, for torch to read.

torch's own reader unpickles whatever a file holds, and loads compiled code from it. So no file is given
to it: each part is read here, checked, and put into an archive in memory, which is what torch reads.
Whatever else lies in the file, or is told of it twice and differently, is not in that archive.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import stat
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from activarium.tasks.models.export_program import RefusedProgramError, checked_program
from activarium.tasks.models.pickle_scan import RefusedPickleError, scan_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_PROGRAM = "models/model.json"
_SAMPLES = "data/sample_inputs/model.pt"
_FORMAT = {"archive_format": b"pt2"}
_VERSION = "archive_version"
_EXTRA = "extra/"
_FOLDERS = {"weights": "data/weights/", "constants": "data/constants/"}
_FILE_NAME = re.compile(r"(weight|tensor)_\d{1,9}", re.ASCII)
_VERSION_TEXT = re.compile(rb"\d{1,6}(\.\d{1,6})?")

_OLDER_PROGRAM = "serialized_exported_program.json"
_OLDER_PICKLES = (
    "serialized_state_dict.pt", "serialized_constants.pt", "serialized_example_inputs.pt",
)  # fmt: skip
_OLDER_EXTRA = "extra_files/"

ENCRYPTED = 0x1
"""Bit of a member's flags."""


class RefusedArchiveError(Exception):
    """An archive that is not read; carries why."""


def clean_archive(content: bytes, extra: str) -> io.BytesIO:
    """Return an archive with the program `model` of another, and its weights, that runs no code.

    Parameters
    ----------
    content
        The archive.
    extra
        Name of the one extra file that is kept.

    Raises
    ------
    RefusedArchiveError
        If it holds more than tensors and operations on them, or is no archive as torch writes it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = _Members(archive, len(content))
            if _OLDER_PROGRAM in members.names:
                return _older(members, extra)
            return _newer(members.below_the_root(), extra)
    except (RefusedProgramError, RefusedPickleError) as error:
        raise RefusedArchiveError(str(error)) from error
    except (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeError) as error:
        raise RefusedArchiveError(f"it is damaged ({error})") from error


class _Members:
    """The files of an archive by name."""

    def __init__(self, archive: zipfile.ZipFile, size: int) -> None:
        self._archive = archive
        found: dict[str, zipfile.ZipInfo] = {}
        for each in archive.infolist():
            _check_member(each)
            if each.filename in found:
                raise RefusedArchiveError(f"it holds {each.filename!a:.100} twice")
            found[each.filename] = each
        if sum(each.file_size for each in found.values()) > size:
            raise RefusedArchiveError("its members are larger than it is itself")
        self.names: Mapping[str, zipfile.ZipInfo] = found

    def below_the_root(self) -> _Members:
        """Return the members by their names below the one folder in which all lie."""
        roots = {name.partition("/")[0] for name in self.names}
        if len(roots) != 1:
            raise RefusedArchiveError(f"its members lie in {len(roots)} folders, expected one")
        self.names = {name.partition("/")[2]: each for name, each in self.names.items()}
        return self

    def read(self, name: str) -> bytes:
        """Return a member's content."""
        if name not in self.names:
            raise RefusedArchiveError(f"it holds no {name}")
        return self._archive.read(self.names[name])


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    problem = ""
    if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
        problem = "is compressed, which torch does not do"
    elif member.flag_bits & ENCRYPTED:
        problem = "is encrypted"
    elif stat.S_ISLNK(member.external_attr >> 16):
        problem = "is a link"
    elif name.startswith("/") or "\\" in name or ".." in name.split("/"):
        problem = "lies outside the archive"
    if problem:
        raise RefusedArchiveError(f"its member {name!a:.100} {problem}")


def _newer(members: _Members, extra: str) -> io.BytesIO:
    version = members.read(_VERSION)
    if not _VERSION_TEXT.fullmatch(version):
        raise RefusedArchiveError(f"its version is {version[:20]!a}")
    parts = _FORMAT | {_VERSION: version, _PROGRAM: checked_program(members.read(_PROGRAM))}
    for kind, folder in _FOLDERS.items():
        parts |= _payload(members, kind, folder)
    parts[_SAMPLES] = _tensors_alone(members.read(_SAMPLES), _SAMPLES)
    if f"{_EXTRA}{extra}" in members.names:
        parts[f"{_EXTRA}{extra}"] = members.read(f"{_EXTRA}{extra}")
    written = io.BytesIO()
    writer: Any = torch._C.PyTorchFileWriter(written)  # noqa: SLF001 - as torch.export.save does
    for name, part in parts.items():
        writer.write_record(name, part, len(part))
    writer.write_end_of_file()
    written.seek(0)
    return written


def _payload(members: _Members, kind: str, folder: str) -> dict[str, bytes]:
    """Return weights or constants, with the list that tells what each is."""
    older = f"{folder}model.pt"
    if older in members.names:
        return {older: _tensors_alone(members.read(older), older)}
    listed = f"{folder}model_{kind}_config.json"
    text = checked_program(members.read(listed))
    parts = {listed: text}
    for name, is_pickled in _payload_files(text, listed):
        if _FILE_NAME.fullmatch(name) is None:
            raise RefusedArchiveError(
                f"{listed} names {name!a:.100}: it holds objects other than tensors, whose classes "
                "would have to be run"
            )
        content = members.read(f"{folder}{name}")
        parts[f"{folder}{name}"] = _tensors_alone(content, name) if is_pickled else content
    return parts


def _payload_files(text: bytes, listed: str) -> set[tuple[str, bool]]:
    try:
        entries = json.loads(text)["config"].values()
        files = {(str(each["path_name"]), bool(each["use_pickle"])) for each in entries}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RefusedArchiveError(f"{listed} is damaged") from error
    if len({name for name, _ in files}) != len(files):
        raise RefusedArchiveError(f"{listed} tells of a file twice and differently")
    return files


def _older(members: _Members, extra: str) -> io.BytesIO:
    """Return the archive as torch 2.7 and earlier write it."""
    version = members.read("version")
    if not _VERSION_TEXT.fullmatch(version):
        raise RefusedArchiveError(f"its version is {version[:20]!a}")
    parts = {"version": version, _OLDER_PROGRAM: checked_program(members.read(_OLDER_PROGRAM))}
    parts |= {name: _tensors_alone(members.read(name), name) for name in _OLDER_PICKLES}
    if f"{_OLDER_EXTRA}{extra}" in members.names:
        parts[f"{_OLDER_EXTRA}{extra}"] = members.read(f"{_OLDER_EXTRA}{extra}")
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    written.seek(0)
    return written


def _tensors_alone(content: bytes, name: str) -> bytes:
    """Return a pickle of what another holds, which holds tensors, numbers and containers alone."""
    if not content:
        return content
    scan_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles' protocols, and old kinds of tensors
        held = _or_refused(lambda: torch.load(io.BytesIO(content), weights_only=True), name)
        written = io.BytesIO()
        torch.save(held, written)
    return written.getvalue()


def _or_refused(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except pickle.UnpicklingError as error:
        raise RefusedArchiveError(
            f"{name} holds more than tensors, numbers and containers, which only running code of the "
            "file's choice could read"
        ) from error
    except Exception as error:  # whatever damaged bytes raise
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise RefusedArchiveError(f"{name} cannot be read ({reason})") from error
