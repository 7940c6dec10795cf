"""No test may pass because it had nothing to compare.

A test asserts something outside of every condition that has no other branch and of every loop that may have
no turn; tables that tests go through may not be empty (`empty_parameter_set_mark` in pyproject.toml), nor may
the calls that `check` of tests/kernels compares.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))
ASSERTING = ("assert", "check", "fails", "raises", "verified", "zig")
"""How the names of functions begin that fail a test."""


def asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        checked = any(keyword.arg == "check" for keyword in node.keywords)  # subprocess.run
        return checked or name.strip("_").startswith(ASSERTING)
    return isinstance(node, ast.Assert)


def has_turns(iterable: ast.expr) -> bool:
    """Whether a loop's turns are written out, are counted, or are those of a table of the module."""
    if isinstance(iterable, ast.Tuple | ast.List | ast.Set):
        return bool(iterable.elts)
    if isinstance(iterable, ast.Dict):
        return bool(iterable.keys)
    if isinstance(iterable, ast.Name):
        return iterable.id.isupper()
    if isinstance(iterable, ast.Call):  # range(10), {...}.items(), zip(..., strict=True), batches
        name = ast.unparse(iterable.func)
        strict = any(keyword.arg == "strict" for keyword in iterable.keywords)
        inner = iterable.func.value if isinstance(iterable.func, ast.Attribute) else iterable
        drawn = ast.unparse(iterable).startswith("data.draw(batches(")
        return name == "range" or strict or drawn or (inner is not iterable and has_turns(inner))
    return False


def reached(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Yield what is executed for certain, should nothing before it end the test."""
    for statement in body:
        if isinstance(statement, ast.If):
            yield from ast.walk(statement.test)
            if statement.orelse:
                both = [list(reached(branch)) for branch in (statement.body, statement.orelse)]
                if all(any(map(asserts, branch)) for branch in both):
                    yield from both[0]
        elif isinstance(statement, ast.For):
            if has_turns(statement.iter):
                yield from reached(statement.body)
        elif isinstance(statement, ast.With):
            for item in statement.items:
                yield from ast.walk(item.context_expr)
            yield from reached(statement.body)
        elif isinstance(statement, ast.Try):
            yield from reached(statement.body)
        elif not isinstance(statement, ast.FunctionDef | ast.While):
            yield from ast.walk(statement)


@pytest.mark.parametrize("path", TESTS, ids=[path.name for path in TESTS])
def test_every_test_is_certain_to_assert_something(path: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    tests = [function for function in functions if function.name.startswith("test_")]
    assert tests
    assert not [f"{path.name}:{f.lineno} {f.name}" for f in tests if not any(map(asserts, reached(f.body)))]


@pytest.mark.parametrize("path", TESTS, ids=[path.name for path in TESTS])
def test_parameters_are_written_out(path: Path) -> None:
    """Those that are looked up outside the project are none on a fresh clone, and end the whole run there."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    parametrized = [call for call in calls if ast.unparse(call.func) == "pytest.mark.parametrize"]
    assert not [ast.unparse(call) for call in parametrized if "SHARED" in ast.unparse(call)]
