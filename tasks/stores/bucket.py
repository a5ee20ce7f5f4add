"""Buckets: places in S3 or what speaks its language, by obstore."""

from __future__ import annotations

import asyncio
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, ClassVar, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotSupportedError
from obstore.store import S3Store
from zarr.storage import ObjectStore

from activarium.schemas.errors import UserError
from activarium.tasks.stores.aws_settings import client_settings
from activarium.tasks.stores.bucket_faults import number_of
from activarium.tasks.stores.bucket_tries import Tries
from activarium.tasks.stores.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    from activarium.tasks.stores.files import Content

TIMEOUT = "ACTIVARIUM_S3_TIMEOUT"
"""Environment variable: seconds that one request may take, 120 by default."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
"""A bucket's name."""

T = TypeVar("T")


@dataclass(frozen=True)
class Bucket(Place):
    """A prefix in a bucket; it needs the permissions to list, read, write and delete there."""

    bucket: str
    prefix: str
    threads: ClassVar[int] = 16
    appears_whole: ClassVar[bool] = False

    @classmethod
    def at(cls, address: str) -> Bucket:
        """Return the place of an address such as s3://bucket/prefix.

        Raises
        ------
        UserError
            If it is no such address.
        """
        expected = "expected a folder or s3://bucket/prefix"
        if not address.isprintable():
            raise UserError(f"{expected}, in printable letters")
        try:
            parts = urlsplit(address)
        except ValueError:
            raise UserError(expected) from None
        if "@" in parts.netloc or parts.query or parts.fragment:
            # What stands there may be a secret: it is not repeated.
            raise UserError(
                "an address is s3://bucket/prefix and no more; credentials come from the "
                "environment or an AWS profile"
            )
        if parts.scheme != "s3" or not _NAME.fullmatch(parts.netloc):
            raise UserError(f"{expected}, got {address!r}")
        prefix = parts.path.strip("/")
        names = prefix.split("/") if prefix else []
        if any(name in ("", ".", "..") or not name.isprintable() for name in names):
            raise UserError(
                f"expected s3://bucket/prefix with a name between every two slashes, got {address!r}"
            )
        return cls(parts.netloc, prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def name(self) -> str:
        """Last part of the prefix."""
        return self.prefix.rpartition("/")[2] or self.bucket

    def absolute(self) -> Bucket:
        """Return the same: an address is one everywhere."""
        return self

    def child(self, name: str) -> Bucket:
        """Return the prefix of that name below this one."""
        return Bucket(self.bucket, f"{self.prefix}/{name}".lstrip("/"))

    @property
    def _client(self) -> S3Store:
        environment = tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))
        return _make_client(self.bucket, self.prefix, number_of(TIMEOUT, 120), environment)

    def _ask(self, request: Callable[[S3Store], T], tries: Tries | None = None) -> T:
        """Return the answer to a request, which is tried again where a fault may pass."""
        tries = tries or Tries(self)
        while True:
            try:
                found = request(self._client)
            except (BaseError, FileNotFoundError) as error:
                time.sleep(tries.pause_after(error))
            else:
                tries.succeeded()
                return found

    def check(self) -> None:
        """Ask for one object's name, to see that the bucket is there and can be read."""
        self._ask(lambda client: next(iter(obstore.list(client, chunk_size=1)), None))

    def read(self, key: str) -> bytes:
        """Return an object."""
        return self._ask(lambda client: obstore.get(client, key).bytes().to_bytes())

    def write(self, key: str, content: Content, *, settle: bool = True) -> None:
        """Put an object in one request."""
        del settle  # What the server has answered to is stored.
        self._ask(lambda client: obstore.put(client, key, content, use_multipart=False))

    def settle(self, keys: Iterable[str]) -> None:
        """Do nothing: what the server has answered to is stored."""

    def create(self, key: str, content: bytes) -> bool:
        """Put an object on the condition that there is none."""
        tries = Tries(self)

        def put(client: S3Store) -> bool | None:
            try:
                obstore.put(client, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            except NotSupportedError:
                return None
            return True

        is_new = self._ask(put, tries)
        if is_new is None:
            # The server knows no conditions.
            if self.size(key) is not None:
                return False
            self.write(key, content)
            return True
        # A try whose answer was lost may have put it.
        return is_new or (tries.failed > 0 and self.read(key) == content)

    def create_all(self, objects: Mapping[str, bytes], *, first: str, last: str) -> bool:
        """Put the first object on the condition that it is new or the same, then the others."""
        if not self.create(first, objects[first]) and self.read(first) != objects[first]:
            return False
        for key, content in objects.items():
            if key not in (first, last):
                self.write(key, content)
        self.create(last, objects[last])
        return True

    def size(self, key: str) -> int | None:
        """Return an object's size."""
        try:
            return self._ask(lambda client: obstore.head(client, key)["size"])
        except FileNotFoundError:
            return None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size of each object whose key begins with the prefix."""
        top = prefix.rpartition("/")[0] or None
        found: dict[str, int] = {}
        tries = Tries(self)

        def list_further(client: S3Store) -> None:
            """List from where the last answer ended that came whole."""
            for page in obstore.list(client, prefix=top, offset=next(reversed(found), None)):
                found.update((each["path"], each["size"]) for each in page)
                tries.succeeded()

        self._ask(list_further, tries)
        return {key: found[key] for key in sorted(found) if key.startswith(prefix)}

    def names(self) -> list[str]:
        """Return what lies directly below."""
        found = self._ask(obstore.list_with_delimiter)
        return sorted([*found["common_prefixes"], *(each["path"] for each in found["objects"])])

    def delete(self, key: str) -> None:
        """Delete an object."""
        with suppress(FileNotFoundError):
            self._ask(lambda client: obstore.delete(client, key))

    def delete_all(self) -> None:
        """Delete all objects."""
        keys = self.keys()
        for start in range(0, len(keys), 1_000):
            several = keys[start : start + 1_000]
            with suppress(FileNotFoundError):
                self._ask(lambda client, several=several: obstore.delete(client, several))  # type: ignore[misc]

    def sweep(self) -> None:
        """Do nothing: an object is whole or was never there."""

    def free_bytes(self) -> None:
        """Return no limit."""

    def zarr_store(self, *, read_only: bool = False) -> Store:
        """Return the place as a Zarr store."""
        return _BucketStore(self, read_only=read_only)


class _BucketStore(ObjectStore[S3Store]):
    """A Zarr store whose faults are told as those of the place."""

    def __init__(self, place: Bucket, *, read_only: bool) -> None:
        super().__init__(place._client, read_only=read_only)  # noqa: SLF001 - two halves of one
        self.place = place

    def with_read_only(self, read_only: bool = False) -> _BucketStore:  # noqa: FBT001, FBT002
        """Return the same store, read-only or not."""
        return _BucketStore(self.place, read_only=read_only)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return an object, or a part of it, or None where there is none."""
        tries = Tries(self.place)
        while True:
            try:
                found = await super().get(key, prototype, byte_range)
            except BaseError as error:
                await asyncio.sleep(tries.pause_after(error))
            else:
                tries.succeeded()
                return found


@cache
def _make_client(
    bucket: str, prefix: str, timeout: int, environment: tuple[tuple[str, str], ...]
) -> S3Store:
    del environment  # Another one is another client.
    options = client_settings()
    is_plain = options.get("endpoint", "").startswith("http://")
    return S3Store(
        bucket,
        prefix=prefix or None,
        config=options,  # type: ignore[arg-type]
        client_options={
            "allow_http": is_plain,
            "connect_timeout": timedelta(seconds=10),
            "timeout": timedelta(seconds=timeout),
        },
        retry_config={"max_retries": 0},  # `Tries` does it, for every kind of request
    )
