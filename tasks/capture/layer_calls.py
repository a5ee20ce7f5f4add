"""Watching a forward pass: every call of a module, and of a function that is no module."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

from activarium.schemas.errors import UserError
from activarium.tasks.capture.operations import (
    CallNames,
    function_kind,
    function_path,
    is_leaf,
    module_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import TracebackType

    from torch import nn
    from torch.utils.hooks import RemovableHandle

    Notice = Callable[[str, "nn.Module | str", Any], None]
    """Takes the name of a call, the module or the function's name, and the output."""


class LayerCalls:
    """Tells of every call as soon as its output is there, before anything can overwrite it.

    Use as a context manager; the hooks are removed at its end.

    Parameters
    ----------
    model
        The model.
    notice
        Called after each call.
    paths
        Module paths to watch; None for all. Where a function is among them, which is no module,
        all modules are watched, to know which of them calls the function.
    """

    def __init__(
        self, model: nn.Module, notice: Notice, *, paths: Collection[str] | None = None
    ) -> None:
        self._model = model
        self._notice = notice
        self._modules = {module_path(path) for path, _ in model.named_modules()}
        self._functions = paths is None or not self._modules.issuperset(paths)
        self._paths = self._modules if paths is None else set(paths)
        self._names = CallNames()
        self.called: list[str] = []
        """Names of all calls of modules since the forward pass began, watched or not."""
        self._stack: list[tuple[str, bool]] = [("", False)]
        self._is_paused = True
        self._handles: list[RemovableHandle] = []
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        """Begin to watch.

        Raises
        ------
        UserError
            If the whole model is scripted, so that no layer can be seen from Python.
        """
        if isinstance(self._model, torch.jit.ScriptModule):
            raise UserError(
                "model.architecture: the model is one TorchScript module, whose layers cannot be "
                "seen; give the Python model that it was made of, or a torch.export file"
            )
        for path, module in _callable_modules(self._model):
            if path:
                self._watch(module_path(path), module)
        if self._functions:
            self._opened.enter_context(_FunctionCalls(self._function))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def begin(self) -> None:
        """Start a new forward pass."""
        self._names.reset()
        self.called = []
        del self._stack[1:]
        self._is_paused = False

    def end(self) -> None:
        """End the forward pass: functions that are called from here on are none of the model's."""
        self._is_paused = True

    def _watch(self, path: str, module: nn.Module) -> None:
        leaf = is_leaf(module)

        def enter(module: nn.Module, inputs: Any) -> None:
            del module, inputs
            self._stack.append((path, leaf))

        def leave(module: nn.Module, inputs: Any, output: Any) -> None:
            del inputs
            if self._functions:
                self._stack.pop()
            name = self._names.next(path)
            self.called.append(name)
            if path in self._paths:
                self._is_paused = True  # what `notice` itself calls is none of the model's
                self._notice(name, module, output)
                self._is_paused = False

        if isinstance(module, torch.jit.ScriptModule):
            self._watch_scripted(module, enter, leave)
            return
        if self._functions:
            self._handles.append(module.register_forward_pre_hook(enter))
        self._handles.append(module.register_forward_hook(leave))

    def _watch_scripted(
        self, scripted: nn.Module, enter: Callable[..., None], leave: Callable[..., None]
    ) -> None:
        """Watch a module that takes no hooks of its own by those of all modules."""

        def enter_it(module: nn.Module, inputs: Any) -> None:
            if module is scripted:
                enter(module, inputs)

        def leave_it(module: nn.Module, inputs: Any, output: Any) -> None:
            if module is scripted:
                leave(module, inputs, output)

        if self._functions:
            self._handles.append(register_module_forward_pre_hook(enter_it))
        self._handles.append(register_module_forward_hook(leave_it))

    def _function(self, function: Any, output: Any) -> None:
        owner, leaf = self._stack[-1]
        if leaf or self._is_paused or function_kind(function) is None:
            return
        path = function_path(owner, function, self._modules)
        self._notice(self._names.next(path), function, output)


def _callable_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that Python calls, with their paths: none that are inside a scripted one."""
    scripted: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not f"{path}.".startswith(scripted):
            yield path, module
            if isinstance(module, torch.jit.ScriptModule):
                scripted = (*scripted, f"{path}.")


class _FunctionCalls(TorchFunctionMode):
    """Tells of every function of torch that is called, and not of those that it calls itself."""

    def __init__(self, notice: Callable[[Any, Any], None]) -> None:
        super().__init__()
        self._notice = notice

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        self._notice(func, output)
        return output
