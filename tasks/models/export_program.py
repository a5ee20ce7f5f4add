"""The text of an exported program, checked before torch reads it: much of it becomes Python code.

torch evaluates sizes as expressions, writes names into the source of the program's `forward`, imports
modules that structures name, and runs guards. A program may also name operations that write files.
"""

from __future__ import annotations

import ast
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SPACES = {"aten", "prims", "torchvision", "quantized_decomposed"}
"""Where operations on tensors are registered."""

_REACHES_OUT = {"from_file", "save", "_print", "warn"}
"""Operations of aten that read or write something else."""

_OF_GRAPHS = {
    "wrap_with_set_grad_enabled", "wrap_with_autocast", "cond", "while_loop", "map_impl", "scan",
    "associative_scan", "invoke_subgraph", "flex_attention", "out_dtype",
}  # fmt: skip
"""Operations on parts of the program."""

_OPERATORS = {
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg", "pos", "eq", "ne", "lt", "le",
    "gt", "ge", "and_", "or_", "xor", "not_", "lshift", "rshift", "getitem", "index",
}  # fmt: skip

_OPERATION = re.compile(r"torch\.ops\.(\w+)\.(\w+)(\.\w+)?")
_ON_NUMBERS = re.compile(r"(math\.\w+|torch\.(_)?sym_\w+)")

_FUNCTIONS = {
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Abs", "Max", "Min", "Mod", "Eq",
    "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality", "StrictLessThan",
    "StrictGreaterThan", "LessThan", "GreaterThan", "Piecewise", "ExprCondPair", "floor", "ceiling",
    "sqrt", "log", "log2", "exp", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv",
    "CeilToInt", "FloorToInt", "CeilDiv", "LShift", "RShift", "PowByNatural", "FloatPow",
    "FloatTrueDiv", "IntTrueDiv", "IsNonOverlappingAndDenseIndicator", "TruncToFloat", "TruncToInt",
    "RoundToInt", "RoundDecimal", "ToFloat", "Identity",
}  # fmt: skip
"""What an expression of a size may call."""

_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
LARGEST_EXPONENT = 64
LONGEST_EXPRESSION = 10_000
"""Letters."""

_NODES = (
    ast.Expression, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.Call, ast.Name,
    ast.Constant, ast.keyword, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context,
    ast.Tuple,
)  # fmt: skip
_WORD = re.compile(r"[\w.+-]{0,64}", re.ASCII)
_SYMBOL = re.compile(r"[A-Za-z_]{1,40}\d{0,6}", re.ASCII)

_PLAIN_STRUCTURES = {"builtins.tuple", "builtins.list"}
_NAMED_STRUCTURES = {"builtins.dict", "collections.OrderedDict"}

_DROPPED = {"guards_code", "stack_trace", "from_node", "custom", "source_fn_stack"}
"""Keys of what is run, or is there for debugging."""
_NAMES = {"name", "as_name"}
_TARGETS = {"target", "as_operator"}
_STRUCTURES = {"in_spec", "out_spec"}
_QUOTES = re.compile(r"[\"'\\]|[^ -~\xa0-\U0010ffff]")
DEEPEST = 200
"""Containers within containers."""


class RefusedProgramError(Exception):
    """A program that would run more than operations on tensors; carries what."""


def checked_program(text: bytes) -> bytes:
    """Return the JSON of a program, or of its parts, without what is not needed to compute.

    Raises
    ------
    RefusedProgramError
        If it holds what would become code, or operations on other things than tensors.
    ValueError
        If it is no JSON.
    """
    try:
        return json.dumps(_checked(json.loads(text), "", 0)).encode()
    except RecursionError as error:
        raise RefusedProgramError("its parts lie too deep within one another") from error


def _checked(value: Any, key: str, depth: int) -> Any:
    if depth > DEEPEST:
        raise RefusedProgramError("its parts lie too deep within one another")
    if isinstance(value, dict):
        for each in value:
            _refuse_quotes(each)
            if key == "range_constraints" and not _SYMBOL.fullmatch(each):
                raise RefusedProgramError(f"it has a size named {each!a:.100}")
        return {
            each: _checked(part, each, depth + 1)
            for each, part in value.items()
            if each not in _DROPPED
        }
    if isinstance(value, list):
        return [_checked(part, key, depth + 1) for part in value]
    return _checked_text(value, key) if isinstance(value, str) else value


def _checked_text(text: str, key: str) -> str:
    if key == "expr_str":
        _check_expression(text)
    elif key in _STRUCTURES:
        _check_structure(text)
    elif key == "nn_module_stack":
        return _QUOTES.sub("", text)
    else:
        _refuse_quotes(text)
        if key in _TARGETS:
            _check_target(text)
        elif key == "forward_arg_names" or (key in _NAMES and text):
            _check_name(text)
    return text


def _refuse_quotes(text: str) -> None:
    if _QUOTES.search(text):
        raise RefusedProgramError(f"it names something {text!a:.100}")


def _check_name(text: str) -> None:
    if not text.isidentifier():
        raise RefusedProgramError(f"it names something {text!a:.100}")


def _check_target(text: str) -> None:
    found = _OPERATION.fullmatch(text)
    if found is not None:
        space, name, _ = found.groups()
        is_known = name in _OF_GRAPHS if space == "higher_order" else space in SPACES
        if is_known and not (space == "aten" and name.rstrip("_") in _REACHES_OUT):
            return
    elif _ON_NUMBERS.fullmatch(text) or text.removeprefix("_operator.") in _OPERATORS:
        return
    raise RefusedProgramError(f"it uses {text!a:.100}, which is no operation on tensors alone")


def _check_structure(text: str) -> None:
    if not text:
        return
    try:
        _, structure = json.loads(text)
        for kind, context in _structures(structure):
            _check_context(kind, context)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise RefusedProgramError(f"a structure of it is damaged ({text!a:.100})") from error


def _structures(structure: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    yield structure["type"], structure["context"]
    for part in structure["children_spec"]:
        yield from _structures(part)


def _check_context(kind: Any, context: Any) -> None:
    is_plain = (kind is None and context is None) or (
        kind in _PLAIN_STRUCTURES and context in (None, "null")
    )
    if is_plain:
        return
    if kind not in _NAMED_STRUCTURES:
        raise RefusedProgramError(
            f"it takes or returns a {kind!a:.100}: only tensors, tuples, lists and dicts are read"
        )
    keys = json.loads(context)
    if not isinstance(keys, list) or not all(isinstance(each, str | int) for each in keys):
        raise RefusedProgramError(f"a dict of it has keys other than names ({context!a:.100})")
    for each in keys:
        _refuse_quotes(str(each))


def _check_expression(text: str) -> None:
    refusal = RefusedProgramError(f"a size of it is {text!a:.100}, which is no sum of sizes")
    if len(text) > LONGEST_EXPRESSION:
        raise refusal
    try:
        parsed = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise refusal from error
    for node in ast.walk(parsed):
        if not isinstance(node, _NODES) or not _is_harmless(node):
            raise refusal


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
            return False
        return node.func.id not in _POWERS or _is_small_power(*node.args)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _is_small_power(node.left, node.right)
    if isinstance(node, ast.Constant):
        is_word = isinstance(node.value, str) and _WORD.fullmatch(node.value) is not None
        return is_word or isinstance(node.value, bool | int | float)
    return True


def _is_small_power(*parts: ast.expr) -> bool:
    """Return whether a power stays small however it is multiplied out."""
    if len(parts) != 2:
        return False
    base, exponent = parts
    nested = any(
        isinstance(each, ast.Pow) or (isinstance(each, ast.Name) and each.id in _POWERS)
        for each in ast.walk(base)
    )
    if isinstance(exponent, ast.Call) and len(exponent.args) == 1:  # Integer(2)
        exponent = exponent.args[0]
    if isinstance(exponent, ast.UnaryOp):
        exponent = exponent.operand
    value = exponent.value if isinstance(exponent, ast.Constant) else None
    return not nested and isinstance(value, int) and 0 <= value <= LARGEST_EXPONENT
