"""Hostile files of torch.export: nothing of them runs, whatever reads them."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import zipfile

import pytest
import torch
from torch import nn

from activarium.schemas.errors import UserError
from activarium.tasks.models import export_files
from activarium.tasks.models.export_archive import clean_archive
from activarium.tasks.models.export_files import read_export_file
from activarium.tasks.models.export_program import RefusedProgramError, checked_program

from ..exporting import write_export

PROGRAM, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
WEIGHTS = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return (os.mkdir, (self.marker,))


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Return the members of a sound file, by their names below its folder."""
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).eval()
    path = tmp_path_factory.mktemp("sound") / "sound.pt2"
    write_export(path, model, torch.zeros(2, 1, 4, 4))
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def marker(tmp_path):
    """A file that is there once hostile code has run."""
    path = tmp_path / "ran"
    yield path
    assert not path.exists()


def write(path, members, *, root="sound/", **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(root + name, content)
    return path


def saved(*content):
    written = io.BytesIO()
    torch.save(content, written)
    return written.getvalue()


def refused(path, match):
    with pytest.raises(UserError, match=match) as caught:
        read_export_file(path)
    assert "\n" not in str(caught.value)


def edited(text, change):
    held = json.loads(text)
    change(held)
    return json.dumps(held).encode()


def replaced(value, old, new):
    """Return the value with one text in it replaced wherever it stands."""
    if isinstance(value, dict):
        return {replaced(k, old, new): replaced(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [replaced(each, old, new) for each in value]
    return new if value == old else value


def test_read__sound_file_is_read(tmp_path, sound):
    assert read_export_file(write(tmp_path / "sound.pt2", sound)).size == (4, 4)


def test_hostile__torch_itself_would_run_it(tmp_path, sound):
    path = write(tmp_path / "x.pt2", sound | {SAMPLES: saved(Hostile(tmp_path / "ran"))})
    torch.export.load(path)
    assert (tmp_path / "ran").exists()


MORE = "holds more than tensors"


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_sample_inputs__never_run(tmp_path, sound, marker, protocol):
    contents = [saved(Hostile(marker)), pickle.dumps(Hostile(marker), protocol)]
    for content in contents:
        refused(write(tmp_path / "x.pt2", sound | {SAMPLES: content}), f"{SAMPLES} ({MORE}|cannot)")


def test_pickled_weights_and_constants__never_run(tmp_path, sound, marker):
    def pickled(held):
        next(iter(held["config"].values()))["use_pickle"] = True

    name = next(iter(json.loads(sound[WEIGHTS])["config"].values()))["path_name"]
    hostile = {
        WEIGHTS: edited(sound[WEIGHTS], pickled),
        f"data/weights/{name}": saved(Hostile(marker)),
    }
    refused(write(tmp_path / "x.pt2", sound | hostile), f"{name} {MORE}")
    meta = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    for path_name in ("tensor_0", "custom_obj_0", "opaque_obj_0", "../x", "/x", "tensor_0/../x"):
        config = json.dumps({"config": {"c": meta | {"path_name": path_name}}}).encode()
        content = pickle.dumps(Hostile(marker))
        hostile = {CONSTANTS: config, f"data/constants/{path_name}": content}
        match = "holds objects other|holds more|cannot be read|lies outside"
        refused(write(tmp_path / "x.pt2", sound | hostile), match)


@pytest.mark.parametrize("folder", ["weights", "constants"])
def test_earlier_names_of_pickles__never_run(tmp_path, sound, marker, folder):
    hostile = {f"data/{folder}/model.pt": saved(Hostile(marker))}
    refused(write(tmp_path / "x.pt2", sound | hostile), MORE)


def older(sound, **changed):
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())
    pickles = {
        "state_dict": dict(model.named_parameters()) | dict(model.named_buffers()),
        "constants": {},
        "example_inputs": ((), {}),
    }
    written = {}
    for name, content in (pickles | changed).items():
        stream = io.BytesIO()
        torch.save(content, stream)
        written[f"serialized_{name}.pt"] = stream.getvalue()
    schema = json.loads(sound[PROGRAM])["schema_version"]
    version = f"{schema['major']}.{schema['minor']}".encode()
    return {"serialized_exported_program.json": sound[PROGRAM], "version": version, **written}


def test_older_layout__is_read_and_its_pickles_never_run(tmp_path, sound, marker):
    path = write(tmp_path / "x.pt2", older(sound), root="")
    assert read_export_file(path).size == (4, 4)
    for name in ("state_dict", "constants", "example_inputs"):
        path = write(tmp_path / "x.pt2", older(sound, **{name: Hostile(marker)}), root="")
        refused(path, f"serialized_{name}.pt {MORE}")


def test_member_twice__is_refused(tmp_path, sound, marker):
    path = write(tmp_path / "x.pt2", sound)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"sound/{SAMPLES}", saved(Hostile(marker)))
    refused(path, "twice")


def test_member_whose_headers_name_it_differently__never_runs(tmp_path, sound, marker):
    hostile = {"data/sample_inputs/nodel.pt": saved(Hostile(marker))}
    content = write(tmp_path / "x.pt2", hostile | sound).read_bytes()
    old, new = b"sample_inputs/nodel.pt", b"sample_inputs/model.pt"
    first, second = content.index(old), content.rindex(old)
    # Python reads the second of them, torch might read the first.
    for place, problem in ((first, None), (second, "twice")):
        changed = content[:place] + new + content[place + len(new) :]
        (tmp_path / "x.pt2").write_bytes(changed)
        if problem is None:
            assert read_export_file(tmp_path / "x.pt2").size == (4, 4)
        else:
            refused(tmp_path / "x.pt2", problem)
    other = {name: part for name, part in sound.items() if name != SAMPLES}
    content = write(tmp_path / "x.pt2", hostile | other).read_bytes()
    place = content.rindex(old)
    (tmp_path / "x.pt2").write_bytes(content[:place] + new + content[place + len(new) :])
    refused(tmp_path / "x.pt2", "differ")


def test_members_that_torch_does_not_write__are_refused(tmp_path, sound):
    refused(write(tmp_path / "x.pt2", sound, compression=zipfile.ZIP_DEFLATED), "is compressed")
    link = zipfile.ZipInfo("sound/extra/link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = write(tmp_path / "x.pt2", sound)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    refused(path, "is a link")
    refused(write(tmp_path / "x.pt2", sound | {"../../x": b""}), "lies outside")
    path = write(tmp_path / "x.pt2", sound)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/models/model.json", b"")
    refused(path, "2 folders")


def test_members_over_the_same_bytes__are_refused(tmp_path, sound):
    path = tmp_path / "x.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in sound.items():
            archive.writestr(f"sound/{name}", content)
        archive.writestr("sound/extra/big", b"0" * 100_000)
        big = archive.infolist()[-1]
        for number in range(5):
            again = zipfile.ZipInfo(f"sound/extra/{number}")
            again.header_offset, again.CRC = big.header_offset, big.CRC
            again.file_size = again.compress_size = big.file_size
            archive.filelist.append(again)
    refused(path, "larger than it is itself")


def test_compiled_code__is_not_loaded(tmp_path, sound):
    compiled = {
        "data/aotinductor/model/x.so": b"\x7fELF",
        "data/aotinductor/model/x.wrapper.cpp": b"",
    }
    path = write(tmp_path / "x.pt2", sound | compiled)
    assert read_export_file(path).size == (4, 4)
    with zipfile.ZipFile(clean_archive(path.read_bytes(), "preprocessing.json")) as archive:
        assert not [name for name in archive.namelist() if "aotinductor" in name]
    refused(write(tmp_path / "x.pt2", compiled | {"models/other.json": b"{}"}), "holds no ")


def test_file_exchanged_after_it_was_read__is_not_read_again(tmp_path, sound, marker, monkeypatch):
    path = write(tmp_path / "x.pt2", sound)

    def exchange(content, extra):
        write(path, sound | {SAMPLES: saved(Hostile(marker))})
        return clean_archive(content, extra)

    monkeypatch.setattr(export_files, "clean_archive", exchange)
    assert read_export_file(path).size == (4, 4)


def program(sound, change):
    return edited(sound[PROGRAM], change)


CODE = "__import__('os').mkdir({!r})"


@pytest.mark.parametrize(
    "size",
    [
        CODE,
        "Symbol(" + CODE + ")",
        "(lambda: " + CODE + ")()",
        "[" + CODE + "][0]",
        "Max(1, " + CODE + ")",
        "s0.__class__",
        "eval('1')",
        "\uff45\uff56\uff41\uff4c('1')",
        "f'{__import__(chr(111))}'",
        "Pow(9, Pow(9, Pow(9, 9)))",
        "9**9**9**9",
        "2**99999999999",
        "LShift(1, 99999999999)",
        "(" * 3000 + "1" + ")" * 3000,
    ],
)
def test_sizes__are_sums_alone(sound, marker, size):
    size = size.replace("{!r}", repr(str(marker)))

    def change(held):
        values = held["graph_module"]["graph"]["tensor_values"]
        next(iter(values.values()))["sizes"][0] = {"as_expr": {"expr_str": size, "hint": None}}

    with pytest.raises(RefusedProgramError):
        checked_program(program(sound, change))


@pytest.mark.parametrize(
    "size",
    [
        "Symbol('s34', positive=True, integer=True)",
        "s0",
        "8*s1 + 3",
        "s0**2",
        "((s0 - 1)//2) + 1",
        "Add(Mul(Integer(2), Symbol('s0')), Integer(-1))",
        "Max(1, FloorDiv(s0, 2))",
        "Mod(s0, 8)",
        "Float('1.5', precision=53)",
        "Pow(Symbol('s0', integer=True), Integer(2))",
    ],
)
def test_sizes__of_sums_are_read(size):
    text = json.dumps({"as_expr": {"expr_str": size}}).encode()
    assert json.loads(checked_program(text)) == json.loads(text)


def test_guards__are_not_run(tmp_path, sound, marker):
    guards = {"guards_code": [CODE.format(str(marker))]}
    path = write(
        tmp_path / "x.pt2", sound | {PROGRAM: program(sound, lambda held: held.update(guards))}
    )
    read_export_file(path).model(torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("old", ["input", "p_0_weight", "0.weight", "conv2d"])
def test_names__that_would_be_code_are_refused(tmp_path, sound, marker, old):
    held = json.loads(sound[PROGRAM])
    for new in (f"x={CODE.format(str(marker))}", f"x\n    {CODE.format(str(marker))}", 'x", "y'):
        changed = replaced(held, old, new)
        assert changed != held
        hostile = sound | {PROGRAM: json.dumps(changed).encode()}
        refused(write(tmp_path / "x.pt2", hostile), "names something")


STRUCTURE = '[1, {"type": "builtins.tuple", "context": "null", "children_spec": [%s]}]'


@pytest.mark.parametrize(
    "inner",
    [
        '{"type": "collections.defaultdict", "children_spec": [], "context": "{\\"default_factory_module\\": \\"hostile\\", \\"default_factory_name\\": \\"x\\", \\"dict_context\\": []}"}',
        '{"type": "builtins.dict", "children_spec": [], "context": "[{\\"__enum__\\": true, \\"fqn\\": \\"hostile:X\\"}]"}',
        '{"type": "builtins.dict", "children_spec": [], "context": "[\\"a, b=__import__(\'os\')\\"]"}',
        '{"type": "builtins.list", "children_spec": [], "context": "{\\"__enum__\\": true, \\"fqn\\": \\"hostile:X\\"}"}',
        '{"type": "collections.namedtuple", "children_spec": [], "context": "\\"os.X\\""}',
        '{"type": 3}',
        "7",
    ],
)
def test_structures__that_import_are_refused(tmp_path, sound, marker, inner, monkeypatch):
    (tmp_path / "hostile.py").write_text(
        f"import os\nos.mkdir({str(marker)!r})\nclass X: pass\nx = X\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def change(held):
        held["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = STRUCTURE % inner

    refused(write(tmp_path / "x.pt2", sound | {PROGRAM: program(sound, change)}), "is not loaded")


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.image.write_file.default",
        "torch.ops.image.read_file.default",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.debugprims.load_tensor.default",
        "torch.ops.higher_order.aoti_call_delegate",
        "torch.ops.higher_order.call_torchbind",
        "torch.ops.c10d.send.default",
        "torch.ops.load_library",
        "torch.hub.load",
        "torch.load",
        "_operator.call",
        "_operator.attrgetter",
        "os.system",
        "#hostile",
        "builtins.eval",
    ],
)
def test_operations__on_other_things_than_tensors_are_refused(sound, target):
    def change(held):
        held["graph_module"]["graph"]["nodes"][0]["target"] = target

    with pytest.raises(RefusedProgramError, match="no operation on tensors"):
        checked_program(program(sound, change))


def test_nested_json__is_refused():
    with pytest.raises(RefusedProgramError, match="too deep"):
        checked_program(b"[" * 100_000 + b"]" * 100_000)


def test_flipped_bytes__never_run_anything_and_are_one_line(tmp_path, sound):
    content = write(tmp_path / "x.pt2", sound).read_bytes()
    path = tmp_path / "flipped.pt2"
    for place in range(0, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        try:
            read_export_file(path)
        except UserError as error:  # many are read all the same: torch writes padding
            message = str(error)
            assert "\n" not in message
