"""Forward passes that fail: one line for what is the model's own, as it came for the device's."""

from __future__ import annotations

import pytest
import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.forward import ForwardError, run_forward

IMAGES = torch.zeros(2, 3, 4, 4)


def failing(error):
    def forward(images):
        raise error

    return forward


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (ModuleNotFoundError("No module named 'einops'"), "No module named 'einops'"),
        (AttributeError("'Tensor' object has no attribute 'to_map'"), "AttributeError: 'Tensor'"),
        (NameError("name 'F' is not defined"), "NameError"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError"),
        (NotImplementedError(), "NotImplementedError"),
        (OSError(2, "No such file"), "No such file"),
        (StopIteration(), "StopIteration"),
        (Exception("two\nlines"), "Exception: two;"),
        (RuntimeError("shapes cannot be multiplied\nmore"), "cannot be multiplied;"),
        (RuntimeError("CUDA error: no kernel image is available"), "no kernel image"),
        (RecursionError("maximum recursion depth exceeded"), "recursion"),
    ],
    ids=repr,
)
def test_run_forward__any_error_of_the_model_is_one_line(error, told):
    with pytest.raises(ForwardError) as caught:
        run_forward(failing(error), IMAGES)
    text = str(caught.value)
    assert told in text
    assert "shape (2, 3, 4, 4)" in text
    assert "\n" not in text


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(3),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: device-side assert triggered"),
        UserError("layer 'a' returns no tensor"),
    ],
    ids=repr,
)
def test_run_forward__what_is_not_the_models_passes_as_it_came(error):
    with pytest.raises(type(error)) as caught:
        run_forward(failing(error), IMAGES)
    assert caught.value is error
