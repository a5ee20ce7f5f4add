"""Errors of devices: no memory, lost, or neither."""

from __future__ import annotations

import errno

import pytest
import torch

from activarium.schemas.errors import UserError
from activarium.tasks.capture.device_errors import first_line, is_device_lost, is_out_of_memory


def wrapped(inner, kind=RuntimeError, text="backend='inductor' raised"):
    """Return an error that came from another one."""
    error = kind(text)
    error.__cause__ = inner
    return error


class CompilerError(RuntimeError):
    """Keeps what it met beside its text, as torch's compilers do."""

    def __init__(self, inner):
        super().__init__("backend failed")
        self.inner_exception = inner


MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be reported"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("HIP out of memory. Tried to allocate"),
    RuntimeError("CUDA driver error: out of memory"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
    RuntimeError("std::bad_alloc"),
    MemoryError(),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    CompilerError(torch.OutOfMemoryError("CUDA out of memory")),
    wrapped(RuntimeError("CUDA error: out of memory")),
    wrapped(wrapped(MemoryError()), UserError, "the model's forward pass failed"),
]
LOST = [
    RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    RuntimeError("CUDA error: unspecified launch failure"),
    RuntimeError("CUDA error: unknown error"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
    torch.AcceleratorError("the device went away"),
    wrapped(torch.AcceleratorError("CUDA error: unspecified launch failure")),
]
NEITHER = [
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    torch.AcceleratorError("CUDA error: no kernel image is available for execution"),
    torch.AcceleratorError("CUDA error: invalid configuration argument"),
    RuntimeError("CUDA error: invalid device function"),
    RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    OSError(errno.ENOENT, "No such file"),
    ValueError("out of memory slots"),
    KeyError("CUDA error"),
]


@pytest.mark.parametrize("error", MEMORY, ids=repr)
def test_is_out_of_memory__in_any_words_and_wrapping(error):
    assert is_out_of_memory(error)
    assert not is_device_lost(error)


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_is_device_lost__where_the_accelerator_failed(error):
    assert is_device_lost(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", NEITHER, ids=repr)
def test_device_errors__what_another_device_would_meet_too_is_neither(error):
    assert not is_out_of_memory(error)
    assert not is_device_lost(error)


def test_is_out_of_memory__errors_that_cause_one_another_end():
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_out_of_memory(first)


def test_first_line__is_the_class_where_there_is_no_text():
    assert first_line(RuntimeError("\n  one \ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"
