"""Reads run configurations: YAML, with overrides from the command line, checked once."""

from __future__ import annotations

import re
from difflib import SequenceMatcher, get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from activarium.schemas.config import Config, RunConfig
from activarium.schemas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

C = TypeVar("C", bound=Config)

PATHS = (
    ("test_set", "path"),
    ("model", "weights"),
    ("model", "architecture"),
    ("model", "checkpoints"),
    ("training", "initial_weights"),
    ("analyse", "classes"),
)
"""Settings that may name a file; in a file's own settings they are relative to that file."""

WEIGHT_FILES = re.compile(r"[/\\]|\.(safetensors|pt|pt2|pth|pth\.tar|bin|ckpt)$")
"""What tells a weights file from a keyword or the name of torchvision's weights."""

TRAINED = "trained"
"""model.checkpoints of the run's own training, which is no folder."""

EXPORT = "export:"
"""Begins a model.architecture that is a file."""


def load_run_config(path: Path, overrides: Sequence[str] = (), *, cwd: Path) -> RunConfig:
    """Return the configuration of a YAML file with overrides applied.

    Parameters
    ----------
    path
        The YAML file. Relative paths in it are relative to its folder.
    overrides
        `section.key=value` each, the value read as YAML. Relative paths in them are relative
        to `cwd`.
    cwd
        The current folder.

    Raises
    ------
    UserError
        If the file is missing, is no YAML mapping, or a setting is unknown or out of range.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {where}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{path}: expected settings such as `name: ...`, got {settings!r}")
    settings.setdefault("name", path.stem)
    _resolve_paths(settings, path.resolve().parent)
    for override in overrides:
        _apply(settings, override, cwd)
    return parse_run_config(settings, where=str(path))


def parse_run_config(settings: dict[str, Any], *, where: str) -> RunConfig:
    """Return the checked settings of a whole run; `where` begins the message of a fault."""
    return parse_section(RunConfig, settings, where=where)


def parse_section(model: type[C], settings: dict[str, Any], *, where: str) -> C:
    """Return checked settings.

    Raises
    ------
    UserError
        One line that names every fault.
    """
    try:
        return model.model_validate(settings)
    except ValidationError as error:
        told = error.errors()
        # Where an item is wrong, that its list is then too short is no fault of its own.
        wrong = {each["loc"][:-1] for each in told}
        told = [each for each in told if each["type"] != "too_short" or each["loc"] not in wrong]
        faults = "; ".join(_fault(model, each) for each in told)
        raise UserError(" ".join(f"{where}: {faults}".split())) from error


def _fault(model: type[BaseModel], error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        *sections, key = error["loc"]
        return f"{place}: no such setting; {_allowed(_section(model, sections), str(key))}"
    if error["type"] == "missing":
        return f"{place}: is needed"
    if error["type"] == "value_error":
        # Our own messages quote what came; the input is the whole section here.
        return f"{place}: {error['ctx']['error']}"
    return f"{place}: {error['msg']}, got {error['input']!r}"


def _section(model: type[BaseModel], sections: Sequence[str | int]) -> type[BaseModel]:
    """Return the model of a section; the union with None of an optional one is looked through."""
    for section in sections:
        annotation = model.model_fields[str(section)].annotation
        kinds = (annotation, *get_args(annotation))
        model = next(each for each in kinds if isinstance(each, type) and issubclass(each, Config))
    return model


def _allowed(model: type[BaseModel], key: str) -> str:
    """Return which settings there are, the most similar one first."""
    names = sorted(model.model_fields, key=lambda name: -SequenceMatcher(None, key, name).ratio())
    meant = f"did you mean {names[0]}? " if get_close_matches(key, names, n=1) else ""
    return f"{meant}allowed: {', '.join(names)}"


def _apply(settings: dict[str, Any], override: str, cwd: Path) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set: expected section.key=value, got {override!r}")
    *sections, last = key.split(".")
    place = settings
    for section in sections:
        inner = place.setdefault(section, {})
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise UserError(f"--set {override}: {section!r} is a value, not a section")
        place = inner
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"--set {override}: the value is not valid YAML") from error
    if (*sections, last) in PATHS:
        _resolve_paths(settings, cwd)


def _resolve_paths(settings: dict[str, Any], folder: Path) -> None:
    for section, key in PATHS:
        inner = settings.get(section)
        value = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(value, str):
            continue
        prefix, file = (EXPORT, value[len(EXPORT) :]) if value.startswith(EXPORT) else ("", value)
        is_file = bool(prefix) if key == "architecture" else WEIGHT_FILES.search(value)
        is_folder = key == "checkpoints" and value != TRAINED
        if key in {"path", "classes"} or is_file or is_folder:
            inner[key] = f"{prefix}{folder / Path(file).expanduser()}"
