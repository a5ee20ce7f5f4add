"""What all settings have in common: they are frozen, known by name, finite, and plain text."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from activarium.schemas.errors import shortened

MOST_SEED = 2**32 - 1
"""The largest seed that all generators of random numbers take."""
MOST_IMAGES = 1_000_000_000
"""More images than any test set has; numbers of this size still fit everywhere."""
MOST_BATCH = 1_000_000
MOST_THREADS = 1_024
"""Threads of one process; OpenMP fails without a word where the system gives no more."""
MOST_PIXELS = 4_096
"""Side of an image; one of this size takes 200 MB as float32."""
MOST_TEXT = 100_000
"""Letters of one setting."""
MOST_PATH, MOST_PART = 4_096, 255
"""Bytes of a path, and of each part of it, that file systems take."""

# Line breaks and tabs are text: YAML writes long values over several lines.
UNSUITED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and what stands for bytes that are no UTF-8."""

DASK_ADDRESS = re.compile(r"(tcp|tls|ucx|ws|wss)://\S+")
SCHEDULERS = ("threads", "processes", "synchronous")
"""Dask's schedulers of this machine; synchronous runs one piece after the other."""

PARTS = re.compile(r"[0-9]{1,6}/[0-9]{1,6}")


EMPTY = "expected a text that is not empty; leave the setting out for its default"


def _is_scheduler(value: str) -> str:
    if value not in SCHEDULERS and not DASK_ADDRESS.fullmatch(value):
        raise ValueError(
            f"expected one of {', '.join(SCHEDULERS)} or an address such as tcp://host:8786, got "
            f"{shortened(repr(value))}"
        )
    return value


def _is_address(value: str) -> str:
    if not DASK_ADDRESS.fullmatch(value):
        raise ValueError(
            "expected the address of a Dask scheduler, tcp://host:port, got "
            f"{shortened(repr(value))}"
        )
    return value


def _is_part(value: str) -> str:
    part, parts = map(int, value.split("/")) if PARTS.fullmatch(value.strip()) else (0, 0)
    if not 1 <= part <= parts:
        raise ValueError(
            "expected i/n with i from 1 to n, such as 2/8 (n of at most 6 digits), got "
            f"{shortened(repr(value))}"
        )
    return value.strip()


def _is_distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({each for each in value if value.count(each) > 1})
    if twice:
        raise ValueError(f"expected each once, got {', '.join(twice)} more than once")
    return value


Distinct = AfterValidator(_is_distinct)
"""Of a list whose items are each there once."""
Scheduler = Annotated[str, AfterValidator(_is_scheduler)]
"""A scheduler of Dask: one of this machine, or the address of a running one."""
DaskAddress = Annotated[str, AfterValidator(_is_address)]
Part = Annotated[str, AfterValidator(_is_part)]
"""A part of all, as i/n."""
Globs = Annotated[tuple[str, ...], Field(min_length=1, max_length=1_000)]
"""Patterns of names."""


def check_file_name(path: str | Path) -> None:
    """Refuse a path that no file system takes.

    Raises
    ------
    ValueError
        If it is too long, or a part of it is.
    """
    encoded = os.fsencode(path)
    if len(encoded) > MOST_PATH or any(len(part) > MOST_PART for part in encoded.split(b"/")):
        raise ValueError(
            f"expected a path whose parts have at most {MOST_PART} bytes, {MOST_PATH:,} in all, got "
            f"{shortened(repr(str(path)))}"
        )


def known_place(text: str) -> str:
    """Return a folder or an address that is given, `~` written out.

    Raises
    ------
    ValueError
        If no file system takes it.
    RuntimeError
        If it names the home of a user who is not known.
    """
    _check_text(text)
    check_file_name(text)
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _check_text(value: Any) -> None:
    """Refuse text that no file, page or terminal can hold, in a setting or within it."""
    if isinstance(value, dict):
        for key, each in value.items():
            _check_letters(key)
            _check_letters(each) if isinstance(each, str) else _check_text(each)
    elif isinstance(value, tuple | list):
        for each in value:
            _check_text(each)
    elif isinstance(value, str | Path):
        _check_letters(str(value))
        if not str(value).strip():
            raise ValueError(EMPTY)
        if isinstance(value, Path):
            check_file_name(value)


def _check_letters(text: str) -> None:
    found = UNSUITED.search(text)
    if found is not None:
        raise ValueError(
            f"expected UTF-8 text without control characters, got {shortened(repr(text))}"
        )
    if len(text) > MOST_TEXT:
        raise ValueError(f"expected at most {MOST_TEXT:,} letters, got {len(text):,}")


def _is_numeric(annotation: Any) -> bool:
    """Return whether numbers are among what a field takes, and truth values are not."""
    kinds = [annotation]
    for each in kinds:
        kinds += [part for part in (get_origin(each), *get_args(each)) if part is not None]
    return (int in kinds or float in kinds) and bool not in kinds and dict not in kinds


class Config(BaseModel):
    """Base of all configurations: immutable, and an unknown key is an error."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _nothing_is_guessed(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse `yes` where a number is expected, which would be 1, and empty names of files."""
        if isinstance(value, str) and not value.strip():
            raise ValueError(EMPTY)
        items = value if isinstance(value, list | tuple) else (value,)
        field = cls.model_fields[str(info.field_name)]
        if any(isinstance(each, bool) for each in items) and _is_numeric(field.annotation):
            raise ValueError(f"expected a number, got {shortened(repr(value))}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _text_is_plain(cls, value: Any) -> Any:
        _check_text(value)
        return value
