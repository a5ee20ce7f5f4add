"""Tells what is wrong with settings: which one, what was expected, and what came."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches
from typing import TYPE_CHECKING, Any, get_args

from activarium.schemas.errors import shortened
from activarium.schemas.settings import Config

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel, ValidationError

MOST_FAULTS = 10
"""Faults that one message tells."""

MOST_READ = 200
"""Faults that are looked at; a list of thousands of wrong items has as many."""

EXPECTED = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "a text",
    "string_unicode": "a text in UTF-8",
    "string_too_long": "at most {max_length} letters",
    "path_type": "the name of a file or folder",
    "literal_error": "{expected}",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "dict_type": "names and values (name: value)",
    "model_type": "a section of settings (key: value)",
    "model_attributes_type": "a section of settings (key: value)",
    "none_required": "nothing",
    "invalid-json-value": "a plain value (text, number, list, name: value)",
    "invalid_key": "a text as its name",
}
"""What is expected, by pydantic's name of the fault."""


def told_faults(model: type[BaseModel], error: ValidationError) -> str:
    """Return what is wrong with settings in one line, each fault once.

    Parameters
    ----------
    model
        What the settings are to be.
    error
        What pydantic found.
    """
    found: dict[str, list[Any]] = {}
    for each in error.errors(include_url=False)[:MOST_READ]:
        found.setdefault(".".join(_place(model, each["loc"])) or "settings", []).append(each)
    # Where an item is wrong, what its whole list is told to be is no fault of its own.
    told = {
        place: faults
        for place, faults in found.items()
        if not any(other.startswith(f"{place}.") for other in found)
    }
    lines = [_fault(model, place, faults) for place, faults in list(told.items())[:MOST_FAULTS]]
    if len(told) > MOST_FAULTS:
        is_all = error.error_count() <= MOST_READ
        lines.append(f"and {len(told) - MOST_FAULTS} more" if is_all else "and more")
    return " ".join("; ".join(lines).split())


def _place(model: type[BaseModel] | None, location: Sequence[str | int]) -> list[str]:
    """Return where a setting is; pydantic's own names of alternatives are left out."""
    names: list[str] = []
    for part in location:
        if model is not None:
            names.append(shortened(str(part)))
            field = model.model_fields.get(str(part))
            model = None if field is None else _section(field.annotation)
        elif isinstance(part, int):
            names.append(str(part))
    return names


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the model of a section; the union with None of an optional one is looked through."""
    for each in (annotation, *get_args(annotation)):
        if isinstance(each, type) and issubclass(each, Config):
            return each
    return None


def _fault(model: type[BaseModel], place: str, faults: Sequence[Any]) -> str:
    first = faults[0]
    if first["type"] == "extra_forbidden":
        *sections, key = first["loc"]
        return f"{place}: no such setting; {_allowed(_model_of(model, sections), str(key))}"
    if first["type"] == "missing":
        return f"{place}: is needed"
    if first["type"] == "value_error":
        # Our own messages quote what came; the input is the whole section here.
        return f"{place}: {first['ctx']['error']}"
    expected = " or ".join(dict.fromkeys(_expected(each) for each in faults))
    return f"{place}: expected {expected}, got {_got(first['input'])}"


def _expected(fault: Any) -> str:
    words = EXPECTED.get(fault["type"])
    if words is None:
        return str(fault["msg"]).removeprefix("Input should be ").removeprefix("Input should ")
    return words.format(**{key: _plain(value) for key, value in fault.get("ctx", {}).items()})


def _plain(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value}"


def _got(value: Any) -> str:
    """Return what came; of long texts and lists the beginning and the end."""
    try:
        return shortened(repr(value[:50] if isinstance(value, list | tuple) else value))
    except (ValueError, RecursionError):  # a number of more digits than Python writes
        return f"a {type(value).__name__} that is too large to show"


def _model_of(model: type[BaseModel], sections: Sequence[str | int]) -> type[BaseModel]:
    for section in sections:
        field = model.model_fields.get(str(section))
        model = (None if field is None else _section(field.annotation)) or model
    return model


def _allowed(model: type[BaseModel], key: str) -> str:
    """Return which settings there are, the most similar one first."""
    key = key[:50]
    names = sorted(model.model_fields, key=lambda name: -SequenceMatcher(None, key, name).ratio())
    meant = f"did you mean {names[0]}? " if get_close_matches(key, names, n=1) else ""
    return f"{meant}allowed: {', '.join(names)}"
