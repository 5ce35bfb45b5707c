"""The package's public names: the exports, their lazy loading, and the view of type checkers."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import meshtls
from meshtls import errors

SOURCE = Path(inspect.getfile(meshtls)).read_text("utf-8")


def shown_to_type_checkers() -> set[str]:
    (block,) = (node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    return {alias.name for node in ast.walk(block) if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_type_checkers_and_the_runtime_see_the_same_names() -> None:
    assert shown_to_type_checkers() | {"__version__"} == set(meshtls.__all__)
    assert meshtls.__all__ == sorted(meshtls.__all__)
    for name in meshtls.__all__:
        assert getattr(meshtls, name) is not None


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_exported(name: str) -> None:
    assert getattr(meshtls, name) is getattr(errors, name)
    assert name in meshtls.__all__


def test_the_version_is_the_installed_one() -> None:
    assert meshtls.__version__ == version("meshtls")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'meshtls' has no attribute 'X509Sauce'"):
        getattr(meshtls, "X509Sauce")  # noqa: B009  # mypy knows that it is not there


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import meshtls", ("cryptography", "grpclib", "google.protobuf", "asyncio", "ssl", "click", "rich")),
        ("import meshtls.spiffeid", ("cryptography", "grpclib", "google.protobuf", "asyncio", "ssl", "click", "rich")),
        ("from meshtls import *", ("click", "rich", "sqlalchemy", "pytest")),
        ("import meshtls.pytest", ("cryptography", "grpclib", "click", "rich")),
    ],
)
def test_an_import_loads_only_the_modules_it_needs(program: str, absent: tuple[str, ...]) -> None:
    # The interpreter's site files may have loaded `ssl` and others already; only what we add counts.
    script = f"import sys; before = set(sys.modules); {program}; print(*sorted(set(sys.modules) - before))"
    if "meshtls.pytest" in program:
        script = f"import pytest; {script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)

    assert not set(absent) & set(done.stdout.split())


USES = """
from meshtls.pytest import Mesh
from meshtls import SpiffeId, X509Source, blocking, server_context, authorize_any, __version__

def test_it(mesh: Mesh) -> None:
    with mesh.workload_api("web") as api:
        print(api.address.upper(), mesh.id("web").path, __version__.upper())
    reveal_type(mesh.source("web"))
"""


def test_mypy_in_strict_mode_knows_the_fixture_and_the_package(tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(USES)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", str(file)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert 'Revealed type is "meshtls.pytest.source.MeshSource"' in done.stdout
