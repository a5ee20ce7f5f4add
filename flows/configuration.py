"""Reads run configurations: YAML, with overrides from the command line, checked once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from activarium.flows.yaml_files import parse_yaml, read_settings
from activarium.schemas.config import Config, RunConfig
from activarium.schemas.errors import UserError, shortened
from activarium.schemas.faults import told_faults

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
    settings = read_settings(path)
    settings.setdefault("name", path.stem)
    _resolve_paths(settings, path.resolve().parent)
    for override in overrides:
        _apply(settings, override, cwd)
    return parse_run_config(settings, where=str(path))


def check_run(config: RunConfig) -> None:
    """Refuse before any work what cannot be: devices, processes, files, a condition.

    Raises
    ------
    UserError
        One line that names the first of them.
    """
    if config.record.devices or config.record.device not in {"auto", "cpu"}:
        from activarium.tasks.recording.devices import device_per_process, resolve_device

        resolve_device(config.record.device)
        if config.record.devices:
            device_per_process(config.record.devices)
    files = {"analyse.classes": config.analyse.classes}
    if config.training is not None and config.training.initial_weights is not None:
        initial = config.training.initial_weights
        files["training.initial_weights"] = initial if WEIGHT_FILES.search(initial) else None
    for setting, file in files.items():
        if file is not None and not Path(file).is_file():
            raise UserError(f"{setting}: expected a file, there is none at {shortened(file, 300)}")
    if config.analyse.where is not None:
        from activarium.tasks.analysis.image_conditions import check_condition

        check_condition(config.analyse.where)


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
        raise UserError(f"{where}: {told_faults(model, error)}") from error


def _apply(settings: dict[str, Any], override: str, cwd: Path) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set: expected section.key=value, got {shortened(repr(override))}")
    *sections, last = key.split(".")
    place = settings
    for section in sections:
        inner = place.setdefault(section, {})
        if inner is None:
            inner = place[section] = {}
        if not isinstance(inner, dict):
            raise UserError(
                f"--set {shortened(override)}: {shortened(section)!r} is a value, not a section"
            )
        place = inner
    place[last] = parse_yaml(text, where=f"--set {shortened(override)}")
    if (*sections, last) in PATHS:
        _resolve_paths(settings, cwd)


def _resolve_paths(settings: dict[str, Any], folder: Path) -> None:
    for section, key in PATHS:
        inner = settings.get(section)
        value = inner.get(key) if isinstance(inner, dict) else None
        if not isinstance(inner, dict) or not isinstance(value, str) or not value.strip():
            continue
        prefix, file = (EXPORT, value[len(EXPORT) :]) if value.startswith(EXPORT) else ("", value)
        is_file = bool(prefix) if key == "architecture" else WEIGHT_FILES.search(value)
        is_folder = key == "checkpoints" and value != TRAINED
        if key in {"path", "classes"} or is_file or is_folder:
            inner[key] = f"{prefix}{folder / _expanded(file, f'{section}.{key}')}"


def _expanded(file: str, setting: str) -> Path:
    try:
        return Path(file).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{setting}: {shortened(file)!r} names a user who is not known here"
        ) from error
