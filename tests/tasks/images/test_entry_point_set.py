"""Test sets from Python functions that the tests write as modules of their own."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from activarium.schemas.config import TestSetConfig
from activarium.schemas.errors import UserError
from activarium.tasks.entry_points import is_entry_point, load_entry_point
from activarium.tasks.images import entry_point_set
from activarium.tasks.images.test_sets import UndecodableImageError, load_test_set

NUMBERS = count()

SQUARES = """
    import numpy as np
    from PIL import Image

    class Squares:
        classes = ["ant", "bee"]

        def __init__(self, size=4, split="test", images=6):
            self.size, self.split, self.images = size, split, images
            self.first = 100 if split == "train" else 0

        def __len__(self):
            return self.images

        def __getitem__(self, index):
            if index >= self.images:
                raise IndexError(index)
            value = self.first + index
            return Image.new("RGB", (self.size, self.size), (value, 1, 2)), index % 2
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes a module and returns its name and folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(code):
        name = f"written_by_a_test_{next(NUMBERS)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(code))
        return name

    write.folder = tmp_path
    return write


@pytest.fixture
def load(module):
    def load(code, function="Squares", **settings):
        reference = f"{module(code)}:{function}"
        settings = {"path": module.folder, "entry_point": reference, **settings}
        config = TestSetConfig(source="entry-point", **settings)
        return load_test_set(config, datasets=Path("nowhere"))

    return load


def dataset_of(items, **attributes):
    """Return the code of a function `make` that gives a list-like dataset of these expressions."""
    lines = "\n".join(f"    made.{name} = {value}" for name, value in attributes.items())
    return (
        textwrap.dedent("""
        import numpy as np
        import torch
        from PIL import Image, UnidentifiedImageError

        class Listed(list):
            pass

        def make():
            made = Listed({items})
        {lines}
            return made
    """)
        .replace("{items}", items)
        .replace("{lines}", lines)
    )


# --- references -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("package.module:function", True),
        ("module:Class.method", True),
        ("module", False),
        ("module:", False),
        (":function", False),
        ("a b:c", False),
        ("C:\\weights.pt", False),
        ("timm:resnet18.a1_in1k", True),
        ("torchvision:1", False),
    ],
)
def test_entry_point__has_the_form_of_a_module_and_a_name(text, expected):
    assert is_entry_point(text) is expected


def test_entry_point__is_found_in_the_current_folder(module, monkeypatch):
    name = module("def make(): return 7")
    monkeypatch.chdir(module.folder)
    assert load_entry_point(f"{name}:make", setting="here")() == 7


@pytest.mark.parametrize(
    ("code", "reference", "message"),
    [
        ("", "{}", "here: expected package.module:function, got 'written"),
        ("", "{}:make", "'written_by_a_test_.*:make' has no such function"),
        ("make = 7", "{}:make", "is a int; expected package"),
        ("import no_such_module_at_all", "{}:make", "No module named 'no_such_module_at_all'"),
        ("def make(:", "{}:make", r"cannot import .* \(SyntaxError"),
        ("1 / 0", "{}:make", r"cannot import .* \(ZeroDivisionError: division by zero\)"),
        ("", "no_such_{}:make", "looked in the installed packages and in"),
    ],
)
def test_entry_point__that_cannot_be_loaded_is_one_clear_line(module, code, reference, message):
    name = module(code)
    with pytest.raises(UserError, match=message) as error:
        load_entry_point(reference.format(name), folder=module.folder, setting="here")
    assert "\n" not in str(error.value)


def test_entry_point__module_of_the_folder_hides_no_installed_one(module):
    (module.folder / "textwrap.py").write_text("raise ImportError")
    assert load_entry_point("textwrap:dedent", folder=module.folder, setting="x") is textwrap.dedent


# --- images and labels ----------------------------------------------------------------------


def test_set__gives_the_datasets_images_labels_and_classes(load):
    found = load(SQUARES, options={"size": 5})
    assert found.labels.tolist() == [0, 1] * 3
    assert found.class_names == ("ant", "bee")
    assert found.ids[:2] == ("test/000000", "test/000001")
    assert [found.image(index).getpixel((0, 0)) for index in (0, 5)] == [(0, 1, 2), (5, 1, 2)]
    assert found.image(3).size == (5, 5)
    assert (found.name, found.split, found.colours) == ("Squares", "test", 3)


def test_set__is_given_the_split_where_it_takes_one(load):
    assert load(SQUARES, split="train").image(2).getpixel((0, 0)) == (102, 1, 2)
    assert load(SQUARES, options={"split": "train"}).image(2).getpixel((0, 0)) == (102, 1, 2)


def test_set__without_a_split_is_no_training_set(load):
    code = dataset_of("[(Image.new('L', (3, 3), 9), 0)]")
    assert len(load(code, "make")) == 1
    with pytest.raises(UserError, match="has no argument `split`"):
        load(code, "make", split="train")


def test_set__limit_reads_the_chosen_items(load):
    found = load(SQUARES, options={"images": 11}, limit=3)
    assert [found.image(index).getpixel((0, 0))[0] for index in range(3)] == [0, 5, 10]


@pytest.mark.parametrize("label", [None, -1])
def test_labels__none_at_all_are_no_classes(load, label):
    found = load(dataset_of(f"[(Image.new('L', (3, 3)), {label})] * 3"), "make")
    assert found.labels.tolist() == [-1, -1, -1]
    assert found.class_names == ()


@pytest.mark.parametrize(
    ("items", "labels", "names"),
    [
        ("'cat', 'ant', 'cat'", [1, 0, 1], ("ant", "cat")),
        ("2, None, 0", [2, -1, 0], ("0", "1", "2")),
        ("torch.tensor(1), np.int64(0), -1", [1, 0, -1], ("0", "1")),
    ],
)
def test_labels__are_numbers_names_or_none(load, items, labels, names):
    found = load(dataset_of(f"[(Image.new('L', (3, 3)), label) for label in ({items})]"), "make")
    assert found.labels.tolist() == labels
    assert found.class_names == names


@pytest.mark.parametrize(
    ("items", "attributes", "message"),
    [
        ("[(Image.new('L', (3, 3)), 1.5)]", {}, "labels are float"),
        ("[(Image.new('L', (3, 3)), [1, 2])]", {}, "labels are list"),
        ("[(Image.new('L', (3, 3)), 2)]", {"classes": ["a", "b"]}, "names of 2 classes"),
        ("[(Image.new('L', (3, 3)), 0)]", {"targets": [0, 1]}, "has 1 images but 2 targets"),
        ("[]", {}, "returned a dataset without images"),
        ("[Image.new('L', (3, 3))]", {}, r"item 0 is a Image, expected \(image, label\)"),
        ("[{'image': 1, 'label': 2}]", {}, r"item 0 is a dict, expected \(image, label\)"),
        ("[('a.png', 0)]", {}, "has a str as image, expected a PIL image, array or tensor"),
        ("[(np.zeros((4, 4, 2), np.uint8), 0)]", {}, r"has the shape \(4, 4, 2\), expected"),
        ("[(np.zeros((4, 4), np.int64), 0)]", {}, "values of type int64, expected uint8"),
        ("[(torch.rand(3, 4, 4), 0)]", {}, "no multiples of 1/255"),
        ("[(torch.full((3, 4, 4), -1.0), 0)]", {}, "floats from -1 to -1"),
        ("[(torch.full((3, 4, 4), float('nan')), 0)]", {}, "floats from nan"),
    ],
)
def test_set__of_anything_else_is_one_clear_line(load, items, attributes, message):
    with pytest.raises(UserError, match=message) as error:
        load(dataset_of(items, **attributes), "make")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make(): return 7", "returned a int; expected a dataset with a length"),
        ("def make(): raise KeyError('no\\nroot')", "failed: KeyError"),
        ("def make(root): return []", "failed: TypeError"),
        ("def make():\n  return iter([1])", "expected a dataset with a length"),
    ],
)
def test_function__that_fails_or_returns_no_dataset_is_one_clear_line(load, code, message):
    with pytest.raises(UserError, match=message) as error:
        load(code, "make")
    assert "\n" not in str(error.value)


def test_options__that_the_function_has_not_are_named(load):
    with pytest.raises(UserError, match="no argument 'colour'; it has size, split, images"):
        load(SQUARES, options={"colour": 1})


IMAGE = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    "form",
    [
        "pixels",
        "Image.fromarray(pixels)",
        "pixels.transpose(2, 0, 1)",
        "torch.from_numpy(pixels)",
        "torch.from_numpy(pixels).permute(2, 0, 1)",
        "to_tensor(pixels)",
        "to_tensor(pixels).double().numpy()",
    ],
)
def test_image__arrays_and_tensors_of_both_orders_are_the_same_pixels(load, form):
    code = f"""
        import numpy as np
        import torch
        from PIL import Image
        from torchvision.transforms.functional import to_tensor

        pixels = np.array({IMAGE.tolist()}, np.uint8)

        def make():
            return [({form}, 0)]
    """
    np.testing.assert_array_equal(np.asarray(load(code, "make").image(0)), IMAGE)


@pytest.mark.parametrize("form", ["grey", "grey[..., None]", "torch.tensor(grey)[None]"])
def test_image__grey_arrays_are_grey(load, form):
    code = f"""
        import numpy as np
        import torch

        grey = np.array({IMAGE[..., 0].tolist()}, np.uint8)

        def make():
            return [({form}, 0)]
    """
    found = load(code, "make")
    assert found.colours == 1
    np.testing.assert_array_equal(np.asarray(found.image(0)), IMAGE[..., 0])


def test_image__that_cannot_be_decoded_is_named_and_keeps_its_target(load):
    code = """
        from PIL import Image, UnidentifiedImageError

        class Damaged:
            targets = [0, 1, 1]

            def __len__(self):
                return 3

            def __getitem__(self, index):
                if index == 1:
                    raise UnidentifiedImageError("cut short")
                return Image.new("L", (3, 3), index), self.targets[index]
    """
    found = load(code, "Damaged")
    assert found.labels.tolist() == [0, 1, 1]
    with pytest.raises(UndecodableImageError, match="test/000001: cut short"):
        found.image(1)
    assert found.image(2).getpixel((0, 0)) == 2


def test_image__that_fails_by_a_fault_in_the_code_ends_the_run(load):
    code = """
        from PIL import Image

        class Faulty:
            def __len__(self):
                return 2

            def __getitem__(self, index):
                return (Image.new("L", (3, 3)), 0) if index == 0 else missing_name
    """
    with pytest.raises(UserError, match="item 1 failed: NameError: name 'missing_name'"):
        load(code, "Faulty")


# --- identity -------------------------------------------------------------------------------


def test_identity__follows_pixels_labels_and_not_the_place(load):
    first = load(SQUARES).identity
    assert load(SQUARES).identity == first
    assert load(SQUARES.replace("1, 2)", "1, 3)")).identity != first
    assert load(SQUARES.replace("index % 2", "(index + 1) % 2")).identity != first
    assert load(SQUARES, options={"size": 5}).identity != first


COUNTED = (
    SQUARES
    + """
        read = 0
        targets = [0, 1] * 3

    original = Squares.__getitem__

    def counting(self, index):
        Squares.read += 1
        return original(self, index)

    Squares.__getitem__ = counting
"""
)


def test_identity__of_a_version_reads_no_image_for_labels(load, monkeypatch):
    monkeypatch.setattr(entry_point_set, "READ_TWICE", 1)
    first = load(COUNTED, version="2024-01")
    read = type(first.reader.dataset).read
    assert read <= 8  # the colours, and one image twice
    assert load(COUNTED, version="2024-02").identity != first.identity


def test_identity__large_sets_need_a_version(load, monkeypatch):
    monkeypatch.setattr(entry_point_set, "HASHED_AT_MOST", 5)
    with pytest.raises(UserError, match=r"has 6 images; up to 5 .* set test_set\.version"):
        load(SQUARES)
    assert len(load(SQUARES, version="1")) == 6


UNSTEADY = """
    import random
    from PIL import Image

    class Unsteady:
        def __len__(self):
            return 6

        def __getitem__(self, index):
            value = {value}
            return Image.new("RGB", (4, 4), (value, 1, 2)), index % 2
"""


@pytest.mark.parametrize(
    "value", ["random.randrange(256)", "index if random.random() < 0.5 else 9"]
)
def test_image__other_pixels_than_those_that_were_hashed_end_the_run(load, value):
    def read_all():
        found = load(UNSTEADY.format(value=value), "Unsteady")
        for _ in range(8):
            for index in range(6):
                found.image(index)

    with pytest.raises(UserError, match=r"item \d has other pixels at another reading, as with"):
        read_all()


def test_image__other_pixels_are_told_where_a_version_stands_for_them(load):
    with pytest.raises(UserError, match=r"item \d has other pixels at another reading"):
        load(UNSTEADY.format(value="random.randrange(256)"), "Unsteady", version="1")


def test_image__that_is_another_in_another_process_ends_the_run(load):
    found = load(SQUARES)
    there = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    there.reader.digests = (b"other", *there.reader.digests[1:])
    with pytest.raises(UserError, match="item 0 has other pixels"):
        there.image(0)
    assert there.image(1).getpixel((0, 0)) == (1, 1, 2)


# --- threads and processes ------------------------------------------------------------------

UNSAFE = """
    import time
    from PIL import Image

    class Unsafe:
        thread_safe = {safe}
        inside = 0
        most = 0

        def __len__(self):
            return 40

        def __getitem__(self, index):
            Unsafe.inside += 1
            Unsafe.most = max(Unsafe.most, Unsafe.inside)
            time.sleep(0.002)
            Unsafe.inside -= 1
            return Image.new("L", (3, 3), index), 0
"""


@pytest.mark.parametrize("safe", [False, True])
def test_threads__read_one_at_a_time_unless_the_dataset_says_it_is_safe(load, safe):
    found = load(UNSAFE.format(safe=safe), "Unsafe")
    with ThreadPoolExecutor(4) as pool:
        values = list(pool.map(lambda index: found.image(index).getpixel((0, 0)), range(40)))
    assert values == list(range(40))
    most = type(found.reader.dataset).most
    assert most > 1 if safe else most == 1


def test_processes__open_the_dataset_again(load, tmp_path):
    found = load(SQUARES)
    (tmp_path / "set.pickle").write_bytes(pickle.dumps(found))
    code = (
        "import pickle, sys; found = pickle.load(open(sys.argv[1], 'rb')); "
        "print(found.image(4).getpixel((0, 0)), found.labels.tolist())"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "set.pickle")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "(4, 1, 2) [0, 1, 0, 1, 0, 1]"


# --- names of classes -----------------------------------------------------------------------

TWO = "[(Image.new('L', (3, 3)), 0), (Image.new('L', (3, 3), 9), 1)]"


@pytest.mark.parametrize(
    "classes",
    [
        "['a', 'b']",
        "('a', 'b')",
        "np.array(['a', 'b'])",
        "np.unique(['b', 'a', 'b'])",
        "np.array(['a', 'b'], object)",
        "np.array([b'a', b'b'])",
        "__import__('pandas').Index(['a', 'b'])",
        "__import__('pandas').Series(['a', 'b'], index=[7, 3])",
        "{'a': 0, 'b': 1}",
        "{'b': 1, 'a': 0}",
        "{1: 'b', 0: 'a'}",
        "{'a': np.int64(0), 'b': torch.tensor(1)}",
        "{'b': 1, 'a': 0}.keys() and iter(['a', 'b'])",
    ],
)
def test_classes__may_be_any_sequence_of_names_or_a_dict_of_codes(load, classes):
    found = load(dataset_of(TWO, classes=classes), "make")
    assert found.class_names == ("a", "b")
    assert found.labels.tolist() == [0, 1]
    assert found.identity == load(dataset_of(TWO, classes="['a', 'b']"), "make").identity


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        ("np.array([10, 20])", ("10", "20")),
        ("torch.tensor([3, 4])", ("3", "4")),
        ("[('tench', 'Tinca tinca'), 'goldfish']", ("tench, Tinca tinca", "goldfish")),
        ("None", ("0", "1")),
        ("np.array([])", ("0", "1")),
        ("['a', 'a']", ("a", "a (2)")),
    ],
)
def test_classes__become_texts_or_the_labels_numbers(load, classes, names):
    assert load(dataset_of(TWO, classes=classes), "make").class_names == names


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ("2", "`classes` is a int; expected a list"),
        ("'a, b'", "`classes` is a str; expected a list"),
        ("{'a', 'b'}", "`classes` is a set; expected a list"),
        ("len", "`classes` is a builtin_function_or_method; expected"),
        ("np.array(3)", "`classes` is one value, 3, no list"),
        ("{'a': 0, 'b': 2}", "class numbers 0, 2; expected 0 to 1"),
        ("{'a': 0, 'b': 0}", "class numbers 0, 0; expected 0 to 1"),
    ],
)
def test_classes__that_give_no_order_are_one_clear_line(load, classes, message):
    with pytest.raises(UserError, match=message) as caught:
        load(dataset_of(TWO, classes=classes), "make")
    assert "\n" not in str(caught.value)


def test_class_order__of_texts_can_be_that_of_their_numbers(load):
    items = "[(Image.new('L', (3, 3)), text) for text in ('9', '10', '9')]"
    assert load(dataset_of(items), "make").class_names == ("10", "9")
    found = load(dataset_of(items), "make", class_order="natural")
    assert found.class_names == ("9", "10")
    assert found.labels.tolist() == [0, 1, 0]
