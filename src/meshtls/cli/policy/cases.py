"""The file of ``meshtls policy test``: a table of requests and the verdicts that are wanted. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import msgspec

from meshtls.cli.policy.facts import Facts, caller, ip_address
from meshtls.config.document import yaml_document
from meshtls.config.keys import LISTENING_PORT, PATH, TEXT, TRUST_DOMAIN, WORKLOAD_ID, Key, Value, choice
from meshtls.config.reading import Found, RuleProblems, read
from meshtls.policy.istio.model import ROOT_NAMESPACE, Labels, MeshOptions, MeshSettings, Normalization, Workload
from meshtls.policy.workloads import workload_of
from meshtls.spiffeid import SpiffeId, TrustDomain

__all__ = ["Case", "CasesFile", "Expectation", "TestWorkload", "cases_in", "facts_of", "mesh_for", "workload_for"]


class Expectation(Enum):
    ALLOW = "allow"
    DENY = "deny"


_ANY_TEXT: Value[str] = Value("text", str, {"type": "string"})
_CALLER: Value[SpiffeId | None] = Value(
    "SPIFFE ID or plaintext", caller, {"type": "string"}, lambda one: "plaintext" if one is None else str(one)
)
_IP: Value[str] = Value("IP address", ip_address, {"type": "string"})


class TestWorkload(msgspec.Struct, frozen=True, kw_only=True):
    """What an ID does not say of a workload."""

    __test__ = False  # no test of pytest's

    id: Annotated[SpiffeId, Key("The workload.", WORKLOAD_ID)]
    labels: Annotated[Labels, Key("Its labels, which selectors match.", _ANY_TEXT)] = ()
    namespace: Annotated[str, Key("Its namespace.", TEXT, default="that of the ID")] = ""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One request, or one connection, and what is wanted."""

    name: Annotated[str, Key("What the case shows.", TEXT)]
    source: Annotated[SpiffeId | None, Key("Who calls.", _CALLER, name="from")]
    destination: Annotated[SpiffeId, Key("The workload that is called.", WORKLOAD_ID, name="to")]
    expect: Annotated[Expectation, Key("The verdict that is wanted.", choice(Expectation))]
    policy: Annotated[
        str, Key("The policy that must decide, as ns[NAMESPACE]-policy[NAME] or as NAME.", TEXT, default="any")
    ] = ""
    rule: Annotated[str, Key("The number of the rule that must decide, from 0.", TEXT, default="any")] = ""
    port: Annotated[int | None, Key("The workload's own port.", LISTENING_PORT, default="none")] = None
    method: Annotated[
        str, Key("With method, path, host, headers or claims it is an HTTP request.", TEXT, default="GET")
    ] = ""
    path: Annotated[str, Key("With the query.", TEXT, default="/")] = ""
    host: Annotated[str | None, Key("With the port, if that is sent.", TEXT, default="none")] = None
    headers: Annotated[Labels, Key("The request's headers.", _ANY_TEXT)] = ()
    claims: Annotated[Labels, Key("The claims of its verified token; a list or an object as JSON.", _ANY_TEXT)] = ()
    ip: Annotated[str | None, Key("The address that it comes from.", _IP, default="none")] = None
    remote_ip: Annotated[str | None, Key("The original client's address.", _IP, default="ip")] = None
    destination_ip: Annotated[str | None, Key("The address that it is sent to.", _IP, default="none")] = None
    sni: Annotated[str | None, Key("The server name of its ClientHello.", TEXT, default="none")] = None


def _workload_is_there_once(found: Found[CasesFile]) -> RuleProblems:
    seen: dict[str, object] = {}
    for place, one in found.every("workloads.id"):
        if str(one) in seen:
            yield place, f"wanted each workload once, got {one} again"
        seen[str(one)] = place


def _names_differ(found: Found[CasesFile]) -> RuleProblems:
    seen: set[str] = set()
    for place, name in found.every("cases.name"):
        if name in seen:
            yield place, f"wanted a name of its own for each case, got {name!r} again"
        seen.add(name)


def _cases_are_there(cases: tuple[Case, ...]) -> Iterator[tuple[str, str]]:
    if not cases:
        yield "cases", "wanted at least one case, got none"


class CasesFile(msgspec.Struct, frozen=True, kw_only=True):
    """The file of ``meshtls policy test``."""

    RULES = (_workload_is_there_once, _names_differ, _cases_are_there)

    policies: Annotated[tuple[Path, ...], Key("Files and directories of policies; relative to this file.", PATH)]
    cases: Annotated[tuple[Case, ...], Key("The table.")]
    workloads: Annotated[tuple[TestWorkload, ...], Key("The workloads that have labels.")] = ()
    trust_domain_aliases: Annotated[
        tuple[TrustDomain, ...], Key("Trust domains that principals may name instead of the mesh's.", TRUST_DOMAIN)
    ] = ()
    root_namespace: Annotated[str, Key("The namespace whose policies are for all namespaces.", TEXT)] = ROOT_NAMESPACE
    path_normalization: Annotated[
        Normalization, Key("What is done to a path before it is matched.", choice(Normalization))
    ] = Normalization.BASE


def cases_in(file: str, text: str) -> CasesFile:
    """Read the file's text; ``file`` is its name in messages. Raises ConfigError with all problems."""
    return read(yaml_document(file, text), CasesFile).value


def facts_of(case: Case) -> Facts:
    return Facts(
        source=case.source,
        destination=case.destination,
        port=case.port,
        method=case.method or None,
        path=case.path or None,
        host=case.host,
        headers=case.headers,
        claims=case.claims,
        ip=case.ip,
        remote_ip=case.remote_ip,
        destination_ip=case.destination_ip,
        sni=case.sni,
    )


def workload_for(file: CasesFile, spiffe_id: SpiffeId) -> Workload:
    """The workload that a case calls. Without an entry it has no labels."""
    for one in file.workloads:
        if one.id == spiffe_id:
            return workload_of(spiffe_id, one.labels, one.namespace or None)
    return workload_of(spiffe_id)


def mesh_for(file: CasesFile, spiffe_id: SpiffeId) -> MeshSettings:
    """The mesh of the workload that a case calls."""
    options = MeshOptions(
        trust_domain_aliases=tuple(one.name for one in file.trust_domain_aliases),
        root_namespace=file.root_namespace,
        normalization=file.path_normalization,
    )
    return options.of(spiffe_id.trust_domain)
