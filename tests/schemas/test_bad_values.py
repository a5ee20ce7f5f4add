"""Every setting is checked: bad values of each field of each model are one line that names it."""

from __future__ import annotations

import math
from types import NoneType
from typing import Literal, get_args, get_origin

import pytest
from pydantic import ValidationError

from activarium.schemas import config as module
from activarium.schemas.compare_config import CompareConfig
from activarium.schemas.config import Config
from activarium.schemas.faults import MOST_FAULTS, told_faults

MODELS = [
    CompareConfig,
    *(
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, Config) and each is not Config
    ),
]

BASE = {
    "TestSetConfig": {"source": "digits"},
    "RunConfig": {"name": "a", "test_set": {"source": "digits"}, "training": {}},
}
"""What a model needs beside the field."""

ZERO_IS_FINE = {
    "seed",
    "permutations",
    "class_exemplars",
    "momentum",
    "weight_decay",
    "crop",
    "thumbnail",
    "top_classes",
}
EMPTY_IS_FINE = {"controls", "frozen", "pooled_layers", "hidden", "options"}
"""Lists that may hold nothing."""

RAW = ("Input should", "constrained", "tuple[", "literal[", "type=", "Value error", " at 0x", "\n")
"""Words of the library that checks, which mean nothing to a user."""

NO_NUMBERS = (math.nan, math.inf, -math.inf, -1, 10**12, -(10**12), 1e300, True, "many", [1], {})
NO_TEXTS = ("", "  ", "a\0b", "\x1b[2J", "\x9b2J", "\udcff", "a" * 200_000, 7, [1], {"a": 1})


def parts(annotation):
    """All that an annotation is made of."""
    found = [annotation]
    for each in found:
        if get_origin(each) is not Literal:
            found += [each for each in (get_origin(each), *get_args(each)) if each is not None]
    return found


def kind(annotation):
    found = parts(annotation)
    if any(isinstance(each, type) and issubclass(each, Config) for each in found):
        return "section"
    for origin, name in ((dict, "options"), (tuple, "list")):
        if origin in found:
            return name
    if bool in found:
        return "truth"
    return "number" if int in found or float in found else "text"


FIELDS = [
    pytest.param(model, name, kind(field.annotation), id=f"{model.__name__}.{name}")
    for model in MODELS
    for name, field in model.model_fields.items()
]


def refusal(model, name, value):
    with pytest.raises(ValidationError) as caught:
        model.model_validate({**BASE.get(model.__name__, {}), name: value})
    return told_faults(model, caught.value)


def bad_values(name, what):
    if what == "number":
        return [*NO_NUMBERS, *(() if name in ZERO_IS_FINE else (0,))]
    if what == "text":
        return NO_TEXTS
    if what == "truth":
        return [2, "perhaps", [True], math.nan, {}]
    if what == "section":
        return [1, "a", [1], {"no such": 1}, {1: 2}]
    if what == "options":
        return [1, "a", [1], {"a": math.nan}, {"a": "\0"}, {"\x1b": 1}, {1: 2}]
    items = [
        [each] for each in ("", "\0", "\x1b[2J", "\udcff", math.nan, math.inf, -(10**12), 10**12)
    ]
    none = [] if name in EMPTY_IS_FINE else [[]]
    return [*items, *none, ["a"] * 5_000, [0.5] * 5_000, 1, "*", {"a": 1}, [[1]], [None]]


@pytest.mark.parametrize(("model", "name", "what"), FIELDS)
def test_every_field__refuses_bad_values_in_one_line_that_names_it(model, name, what):
    for value in bad_values(name, what):
        line = refusal(model, name, value)
        assert name in line, (value, line)
        assert not any(each in line for each in RAW), (value, line)
        assert len(line) < 2_000, (value, line)


@pytest.mark.parametrize(("model", "name", "what"), FIELDS)
def test_every_field__refuses_nothing_unless_that_is_its_default(model, name, what):
    del what
    if NoneType in parts(model.model_fields[name].annotation):
        return
    assert name in refusal(model, name, None)


def test_faults__many_are_counted():
    keys = {f"key{number}": 1 for number in range(100)}
    with pytest.raises(ValidationError) as caught:
        CompareConfig.model_validate(keys)
    line = told_faults(CompareConfig, caught.value)
    assert line.endswith(f"and {100 - MOST_FAULTS} more")


def test_faults__alternatives_are_one_fault():
    line = refusal(module.RecordConfig, "batch_size", "fast")
    assert line == "batch_size: expected a whole number or 'auto', got 'fast'"


@pytest.mark.parametrize(
    ("device", "is_known"),
    [
        *((each, True) for each in ("auto", "cpu", "cuda", "cuda:0", "cuda:15", "mps")),
        *(
            (each, False)
            for each in ("xpu", "meta", "gpu", "cpu:1", "hip", "privateuseone", "cuda:-1", "cuda:x")
        ),
        *(
            (each, False)
            for each in ("CUDA", "cuda:0\n", "mps:0", "cuda:99999", "cpu:" + "9" * 5_000)
        ),
    ],
)
def test_device__is_known_by_name(device, is_known):
    if is_known:
        assert module.RecordConfig(device=device).device == device
    else:
        assert "expected auto, cpu, cuda, cuda:<n> or mps" in refusal(
            module.RecordConfig, "device", device
        )


@pytest.mark.parametrize(
    "part", ["1/0", "2/1", "0/1", "1", "٣/٤", "1/" + "9" * 5_000, "-1/2", "1/2/3"]
)
def test_part__is_one_of_a_number_that_machines_have(part):
    assert "expected i/n" in refusal(module.RecordCall, "part", part)
