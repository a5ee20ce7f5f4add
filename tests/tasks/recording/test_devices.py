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


@pytest.fixture
def three_gpus(monkeypatch):
    """Let torch tell of three GPUs, of which code took the second."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.mark.parametrize(
    ("device", "found"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:0", "cuda:0"), ("cuda:2", "cuda:2")],
)
@pytest.mark.usefixtures("three_gpus")
def test_resolve_device__a_gpu_always_has_its_number(device, found):
    assert str(resolve_device(device)) == found
    assert device_per_process([device]) == (found,)


@pytest.mark.usefixtures("three_gpus")
def test_resolve_device__a_driver_that_fails_is_left_to_the_first_use(monkeypatch):
    def fail():
        raise RuntimeError("CUDA unknown error")

    monkeypatch.setattr(torch.cuda, "current_device", fail)
    assert str(resolve_device("auto")) == "cuda:0"


@pytest.mark.usefixtures("three_gpus")
def test_device_per_process__the_cpu_beside_a_gpu_is_refused():
    assert device_per_process(["cuda:0", "auto", "cuda:2"]) == ("cuda:0", "cuda:1", "cuda:2")
    with pytest.raises(UserError, match="of one kind"):
        device_per_process(["cpu", "cuda:2"])


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "", "meta", "mps", "cuda:-1", "cuda:x"])
def test_resolve_device__unknown_device_is_refused(device):
    with pytest.raises(UserError, match=r"record\.device"):
        resolve_device(device)


def test_device_per_process__counts_processes_of_the_cpu(monkeypatch):
    monkeypatch.setattr("activarium.tasks.processes.usable_processors", lambda: 3)
    assert device_per_process(["cpu:3"]) == ("cpu", "cpu", "cpu")
    assert device_per_process(["cpu", " cpu:2"]) == ("cpu", "cpu", "cpu")


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        (["cpu:0"], "cpu:<processes>"),
        (["cpu:x"], "cpu:<processes>"),
        (["cuda:99"], "is not there"),
        (["tpu"], "expected auto, cpu, cuda"),
        (["cpu", "meta"], "expected auto, cpu, cuda"),
    ],
)
def test_device_per_process__what_cannot_be_is_one_clear_line(devices, message):
    with pytest.raises(UserError, match=message) as error:
        device_per_process(devices)
    assert "\n" not in str(error.value)


def test_device_faults__are_one_clear_line_each():
    faults = [
        (torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel"), "out of memory on cpu"),
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


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: no kernel image is available for execution on the device",
        "CUDA driver version is insufficient for CUDA runtime version",
    ],
)
def test_device_faults__a_device_that_torch_was_not_built_for_is_one_line(words):
    refused = pytest.raises(UserError, match="this build of torch does not run on cpu")
    with refused as error, device_faults(CPU):
        raise RuntimeError(f"{words}\nCompile with TORCH_USE_CUDA_DSA")
    assert "\n" not in str(error.value)
    assert "record.device cpu" in str(error.value)
