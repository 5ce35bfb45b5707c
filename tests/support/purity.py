"""The import contract of the modules whose docstring says "Pure.": they import nothing that waits or does I/O.

``lint-imports`` runs it (see pyproject.toml). No list is kept by hand: the claim in the docstring is the list.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import cast

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output

__all__ = ["PurityContract", "claimants", "claims", "impure_imports"]

SOURCE = Path(__file__).parents[2] / "src"
#: A sentence that begins with the word; it may continue with an explanation or a named exception.
CLAIM = re.compile(r"(?:^|(?<=[.?!)] ))Pure(?:[.:;]|,? but for )")


def claims(source: str) -> bool:
    """Whether the docstring of a module with this source claims purity."""
    return CLAIM.search(" ".join((ast.get_docstring(ast.parse(source)) or "").split())) is not None


def claimants(root: Path = SOURCE) -> Iterator[str]:
    """The modules under ``root`` that claim purity. The claim of a package covers all of its modules."""
    for path in root.rglob("*.py"):
        if claims(path.read_text("utf-8")):
            yield ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def impure_imports(
    graph: ImportGraph, pure: Iterable[str], forbidden: Collection[str]
) -> Iterator[tuple[str, str, list[int]]]:
    """Each import of a forbidden module, or of a part of one, by a pure module: importer, imported, line numbers."""
    modules = {module for name in pure for module in {name, *graph.find_descendants(name)}}
    for importer in sorted(modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            if any(imported == name or imported.startswith(f"{name}.") for name in forbidden):
                details = graph.get_import_details(importer=importer, imported=imported)
                yield importer, imported, sorted({one["line_number"] for one in details})


class PurityContract(Contract):
    """``forbidden_modules`` are those that no pure module may import."""

    type_name = "purity"

    forbidden_modules = fields.SetField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        forbidden = cast("set[str]", self.forbidden_modules)
        broken = list(impure_imports(graph, claimants(), forbidden))
        return ContractCheck(kept=not broken, metadata={"broken": broken})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for importer, imported, lines in check.metadata["broken"]:
            where = ", ".join(f"l.{line}" for line in lines)
            output.print_error(f"{importer} says that it is pure and imports {imported} ({where})")
