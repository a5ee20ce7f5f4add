"""Buckets: places in S3 or what speaks its language, by obstore."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import S3Store
from zarr.storage import ObjectStore

from activarium.schemas.errors import UserError
from activarium.tasks.stores.aws_settings import client_settings
from activarium.tasks.stores.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer, BufferPrototype

    from activarium.tasks.stores.files import Content

RETRIES = "ACTIVARIUM_S3_RETRIES"
"""Environment variable: how many times a failed request is repeated, 10 by default."""

TIMEOUT = "ACTIVARIUM_S3_TIMEOUT"
"""Environment variable: seconds that one request may take, 120 by default."""

_REFUSED = {"AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}


@dataclass(frozen=True)
class Bucket(Place):
    """A prefix in a bucket; it needs the permissions to list, read, write and delete there."""

    bucket: str
    prefix: str
    threads: ClassVar[int] = 16

    @classmethod
    def at(cls, address: str) -> Bucket:
        """Return the place of an address such as s3://bucket/prefix.

        Raises
        ------
        UserError
            If it is no such address.
        """
        parts = urlsplit(address)
        if "@" in parts.netloc or parts.query or parts.fragment:
            # What stands there may be a secret: it is not repeated.
            raise UserError(
                "an address is s3://bucket/prefix and no more; credentials come from the "
                "environment or an AWS profile"
            )
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"expected a folder or s3://bucket/prefix, got {address!r}")
        return cls(parts.netloc, parts.path.strip("/"))

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
        retries, timeout = _number(RETRIES, 10), _number(TIMEOUT, 120)
        return _make_client(self.bucket, self.prefix, retries, timeout, environment)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            if isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket":
                raise FileNotFoundError(f"{self}: there is no such object") from None
            # The message of the client can hold parts of the credentials: it goes no further.
            raise explain(error, self) from None

    def check(self) -> None:
        """Ask for one object's name, to see that the bucket is there and can be read."""
        with self._explained():
            next(iter(obstore.list(self._client, chunk_size=1)), None)

    def read(self, key: str) -> bytes:
        """Return an object."""
        with self._explained():
            return obstore.get(self._client, key).bytes().to_bytes()

    def write(self, key: str, content: Content, *, settle: bool = True) -> None:
        """Put an object in one request."""
        del settle  # What the server has answered to is stored.
        with self._explained():
            obstore.put(self._client, key, content, use_multipart=False)

    def settle(self, keys: Iterable[str]) -> None:
        """Do nothing: what the server has answered to is stored."""

    def create(self, key: str, content: bytes) -> bool:
        """Put an object on the condition that there is none."""
        with self._explained():
            try:
                obstore.put(self._client, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return False
            except NotSupportedError:
                if self.size(key) is not None:
                    return False
                obstore.put(self._client, key, content, use_multipart=False)
            return True

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
        with self._explained():
            try:
                return obstore.head(self._client, key)["size"]
            except FileNotFoundError:
                return None

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Return the size of each object whose key begins with the prefix."""
        top = prefix.rpartition("/")[0] or None
        with self._explained():
            found = {
                each["path"]: each["size"]
                for page in obstore.list(self._client, prefix=top)
                for each in page
            }
        return {key: found[key] for key in sorted(found) if key.startswith(prefix)}

    def names(self) -> list[str]:
        """Return what lies directly below."""
        with self._explained():
            found = obstore.list_with_delimiter(self._client)
        return sorted([*found["common_prefixes"], *(each["path"] for each in found["objects"])])

    def delete(self, key: str) -> None:
        """Delete an object."""
        with self._explained():
            obstore.delete(self._client, key)

    def delete_all(self) -> None:
        """Delete all objects."""
        keys = self.keys()
        with self._explained():
            for start in range(0, len(keys), 1_000):
                obstore.delete(self._client, keys[start : start + 1_000])

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
        try:
            return await super().get(key, prototype, byte_range)
        except BaseError as error:
            raise explain(error, self.place) from None


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not text.isdecimal() or not int(text):
        raise UserError(f"{variable}: expected a whole number above 0, got {text!r}")
    return int(text)


@cache
def _make_client(
    bucket: str, prefix: str, retries: int, timeout: int, environment: tuple[tuple[str, str], ...]
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
        retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=180)},
    )


def _code(error: Exception) -> str:
    """Return the code that the server gave with a refusal."""
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return found[1] if found else ""


def explain(error: Exception, place: Bucket) -> UserError:
    """Return what a fault of the client means, without anything of the client's message."""
    text, code = str(error), _code(error)
    status = re.search(r"status code: (\d{3})", text)
    if code == "NoSuchBucket":
        return UserError(f"{place}: there is no bucket {place.bucket!r}: create it first")
    if "169.254.169.254" in text or "169.254.170.2" in text:
        return UserError(
            f"{place}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        )
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if denied or code in _REFUSED or (status and status[1] in ("401", "403")):
        reason = f" ({code})" if code else ""
        return UserError(
            f"{place}: access was refused{reason}: check the credentials in the environment or in "
            "the AWS profile, and their permissions"
        )
    if code in _ELSEWHERE:
        return UserError(f"{place}: the bucket is in another region: set AWS_REGION")
    if status:
        reason = f"{status[1]} {code}".strip()
        return UserError(f"{place}: the server answered {reason}, also when asked again")
    what = "did not answer in time" if "Timeout" in text else "cannot be reached, or hangs up"
    return UserError(
        f"{place}: {_server()} {what}, also when asked again; what is stored is safe, run the same "
        "command again to go on"
    )


def _server() -> str:
    """Return the server's name, without what else its address may hold."""
    parts = urlsplit(client_settings().get("endpoint", "https://s3.amazonaws.com"))
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
