"""What goes wrong with a bucket, told in words of our own, and whether it may pass."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.exceptions import (
    AlreadyExistsError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from activarium.schemas.errors import UserError
from activarium.tasks.stores.aws_settings import client_settings

if TYPE_CHECKING:
    from activarium.tasks.stores.bucket import Bucket

_REFUSED = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestTimeTooSkewed",
    "SignatureDoesNotMatch",
}
_ELSEWHERE = {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint"}
_PASSING_STATUS = {"408", "409", "425", "429"}
_PASSING_CODES = {"RequestTimeout", "SlowDown", "OperationAborted", "ConditionalRequestConflict"}
_MACHINES = ("169.254.169.254", "169.254.170.2")
"""Addresses at which a cloud's machine or container offers credentials."""


def may_pass(error: Exception) -> bool:
    """Return whether the same request may succeed later: the fault lies on the way, or is told so."""
    text, code = str(error), _code(error)
    known = AlreadyExistsError | NotSupportedError | PermissionDeniedError | UnauthenticatedError
    if isinstance(error, known | FileNotFoundError) or any(each in text for each in _MACHINES):
        return False
    if code in _PASSING_CODES:
        return True
    if code in _REFUSED or code in _ELSEWHERE or code == "NoSuchBucket":
        return False
    status = _status(text)
    return not status.startswith("4") or status in _PASSING_STATUS


def is_missing_object(error: Exception) -> bool:
    """Return whether an object is not there, in a bucket that is."""
    return isinstance(error, FileNotFoundError) and _code(error) != "NoSuchBucket"


def explain(error: Exception, place: Bucket) -> UserError:
    """Return what a fault of the client means, without anything of the client's message."""
    text, code, status = str(error), _code(error), _status(str(error))
    if code == "NoSuchBucket":
        return UserError(f"{place}: there is no bucket {place.bucket!r}: create it first")
    if any(each in text for each in _MACHINES):
        return UserError(
            f"{place}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_PROFILE"
        )
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if denied or code in _REFUSED or status in ("401", "403"):
        reason = f" ({code})" if code else ""
        return UserError(
            f"{place}: access was refused{reason}: check the credentials in the environment or in "
            "the AWS profile, and their permissions"
        )
    if code in _ELSEWHERE:
        return UserError(f"{place}: the bucket is in another region: set AWS_REGION")
    if status:
        asked = ", also when asked again" if may_pass(error) else ""
        return UserError(f"{place}: the server answered {f'{status} {code}'.strip()}{asked}")
    what = "did not answer in time" if "Timeout" in text else "cannot be reached, or hangs up"
    return UserError(
        f"{place}: {server()} {what}, also when asked again; what is stored is safe, run the same "
        "command again to go on"
    )


def server() -> str:
    """Return the server's name, without what else its address may hold."""
    parts = urlsplit(client_settings().get("endpoint", "https://s3.amazonaws.com"))
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)


def number_of(variable: str, default: int) -> int:
    """Return a whole number above 0 from the environment.

    Raises
    ------
    UserError
        If it is something else.
    """
    text = os.environ.get(variable, "")
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise UserError(f"{variable}: expected a whole number above 0, got {text[:40]!r}")
    return int(text)


def _code(error: Exception) -> str:
    """Return the code that the server gave with a refusal."""
    found = re.search(r"<Code>(\w{1,60})</Code>", str(error))
    return found[1] if found else ""


def _status(text: str) -> str:
    found = re.search(r"status code: (\d{3})|status (?:client|server) error \((\d{3})", text)
    return (found[1] or found[2]) if found else ""
