"""Read an arithmetic expression with sympy's tokeniser, but never evaluate it as Python.

``sympy.parse_expr`` turns text into Python source and calls ``eval`` on it: text such as ``open('x')`` runs. Here
the same source is read as a syntax tree of which only arithmetic is understood: numbers, symbols, operators,
comparisons, and calls of mathematical functions.
"""

import ast
import operator
import re
from collections.abc import Callable
from functools import cache
from typing import Any

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
    ast.Invert: operator.invert,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
# What sympy's tokeniser writes around the names and numbers of the text; the only calls that may hold a string.
_MAKERS = ("Symbol", "Function", "Integer", "Float", "Rational")
_DIGITS = re.compile(r"0|[1-9][0-9]*")
_FUNCTIONS = ("sqrt", "cbrt", "root", "real_root", "Abs")


class NotArithmeticError(ValueError):
    """The text is code of another kind than arithmetic."""


def parse_without_eval(expression: str) -> Any:
    """Return the sympy object that ``parse_expr`` with implicit multiplication gives for arithmetic.

    May take for ever (``9**9**9**9``): for worker processes only.

    Raises:
        NotArithmeticError: if the text calls anything but a mathematical function.
        Exception: whatever sympy raises for text that it cannot read.
    """
    from sympy.parsing import sympy_parser

    transformations = (*sympy_parser.standard_transformations, sympy_parser.implicit_multiplication_application)
    source = sympy_parser.stringify_expr(expression.strip(), {}, _namespace(), transformations)
    return _value(ast.parse(source, mode="eval").body)


@cache
def _namespace() -> dict[str, Any]:
    # sympy's own default also holds Python's builtins: their names stay, as they decide how text is split into
    # symbols, but nothing here calls them.
    import builtins
    import types

    import sympy

    names = {name: getattr(sympy, name) for name in sympy.__all__}
    names.update(
        (name, value) for name, value in vars(builtins).items() if isinstance(value, types.BuiltinFunctionType)
    )
    # parse_expr sets these two.
    return {**names, "max": sympy.Max, "min": sympy.Min}


def _value(node: ast.expr) -> Any:
    # Long sums nest to the left: a loop, not recursion.
    spine: list[ast.BinOp] = []
    while isinstance(node, ast.BinOp):
        spine.append(node)
        node = node.left
    result = _leaf(node)
    for step in reversed(spine):
        if type(step.op) not in _BINARY:
            raise NotArithmeticError(f"operator {type(step.op).__name__}")
        result = _BINARY[type(step.op)](result, _value(step.right))
    return result


def _leaf(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name):
            return _mathematical(name)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            return _UNARY[type(op)](_value(operand))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARISONS:
            return _COMPARISONS[type(op)](_value(left), _value(right))
        case ast.Tuple(elts=elements):
            return tuple(_value(element) for element in elements)
        case ast.List(elts=elements):
            return [_value(element) for element in elements]
        case ast.Call(func=ast.Name(id="Number"), args=[ast.Constant(value=str() as text)]) if _DIGITS.fullmatch(text):
            # sympy's Number evaluates its text, which fails on leading zeros.
            return _mathematical("Integer")(text)
        case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as text), *rest]) if name in _MAKERS:
            return _mathematical(name)(text, *(_value(argument) for argument in rest))
        case ast.Call(func=ast.Name() | ast.Call() as function, args=arguments, keywords=[]):
            return _value(function)(*(_value(argument) for argument in arguments))
    raise NotArithmeticError(type(node).__name__)


def _mathematical(name: str) -> Any:
    import sympy

    value = _namespace().get(name)
    is_class = isinstance(value, type) and issubclass(value, sympy.Basic)
    if name in _FUNCTIONS or is_class or isinstance(value, sympy.Basic):
        return value
    raise NotArithmeticError(name)
