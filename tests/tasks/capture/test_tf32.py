"""TF32: allowed or not within, and afterwards everything as it was."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os
import torch
from activarium.tasks.capture.forward import forward_precision

get = torch._C._get_fp32_precision_getter
parts = ("all", "matmul", "conv", "rnn")
keys = [(backend, part) for backend in ("cuda", "mkldnn") for part in parts]

def told(read):
    try:
        return read()
    except RuntimeError:
        return "refused"

def state():
    cudnn = torch.backends.cudnn
    flags = [
        told(lambda: torch.backends.cuda.matmul.allow_tf32),
        told(lambda: cudnn.allow_tf32),
        told(torch.get_float32_matmul_precision),
        cudnn.benchmark, cudnn.deterministic, cudnn.enabled,
    ]
    return {key: get(*key) for key in keys}, get("generic", "all"), flags

def check(setting, own):
    exec(setting)
    before = state()
    images, kernel = torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3)
    for precision, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bfloat16", "ieee")):
        with forward_precision(precision, torch.device("cpu")):
            assert {get("cuda", part) for part in parts} == {expected}
            assert {get("mkldnn", part) for part in parts} == {"ieee"}
            torch.nn.functional.conv2d(images, kernel) @ torch.ones(2, 2)
            assert not torch.is_grad_enabled()
        assert state() == before, (setting, state(), before)
    torch.backends.fp32_precision = "ieee"
    kept = {key for key in keys if get(*key) != "ieee"}
    assert kept == set(own), (setting, kept)

for setting, own in SETTINGS:
    child = os.fork()  # what is set is of the whole process, and one setting hides another
    if child == 0:
        check(setting, own)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, setting
"""

SETTINGS = [
    ("", ()),
    ("torch.backends.fp32_precision = 'tf32'", ()),
    ("torch.backends.cudnn.conv.fp32_precision = 'tf32'", [("cuda", "conv")]),
    ("torch.backends.cuda.matmul.allow_tf32 = True", [("cuda", "matmul")]),
    ("torch.backends.cudnn.allow_tf32 = False", ()),
    (
        "torch.set_float32_matmul_precision('medium')",
        [("cuda", "matmul"), ("mkldnn", "matmul")],
    ),
    ("torch.backends.cudnn.benchmark = torch.backends.cudnn.deterministic = True", ()),
]
"""How a user's code may have set it before, and which parts then have a precision of their own."""


def test_forward_precision__holds_within_and_leaves_everything_as_it_was():
    code = SCRIPT.replace("SETTINGS", repr(SETTINGS))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
