"""``meshtls policy check``: reads policies, and lists what is wrong or suspicious."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from meshtls.cli.options import SPIFFE_ID, TRUST_DOMAIN, output_option
from meshtls.cli.output import Output, Record
from meshtls.cli.policy.options import LABELS, POLICIES, mesh_options
from meshtls.cli.policy.tokens import key_set_findings
from meshtls.policy.files import read_documents
from meshtls.policy.istio.lint import Finding, Severity, findings
from meshtls.policy.istio.model import Documents, Labels, MeshOptions
from meshtls.policy.istio.parse import DEFAULT_NAMESPACE
from meshtls.policy.workloads import workload_of
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["check"]

_OK, _WARNINGS, _ERRORS = 0, 1, 2


@click.command()
@click.argument("files", type=POLICIES, nargs=-1, required=True)
@click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="That of documents which name none.")
@click.option(
    "--trust-domain",
    type=TRUST_DOMAIN,
    default="cluster.local",
    show_default=True,
    help="The mesh's trust domain.",
)
@click.option(
    "--workload",
    "workloads",
    type=(SPIFFE_ID, LABELS),
    multiple=True,
    metavar="ID NAME=VALUE,...",
    help="A workload that there is, with its labels: policies that are for none of those given are reported.",
)
@click.option(
    "--federated", type=TRUST_DOMAIN, multiple=True, help="A trust domain whose bundle we have, beside our own."
)
@click.option("--strict", is_flag=True, help="Exit with 1 if there are warnings.")
@mesh_options
@output_option
def check(
    files: tuple[Path, ...],
    namespace: str,
    trust_domain: TrustDomain,
    workloads: tuple[tuple[SpiffeId, Labels], ...],
    federated: tuple[TrustDomain, ...],
    strict: bool,
    mesh: MeshOptions,
    out: Output,
) -> int:
    """Read FILES, and directories of them, as a sidecar does, and list what is wrong or suspicious.

    Exit code: 0 if there are no errors, 1 if there are warnings and --strict is given, 2 for errors.
    """
    documents = read_documents(files, default_namespace=namespace)
    known = tuple(workload_of(spiffe_id, labels) for spiffe_id, labels in workloads)
    found = (
        *findings(documents, mesh.of(trust_domain), known, tuple(one.name for one in federated)),
        *key_set_findings(documents),
    )
    counts = Counter(one.severity for one in found)
    warned = counts[Severity.WARNING] + len(documents.warnings)
    if out.as_json:
        out.record(
            {
                "documents": _documents(documents),
                "errors": counts[Severity.ERROR],
                "warnings": warned,
                "findings": [*map(_record, found), *map(_not_enforced, documents.warnings)],
            }
        )
    else:
        lines = [*map(str, found), *(f"{one} (warning not-enforced)" for one in documents.warnings)]
        read = _number(_documents(documents), "document")
        lines.append(f"{read}: {_number(counts[Severity.ERROR], 'error')}, {_number(warned, 'warning')}")
        out.record({}, "\n".join(lines))
    return _ERRORS if counts[Severity.ERROR] else _WARNINGS if strict and warned else _OK


def _record(one: Finding) -> Record:
    return {
        "severity": one.severity.value,
        "code": one.code,
        "file": one.place.file if one.place else None,
        "line": one.place.line if one.place else None,
        "field": one.place.path if one.place else None,
        "text": one.text,
    }


def _not_enforced(text: str) -> Record:
    """The record of a field that is read and has no effect; the text begins with its place."""
    return {
        "severity": Severity.WARNING.value,
        "code": "not-enforced",
        "file": None,
        "line": None,
        "field": None,
        "text": text,
    }


def _documents(documents: Documents) -> int:
    return sum(
        map(
            len,
            (
                documents.peer_authentications,
                documents.authorization_policies,
                documents.request_authentications,
                documents.destination_rules,
            ),
        )
    )


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
