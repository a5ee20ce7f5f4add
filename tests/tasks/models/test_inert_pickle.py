"""Files of weights that hold more than tensors: what is read of them, and that nothing is run."""

from __future__ import annotations

import argparse
import builtins
import collections
import io
import os
import pathlib
import pickle
import subprocess
import sys
import zipfile
from types import ModuleType

import numpy as np
import pytest
import torch

from activarium.schemas.errors import UserError
from activarium.tasks.models.inert_pickle import InertObject, read_inert
from activarium.tasks.models.weights_files import read_weights_file

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([1.0, 2.0])}


class Called:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Renamed:
    """Pickles as a call of a function that this process need not have."""

    def __init__(self, full, *args):
        module, _, name = full.rpartition(".")
        self.named, self.args = (module, name), args


class _Pickler(pickle._Pickler):
    """Writes `Renamed` as a call of any name, by protocol 2."""

    def save(self, obj, save_persistent_id=True):  # noqa: FBT002 - as the library has it
        if isinstance(obj, Renamed):
            module, name = obj.named
            self.write(b"c" + module.encode() + b"\n" + name.encode() + b"\n")
            super().save(tuple(obj.args))
            self.write(b"R")
            return
        super().save(obj, save_persistent_id)


def archive(path, pickled):
    """Write a file of torch.save that holds a pickle of bytes."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
        file.writestr("archive/byteorder", "little")
    return path


def saved(tmp_path, content, **options):
    torch.save(content, tmp_path / "file.pt", **options)
    return tmp_path / "file.pt"


def assert_weights(state):
    assert sorted(state) == ["bias", "weight"]
    for name, tensor in WEIGHTS.items():
        assert torch.equal(state[name], tensor)


@pytest.mark.parametrize(
    "options",
    [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 4}, {"pickle_protocol": 5}],
)
def test_read__weights_beside_objects_of_any_class_in_any_format(tmp_path, options):
    beside = {
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs")),
        "best": np.float64(71.25),
        "epoch": np.int64(3),
        "lists": [np.arange(3), {1, 2}, collections.Counter("aab"), 3j],
        "factory": collections.defaultdict(list, a=[1]),
    }
    content = read_weights_file(saved(tmp_path, {"state_dict": WEIGHTS, **beside}, **options))
    assert_weights(content["state_dict"])
    assert (content["best"], content["epoch"]) == (71.25, 3)
    assert type(content["epoch"]) is int
    assert isinstance(content["args"], InertObject)
    assert content["args"].class_name == "argparse.Namespace"
    assert content["factory"] == {"a": [1]}


def test_read__numbers_of_old_and_new_numpy_of_all_kinds(tmp_path):
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        for number in (np.float32(0.5), np.int8(-3), np.uint16(9), np.bool_(True)):
            kind = number.dtype
            writer = _Pickler(stream := io.BytesIO(), 2)
            writer.dump({"metric": Renamed(f"{module}.scalar", kind, number.tobytes())})
            content = read_inert(archive(tmp_path / "number.pt", stream.getvalue()))
            assert content == {"metric": number.item()}


def test_read__classes_that_are_not_installed(tmp_path, monkeypatch):
    module = ModuleType("omegaconf_of_old")
    kind = type("DictConfig", (), {"__module__": "omegaconf_of_old"})
    module.DictConfig = kind
    monkeypatch.setitem(sys.modules, "omegaconf_of_old", module)
    made = kind()
    made.lr = 0.1
    path = saved(tmp_path, {"model": WEIGHTS, "hyper_parameters": made})
    monkeypatch.delitem(sys.modules, "omegaconf_of_old")
    content = read_weights_file(path)
    assert_weights(content["model"])
    assert content["hyper_parameters"].state == {"lr": 0.1}


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_read__tensors_of_every_kind_equal_those_of_torch(tmp_path):
    base = torch.arange(12.0)
    tensors = {
        "parameter": torch.nn.Parameter(base[:4].clone()),
        "strided": base.reshape(3, 4).t(),
        "shared": base[4:8],
        "half": base.bfloat16(),
        "byte": base.to(torch.uint8),
        "wide": base.to(torch.int32).to(torch.uint16),
        "quantised": torch.quantize_per_tensor(base, 0.5, 3, torch.qint8),
        "channels": torch.quantize_per_channel(
            base.reshape(3, 4), torch.tensor([0.1, 0.2, 0.3]), torch.zeros(3), 0, torch.qint8
        ),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
        "kind": torch.float16,
    }
    read = read_inert(saved(tmp_path, {"a": tensors, "args": argparse.Namespace()}))["a"]
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            assert read[name] is tensor
            continue
        assert read[name].dtype == tensor.dtype, name
        assert read[name].stride() == tensor.stride()
        assert torch.equal(read[name], tensor), name


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
@pytest.mark.parametrize("where", ["whole", "beside", "nested", "key", "entry", "namespace"])
@pytest.mark.parametrize("function", [os.system, builtins.eval, builtins.exec, subprocess.call])
def test_read__commands_are_refused_and_never_run(tmp_path, options, where, function):
    marker = tmp_path / "marker"
    text = f"open({str(marker)!r}, 'w')" if function in (eval, exec) else f"touch {marker}"
    evil = Called(function, text)
    content = {
        "whole": evil,
        "beside": {"model": WEIGHTS, "args": evil},
        "nested": {"model": WEIGHTS, "args": [{"a": (1, evil)}]},
        "key": {"model": WEIGHTS, "args": {(1, 2): Called(collections.OrderedDict, [(1, evil)])}},
        "entry": {"model": {**WEIGHTS, "other": evil}},
        "namespace": {"model": WEIGHTS, "args": argparse.Namespace(a=evil)},
    }[where]
    path = saved(tmp_path, content, **options)
    with pytest.raises(UserError, match=r"which no file of weights needs: nothing") as caught:
        read_weights_file(path)
    assert "\n" not in str(caught.value)
    assert not marker.exists()


INDIRECT = [
    ("functools.partial", print, "x"),
    ("builtins.getattr", "", "join"),
    ("torch.storage._load_from_bytes", b"abc"),
    ("torch.load", "other.pt"),
    ("torch.hub.load", "owner/repository", "model"),
    ("numpy.load", "other.npy"),
    ("pydoc.pipepager", "text", "touch marker"),
    ("timeit.timeit", "1"),
    ("pickle.loads", b"abc"),
    ("copyreg._reconstructor", object, object, None),
    ("operator.methodcaller", "system", "touch marker"),
    ("torch._utils.__builtins__.__import__", "os"),
    ("numpy.testing._private.utils.runstring", "1", {}),
    ("activarium.tasks.models.inert_pickle.read_inert", "other.pt"),
]


@pytest.mark.parametrize("call", INDIRECT, ids=lambda call: call[0])
def test_read__functions_of_any_name_are_not_called(tmp_path, call):
    stream = io.BytesIO()
    _Pickler(stream, 2).dump({"epoch": 3, "args": Renamed(call[0], *call[1:])})
    content = read_inert(archive(tmp_path / "file.pt", stream.getvalue()))
    assert content["epoch"] == 3
    assert isinstance(content["args"], InertObject)


def changing(name, attribute):
    """Return a pickle that sets an attribute of what a name stands for."""
    module, _, last = name.rpartition(".")
    state = b"N}X\x05\x00\x00\x00valueI1\ns\x86b".replace(
        b"X\x05\x00\x00\x00value", b"X" + len(attribute).to_bytes(4, "little") + attribute.encode()
    )
    return b"\x80\x02c" + module.encode() + b"\n" + last.encode() + b"\n" + state + b"."


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("torch._utils._rebuild_tensor_v2", "__defaults__"),
        ("torch._utils._rebuild_parameter", "_function"),
        ("collections.OrderedDict", "items"),
        ("collections.Counter", "update"),
        ("torch.nn.parameter.Parameter", "data"),
        ("torch.storage.UntypedStorage", "nbytes"),
        ("torch.storage.TypedStorage", "dtype"),
        ("torch.Size", "numel"),
        ("torch.float32", "is_floating_point"),
        ("numpy.dtype", "numpy"),
        ("argparse.Namespace", "__setstate__"),
        ("builtins.dict", "items"),
    ],
)
def test_read__nothing_of_this_process_can_be_changed(tmp_path, name, attribute):
    path = archive(tmp_path / "file.pt", changing(name, attribute))
    before = [
        torch._utils._rebuild_tensor_v2.__defaults__,
        vars(collections.Counter).get(attribute),
        vars(torch.nn.Parameter).get(attribute),
        vars(torch.UntypedStorage).get(attribute),
        vars(torch.TypedStorage).get(attribute),
        vars(InertObject).get(attribute),
    ]
    with pytest.raises(Exception, match=r"."):
        read_inert(path)
    assert before == [
        torch._utils._rebuild_tensor_v2.__defaults__,
        vars(collections.Counter).get(attribute),
        vars(torch.nn.Parameter).get(attribute),
        vars(torch.UntypedStorage).get(attribute),
        vars(torch.TypedStorage).get(attribute),
        vars(InertObject).get(attribute),
    ]
    with pytest.raises(UserError) as caught:
        read_weights_file(path)
    assert "\n" not in str(caught.value)


def test_read__old_file_writes_no_patch_of_a_module_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2))
    path = saved(tmp_path, {"model": model, "a": 1}, _use_new_zipfile_serialization=False)
    content = read_inert(path)
    assert content["model"].class_name == "torch.nn.modules.container.Sequential"
    assert [each.name for each in tmp_path.iterdir()] == ["file.pt"]
