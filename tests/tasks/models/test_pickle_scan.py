"""Files of weights that would take memory or time without bound: refused before they are opened."""

from __future__ import annotations

import pickle
import struct
import time
import zipfile

import pytest
import torch
import torchvision

from activarium.schemas.errors import UserError
from activarium.tasks.models.checkpoint_files import Noted, noted_moment
from activarium.tasks.models.pickle_scan import scan_file
from activarium.tasks.models.weights_files import read_weights_file

BEGIN = b"\x80\x04"
REMEMBERED = b"".join(b"h" + bytes([n]) + b"h" + bytes([n]) + b"\x86\x94" for n in range(60))
HOSTILE = {
    "doubled": b"}" + b"N\x85" + b"2\x86" * 60 + b"Ns.",
    "doubled by memo": b"}" + b"N\x85\x94" + REMEMBERED + b"Ns.",
    "deep": b"}X\x01\x00\x00\x00aN" + b"\x85" * 200_000 + b"s.",
    "deep between numbers": b"}X\x01\x00\x00\x00aN" + b"K\x01\x86" * 200_000 + b"s.",
    "deep by marks": b"}" + b"(" * 200_000 + b"t" * 200_000 + b"Ns.",
    "memo": b"Nr" + struct.pack("<I", 2**29) + b".",
    "memo by text": b"Np536870912\n.",
}


def archive(path, pickled, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", pickled)
        file.writestr("archive/version", "3\n")
    return path


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", ["archive", "old"])
def test_read__pickles_without_bound_are_refused_in_one_line(tmp_path, hostile, kind):
    path = tmp_path / "a.pt"
    if kind == "archive":
        archive(path, BEGIN + hostile)
    else:
        first = [pickle.dumps(each, 2) for each in (0x1950A86A20F9469CFC6C, 1001, {})]
        path.write_bytes(b"".join(first) + BEGIN + hostile)
    begun = time.perf_counter()
    with pytest.raises(UserError, match="would take memory or time without bound") as caught:
        read_weights_file(path)
    assert "\n" not in str(caught.value)
    assert noted_moment(path) == Noted()
    assert time.perf_counter() - begun < 5


def test_read__pickles_that_unfold_are_refused(tmp_path):
    size = 101 * 2**20
    pickled = BEGIN + b"\x8e" + struct.pack("<Q", size) + bytes(size) + b"."
    path = archive(tmp_path / "a.pt", pickled, zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"'archive/data.pkl' unfolds to \d+ bytes"):
        read_weights_file(path)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_scan__a_checkpoint_with_its_optimiser_takes_less_than_a_second(tmp_path, options):
    model = torchvision.models.resnet50(weights=None)
    moments = {n: {"step": 1, "m": torch.zeros(1)} for n, _ in enumerate(model.parameters())}
    history = [tuple(range(10)) for _ in range(2_000)]
    content = {"model": model.state_dict(), "optimizer": moments, "history": history}
    torch.save(content, tmp_path / "a.pt", **options)
    begun = time.perf_counter()
    scan_file(tmp_path / "a.pt")
    assert time.perf_counter() - begun < 1
    assert read_weights_file(tmp_path / "a.pt")["history"] == history
