"""A place: where objects lie by key.

Keys are relative, with `/` between their parts, as in Zarr. An object is whole or absent.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zarr.abc.store import Store

    from activarium.tasks.stores.files import Content


class Place(ABC):
    """Where objects lie by key; its text is an address that is safe to print."""

    threads: ClassVar[int]
    """How many objects are best read or written at once."""
    appears_whole: ClassVar[bool]
    """Whether `create_all` makes all objects appear at once, or one after the other."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Last part of the address."""

    @abstractmethod
    def absolute(self) -> Place:
        """Return the same place as processes in other folders find it."""

    @abstractmethod
    def child(self, name: str) -> Place:
        """Return the place of that name directly below."""

    @abstractmethod
    def read(self, key: str) -> bytes:
        """Return an object; FileNotFoundError where there is none."""

    @abstractmethod
    def write(self, key: str, content: Content, *, settle: bool = True) -> None:
        """Write an object, in place of what was there; it is whole or absent at any moment.

        It is safe from a failing machine when this returns, or without `settle` after `settle`.
        """

    @abstractmethod
    def settle(self, keys: Iterable[str]) -> None:
        """Make sure that objects just written are still there after the machine fails."""

    @abstractmethod
    def create(self, key: str, content: bytes) -> bool:
        """Write an object only where there is none; return False where there was one."""

    @abstractmethod
    def create_all(self, objects: Mapping[str, bytes], *, first: str, last: str) -> bool:
        """Write the objects of a place that is new.

        Where several processes do so at once, the one counts that wrote `first`; the place is
        whole when `last` is there. Return False, and leave what is there, where another has made
        or begun it with another content of `first`.
        """

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Return the bytes of an object, None where there is none."""

    @abstractmethod
    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the bytes of every object whose key begins with the prefix, sorted by key."""

    def keys(self, prefix: str = "") -> list[str]:
        """Return all keys that begin with the prefix, sorted."""
        return list(self.sizes(prefix))

    @abstractmethod
    def names(self) -> list[str]:
        """Return the first parts of all keys, sorted."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Delete an object, if it is there."""

    @abstractmethod
    def delete_all(self) -> None:
        """Delete the place with all of its objects."""

    @abstractmethod
    def check(self) -> None:
        """Raise a UserError where the place cannot be reached or read."""

    @abstractmethod
    def sweep(self) -> None:
        """Delete what killed writers left half written."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """Return the room that is left; None where no limit is known."""

    @abstractmethod
    def zarr_store(self, *, read_only: bool = False) -> Store:
        """Return the place as a Zarr store."""
