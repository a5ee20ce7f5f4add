"""What a pickle would make, told from its opcodes, so that none is opened that is built to do harm."""

from __future__ import annotations

import io
import mmap
import pickle
import pickletools
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

MOST_PICKLE_BYTES = 2**30
"""Of the part of a file of weights that holds no tensors."""

MOST_EXPANDED_BYTES = 100 * 2**20
"""Of a pickle that was compressed, which torch does not do."""

DEEPEST_TUPLE = 100
"""Tuples within tuples: their checksums recurse without a limit in C."""

MOST_HASHED = 20_000_000
"""Items of all tuples, counted each time they are used: keys of dicts are read through to their end."""

MEMO_MARGIN = 1_000
"""By how much the number of a remembered object may go beyond the opcodes before it."""

OLD_PICKLES = 5
"""Pickles one after the other that torch's old files begin with."""


class RefusedPickleError(Exception):
    """A pickle that would take memory or time without bound; carries how."""


class _Made(NamedTuple):
    """An object on the unpickler's stack, as far as tuples go."""

    depth: int = 0
    size: int = 1


class _Effect(NamedTuple):
    """What an opcode takes from the stack, beside what lies above the last mark, and puts there."""

    fixed: int
    to_mark: bool
    pushed: int


def _effect(opcode: pickletools.OpcodeInfo) -> _Effect:
    before = opcode.stack_before
    to_mark = pickletools.markobject in before
    fixed = before.index(pickletools.markobject) if to_mark else len(before)
    return _Effect(fixed, to_mark, len(opcode.stack_after))


_EFFECTS = {opcode.name: _effect(opcode) for opcode in pickletools.opcodes}
_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")
_PLAIN = _Made()


class _Scan:
    """Follows the stack and the memo of an unpickler, without the objects."""

    def __init__(self) -> None:
        self.stack: list[_Made | None] = []  # None is a mark
        self.memo: dict[int, _Made | None] = {}
        self.seen = 0
        self.hashed = 0

    def step(self, name: str, arg: Any) -> None:
        self.seen += 1
        if name == "DUP":
            raise RefusedPickleError("it doubles what it has just made")
        if name in _PUTS:
            self._remember(int(arg))
        elif name == "MEMOIZE":
            self._remember(len(self.memo))
        elif name in _GETS:
            self._push(self.memo.get(int(arg)) or _PLAIN)
        elif name == "MARK":
            self.stack.append(None)
        elif name == "POP":
            self.stack.pop()
        else:
            self._apply(name)

    def _remember(self, index: int) -> None:
        if index > self.seen + MEMO_MARGIN:
            raise RefusedPickleError(f"it numbers an object {index} that is none of so many")
        self.memo[index] = self.stack[-1]

    def _apply(self, name: str) -> None:
        fixed, to_mark, pushed = _EFFECTS[name]
        taken: list[_Made] = []
        while to_mark and (top := self.stack.pop()) is not None:
            taken.append(top)
        taken += [self.stack.pop() or _PLAIN for _ in range(fixed)]
        made = _PLAIN
        if name in _TUPLES:
            depths, sizes = [each.depth for each in taken], [each.size for each in taken]
            made = _Made(1 + max(depths, default=0), 1 + sum(sizes))
        for _ in range(pushed):
            self._push(made)

    def _push(self, made: _Made) -> None:
        if made.depth > DEEPEST_TUPLE:
            raise RefusedPickleError(f"more than {DEEPEST_TUPLE} tuples lie within one another")
        self.hashed += made.size if made.depth else 0
        if self.hashed > MOST_HASHED:
            raise RefusedPickleError(
                "its tuples hold one another so often that none can be compared"
            )
        self.stack.append(made)


def scan_pickle(data: Any) -> None:
    """Refuse a pickle that would take memory or time without bound; none of it is made.

    Parameters
    ----------
    data
        Bytes, or a file, which is then read to the end of the pickle.

    Raises
    ------
    RefusedPickleError
        If tuples lie too deep or double themselves, or numbers of remembered objects leap.
    UnpicklingError
        If it is damaged.
    """
    scan = _Scan()
    try:
        for opcode, arg, _ in pickletools.genops(data):
            scan.step(opcode.name, arg)
    except (ValueError, IndexError, OverflowError, MemoryError) as error:
        raise pickle.UnpicklingError(str(error) or "its opcodes do not fit together") from error


def scan_file(path: Path) -> None:
    """Refuse a file of `torch.save` that would take memory or time without bound.

    Raises
    ------
    RefusedPickleError
        If one of its pickles would, or is too large.
    UnpicklingError
        If one of them is damaged.
    """
    if zipfile.is_zipfile(path):
        _scan_archive(path)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        _scan_older(mapped, len(mapped))


def scan_bytes(content: bytes) -> None:
    """Refuse the content of such a file, as `scan_file` does."""
    if zipfile.is_zipfile(io.BytesIO(content)):
        _scan_archive(io.BytesIO(content))
    _scan_older(io.BytesIO(content), len(content))


def _scan_older(file: Any, size: int) -> None:
    if file.read(4) == b"PK\x03\x04":  # what torch takes for an archive; all else is old
        return
    file.seek(0)
    for _ in range(OLD_PICKLES):
        if file.tell() < size:
            scan_pickle(file)


def _scan_archive(file: Path | io.BytesIO) -> None:
    with zipfile.ZipFile(file) as archive:
        for each in archive.infolist():
            is_pickle = each.filename.endswith("data.pkl")
            is_packed = each.compress_type != zipfile.ZIP_STORED
            most = MOST_EXPANDED_BYTES if is_packed and is_pickle else MOST_PICKLE_BYTES
            if each.file_size > most and (is_packed or is_pickle):
                raise RefusedPickleError(
                    f"{each.filename!a} unfolds to {each.file_size} bytes, where at most {most} are "
                    "read"
                )
            if is_pickle:
                scan_pickle(archive.read(each))
