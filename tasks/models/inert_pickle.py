"""Reads pickles of torch without running code: tensors, containers and numbers, nothing else.

Names of classes and functions are not looked up. What is needed to build tensors and containers is
built here; an object of any other class becomes an `InertObject`, which holds what the file says of
it and does nothing. The pickle never gets hold of an object of this process that it could change:
what it is given to call refuses to be changed, and classes are made for one file alone.
"""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections import OrderedDict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
import torch

from activarium.tasks.models.pickle_scan import scan_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

COMMANDS = [
    "os",
    "posix",
    "nt",
    "subprocess",
    "sys",
    "importlib",
    "runpy",
    "shutil",
    "socket",
    "ctypes",
    "pty",
    "commands",
    "webbrowser",
    "code",
    "builtins.eval",
    "builtins.exec",
    "builtins.compile",
    "builtins.__import__",
    "builtins.open",
    "builtins.input",
    "builtins.breakpoint",
    "builtins.execfile",
]
"""Modules and functions that no file of weights needs: one that names them is refused."""


_torch: Any = torch._utils  # noqa: SLF001 - what torch's own reader builds tensors with


class HostilePickleError(Exception):
    """A pickle that would run a command; carries what it names."""


class _Unchangeable(type):
    """Type of the classes that a pickle is given: their attributes cannot be set."""

    def __setattr__(cls, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"a class cannot be changed ({name})")


class InertObject(metaclass=_Unchangeable):
    """An object of a class that is not looked up: what the file says of it, and no behaviour."""

    class_name = ""
    """Its class by module and name, as the file has it."""
    args: tuple[Any, ...]
    """What it was made with."""
    entries: dict[Any, Any]
    """Its items, where its class is some kind of dict."""
    state: Any
    """Its attributes, or what else its class keeps of it."""

    def __new__(cls, *args: Any, **_: Any) -> Self:
        """Keep what it is made with."""
        made = super().__new__(cls)
        made.args, made.entries, made.state = args, {}, None
        return made

    def __init__(self, *_: Any, **__: Any) -> None:
        """Do nothing: `__new__` has kept what there is."""

    def __call__(self, *args: Any, **_: Any) -> InertObject:
        """Return what a call would have made, as inert as itself."""
        return InertObject(self, *args)

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def append(self, value: Any) -> None:
        """Take a value of a list; it is not kept."""

    def extend(self, values: Iterable[Any]) -> None:
        """Take values of a list; they are not kept."""

    def add(self, value: Any) -> None:
        """Take a value of a set; it is not kept."""


class _Builder:
    """A function that a pickle may call, and do nothing else with."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"a function cannot be changed ({name})")

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a function cannot be changed")


class _Bytes:
    """Type of a storage of bytes, as torch asks it."""

    __slots__ = ()
    dtype = torch.uint8

    def __setstate__(self, state: object) -> NoReturn:
        raise pickle.UnpicklingError("a type of storage cannot be changed")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    made: torch.Tensor = _torch._rebuild_tensor(storage, offset, size, stride)  # noqa: SLF001
    return made


def _tensor_of_type(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    _, _, dtype, *_ = rest
    made: torch.Tensor = _torch._rebuild_tensor_v3(  # noqa: SLF001
        storage, offset, size, stride, False, OrderedDict(), dtype
    )
    return made


def _quantised(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> torch.Tensor:
    quantiser, *_ = rest
    made: torch.Tensor = _torch._rebuild_qtensor(  # noqa: SLF001
        storage, offset, size, stride, quantiser, False, OrderedDict()
    )
    return made


def _data(data: Any, *_: Any) -> Any:
    """Return a parameter's tensor."""
    return data


def _of_subclass(function: Any, _: Any, args: Any, *__: Any) -> Any:
    """Return the tensor that a subclass of Tensor wraps; its own attributes are left out."""
    return function(*args) if isinstance(function, _Builder) else InertObject(function, *args)


def _encoded(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
    return text.encode("latin1")


class _NumpyType(InertObject):
    """A dtype of numpy."""

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype, where it is one of plain numbers."""
        order = self.state[1] if isinstance(self.state, tuple) else "="
        text = str(self.args[0])
        if text[:1] not in "biuf" or not text[1:].isdigit() or order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"numpy values of type {text!r}")
        return np.dtype(order + text)


def _number(kind: Any, content: Any = None) -> Any:
    """Return a scalar of numpy as a number of Python; any other is left inert."""
    if not isinstance(kind, _NumpyType) or not isinstance(content, bytes):
        return InertObject(kind, content)
    try:
        return np.frombuffer(content, kind.numpy, count=1)[0].item()
    except (pickle.UnpicklingError, TypeError, ValueError):
        return InertObject(kind, content)


_BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "builtins.dict": dict,
    "builtins.list": list,
    "builtins.set": set,
    "builtins.frozenset": frozenset,
    "builtins.complex": complex,
    "_codecs.encode": _encoded,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "torch.Size": torch.Size,
    "torch.device": lambda *_: torch.device("cpu"),
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_type,
    "torch._utils._rebuild_parameter": _data,
    "torch._utils._rebuild_parameter_with_state": _data,
    "torch._utils._rebuild_qtensor": _quantised,
    "torch._tensor._rebuild_from_type": _of_subclass,
    "torch._tensor._rebuild_from_type_v2": _of_subclass,
}


class InertUnpickler(pickle.Unpickler):
    """Unpickles tensors, containers and numbers; every other object becomes inert."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._classes: dict[str, Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function; nothing is imported or looked up."""
        module = "builtins" if module == "__builtin__" else module
        full = f"{module}.{name}"
        if module.partition(".")[0] in COMMANDS or full in COMMANDS:
            raise HostilePickleError(full)
        if full in _BUILDERS:
            return _Builder(_BUILDERS[full])
        if full in ("torch.storage.UntypedStorage", "torch.UntypedStorage"):
            return _Bytes()
        constant = vars(torch).get(name) if module == "torch" else None
        if isinstance(constant, torch.dtype | torch.qscheme | torch.layout):
            return constant
        if full not in self._classes:
            base = _NumpyType if full == "numpy.dtype" else InertObject
            # No real module: torch looks for the source of the classes of old files.
            body = {"class_name": full, "__module__": "inert"}
            self._classes[full] = _Unchangeable(name, (base,), body)
        return self._classes[full]


def _load(file: Any, **options: Any) -> Any:
    return InertUnpickler(file, **options).load()


def read_inert(path: Path) -> Any:
    """Return what a file of `torch.save` holds, with inert objects for all that is no data.

    Raises
    ------
    HostilePickleError
        If it names a command.
    Exception
        Of nearly any kind, if it is damaged.
    """
    reader: Any = SimpleNamespace(__name__=__name__, Unpickler=InertUnpickler, load=_load)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of classes whose source it does not find
        return torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)


class _NotesUnpickler(InertUnpickler):
    """Unpickles containers and numbers alone; tensors become inert too."""

    def persistent_load(self, pid: Any) -> Any:
        """Return what stands for a tensor's bytes, which are not read, or an old file's module."""
        is_module = isinstance(pid, tuple) and pid[0] == "module"
        return pid[1] if is_module else InertObject(pid)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function."""
        return InertObject if module.startswith("torch") else super().find_class(module, name)


def read_notes(path: Path) -> Any:
    """Return what a file of `torch.save` holds beside its tensors, whose bytes are not read.

    Raises
    ------
    Exception
        Of nearly any kind, if it is damaged or of another kind.
    """
    scan_file(path)
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(3):  # torch's mark, its version, and the machine's sizes
                _NotesUnpickler(file).load()
            return _NotesUnpickler(file).load()
    with zipfile.ZipFile(path) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith("data.pkl")]
        return _NotesUnpickler(io.BytesIO(archive.read(name))).load()
