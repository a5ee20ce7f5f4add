"""Devices: found by name, lost with one line."""

from __future__ import annotations

import pytest
import torch

from activarium.schemas.errors import UserError
from activarium.tasks.recording.devices import device_faults, device_per_process, resolve_device

CPU = torch.device("cpu")


def test_resolve_device__auto_takes_cuda_where_there_is_one():
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == kind
    assert resolve_device("cpu") == CPU


@pytest.mark.parametrize("device", ["gpu", "cuda:99", ""])
def test_resolve_device__unknown_device_is_refused(device):
    with pytest.raises(UserError, match=r"record\.device"):
        resolve_device(device)


def test_device_per_process__counts_processes_of_the_cpu():
    assert device_per_process(["cpu:3"]) == ("cpu", "cpu", "cpu")
    assert device_per_process(["cpu", " cpu:2"]) == ("cpu", "cpu", "cpu")


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["cpu:0"], "cpu:<processes>"),
        (["cpu:x"], "cpu:<processes>"),
        (["cuda:99"], "is not there"),
        (["tpu"], "expected auto, cpu, cuda"),
        (["cpu", "meta"], "of one kind"),
    ],
)
def test_device_per_process__what_cannot_be_is_one_clear_line(devices, message):
    with pytest.raises(UserError, match=message) as error:
        device_per_process(devices)
    assert "\n" not in str(error.value)


def test_device_faults__are_one_clear_line_each():
    faults = [
        (RuntimeError("CUDA error: device-side assert triggered\nCUDA kernel"), "does not answer"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried\nSee"), "out of memory on cpu"),
        (MemoryError(), "out of memory on cpu"),
    ]
    for fault, message in faults:
        with pytest.raises(UserError, match=message) as error, device_faults(CPU):
            raise fault
        assert "\n" not in str(error.value)
    with pytest.raises(RuntimeError, match="something else"), device_faults(CPU):
        raise RuntimeError("something else")
