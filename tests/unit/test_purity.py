"""The purity contract takes its modules from their docstrings, and reports forbidden imports."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from grimp import ImportGraph

from tests.support.purity import claimants, claims, impure_imports

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


@pytest.mark.parametrize(
    ("docstring", "claim"),
    [
        ("Decides. Pure.", True),
        ("Decides (RFC 1). Pure: the time comes as an argument.", True),
        ("Decides.\n\nAnd so on.\nPure.", True),
        ("Pure.", True),
        ("Decides. Pure, but for ``read_text``.", True),
        ("Decides. Pure functions of the clock.", False),
        ("The cache, which is pure; here are the waits.", False),
        ("Decides.", False),
    ],
)
def test_a_purity_claim_is_a_sentence_of_its_own(docstring: str, claim: bool) -> None:
    assert claims(f'"""{docstring}"""\n') is claim


def test_claimants_are_modules_and_packages_by_their_dotted_names(tmp_path: Path) -> None:
    (tmp_path / "house" / "svid").mkdir(parents=True)
    for name, docstring in (("__init__", "All."), ("rules", "Rules. Pure."), ("svid/__init__", "SVIDs. Pure.")):
        (tmp_path / "house" / f"{name}.py").write_text(f'"""{docstring}"""\n', "utf-8")
    assert sorted(claimants(tmp_path)) == ["house.rules", "house.svid"]


def test_the_deciding_modules_claim_purity() -> None:
    """Otherwise one could leave the contract unnoticed; CONTRIBUTING.md names them."""
    found = set(claimants())
    for name in (
        "spiffeid",
        "bundle",
        "svid",
        "policy",
        "observe.events",
        "ca.profile",
        "agent.cache",
        "server.entries",
    ):
        assert f"meshtls.{name}" in found


@pytest.mark.parametrize(
    ("importer", "imported", "impure"),
    [
        ("house.rules", "asyncio", True),
        ("house.svid.verify", "ssl", True),
        ("house.rules", "socket.other", True),
        ("house.rules", "socketserver", False),
        ("house.loop", "asyncio", False),
    ],
)
def test_a_pure_module_and_every_part_of_a_pure_package_import_nothing_forbidden(
    importer: str, imported: str, impure: bool
) -> None:
    graph = ImportGraph()
    for module in ("house", "house.rules", "house.loop", "house.svid", "house.svid.verify", imported):
        graph.add_module(module)
    graph.add_import(importer=importer, imported=imported, line_number=3, line_contents=f"import {imported}")
    found = list(impure_imports(graph, ["house.rules", "house.svid"], ["asyncio", "ssl", "socket"]))
    assert found == ([(importer, imported, [3])] if impure else [])


def test_the_contract_is_one_of_those_that_lint_imports_runs() -> None:
    linter = tomllib.loads(PYPROJECT.read_text("utf-8"))["tool"]["importlinter"]
    assert linter["contract_types"] == ["purity: tests.support.purity.PurityContract"]
    [contract] = [one for one in linter["contracts"] if one["type"] == "purity"]
    assert contract["forbidden_modules"] == ["asyncio", "ssl", "socket", "grpclib", "sqlite3"]
