"""Reads YAML that others may have written: each key once, no flood of aliases, one line of fault."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from activarium.schemas.errors import UserError, shortened

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 2**20
"""A configuration is shorter; what is longer is another file."""
MOST_NODES = 20_000
"""Values of a configuration, counted wherever an alias repeats them."""


MERGE = "tag:yaml.org,2002:merge"
"""Tag of the key `<<`, which takes over another mapping's values."""


class _Loader(yaml.SafeLoader):
    """Builds plain values, after a look at what there is to build."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            _count(node, {}, set())
        return node


def _count(node: Any, counted: dict[int, int], above: set[int]) -> int:
    """Return how many values a node stands for, its aliases written out."""
    if id(node) in above:
        raise _fault(node, "an alias that holds itself")
    if id(node) not in counted:
        above.add(id(node))
        children = _children(node)
        counted[id(node)] = 1 + sum(_count(each, counted, above) for each in children)
        above.discard(id(node))
    if counted[id(node)] > MOST_NODES:
        raise _fault(node, f"more than {MOST_NODES:,} values")
    return counted[id(node)]


def _children(node: Any) -> list[Any]:
    """Return the nodes within a node, and refuse a mapping that holds a key twice."""
    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    if not isinstance(node, yaml.MappingNode):
        return []
    keys = set()
    for key, _ in node.value:
        name = (key.tag, str(key.value))
        if name in keys and key.tag != MERGE:
            raise _fault(key, f"the key {shortened(str(key.value))!r} is there twice")
        keys.add(name)
    return [each for pair in node.value for each in pair]


def _fault(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the value of a YAML text.

    Raises
    ------
    UserError
        If it is no YAML, holds a key twice, or more than a configuration can.
    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a kind of SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        problem = shortened(" ".join(str(error.problem or error.context).split()), 200)
        raise UserError(f"{where} is not valid YAML{place}: {problem}") from error
    except RecursionError as error:
        raise UserError(f"{where} is not valid YAML: brackets within brackets, too deep") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        problem = shortened(" ".join(str(error).split()), 200)
        raise UserError(f"{where} is not valid YAML: {problem}") from error


def read_settings(path: Path) -> dict[str, Any]:
    """Return the settings of a YAML file, as they are written.

    Raises
    ------
    UserError
        If the file cannot be read, or is no YAML mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot read the configuration {shortened(str(path))}: {reason}"
        ) from error
    if len(content) > MOST_BYTES:
        raise UserError(
            f"{path}: expected a configuration of at most {MOST_BYTES // 2**20} MiB, it is longer"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not valid YAML: byte {error.start} is no UTF-8; save it as UTF-8"
        ) from error
    settings = parse_yaml(text, where=str(path))
    if not isinstance(settings, dict):
        raise UserError(
            f"{path}: expected settings such as `name: ...`, got {shortened(repr(settings))}"
        )
    return settings
