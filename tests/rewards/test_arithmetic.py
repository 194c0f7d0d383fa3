import ast
from pathlib import Path

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from sympy.parsing import sympy_parser

import ptdpo.rewards
from ptdpo.rewards.arithmetic import NotArithmeticError, parse_without_eval

TRANSFORMATIONS = (*sympy_parser.standard_transformations, sympy_parser.implicit_multiplication_application)
ATOMS = [
    "1",
    "2",
    "x",
    "y",
    "+",
    "-",
    "*",
    "/",
    "(",
    ")",
    "sqrt(2)",
    "pi",
    "3!",
    "0.5",
    "sin(x)",
    " ",
    "x1",
    "2x",
    "ln2",
    ",",
]


@given(st.lists(st.sampled_from(ATOMS), max_size=7).map("".join))
def test_arithmetic_reads_as_sympy_reads_it(text):
    try:
        theirs = sympy_parser.parse_expr(text, transformations=TRANSFORMATIONS)
    except Exception:
        theirs = None
    try:
        ours = parse_without_eval(text)
    except Exception:
        ours = None
    if theirs is None or isinstance(theirs, sympy.Basic | tuple):
        assert ours == theirs


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').getcwd()", "open('x')", "eval('1')", "exec('1')", "print(1)", "x.n()", "[1][0]", "lambda: 1",
        "(1).__class__", "S('1')", "sympify('1')", "sin('1')", "1 if 1 else 2", "all(x)", "f'{1}'", "x[0]",
        "Number('1+1')",
        "[y for y in x]", "Symbol", "parse_expr('1')", "lambdify(x, x)", "(a:=1)", "help()", "getattr(x, 'n')",
    ],
)  # fmt: skip
def test_code_is_refused(code):
    try:
        value = parse_without_eval(code)
    except (NotArithmeticError, SyntaxError, TypeError, ValueError, AttributeError):
        return
    # A bare class is no number either; nothing was called.
    assert not isinstance(value, sympy.Number), value


def test_nothing_that_a_model_wrote_is_run(tmp_path):
    target = tmp_path / "run"
    for code in (f"open('{target}','w')", f"__import__('pathlib').Path('{target}').touch()"):
        with pytest.raises(Exception, match=r".*"):
            parse_without_eval(code)
    assert not target.exists()


def test_a_long_sum_needs_no_deep_recursion():
    assert parse_without_eval("+".join(["1"] * 900)) == 900


def test_the_source_evaluates_nothing():
    called: dict[str, set[str]] = {}
    for path in Path(ptdpo.rewards.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                called.setdefault(name, set()).add(path.name)
    assert "grade_answer" not in called, "mathruler's own entry evaluates its input"
    dangerous = {"eval", "exec", "compile", "__import__", "parse_expr", "sympify", "eval_expr", "fork"} & called.keys()
    assert dangerous == {"compile", "fork"}, "re.compile only"
    assert called["fork"] == {"worker.py"}, "a worker's own child: the caller is never forked"
