"""The mutants of a source file: one small edit each, by its syntax tree. Pure.

Not edited: text for people (messages of errors and of the log, ``__repr__``), defaults and annotations.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

__all__ = ["Mutant", "mutants_of"]

_BOUNDARIES: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
_READ_BY_PEOPLE = frozenset({"__repr__", "__str__"})
_LONGEST_NAME = 100


@dataclass(frozen=True, slots=True)
class Mutant:
    """``name`` identifies place and edit, and does not change when lines move; ``source`` is the whole edited file."""

    name: str
    line: int
    source: str


@dataclass(frozen=True, slots=True)
class _Site:
    """An edit: ``values`` of fields of ``node``, or of items of a list."""

    where: str
    what: str
    line: int
    node: ast.AST | list[ast.stmt] | list[ast.expr]
    values: Mapping[Any, object]

    @contextmanager
    def edited(self) -> Iterator[None]:
        before: dict[Any, object] = dict(enumerate(self.node)) if isinstance(self.node, list) else vars(self.node)
        kept = {key: before[key] for key in self.values}
        _put(self.node, self.values)
        yield
        _put(self.node, kept)


def _put(node: Any, values: Mapping[Any, object]) -> None:
    for key, value in values.items():
        if isinstance(node, list):
            node[key] = value
        else:
            setattr(node, key, value)


def mutants_of(source: str) -> list[Mutant]:
    """Every mutant of this source, in the order of its lines."""
    tree = ast.parse(source)
    texts = [ast.unparse(one) for one in tree.body]
    found = []
    names: Counter[str] = Counter()
    for place, statement in enumerate(tree.body):
        for site in list(_sites(statement)):
            name = f"{site.where}: {site.what}"
            names[name] += 1
            if names[name] > 1:
                name += f" #{names[name]}"
            with site.edited():
                edited = ast.unparse(statement)
            found.append(Mutant(name, site.line, "\n".join([*texts[:place], edited, *texts[place + 1 :]])))
    return sorted(found, key=lambda mutant: mutant.line)


def _sites(statement: ast.stmt) -> Iterator[_Site]:
    """Those of a statement of the module itself."""
    for function, where in _functions(ast.Module([statement], []), ""):
        for block in _blocks(function):
            for place, statement in enumerate(block):
                yield from _of_statement(block, place, statement, where)


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name not in _READ_BY_PEOPLE:
            yield child, prefix + child.name
            yield from _functions(child, f"{prefix}{child.name}.")


def _blocks(function: ast.AST) -> Iterator[list[ast.stmt]]:
    """The lists of statements of a function, without those of the functions in it."""
    for name in ("body", "orelse", "finalbody"):
        block: list[ast.stmt] = getattr(function, name, [])
        if block:
            yield block
        for statement in block:
            if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield from _blocks(statement)
    for handler in getattr(function, "handlers", []):
        yield from _blocks(handler)


def _of_statement(block: list[ast.stmt], place: int, statement: ast.stmt, where: str) -> Iterator[_Site]:
    if _is_left_out(statement):
        return
    if _may_go(statement):
        yield _Site(where, f"without {_shown(statement)}", statement.lineno, block, {place: ast.Pass()})
    if isinstance(statement, ast.Raise):
        return  # its message is for people
    if isinstance(statement, ast.AugAssign) and isinstance(statement.op, ast.Add | ast.Sub):
        other = ast.Sub() if isinstance(statement.op, ast.Add) else ast.Add()
        yield _Site(where, f"the sign of {_shown(statement)}", statement.lineno, statement, {"op": other})
    if isinstance(statement, ast.If | ast.While):
        yield from _of_condition(statement, where)
    for node in _expressions(statement):
        yield from _of_expression(node, where)


def _of_condition(statement: ast.If | ast.While, where: str) -> Iterator[_Site]:
    """The negation of a condition that has no negation among its expressions."""
    test = statement.test
    if isinstance(test, ast.Compare | ast.UnaryOp | ast.Constant):
        return
    contrary = ast.UnaryOp(ast.Not(), test)
    yield _Site(where, f"the contrary of {_shown(test)}", statement.lineno, statement, {"test": contrary})


def _is_left_out(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    # A docstring, or a line of the log.
    return isinstance(statement.value, ast.Constant) or ast.unparse(statement).startswith(("log.", "self._log."))


def _may_go(statement: ast.stmt) -> bool:
    """Whether the rest is still a valid function without this statement."""
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Attribute | ast.Subscript) for target in statement.targets)
    if isinstance(statement, ast.AugAssign):
        return not isinstance(statement.target, ast.Name)
    return isinstance(statement, ast.Raise | ast.Delete) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call | ast.Await)
    )


def _expressions(statement: ast.AST) -> Iterator[ast.expr]:
    """The expressions of the statement itself, without nested statements, f-strings and defaults of lambdas."""
    for child in ast.iter_child_nodes(statement):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.JoinedStr | ast.arguments):
            continue
        if isinstance(child, ast.expr):
            yield child
        yield from _expressions(child)


def _of_expression(node: ast.expr, where: str) -> Iterator[_Site]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield from _of_comparison(node, where)
    if isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        word = "or" if isinstance(other, ast.Or) else "and"
        yield _Site(where, f"{word} in {_shown(node)}", node.lineno, node, {"op": other})
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        contrary = ast.UnaryOp(ast.Not(), node.operand)
        yield _Site(where, f"the contrary of {_shown(node)}", node.lineno, node, {"operand": contrary})
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield _Site(where, f"{not node.value} for {node.value}", node.lineno, node, {"value": not node.value})
    if isinstance(node, ast.IfExp):
        swapped = {"body": node.orelse, "orelse": node.body}
        yield _Site(where, f"the other of {_shown(node)}", node.lineno, node, swapped)
    if isinstance(node, ast.Call):
        yield from _of_call(node, where)


def _of_comparison(node: ast.Compare, where: str) -> Iterator[_Site]:
    kind = type(node.ops[0])
    contrary: dict[type[ast.cmpop], type[ast.cmpop]] = {
        ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq,
        ast.Is: ast.IsNot,
        ast.IsNot: ast.Is,
        ast.In: ast.NotIn,
        ast.NotIn: ast.In,
        ast.Lt: ast.GtE,
        ast.LtE: ast.Gt,
        ast.Gt: ast.LtE,
        ast.GtE: ast.Lt,
    }
    for other, what in ((contrary.get(kind), "the contrary of"), (_BOUNDARIES.get(kind), "the boundary of")):
        if other is not None:
            yield _Site(where, f"{what} {_shown(node)}", node.lineno, node, {"ops": [other()]})


def _of_call(node: ast.Call, where: str) -> Iterator[_Site]:
    """Replaces an argument that is an attribute: a verdict must depend on exactly that peer, port or time."""
    for place, argument in enumerate(node.args):
        if isinstance(argument, ast.Attribute):
            what = f"None for {ast.unparse(argument)} in {_shown(node)}"
            yield _Site(where, what, argument.lineno, node.args, {place: ast.Constant(None)})


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return f"`{text}`" if len(text) <= _LONGEST_NAME else f"`{text[:_LONGEST_NAME]}...`"
