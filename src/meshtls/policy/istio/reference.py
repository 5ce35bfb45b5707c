"""docs/reference/policy.md, written from the tables that the parser reads by. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from meshtls.policy.istio.fields import Field, Shape, Support, Table
from meshtls.policy.istio.fields_common import METADATA
from meshtls.policy.istio.fields_when import WHEN_KEYS
from meshtls.policy.istio.lint_finding import CODES
from meshtls.policy.istio.parse import KINDS, Kind

__all__ = ["page", "paths"]

_INTRODUCTION = """\
meshtls reads Istio's documents as YAML or JSON: several in one file, separated by `---`, `kind: List`, and directories
(`*.yaml`, `*.yml`, `*.json`). Left out are hidden files, `*.bak`, `*.disabled`, `*.md`, `*.old`, `*.orig`, `*.rej`,
`*.swp`, `*.tmp`, `*~` and `#*#`; any other, such as `deny.YAML` or `deny.yaml.txt`, is an error. A file has at most
16 MiB.

Reading is strict. An unknown field, a value of the wrong type, a kind of another API group, or a document that is there
twice is an error, and with one error nothing is loaded. All problems of all files are reported at once, each with its
file, line and field. Names are Istio's JSON names, in camelCase. As in Kubernetes, a text that YAML would take for a
number or a flag needs quotes: `ports: ["80"]`.

Each field has a support level:

| Level | Meaning |
|---|---|
"""


def page() -> str:
    """The page, without its first comment."""
    rows = "\n".join(f"| {support.value} | {_LEVEL_MEANINGS[support]} |" for support in Support)
    kinds = [_kind(kind) for kind in KINDS.values()]
    parts = (_INTRODUCTION + rows, _section("metadata", "", METADATA), *kinds, _when(), _findings())
    return "# Policy documents\n\n" + "\n\n".join(parts) + "\n"


def paths(table: Table, prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Each field of an object with its path, ``[]`` for an item of a list and ``.*`` for a key of a map."""
    for field in table.fields:
        path = f"{prefix}{field.name}"
        yield path, field
        if isinstance(field.of, Table):
            yield from paths(field.of, f"{path}{_INNER[field.shape]}.")


_INNER = {Shape.ONE: "", Shape.LIST: "[]", Shape.MAP: ".*"}
_LEVEL_MEANINGS = {
    Support.ENFORCED: "It does what it does in Istio's sidecar.",
    Support.NOT_ENFORCED: "It is checked or skipped, and does nothing here. A warning at load says so.",
    Support.NO_EFFECT: "Kubernetes' own bookkeeping, on which no policy depends.",
    Support.REFUSED: "A document with it is not loaded: ignoring it would allow more than its author wants.",
}


def _kind(kind: Kind) -> str:
    versions = ", ".join(f"`{kind.group}/{version}`" for version in kind.versions)
    return _section(kind.name, f"{kind.meaning} `apiVersion`: {versions}.\n\n", kind.spec, "spec.")


def _section(title: str, text: str, table: Table, prefix: str = "") -> str:
    rows = [_row(path, field) for path, field in paths(table, prefix or f"{title}.")]
    return f"## {title}\n\n{text}| Field | Value | Support | Meaning |\n|---|---|---|---|\n" + "\n".join(rows)


def _row(path: str, field: Field) -> str:
    single = "section" if isinstance(field.of, Table) else field.of.name if field.of else "any"
    shape = {Shape.ONE: single, Shape.LIST: f"list: {single}", Shape.MAP: f"map: {single}"}[field.shape]
    if field.most:
        shape += f"; at most {field.most}"
    if field.required:
        shape += "; **required**"
    return f"| `{path}` | {shape} | {field.support.value} | {field.meaning} |"


def _when() -> str:
    rows = [
        f"| `{one.name}` | {one.values.name} | {one.support.value} |"
        f" {one.meaning}{' Only where HTTP is read.' if one.http else ''} |"
        for one in WHEN_KEYS
    ]
    head = "## The keys of when\n\n`[]` is a name in brackets, such as `request.headers[x-tenant]`.\n\n"
    return head + "| Key | Value | Support | Meaning |\n|---|---|---|---|\n" + "\n".join(rows)


def _findings() -> str:
    rows = "\n".join(f"| `{code}` | {meaning} |" for code, meaning in sorted(CODES.items()))
    head = "## Findings\n\nWhat is read without an error, and is suspicious. Each finding has a code, which is stable."
    return f"{head}\n\n| Code | Meaning |\n|---|---|\n{rows}"
