"""Rules for the whole source, so that external input is read, and output written, in one place each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshtls

SOURCE = Path(meshtls.__file__).parent
#: A tool of the repository, which prints the names of its own files.
_BUILD = "proto/build.py"
_PROC = "agent/attest/process.py"
#: It tells who has a port.
_HOLDER = "port_holder.py"
#: It passes on the path of our own memory file, and reads nothing below /proc.
_MEMORY_FILES = "tls/keys.py"
_REGULAR_FILES = "regular_files.py"
_PRINTS = "cli/output.py"
_LOGS = "logs.py"
_ERRORS = "errors.py"
_PARSE_ERRORS = "parse_errors.py"
_NAMES = "x509_names.py"

SPLIT = "bytes from outside have lines that end at \\n alone: split at that"
PROC = f"/proc is read by {_PROC} and {_HOLDER} alone, as bytes"
LOGGER = f"a logger comes from meshtls.logs.logger ({_LOGS}), whose records can't be forged"
TEXT = f"the text of an error is escaped in {_ERRORS}: give it as arguments, one for each line"
PARSE = f"what cryptography raises for bytes that it can't decode is one list, in {_PARSE_ERRORS}: catch PARSE_ERRORS"
TRUTH = "a denial is false, as None is: compare a decision with None, or ask whether it is allowed"
NAME = f"the name of a certificate is formatted, and escaped, in {_NAMES}"
PRINT = f"what is printed goes through {_PRINTS}, which escapes it"


def complaints(file: str, source: str) -> list[str]:
    """The violations of the rules in a file of the package."""
    tree = ast.parse(source)
    return [f"{file}:{line}: {why}" for line, why in sorted(set(_complaints(file, tree)))]


def _complaints(file: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    documentation = set(_docstrings(tree))
    for node in ast.walk(tree):
        yield from ((one.lineno, TRUTH) for one in _asked_for_truth(node) if _is_decision(one))
        match node:
            case ast.Attribute(attr="splitlines"):
                yield node.lineno, SPLIT
            case ast.Constant(value=str() | bytes() as value) if node not in documentation:
                names = value if isinstance(value, str) else value.decode("latin-1")
                if "/proc/" in f"{names}/" and not _may_name_proc(file, names):
                    yield node.lineno, PROC
            case ast.Attribute(attr="getLogger") | ast.Name(id="getLogger") if file != _LOGS:
                yield node.lineno, LOGGER
            case ast.Attribute(attr="InvalidVersion" | "DuplicateExtension" | "UnsupportedGeneralNameType"):
                if file != _PARSE_ERRORS:
                    yield node.lineno, PARSE
            case ast.Attribute(attr="rfc4514_string") if file != _NAMES:
                yield node.lineno, NAME
            case ast.ClassDef(name=name) if name.endswith("Error") and file != _ERRORS:
                yield from ((one.lineno, TEXT) for one in node.body if _is_str_method(one))
            case ast.Call(func=ast.Name(id="print" | "Console")) | ast.Call(func=ast.Attribute(attr="Console")):
                if file not in (_BUILD, _PRINTS):
                    yield node.lineno, PRINT
            case ast.Attribute(value=ast.Name(id="click"), attr="echo" | "secho") if file != _PRINTS:
                yield node.lineno, PRINT
            case ast.Attribute(value=ast.Attribute(value=ast.Name(id="sys"), attr="stdout" | "stderr"), attr="write"):
                yield node.lineno, PRINT


def _asked_for_truth(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) | ast.Assert(test=test):
            return [test]
        case ast.BoolOp(values=values):
            return values
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return [operand]
        case ast.comprehension(ifs=ifs):
            return ifs
    return []


def _is_decision(node: ast.expr) -> bool:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in ("decision", "denial", "refusal", "verdict")
        case ast.NamedExpr(target=target):
            return _is_decision(target)
    return False


def _is_str_method(node: ast.stmt) -> bool:
    return isinstance(node, ast.FunctionDef) and node.name in ("__str__", "__repr__")


def _docstrings(tree: ast.Module) -> Iterator[ast.expr]:
    """Every string that is a statement: documentation without an effect."""
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Expr))


def _may_name_proc(file: str, text: str) -> bool:
    # A message may mention /proc or /proc/PID; a path begins with /proc and has the number.
    return (
        file in (_PROC, _HOLDER)
        or (file in (_MEMORY_FILES, _REGULAR_FILES) and text.startswith("/proc/self/fd"))
        or not text.startswith("/proc")
        or "/proc/PID" in text
    )


def test_every_file_of_the_package_keeps_the_rules() -> None:
    found = [
        complaint
        for path in sorted(SOURCE.rglob("*.py"))
        for complaint in complaints(path.relative_to(SOURCE).as_posix(), path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("lines = text.splitlines()", SPLIT),
        ("lines = map(str.splitlines, texts)", SPLIT),
        ("open('/proc/self/status')", PROC),
        ("Path(f'/proc/{pid}/cgroup').read_text()", PROC),
        ("os.open(b'/proc/1', 0)", PROC),
        ("Path('/proc') / str(pid)", PROC),
        ("log = logging.getLogger('meshtls.new')", LOGGER),
        ("from logging import getLogger\nlog = getLogger('meshtls.new')", LOGGER),
        ("class NewError(Exception):\n    def __str__(self): return self.text", TEXT),
        ("contextlib.suppress(ValueError, x509.InvalidVersion)", PARSE),
        ("who = certificate.subject.rfc4514_string()", NAME),
        ("if decision: pass", TRUTH),
        ("rule = ruled_by(decision) if decision else UNRULED", TRUTH),
        ("answer = match.refusal or evaluate(request)", TRUTH),
        ("first = [one for one in found if not one.denial]", TRUTH),
        ("if found and (refusal := first(found)): pass", TRUTH),
        ("print(text)", PRINT),
        ("click.echo(text)", PRINT),
        ("sys.stderr.write(text)", PRINT),
        ("Console().print(text)", PRINT),
        ("rich.console.Console().print(text)", PRINT),
    ],
)
def test_a_file_that_breaks_a_rule_is_found(source: str, why: str) -> None:
    line = source.count("\n") + 1
    assert complaints("cli/new.py", source) == [f"cli/new.py:{line}: {why}"]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        (_PROC, "os.open(f'/proc/{pid}', 0)"),
        (_MEMORY_FILES, "path = f'/proc/self/fd/{number}'"),
        (_REGULAR_FILES, "is_own = path.startswith('/proc/self/fd/')"),
        (_LOGS, "log = logging.getLogger(name)"),
        (_PRINTS, "click.echo(text)"),
        (_ERRORS, "class NewError(Exception):\n    def __str__(self): return printable(self.text)"),
        (_PARSE_ERRORS, "PARSE_ERRORS = (ValueError, x509.DuplicateExtension)"),
        (_NAMES, "text = printable(name.rfc4514_string(_SHORT_NAMES))"),
        ("cli/new.py", '"""Splits the text of /proc/PID/cgroup."""'),
        ("cli/new.py", "raise AccessError('it has ended, or /proc/PID hides it')"),
        ("cli/new.py", "lines = content.split(b'\\n')"),
        ("cli/new.py", "rule = ruled_by(decision) if decision is not None and decision.allowed else UNRULED"),
    ],
)
def test_an_allowed_value_breaks_no_rule(file: str, source: str) -> None:
    assert complaints(file, source) == []
